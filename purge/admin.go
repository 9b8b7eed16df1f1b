package purge

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/adminapi"
)

// Feature returns the endpoint POST /larder/purge and the command `caddy larder purge`. running
// returns the running cache, or nil while there is none (no configuration with larder has been
// loaded); requests are then answered 503. It is called at every request, from any goroutine.
func Feature(running func() Cache) adminapi.Feature {
	return adminapi.Feature{
		Endpoints: []adminapi.Endpoint{{
			Method: http.MethodPost, Path: "/larder/purge",
			Answer: func(r *http.Request) (any, error) { return answerPurge(r, running) },
		}},
		Commands: []func(*adminapi.Client) *cobra.Command{purgeCommand},
	}
}

// purgeResult is the JSON that answers a purge.
type purgeResult struct {
	Matched int  `json:"matched"`
	Soft    bool `json:"soft"`
	DryRun  bool `json:"dry_run"`
	*Reach       // of a fleet
}

func answerPurge(r *http.Request, running func() Cache) (any, error) {
	selectors, err := readSelectors(r)
	if err != nil {
		return nil, err
	}
	cache := running()
	if cache == nil {
		return nil, adminapi.ErrNoCache
	}
	if err := adminapi.CheckZones(selectors.Zones, cache.Zones()); err != nil {
		return nil, adminapi.BadRequest(fmt.Errorf("zones: %w", err))
	}
	// A caller that leaves must not stop half a purge: whether it happened would depend on timing,
	// and no answer would tell.
	purged, err := cache.Purge(context.WithoutCancel(r.Context()), selectors)
	logPurge(adminapi.Logger(), r, selectors, purged, err)
	switch {
	case errors.Is(err, ErrIDsInFleet), errors.Is(err, ErrZonesInFleet):
		return nil, adminapi.BadRequest(err)
	case err != nil:
		return nil, adminapi.Unavailable(sentenceOf(err, selectors.DryRun))
	}
	return resultOf(&selectors, purged), nil
}

func resultOf(s *Selectors, purged Purged) purgeResult {
	return purgeResult{Matched: purged.Matched, Soft: s.Soft, DryRun: s.DryRun, Reach: purged.Reach.withoutNulls()}
}

// sentenceOf says of a purge that has failed what that means, and what to do.
func sentenceOf(err error, dryRun bool) error {
	switch {
	case errors.Is(err, ErrNotEverywhere):
		return fmt.Errorf("the purge may not hold on every node; send it again: %w", err)
	case dryRun:
		return fmt.Errorf("the dry run could not count what is stored; send it again: %w", err)
	}
	return fmt.Errorf("the purge could not be made durable; send it again: %w", err)
}

// Reach says how far a purge reaches in a fleet.
type Reach struct {
	Nodes     int      `json:"nodes"`     // how many nodes hold it now, this one counted
	Fenced    []string `json:"fenced"`    // names of those that gave no answer and were waited out
	Uncertain []string `json:"uncertain"` // names of those that may answer from older content
}

// ErrNotEverywhere is what Cache.Purge returns, wrapped, where a purge holds on this node, and may
// not on others.
var ErrNotEverywhere = errors.New("it holds on this node only")

// ErrIDsInFleet is what Cache.Purge returns for ids in a fleet: other nodes have the responses
// under ids of their own, or shared, and would bring them back.
var ErrIDsInFleet = errors.New("ids: in a fleet no other node knows the ids of this one; send the URL of the entry")

// ErrZonesInFleet is what Cache.Purge returns for zones in a fleet, whose purges reach every zone
// of every node.
var ErrZonesInFleet = errors.New(`zones: in a fleet a purge reaches every zone; send it without "zones"`)

// withoutNulls makes missing lists empty ones: [] in JSON, not null.
func (r *Reach) withoutNulls() *Reach {
	if r == nil {
		return nil
	}
	return &Reach{Nodes: r.Nodes, Fenced: append([]string{}, r.Fenced...), Uncertain: append([]string{}, r.Uncertain...)}
}

// readSelectors decodes a purge request.
func readSelectors(r *http.Request) (Selectors, error) {
	if r.URL.RawQuery != "" {
		return Selectors{}, adminapi.BadRequest(errors.New("a purge has no query string; send selectors and options in the JSON body"))
	}
	body, err := adminapi.ReadBody(r, "send the selectors in several requests")
	if err != nil {
		return Selectors{}, err
	}
	selectors, err := decodeSelectors(body)
	if err != nil {
		return Selectors{}, adminapi.BadRequest(err)
	}
	return selectors, nil
}

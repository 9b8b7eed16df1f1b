package inspect

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/larder-cache/larder/adminapi"
	"github.com/larder-cache/larder/stats"
)

// Features returns the endpoints and commands of this package. cache returns the running cache, or
// nil while there is none (no configuration with larder has been loaded); requests are then
// answered 503. It is called at every request, from any goroutine.
func Features(cache func() Cache) []adminapi.Feature {
	all := [...]func(runningCache) adminapi.Feature{
		statsFeature,
		listFeature,
		entryFeature,
		fleetFeature,
		topFeature,
		observedFeature,
		historyFeature,
		compactFeature,
	}
	features := make([]adminapi.Feature, 0, len(all))
	for _, feature := range all {
		features = append(features, feature(cache))
	}
	return features
}

// Cache is what this package asks of the running cache.
type Cache interface {
	// Zones returns the names of the stores that there are.
	Zones() []string

	// Stats returns a value that encoding/json can marshal to an object: of a zone, or of all where
	// that is empty.
	Stats(zone string) any

	// Entries returns a page of the listing, or an error that wraps ErrCursor. A sorted one takes a
	// time that goes with what is stored, and ends early when ctx does.
	Entries(ctx context.Context, q Query) (Listing, error)

	// Entry describes the entry with an id, in a zone, or in any where that is empty; nil if it is
	// stored there no more. After an error the client gets 503.
	Entry(zone, id string) (*Detail, error)

	// Compact compacts the file of a zone, or those of all where that is empty, and returns their
	// sizes, or an error that wraps ErrNoFile. It goes on where ctx ends.
	Compact(ctx context.Context, zone string) (Compactions, error)

	// Fleet returns the nodes of the fleet, or an error that wraps ErrNoFleet.
	Fleet(ctx context.Context) (Fleet, error)

	// Top returns the URLs with the most of what the query asks for, the one with the most first.
	// After an error the client gets 503.
	Top(q TopQuery) ([]TopRow, error)

	// Observed returns what was observed on routes that observe, in a zone, or in all where that is
	// empty.
	Observed(zone string) ObservedReport

	// History returns what was counted in each step up to now, in a zone, or in all where that is
	// empty. The step is one of stats.Steps. After an error the client gets 503.
	History(zone string, step time.Duration) (stats.Window, error)
}

// runningCache returns the cache that serves requests now, nil while there is none.
type runningCache func() Cache

func (r runningCache) cache() (Cache, error) {
	if cache := r(); cache != nil {
		return cache, nil
	}
	return nil, adminapi.ErrNoCache
}

// of is cache for a request that names a zone, or none.
func (r runningCache) of(zone string) (Cache, error) {
	cache, err := r.cache()
	if err != nil {
		return nil, err
	}
	if zone == "" {
		return cache, nil
	}
	if err := adminapi.CheckZones([]string{zone}, cache.Zones()); err != nil {
		return nil, adminapi.BadRequest(fmt.Errorf("zone: %w", err))
	}
	return cache, nil
}

// asked reads the parameters of a request, of which one may name a zone, and returns what of says
// of that.
func (r runningCache) asked(req *http.Request, zone *string, params ...adminapi.Param) (Cache, error) {
	if err := adminapi.ReadParams(req, append(params, zoneParam(zone))...); err != nil {
		return nil, err
	}
	return r.of(*zone)
}

// zoneParam is the zone that is asked about. Without it all are.
func zoneParam(zone *string) adminapi.Param {
	return adminapi.TextParam("zone", zone, asItIs)
}

func asItIs(text string) (string, error) { return text, nil }

// chosen is what a query or a flag may be one of.
func chosen(text string, choice []string) (string, error) {
	if !slices.Contains(choice, text) {
		return "", errors.New(adminapi.Quote(text) + " is none of them; send one of " + strings.Join(choice, ", "))
	}
	return text, nil
}

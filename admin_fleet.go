package larder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/purge"
	"github.com/larder-cache/larder/store"
)

// purgeAll purges this process, and with it the other nodes if it has a fleet. A dry run counts
// here only.
func (t adminView) purgeAll(
	ctx context.Context, selectors store.Selectors, options httpcache.PurgeOptions,
) (purge.Purged, error) {
	n := t.node
	if n == nil || options.DryRun {
		matched, err := t.cache.Purge(ctx, selectors, options)
		purged := purge.Purged{Matched: matched}
		if n != nil {
			purged.Reach = &purge.Reach{Nodes: 1}
		}
		return purged, err
	}
	httpcache.ReachSearched(&selectors)
	begun := time.Now()
	done, err := n.Purge(ctx, fleet.Purge{Selectors: selectors, Severity: options.Severity, Labels: options.Labels})
	collectors.purgeWait.Observe(time.Since(begun).Seconds())
	if errors.Is(err, fleet.ErrNotEverywhere) {
		err = fmt.Errorf("%w: %w", purge.ErrNotEverywhere, err)
	}
	return purge.Purged{
		Matched: done.Matched,
		Reach:   &purge.Reach{Nodes: done.Nodes, Fenced: done.Fenced, Uncertain: done.Uncertain},
	}, err
}

// Fleet implements inspect.Cache.
func (t adminView) Fleet(ctx context.Context) (inspect.Fleet, error) {
	n := t.node
	if n == nil {
		return inspect.Fleet{}, inspect.ErrNoFleet
	}
	ctx, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	nodes, err := n.Nodes(ctx)
	if err != nil {
		return inspect.Fleet{}, err
	}
	s := n.Stats()
	list := inspect.Fleet{Name: n.name, Epoch: s.Epoch, Tail: uint64(s.Tail)}
	for _, of := range nodes {
		list.Nodes = append(list.Nodes, n.listed(&of, &s))
	}
	return list, nil
}

// nodesTimeout is how long the list of nodes is waited for.
const nodesTimeout = 5 * time.Second

// listed describes a node.
func (n *node) listed(of *fleet.Node, s *fleet.Stats) inspect.Node {
	return inspect.Node{
		ID: of.ID, Name: of.Name, Version: of.Version, Address: of.Address, State: of.State, This: of.ID == n.ID(),
		LastBeat: of.Seen.UTC(), Silent: max(0, n.serverNow().Sub(of.Seen).Milliseconds()), Applied: uint64(of.Applied),
		Lag: lagOf(of, s),
	}
}

// lagOf is how many purges a node has yet to apply, -1 if that is not known: it has yet to read
// this log, or there is a gap between.
func lagOf(of *fleet.Node, s *fleet.Stats) int64 {
	switch behind := int64(s.Tail) - int64(of.Applied); {
	case of.Epoch != s.Epoch || behind > 1<<31:
		return -1
	default:
		return max(0, behind)
	}
}

// serverNow is the time by the server's clock, about.
func (n *node) serverNow() time.Time {
	least, most := n.Ahead()
	return time.Now().Add((least + most) / 2)
}

// sharedStats are what GET /larder/stats tells of the fleet.
type sharedStats struct {
	fleet.Stats
	UploadBytes int64  `json:"upload_bytes"` // that wait to be uploaded
	Skipped     uint64 `json:"skipped"`      // responses that were not uploaded
	Breaker     string `json:"breaker"`
	// Bytes of bodies that were compressed to be uploaded, and what they came to.
	Compressed       uint64 `json:"compressed_bytes"`
	CompressedStored uint64 `json:"compressed_stored_bytes"`
}

// stats returns nil without a fleet.
func (n *node) stats() *sharedStats {
	if n == nil {
		return nil
	}
	tier := n.tier.Stats()
	return &sharedStats{
		Stats: n.Stats(), UploadBytes: tier.UploadBytes, Skipped: tier.Skipped, Breaker: tier.Breaker.String(),
		Compressed: tier.Compressed, CompressedStored: tier.CompressedStored,
	}
}

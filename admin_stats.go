package larder

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/larder-cache/larder/inspect"
	"github.com/larder-cache/larder/store"
)

// tierStats, zoneStats and cacheStats are the JSON of GET /larder/stats. Their fields are those of
// store.Stats. The counts of requests and fetches are the process's, and begin with it.
type tierStats struct {
	Entries int64  `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Budget  int64  `json:"budget"`
	State   string `json:"state"`
}

// cacheStats are the sums over all zones, and each zone by itself.
type cacheStats struct {
	zoneStats
	Zones  map[string]zoneStats `json:"zones"`
	Shared *sharedStats         `json:"shared,omitempty"`

	Origins map[string]originStats `json:"origins,omitempty"` // those that have a name
}

type zoneStats struct {
	Memory    tierStats         `json:"memory"`
	Disk      tierStats         `json:"disk"`
	DiskFile  int64             `json:"disk_file_bytes"`
	Requests  map[string]uint64 `json:"requests"`   // by outcome
	NotStored map[string]uint64 `json:"not_stored"` // by reason, those that have occurred
	InFlight  int               `json:"in_flight"`
	Queue     int64             `json:"queue_bytes"`
	Skipped   uint64            `json:"disk_writes_skipped"`
	DiskHeld  int64             `json:"disk_held_bytes"`
	BrokenOff uint64            `json:"readers_broken_off"`
	// Bytes of bodies that were written to disk compressed, and what they took there.
	Compressed       uint64 `json:"compressed_bytes"`
	CompressedStored uint64 `json:"compressed_stored_bytes"`

	PurgesPending int               `json:"purges_pending"`
	Errors        map[string]uint64 `json:"errors"` // by tier
}

// Zones implements inspect.Cache.
func (t adminView) Zones() []string { return t.zoneNames() }

// Stats implements inspect.Cache.
func (t adminView) Stats(zone string) any {
	if zone != "" {
		z, err := t.zone(zone)
		if err != nil {
			return nil // it has been dropped since it was looked for
		}
		return z.stats()
	}
	all := cacheStats{Zones: make(map[string]zoneStats, len(t.zones)), Shared: t.node.stats(), Origins: statsOfOrigins(time.Now())}
	for i, z := range t.zones {
		s := z.stats()
		all.Zones[z.Zone] = s
		if i == 0 {
			all.zoneStats = z.stats() // with maps of its own
		} else {
			all.add(&s)
		}
	}
	return all
}

// stats describes the zone now.
func (z *zone) stats() zoneStats {
	s, counts := z.cache.Store().Stats(), recordOf(z.Zone).metrics
	return zoneStats{
		Memory:     tierStats(s.Memory),
		Disk:       tierStats(s.Disk),
		DiskFile:   s.FileBytes,
		Requests:   counts.requestCounts(),
		NotStored:  counts.notStoredCounts(),
		InFlight:   fetchesUnderWay(z.Zone),
		Queue:      s.Queue,
		Skipped:    s.Skipped,
		DiskHeld:   s.DiskHeld,
		BrokenOff:  s.Interrupted,
		Compressed: s.Compressed, CompressedStored: s.CompressedStored,
		PurgesPending: s.PurgesPending,
		Errors: map[string]uint64{
			store.MemoryTier.String(): s.Errors[store.MemoryTier],
			store.DiskTier.String():   s.Errors[store.DiskTier],
		},
	}
}

// add adds those of another zone.
func (s *zoneStats) add(o *zoneStats) {
	s.Memory.add(&o.Memory)
	s.Disk.add(&o.Disk)
	s.DiskFile += o.DiskFile
	s.InFlight += o.InFlight
	s.Queue += o.Queue
	s.Skipped += o.Skipped
	s.DiskHeld += o.DiskHeld
	s.BrokenOff += o.BrokenOff
	s.Compressed += o.Compressed
	s.CompressedStored += o.CompressedStored
	s.PurgesPending += o.PurgesPending
	for _, counts := range [][2]map[string]uint64{{s.Requests, o.Requests}, {s.NotStored, o.NotStored}, {s.Errors, o.Errors}} {
		for name, n := range counts[1] {
			counts[0][name] += n
		}
	}
}

// tierStates are the states of a tier, the one that says the most first: of several zones together
// it is the first that one of them has.
var tierStates = []string{"failed", "full", "closed", "opening", "open", "off"}

func (s *tierStats) add(o *tierStats) {
	s.Entries += o.Entries
	s.Bytes += o.Bytes
	s.Budget += o.Budget
	if slices.Index(tierStates, o.State) < slices.Index(tierStates, s.State) {
		s.State = o.State
	}
}

// Compact implements inspect.Cache. Zones without a disk tier are left out, unless all are.
func (t adminView) Compact(ctx context.Context, zone string) (inspect.Compactions, error) {
	done := inspect.Compactions{Zones: make(map[string]inspect.Compaction)}
	var failed error
	for _, z := range t.zonesOf(zone) {
		c, err := z.cache.Store().Compact(ctx)
		switch {
		case errors.Is(err, store.ErrNoFile):
		case err != nil:
			failed = cmp.Or(failed, ofZone(z.Zone, err))
		default:
			done.Zones[z.Zone] = inspect.Compaction(c)
		}
	}
	if failed == nil && len(done.Zones) == 0 {
		failed = inspect.ErrNoFile
	}
	return done, failed
}

package store

import "sync/atomic"

// TierStats describes one tier at one moment.
type TierStats struct {
	// Entries is how many responses it holds, expired and purged ones not yet swept included.
	Entries int64
	// Bytes is what counts against Budget: for memory everything kept, reservations included; for
	// disk the allocated pages of the file.
	Bytes int64
	// Budget is the limit in force, in bytes; 0 when the tier is off.
	Budget int64
	// State is "open", "off", "opening" or "closed", or of what is tried again every 30 s "full",
	// when it is read and there is no room to write to it, or "failed", when it is neither.
	State string
}

// EvictionCount is how many entries left a tier for a reason since the store was made.
type EvictionCount struct {
	// Tier is the tier they left.
	Tier Tier
	// Reason is why.
	Reason EvictionReason
	// Count never falls.
	Count uint64
}

// Stats describes the store at one moment. Counts of what happened never fall.
type Stats struct {
	// Memory and Disk describe the tiers.
	Memory, Disk TierStats
	// InFlight is what bodies on their way count, see Reserve and the two beside it.
	InFlight InFlight
	// FileBytes is the size of the disk tier's file; 0 while there is none open.
	FileBytes int64
	// Queue is what waits to be written to disk, in bytes.
	Queue int64
	// PurgesPending is how many purges have taken effect but are not swept yet.
	PurgesPending int
	// Evictions has one row for each tier and reason, zeros included.
	Evictions []EvictionCount
	// Errors counts failures by tier, damaged records included.
	Errors [2]uint64
	// Compressed counts the bytes of bodies that were written to disk compressed, and
	// CompressedStored the bytes that they took.
	Compressed, CompressedStored uint64
	// Skipped counts the entries kept in memory only: for good because they do not fit the disk, or
	// until there is room for them, because the tier had failed, the write-behind queue was full,
	// or clients held what is deleted.
	Skipped uint64
	// DiskHeld is how many bytes of the file are those of bodies that have been deleted while they
	// are read. They take room beyond the budget.
	DiskHeld int64
	// Interrupted counts the readers that were broken off: of such bodies, and of small ones in
	// memory.
	Interrupted uint64
}

// InFlight are bytes of bodies on their way, by account.
type InFlight struct {
	// Kept is of those that are to be stored, which is in Stats.Memory too; Beyond is what goes
	// beyond that, on its way to disk; and Passed is of those that are only passed on.
	Kept, Beyond, Passed int64
	// Fetches is what the fetches under way take beside their bodies. What of that is more than an
	// eighth of the budget, or a megabyte, is in Stats.Memory too, up to half of the budget.
	Fetches int64
	// Chunks is what Chunk has given for all of them.
	Chunks int64
}

// counters are the store's cumulative counts.
type counters struct {
	evictions [tierCount][reasonCount]atomic.Uint64
	errors    [tierCount]atomic.Uint64
	skipped   atomic.Uint64
	// interrupted are readers that were broken off.
	interrupted atomic.Uint64
	// Of bodies written compressed: what they are, and what they took.
	plainBytes, packedBytes atomic.Uint64
}

func (c *counters) compressed(plain, packed int64) {
	c.plainBytes.Add(uint64(plain))
	c.packedBytes.Add(uint64(packed))
}

func (c *counters) evicted(t Tier, r EvictionReason) { c.evictions[t][r].Add(1) }

// read copies the counts into st.
func (c *counters) read(st *Stats) {
	for t := range tierCount {
		for r := range reasonCount {
			st.Evictions = append(st.Evictions, EvictionCount{t, r, c.evictions[t][r].Load()})
		}
		st.Errors[t] = c.errors[t].Load()
	}
	st.Skipped, st.Interrupted = c.skipped.Load(), c.interrupted.Load()
	st.CompressedStored = c.packedBytes.Load() // first: there is never more of it
	st.Compressed = c.plainBytes.Load()
}

package store

import (
	"sync"
	"sync/atomic"
)

// FetchBytes is what a fetch under way takes beside its body, and a request without a cache does
// not: its request and context, its flight, and a page of a body where there is no room for more,
// which is outside of Go's heap. That is 12 to 16 KiB, and the collector adds as much to what of it
// is in the heap. The two goroutines have no larger stacks together than the one that there is
// without a cache.
const FetchBytes = 32 << 10

// fetches counts what the fetches under way take beside their bodies. An eighth of the budget, or a
// megabyte where that is more, is free for that. What goes past it counts as used, up to half of
// the budget, and leaves bodies in flight as much less of the half that they may take. With these
// it takes seven eighths at most, so that something can still be stored. Past that the room beside
// the budget shrinks, down to a part. A fetch is never refused: what is bounded is what comes with
// it.
//
// So what is used, beside that, and of fetches is one and a half of the budget together, as long as
// the fetches do not take more than seven eighths of it, and come before the bodies: what bodies
// have taken already is not given back for them.
type fetches struct {
	mu    sync.Mutex
	bytes atomic.Int64
	// charged is what of that is in memory.used, and over is what counts against the room beside.
	charged, over atomic.Int64
}

// besidePart is the part of the budget that each of the accounts beside it keeps at least.
const besidePart = 32

// BeginFetch counts one more fetch as under way, until EndFetch.
func (s *Store) BeginFetch() {
	m := s.memory
	if m.countFetches(FetchBytes) > 0 && m.used.Load() > m.budget.Load() {
		m.shrink(!m.evicts.Load(), false) // no fetch is refused, so room is made whatever clients hold
	}
}

// EndFetch counts one fetch less.
func (s *Store) EndFetch() { s.memory.countFetches(-FetchBytes) }

// countFetches counts n bytes of fetches and returns how much more that is in used.
func (m *memory) countFetches(n int64) (more int64) {
	f := &m.fetches
	f.mu.Lock()
	defer f.mu.Unlock()
	budget := m.budget.Load() // under the lock, for apply
	past := max(0, f.bytes.Add(n)-max(budget/8, smallBeyond))
	charged := min(past, budget/2, max(0, budget/8*7-m.inFlight.Load()))
	f.over.Store(past - charged)
	more = charged - f.charged.Swap(charged)
	m.used.Add(more)
	return more
}

// beside is how much an account may have that has limit bytes beside the budget while there are
// few fetches, and part of what they count against the room there.
func (m *memory) beside(limit, part int64) int64 {
	return max(limit-part, min(limit, m.budget.Load()/besidePart), smallBeyond)
}

package store

// A body on its way counts in one of three accounts: among all that memory has, if it is to be
// stored; among what goes beyond that on its way to disk; or among what is only passed on.

// Reserve counts n more bytes in flight against the memory budget, evicting to make room; false
// when they do not fit. They are of a body that is to be stored and to have total bytes; where that
// is not known, total is what it has already, negative. Bodies in flight take half of the budget
// together: what comes of them is not known yet. One whose length is known may go beyond that up to
// its length, one of up to two megabytes in any case, and one that is small, or has come to no more
// yet, while they take no more than seven eighths. Where clients hold so much that nothing can go
// for them, bodies that are announced with up to a megabyte go beyond the budget, by two megabytes,
// if there is a disk that can have what comes of them. Many fetches leave bodies less, see fetches.
// Give the bytes back before the entry they became is put, which counts for itself.
func (s *Store) Reserve(n, total int64) bool {
	m := s.memory
	inFlight, budget := m.inFlight.Add(n), m.budget.Load()
	small := max(total, n-min(total, 0)) < smallCharge
	fetches := m.fetches.charged.Load()
	most := max(budget/2-fetches, total, smallInFlight)
	if small {
		most = max(most, budget/8*7-fetches)
	}
	if inFlight <= most && m.charge(n, !small) {
		return true
	}
	if total > 0 && total <= smallInFlight/2 && s.disk != nil && s.disk.writable() {
		if m.used.Add(n) <= budget+smallInFlight {
			return true
		}
		m.used.Add(-n)
	}
	m.inFlight.Add(-n)
	m.refused.Add(1)
	return false
}

// Refused returns how often Reserve has found no room, since the store was opened.
func (s *Store) Refused() uint64 { return s.memory.refused.Load() }

// smallInFlight is what bodies in flight may take of a small budget: more than a body grows to
// before it goes to disk.
const smallInFlight = 2 << 20

// Unreserve gives back bytes that Reserve has counted.
func (s *Store) Unreserve(n int64) {
	s.memory.inFlight.Add(-n)
	s.memory.used.Add(-n)
}

// ReserveBeyond counts n more bytes of a body that is written to disk while it arrives, and for
// which Reserve has no room. They go beyond the budget: all of them together by a quarter of it, or
// a megabyte where that is more, and by less while there are very many fetches. False when they do
// not fit.
func (s *Store) ReserveBeyond(n int64) bool {
	m := s.memory
	if m.beyond.Add(n) <= m.beside(m.budget.Load()/4, m.fetches.over.Load()/3*2) {
		return true
	}
	m.beyond.Add(-n)
	return false
}

// UnreserveBeyond gives back bytes that ReserveBeyond has counted.
func (s *Store) UnreserveBeyond(n int64) { s.memory.beyond.Add(-n) }

// ReserveWindow counts n more bytes of a body that is passed on and not stored, beside held that it
// has of such already. All together may have an eighth of the budget, or a megabyte where that is
// more, and less while there are very many fetches. It is none of what is stored, and evicts
// nothing: clients that take nothing of what they are sent hold it as long as they like. When half
// of it is taken, no body may hold more than 64 KiB. False when there is no room.
func (s *Store) ReserveWindow(n, held int64) bool {
	m := s.memory
	limit, taken := m.beside(m.budget.Load()/8, m.fetches.over.Load()/3), m.passed.Add(n)
	if taken <= limit/2 || taken <= limit && held+n <= smallCharge {
		return true
	}
	m.passed.Add(-n)
	return false
}

// UnreserveWindow gives back bytes that ReserveWindow has counted.
func (s *Store) UnreserveWindow(n int64) { s.memory.passed.Add(-n) }

// Chunk returns n bytes outside of Go's heap for a body in flight, whatever is in them, and what
// gives them back. They are counted by the methods above. It returns nil for less than a page, and
// where the system has no memory.
func (s *Store) Chunk(n int) (data []byte, free func()) {
	if n < leastChunk {
		return nil, nil
	}
	chunks := s.memory.chunks
	at, _, err := chunks.Alloc(n, 0)
	if err != nil {
		return nil, nil
	}
	return chunks.Bytes(at, n), func() { chunks.Free(at) }
}

// inFlightNow is what bodies on their way count.
func (m *memory) inFlightNow() InFlight {
	chunks, _, _ := m.chunks.Held()
	return InFlight{Kept: m.inFlight.Load(), Beyond: m.beyond.Load(), Passed: m.passed.Load(), Fetches: m.fetches.bytes.Load(), Chunks: chunks}
}

// leastChunk is from where on a chunk is outside of Go's heap: a page. What is smaller is little of
// what its fetch takes there beside it.
const leastChunk = 4 << 10

// smallBeyond is what each of these takes beside a small budget.
const smallBeyond = 1 << 20

package store

import (
	"fmt"
	"sync"
	"testing"
)

// holder stores entries and looks them up without giving them back, as for clients that read
// nothing.
type holder struct {
	t     *testing.T
	s     *Store
	clock *testClock
	held  []Result
}

// hold stores an entry, if it may be, and holds it.
func (h *holder) hold(url string, size int) {
	h.clock.advance(1)
	h.s.Put(freshEntry(h.s, h.clock, url, size), 0)
	if r := h.s.Lookup(keyOf(url), matchAny); r.Entry != nil {
		h.held = append(h.held, r)
	}
}

// visit asks for n small pages and stores those that are missing.
func (h *holder) visit(n int) (missing int) {
	for i := range n {
		url := fmt.Sprintf("http://example.com/page/%d", i)
		r := h.s.Lookup(keyOf(url), matchAny)
		if r.Entry == nil {
			missing++
			if got := h.s.Put(freshEntry(h.s, h.clock, url, 20<<10), 0); got != Stored {
				h.t.Errorf("%s: %v", url, got)
			}
		}
		r.Release()
	}
	return missing
}

// TestReadersThatTakeNothingLeaveRoom: clients that are sent what is stored, and take nothing of
// it, leave room for what others ask for, whether what they hold is stored still or not.
func TestReadersThatTakeNothingLeaveRoom(t *testing.T) {
	const budget, pages = 8 << 20, 40
	for name, url := range map[string]func(i int) string{
		"many":     func(i int) string { return fmt.Sprintf("http://example.com/film/%d", i) },
		"replaced": func(int) string { return "http://example.com/film" },
		"removed":  func(int) string { return "http://example.com/film" },
	} {
		for _, policy := range []Eviction{LRU, LFU, FIFO} {
			t.Run(fmt.Sprintf("%s, %v", name, policy), func(t *testing.T) {
				clock := newTestClock()
				s := New(Config{Now: clock.now}, Settings{Memory: budget, Eviction: policy})
				s.state.Store(stateOpen)
				t.Cleanup(s.memory.clear)
				h := &holder{t: t, s: s, clock: clock}
				h.visit(pages)
				h.visit(pages)
				for i := range 100 {
					h.hold(url(i), 300<<10)
					if name == "removed" && len(h.held) > 0 {
						s.Remove(h.held[len(h.held)-1].Entry)
					}
					if missing := h.visit(pages); missing > 0 && policy != FIFO {
						t.Fatalf("with %d held, %d of %d pages are missing", len(h.held), missing, pages)
					}
				}
				h.visit(pages)
				if missing := h.visit(pages); missing > 0 {
					t.Errorf("with %d held, %d of %d pages have no room", len(h.held), missing, pages)
				}
				if used := s.memory.used.Load(); used > budget {
					t.Errorf("%d bytes are used of %d", used, budget)
				}
				for i := range h.held {
					h.held[i].Release()
				}
				if held := s.memory.held.Load(); held != 0 {
					t.Errorf("nothing is held, and %d bytes count as such", held)
				}
				if got := s.Put(freshEntry(s, clock, url(101), 300<<10), 0); got != Stored {
					t.Errorf("once they have left: %v", got)
				}
			})
		}
	}
}

// TestWhatIsHeldIsNoVictim: what is held gives no room when it is evicted, so it is not, and
// nothing is stored where all is held.
func TestWhatIsHeldIsNoVictim(t *testing.T) {
	clock := newTestClock()
	s := New(Config{Now: clock.now}, Settings{Memory: 1 << 20})
	s.state.Store(stateOpen)
	t.Cleanup(s.memory.clear)
	h := &holder{t: t, s: s, clock: clock}
	for i := range 100 {
		h.hold(fmt.Sprintf("http://example.com/%d", i), 20<<10)
	}
	n := s.memory.entries()
	if got := s.Put(freshEntry(s, clock, "http://example.com/", 20<<10), 0); got != RefusedFull || s.memory.entries() != n {
		t.Errorf("%v, and %d of %d entries are left: all of them are held", got, s.memory.entries(), n)
	}
	for i := range h.held {
		h.held[i].Release()
	}
}

// TestHeldRenewalsCountTheirBodyOnce: slow readers of one body that was renewed between them hold
// one body.
func TestHeldRenewalsCountTheirBodyOnce(t *testing.T) {
	const size, url = 1 << 20, "http://example.com/"
	s := openStore(t, Config{}, Settings{Memory: 64 << 20})
	s.Put(signedEntry(s, url, 1, size), 0)
	var held []Result
	for n := range 5 {
		held = append(held, s.Lookup(keyOf(url), matchAny))
		renew(t, s, url, fmt.Sprint(n))
	}
	if n := s.memory.held.Load(); n < size || n > size+size/4 {
		t.Errorf("%d bytes count as held", n)
	}
	for i := range held {
		held[i].Release()
	}
	if n := s.memory.held.Load(); n != 0 {
		t.Errorf("nothing is held, and %d bytes count as such", n)
	}
}

// TestRenewalOfWhatIsReadIsNoVictim: a renewed entry has its body in common with the one that it
// renews. While clients read that, to evict the renewed one gives no room.
func TestRenewalOfWhatIsReadIsNoVictim(t *testing.T) {
	const films, pages = 10, 200
	for _, policy := range []Eviction{LRU, LFU, FIFO} {
		t.Run(policy.String(), func(t *testing.T) {
			s := openStore(t, Config{}, Settings{Memory: 8 << 20, Eviction: policy})
			var readers []Result
			for i := range films {
				url := fmt.Sprintf("http://example.com/film/%d", i)
				s.Put(signedEntry(s, url, 1, 300<<10), 0)
				readers = append(readers, s.Lookup(keyOf(url), matchAny))
				if !renew(t, s, url, "again") {
					t.Fatal("not renewed")
				}
			}
			for i := range pages {
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/page/%d", i), make([]byte, 40<<10)), 0)
			}
			if n := countFound(s, "film", films); n != films {
				t.Errorf("%d of %d are left whose bodies are read", n, films)
			}
			for i := range readers {
				readers[i].Release()
			}
			for s.memory.evictOne(false) {
			}
			if n, used := s.memory.entries(), s.memory.used.Load(); n != 0 || used != 0 {
				t.Errorf("%d entries cannot be evicted that no client reads, %d bytes are used", n, used)
			}
		})
	}
}

// TestNothingIsHeldWhenAllIsGivenBack: look-ups of one entry and others that hold it come and go
// side by side, and what counts as held is nothing in the end.
func TestNothingIsHeldWhenAllIsGivenBack(t *testing.T) {
	const url, rounds = "http://example.com/", 300
	s := openStore(t, Config{}, Settings{Memory: 8 << 20})
	s.Put(testEntry(s, url, make([]byte, 100<<10)), 0)
	for round := range rounds {
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for range 20 {
					look := s.Lookup
					if worker > 1 {
						look = s.Peek
					}
					if r := look(keyOf(url), matchAny); r.Entry == nil {
						t.Error("it is not stored")
					} else {
						r.Release()
					}
				}
			})
		}
		all.Wait()
		if n := s.memory.held.Load(); n != 0 {
			t.Fatalf("round %d: nothing is held, and %d bytes count as such", round, n)
		}
	}
}

// TestHeldItemsHideNoVictim: what clients hold stands among what was used once, and all else has
// been used more often. What is new finds room all the same.
func TestHeldItemsHideNoVictim(t *testing.T) {
	const hot, held, fresh = 350, 60, 100
	for _, policy := range []Eviction{LRU, LFU, FIFO} {
		t.Run(policy.String(), func(t *testing.T) {
			clock := newTestClock()
			s := New(Config{Now: clock.now}, Settings{Memory: 8 << 20, Eviction: policy})
			s.state.Store(stateOpen)
			t.Cleanup(s.memory.clear)
			h := &holder{t: t, s: s, clock: clock}
			for range 20 { // each time more of them are used again
				h.visit(hot)
			}
			for i := range held {
				s.Put(freshEntry(s, clock, fmt.Sprintf("http://example.com/held/%d", i), 20<<10), 0)
				if r := s.Peek(keyOf(fmt.Sprintf("http://example.com/held/%d", i)), matchAny); r.Entry != nil {
					h.held = append(h.held, r)
				}
			}
			for i := range fresh {
				url := fmt.Sprintf("http://example.com/new/%d", i)
				if got := s.Put(freshEntry(s, clock, url, 20<<10), 0); got != Stored {
					t.Errorf("%s: %v", url, got)
				}
				r := s.Lookup(keyOf(url), matchAny)
				if r.Entry == nil {
					t.Errorf("%s has gone already", url)
				}
				r.Release()
			}
			for i := range h.held {
				h.held[i].Release()
			}
		})
	}
}

// TestHeldBodyCountsBesideItsRenewals: a body counts as held for as long as a look-up holds what
// has it, and no longer, whatever comes and goes of its renewals.
func TestHeldBodyCountsBesideItsRenewals(t *testing.T) {
	const size, url = 1 << 20, "http://example.com/"
	s := openStore(t, Config{}, Settings{Memory: 64 << 20})
	s.Put(signedEntry(s, url, 1, size), 0)
	want := func(what string, bodies int64) {
		t.Helper()
		if n := s.memory.held.Load(); n < bodies*size || n > bodies*size+size/4 {
			t.Errorf("%s: %d bytes count as held, want %d bodies", what, n, bodies)
		}
	}
	base := s.Lookup(keyOf(url), matchAny)
	for n := range 3 {
		renew(t, s, url, fmt.Sprint(n))
		r := s.Lookup(keyOf(url), matchAny)
		want("a renewal is held", 1)
		r.Release()
		want("a renewal was held", 1)
	}
	renewed := s.Lookup(keyOf(url), matchAny)
	base.Release()
	want("the renewal alone is held", 1)
	s.Put(signedEntry(s, url, 2, size), 0)
	want("it is replaced", 1)
	other := s.Lookup(keyOf(url), matchAny)
	want("that is held too", 2)
	renewed.Release()
	want("that alone is held", 1)
	other.Release()
	want("nothing is held", 0)
	base = s.Lookup(keyOf(url), matchAny)
	renew(t, s, url, "again")
	base.Release()
	want("what is renewed was held", 0)
	for i, sh := range s.memory.shards {
		if n := len(sh.bodies); n > 1 {
			t.Errorf("shard %d knows of %d bodies", i, n)
		}
	}
	s.Put(signedEntry(s, url, 3, size), 0)
	if n := len(s.memory.shard(keyOf(url)).bodies); n != 0 {
		t.Errorf("%d bodies have renewals", n)
	}
}

// TestLargeBodiesInFlightEvictNothing: past three quarters of the budget in the hands of clients
// nothing goes for a piece of a larger body in flight either.
func TestLargeBodiesInFlightEvictNothing(t *testing.T) {
	const budget, chunk = 8 << 20, 64 << 10
	s := openStore(t, Config{}, Settings{Memory: budget})
	var held []Result
	for i := range 22 {
		url := fmt.Sprintf("http://example.com/film/%d", i)
		s.Put(testEntry(s, url, make([]byte, 300<<10)), 0)
		held = append(held, s.Lookup(keyOf(url), matchAny))
	}
	for n := 0; s.Stats().Memory.Bytes < budget*15/16; n++ {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/page/%d", n), make([]byte, 4000)), 0)
	}
	before := s.Stats().Memory.Entries
	taken := int64(0)
	for _, total := range []int64{0, 3 << 20} {
		for s.Reserve(chunk, total) {
			taken += chunk
		}
	}
	if left := s.Stats().Memory.Entries; left != before {
		t.Errorf("%d of %d entries are left", left, before)
	}
	if !s.Reserve(4<<10, 4<<10) {
		t.Error("a page has no room")
	}
	s.Unreserve(taken + 4<<10)
	for i := range held {
		held[i].Release()
	}
}

// TestFullMemoryLeavesTheDisk: where clients hold so much of memory that nothing has room there,
// what comes goes to disk.
func TestFullMemoryLeavesTheDisk(t *testing.T) {
	const budget = 4 << 20
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: budget, Disk: 64 << 20})
	var held []Result
	for i := range 30 {
		url := fmt.Sprintf("http://example.com/film/%d", i)
		s.Put(testEntry(s, url, make([]byte, 300<<10)), 0)
		must(t, s.Sync())
		held = append(held, s.Lookup(keyOf(url), matchAny))
	}
	const page = 100 << 10
	window := int64(0) // of clients that take nothing of bodies that are not kept
	for s.Reserve(64<<10, 0) {
		window += 64 << 10
	}
	for i := range 20 {
		url := fmt.Sprintf("http://example.com/page/%d", i)
		if !s.Reserve(page, page) {
			t.Fatalf("%s: no room in flight", url)
		}
		s.Unreserve(page)
		if r := s.Put(testEntry(s, url, make([]byte, page)), 0); r != Stored {
			t.Fatalf("%s: %v", url, r)
		}
		must(t, s.Sync())
	}
	if n := countFound(s, "page", 20); n != 20 {
		t.Errorf("%d of 20 are found", n)
	}
	if used := s.memory.used.Load(); used > budget+smallInFlight {
		t.Errorf("%d bytes are used", used)
	}
	s.Unreserve(window)
	for i := range held {
		held[i].Release()
	}
}

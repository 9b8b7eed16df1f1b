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
					if r := s.lookup(keyOf(url), matchAny, worker > 1); r.Entry == nil {
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

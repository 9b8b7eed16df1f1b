package store

import (
	"fmt"
	"sync"
	"testing"
)

// TestFetchesTakeFromBodies: what fetches under way take beside their bodies is counted, and leaves
// as much less of the budget to bodies. All together is one and a half of the budget, while there
// are no more fetches than take seven eighths of it. What bodies had did not depend on how many
// fetches there were.
func TestFetchesTakeFromBodies(t *testing.T) {
	const budget, chunk, page = 64 << 20, 64 << 10, 60_000
	for _, part := range []int64{0, 1, 2, 4, 8, 12, 14} {
		t.Run(fmt.Sprint(part, " of 16"), func(t *testing.T) {
			s := openStore(t, Config{}, Settings{Memory: budget})
			for n := 0; s.Stats().Memory.Bytes < budget*9/10; n++ {
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, page)), 0)
			}
			fetches := budget / 16 * part / FetchBytes
			for range fetches {
				s.BeginFetch()
			}
			kept, beyond, passed := fillAccounts(s, chunk)
			stats := s.Stats()
			counted := stats.Memory.Bytes + beyond + passed + stats.InFlight.Fetches - s.memory.fetches.charged.Load()
			t.Logf("%d fetches; kept %d, beyond %d, passed on %d; %d in all", fetches, kept, beyond, passed, counted)
			if counted > budget*3/2 {
				t.Errorf("%d bytes count, of a budget of %d", counted, budget)
			}
			if want := max(smallInFlight, budget/2-max(0, fetches*FetchBytes-budget/8)); kept != want {
				t.Errorf("bodies to be stored take %d bytes, want %d", kept, want)
			}
			if min(beyond, passed) < budget/besidePart {
				t.Errorf("what goes beyond takes %d bytes, what is passed on %d", beyond, passed)
			}
			if r := s.Put(testEntry(s, "http://example.com/new", make([]byte, page)), 0); r != Stored {
				t.Errorf("Put beside them: %v", r)
			}
			s.Unreserve(kept)
			entries := stats.Memory.Bytes - kept - s.memory.fetches.charged.Load()
			for range fetches {
				s.EndFetch()
			}
			after := s.Stats()
			if n := after.Memory.Bytes - entries; after.InFlight.Fetches != 0 || max(n, -n) > 2*page {
				t.Errorf("when all have ended, %d bytes of fetches count, and %d are used, of %d", after.InFlight.Fetches, after.Memory.Bytes, entries)
			}
		})
	}
}

// fillAccounts takes all that bodies may have of each account.
func fillAccounts(s *Store, chunk int64) (kept, beyond, passed int64) {
	for s.Reserve(chunk, -1<<20) {
		kept += chunk
	}
	for s.ReserveBeyond(chunk) {
		beyond += chunk
	}
	for s.ReserveWindow(chunk, 0) {
		passed += chunk
	}
	return kept, beyond, passed
}

// TestFetchesBesideBodiesThatAreThere: what bodies have taken is not given back for fetches, but
// with them these left no room for anything that was to be stored.
func TestFetchesBesideBodiesThatAreThere(t *testing.T) {
	const budget, chunk = 64 << 20, 64 << 10
	s := openStore(t, Config{}, Settings{Memory: budget})
	kept, beyond, passed := fillAccounts(s, chunk)
	for range budget / 8 * 7 / FetchBytes {
		s.BeginFetch()
	}
	for n := range 2000 {
		if r := s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, 20_000)), 0); r != Stored {
			t.Fatalf("page %d: %v", n, r)
		}
	}
	stats := s.Stats()
	if stats.Memory.Bytes > budget {
		t.Errorf("%d bytes are used, of %d", stats.Memory.Bytes, budget)
	}
	if counted := stats.Memory.Bytes + beyond + passed + stats.InFlight.Fetches - s.memory.fetches.charged.Load(); counted > budget/8*15 {
		t.Errorf("%d bytes count, of a budget of %d", counted, budget)
	}
	s.Unreserve(kept)
	s.BeginFetch() // what is used is counted anew with each
	s.EndFetch()
	if charged := s.memory.fetches.charged.Load(); charged != budget/2 {
		t.Errorf("when the bodies have gone, %d bytes of fetches are used, want %d", charged, budget/2)
	}
}

// TestFetchesOfASmallBudget: some fetches at once cost a small budget nothing.
func TestFetchesOfASmallBudget(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 64 << 10})
	for range smallBeyond / FetchBytes {
		s.BeginFetch()
	}
	if used := s.Stats().Memory.Bytes; used != 0 {
		t.Errorf("%d bytes are used", used)
	}
}

// TestFetchesWhileTheBudgetChanges: what fetches count comes back, whatever the budget was when
// they began.
func TestFetchesWhileTheBudgetChanges(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				for range 20 {
					s.BeginFetch()
				}
				for range 20 {
					s.EndFetch()
				}
			}
		})
	}
	for i := range int64(100) {
		s.Apply(inAll(Settings{Memory: 1<<20 + i%2*(8<<20)}))
	}
	all.Wait()
	if stats := s.Stats(); stats.Memory.Bytes != 0 || stats.InFlight.Fetches != 0 {
		t.Errorf("%d bytes are used, %d of fetches", stats.Memory.Bytes, stats.InFlight.Fetches)
	}
}

package store

import (
	"fmt"
	"testing"
)

// pendingByHand is a store kept by hand with n purges pending: of URLs, each with a row on disk,
// and all issued while a fetch is under way. swept says whether they wait for that fetch alone.
func pendingByHand(t testing.TB, n int, swept bool) (*Store, *Ticket) {
	t.Helper()
	s := keptByHand(t, Settings{Memory: 64 << 20, Disk: 1 << 30})
	for i := range n {
		s.Put(testEntry(s, pendingURL(i), nil, "all", fmt.Sprint("own-", i)), 0)
	}
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	fetch := s.Begin()
	for i := range n {
		purgeNow(t, s, Selectors{URLs: []string{pendingURL(i)}}, Hard)
	}
	for swept && len(s.diskWriter.sweeps.memory)+len(s.diskWriter.sweeps.disk) > 0 {
		s.diskWriter.pace.due = s.diskWriter.pace.last
		s.diskWriter.step()
	}
	if got := s.purges.pending(); got != n {
		t.Fatalf("%d purges pending, want %d", got, n)
	}
	return s, fetch
}

func pendingURL(i int) string { return fmt.Sprintf("http://example.com/%d", i) }

// purgeNow purges as the disk writer does and returns what matched.
func purgeNow(t testing.TB, s *Store, sel Selectors, severity Severity) int {
	t.Helper()
	req := &PurgeRequest{rec: s.purges.issue(sel, severity, 0), done: make(chan struct{})}
	s.diskWriter.waiting.Add(1)
	s.diskWriter.commitPurges([]*PurgeRequest{req})
	if req.err != nil {
		t.Fatal(req.err)
	}
	return req.matched
}

// TestPendingPurgesAreNotWalkedThrough: what a purge costs does not grow with the purges that are
// pending, neither those that wait for a slow fetch nor those that are to be swept yet. What is
// counted is records looked at one after the other, and cursors moved in the file.
func TestPendingPurgesAreNotWalkedThrough(t *testing.T) {
	for _, swept := range []bool{true, false} {
		t.Run(fmt.Sprintf("swept %v", swept), func(t *testing.T) {
			work := func(pending int) int64 {
				s, fetch := pendingByHand(t, pending, swept)
				defer fetch.End()
				s.Put(testEntry(s, "http://example.com/new", nil, "new"), 0)
				if err := s.diskWriter.flush(); err != nil {
					t.Fatal(err)
				}
				walked, stats := s.purges.walked, s.disk.use.db.Stats().TxStats
				for range 10 {
					if n := purgeNow(t, s, Selectors{URLs: []string{"http://example.com/none"}}, Hard); n != 0 {
						t.Errorf("matched %d of none", n)
					}
				}
				if n := purgeNow(t, s, Selectors{Tags: []string{"new"}}, Hard); n != 1 {
					t.Errorf("matched %d, want 1", n)
				}
				if n := purgeNow(t, s, Selectors{URLs: []string{pendingURL(0)}}, Hard); n != 0 {
					t.Errorf("matched %d of what is purged already", n)
				}
				if s.purges.walked != walked {
					t.Errorf("%d records were walked through", s.purges.walked-walked)
				}
				after := s.disk.use.db.Stats().TxStats
				return after.GetCursorCount() - stats.GetCursorCount()
			}
			few, many := work(10), work(400)
			if many > few*3/2 {
				t.Errorf("%d cursors with 10 pending, %d with 400", few, many)
			}
		})
	}
}

// TestManyRowsAndManyPending: a purge with many rows counts those alone that purges before it have
// left, by either way to find out.
func TestManyRowsAndManyPending(t *testing.T) {
	const n = 500
	for _, pending := range []int{1, 3, n - 1} {
		s := keptByHand(t, Settings{Memory: 1, Disk: 1 << 30})
		for i := range n {
			s.Put(testEntry(s, pendingURL(i), nil, "all", fmt.Sprint("own-", i)), 0)
		}
		if err := s.diskWriter.flush(); err != nil {
			t.Fatal(err)
		}
		for i := range pending {
			purgeNow(t, s, Selectors{Tags: []string{fmt.Sprint("own-", i)}}, Hard)
		}
		if got := purgeNow(t, s, Selectors{Tags: []string{"all"}}, Hard); got != n-pending {
			t.Errorf("%d pending: matched %d, want %d", pending, got, n-pending)
		}
	}
}

// TestPurgesThatSayTheSameAreOne: while a fetch is under way, which keeps purges in force, the last
// of those that say the same stands for all. What the fetch brings is purged by it.
func TestPurgesThatSayTheSameAreOne(t *testing.T) {
	s := keptByHand(t, bothTiers)
	const url = "http://example.com/a"
	fetch := s.Begin()
	for range 50 {
		purgeNow(t, s, Selectors{URLs: []string{url}}, Hard)
		purgeNow(t, s, Selectors{URLs: []string{url}}, Soft)
		for len(s.diskWriter.sweeps.memory)+len(s.diskWriter.sweeps.disk) > 0 {
			s.diskWriter.pace.due = s.diskWriter.pace.last
			s.diskWriter.step()
		}
	}
	if n := s.purges.pending(); n != 2 {
		t.Errorf("%d purges are pending, want a hard one and a soft one", n)
	}
	late := testEntry(s, url, nil)
	late.Generation = fetch.Generation()
	if r := s.Put(late, 0); r != RefusedPurged {
		t.Errorf("Put of what was purged while it was fetched = %v", r)
	}
	fetch.End()
	for s.diskWriter.step() {
		continue
	}
	if n := s.purges.pending(); n != 0 {
		t.Errorf("%d purges are pending after the fetch", n)
	}
	if r := s.Put(testEntry(s, url, nil), 0); r != Stored {
		t.Errorf("Put = %v", r)
	}
}

// TestMergedPurgesCountOnce: a purge that came between two that say the same, and is counted after
// both, is told what the first has hit.
func TestMergedPurgesCountOnce(t *testing.T) {
	s := keptByHand(t, bothTiers)
	fetch := s.Begin()
	defer fetch.End()
	purgeNow(t, s, Selectors{Tags: []string{"t"}}, Hard)
	stepAll(s)
	between := s.purges.issue(Selectors{Tags: []string{"u"}}, Hard, 0)
	purgeNow(t, s, Selectors{Tags: []string{"t"}}, Hard)
	stepAll(s)
	if n := s.purges.pending(); n != 3 {
		t.Errorf("%d purges are pending, want 3: one is not counted yet", n)
	}
	s.purges.setCounted(between)
	s.diskWriter.addSweep(between)
	stepAll(s)
	if n := s.purges.pending(); n != 2 {
		t.Errorf("%d purges are pending, want one of each that say the same", n)
	}
}

// TestTicketsKnowTheOldest: generations end in any order.
func TestTicketsKnowTheOldest(t *testing.T) {
	rng := seeded(t)
	s := New(Config{}, bothTiers)
	open := map[uint64]int{}
	for range 2000 {
		if rng.IntN(3) == 0 {
			s.purges.issue(Selectors{All: true}, Soft, 0)
		}
		if rng.IntN(2) == 0 {
			open[s.tickets.beginFetch(s.purges)]++
		} else {
			for gen := range open {
				s.tickets.endFetch(gen)
				if open[gen]--; open[gen] == 0 {
					delete(open, gen)
				}
				break
			}
		}
		want := everything
		for gen := range open {
			want = min(want, gen)
		}
		if got := s.tickets.oldest(); got != want {
			t.Fatalf("oldest = %d, want %d of %d", got, want, len(open))
		}
	}
}

// A fetch that goes on for long has the purges kept that come meanwhile. Anybody may cause those of
// a POST, each of a URL of its own, so their memory is bounded: then the fetch may not be stored,
// and no purge is kept for it.
func TestPendingPurgesAreBounded(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	slow := s.Begin()
	defer slow.End()
	const url = "http://example.com/slow"
	for i := range 5000 {
		if _, err := s.Purge(Selectors{URLs: []string{pendingURL(i)}}, PurgeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return s.purges.bytes() <= s.diskWriter.recordsLimit() })
	if s.Purged(url, nil, slow.Generation()) != Hard {
		t.Error("newcomers may still join the fetch for which no purge is kept")
	}
	e := testEntry(s, url, nil)
	e.Generation = slow.Generation()
	if r := s.Put(e, 0); r != RefusedPurged {
		t.Errorf("what it brings is %v", r)
	}
	next := s.Begin()
	defer next.End()
	e = testEntry(s, url, nil)
	e.Generation = next.Generation()
	if r := s.Put(e, 0); r != Stored {
		t.Errorf("what the next fetch brings is %v", r)
	}
}

// What is just being stored is not revoked: a sweep that took no heed of it could have passed its
// place.
func TestWhatIsBeingStoredIsNotRevoked(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	fetch := s.Begin()
	defer fetch.End()
	s.purges.issue(Selectors{All: true}, Hard, 0)
	kept, ok := s.tickets.keep(fetch.Generation())
	if !ok {
		t.Fatal("refused before it was revoked")
	}
	s.tickets.revoke(s.purges.last.Load())
	if got := s.tickets.oldest(); got != fetch.Generation() {
		t.Errorf("oldest = %d while generation %d is being stored", got, fetch.Generation())
	}
	s.tickets.unkeep(kept)
	if got := s.tickets.oldest(); got != everything {
		t.Errorf("oldest = %d after that", got)
	}
	if _, ok := s.tickets.keep(fetch.Generation()); ok {
		t.Error("not refused after it was revoked")
	}
}

// BenchmarkPurgePending purges a URL of which nothing is stored, with so many purges pending for a
// fetch that is under way.
func BenchmarkPurgePending(b *testing.B) {
	for _, n := range []int{0, 5_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 64 << 20, Disk: 1 << 30})
			fetch := s.Begin()
			defer fetch.End()
			for i := range n {
				if _, err := s.Purge(Selectors{URLs: []string{pendingURL(i)}}, PurgeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			for i := 0; b.Loop(); i++ {
				if _, err := s.Purge(Selectors{URLs: []string{pendingURL(1_000_000 + i%100)}}, PurgeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestPurgeBehindOneNotCounted: a purge that hits nothing on disk is not written down, and what a
// fetch brings that is older is judged as it is written. While a purge before it is on its way to
// the disk writer, batches look at neither: the page came to the disk fresh, and was back as soon
// as memory had evicted it.
func TestPurgeBehindOneNotCounted(t *testing.T) {
	s := keptByHand(t, bothTiers)
	const url = "http://example.com/a"
	fetch := s.Begin()
	before := s.purges.issue(Selectors{Tags: []string{"other"}}, Hard, 0)
	purgeNow(t, s, Selectors{URLs: []string{url}}, Soft)
	if n := purgeRows(t, s); n != 1 {
		t.Errorf("%d purges are in the file, want the one that the next batch does not look at", n)
	}
	stepAll(s)
	e := testEntry(s, url, nil)
	e.Generation = fetch.Generation()
	s.Put(e, 0)
	must(t, s.diskWriter.flush())
	fetch.End()
	req := &PurgeRequest{rec: before, done: make(chan struct{})}
	s.diskWriter.waiting.Add(1)
	s.diskWriter.commitPurges([]*PurgeRequest{req})
	stepAll(s)
	if n := s.purges.pending(); n != 0 {
		t.Errorf("%d purges are pending", n)
	}
	s.memory.clear()
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	if r.Entry == nil || r.Severity != Soft {
		t.Errorf("what was purged is found as %v, %v", r.Entry, r.Severity)
	}
}

// stepAll has the disk writer do all that it can do now.
func stepAll(s *Store) {
	for s.diskWriter.step() {
		s.diskWriter.pace.due = s.diskWriter.pace.last
	}
}

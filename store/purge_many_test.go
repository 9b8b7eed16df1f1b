package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// heldPurges are purges that have come to the disk writer of a store kept by hand.
func heldPurges(s *Store, dryRun bool, selectors ...Selectors) []*PurgeRequest {
	var reqs []*PurgeRequest
	for _, sel := range selectors {
		req := &PurgeRequest{store: s, dryRun: dryRun, done: make(chan struct{})}
		if req.rec = (&purgeRecord{gen: everything - 1, severity: Hard, sel: sel}); !dryRun {
			req.rec = s.purges.issue(sel, Hard, 0)
		}
		if !dryRun {
			s.diskWriter.waiting.Add(1)
		}
		reqs = append(reqs, req)
	}
	return reqs
}

// answerHeld has the disk writer of a store kept by hand answer purges, or dry runs.
func answerHeld(s *Store, reqs []*PurgeRequest) {
	if !reqs[0].dryRun {
		s.diskWriter.commitPurges(reqs)
		return
	}
	for _, req := range reqs {
		s.diskWriter.requests.add(req)
	}
	for s.diskWriter.requests.waits() {
		s.diskWriter.countDryRun()
	}
}

// waits tells whether there is a dry run.
func (q *purgeRequests) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.dry) > 0
}

// nested are n selectors, of tags and of prefixes, each of which selects all that sharedByHand has.
func nested(n int) (selectors []Selectors, tags []string) {
	for i := range n {
		if i%2 == 0 {
			tags = append(tags, fmt.Sprintf("t%d", i))
			selectors = append(selectors, Selectors{Tags: tags[len(tags)-1:]})
		} else {
			selectors = append(selectors, Selectors{Prefixes: []string{"http://example.com/" + strings.Repeat("f", i)}})
		}
	}
	return selectors, tags
}

// sharedByHand is a store kept by hand that has entries on disk which all of n selectors select.
func sharedByHand(t *testing.T, n, entries int) (*Store, []Selectors) {
	t.Helper()
	s := keptByHand(t, diskTier)
	selectors, tags := nested(n)
	for i := range entries {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%s/%d", strings.Repeat("f", n), i), nil, tags...), 0)
	}
	must(t, s.diskWriter.flush())
	return s, selectors
}

// TestPurgesThatComeTogetherWalkEachRowOnce: what many purges of the same entries walk through
// grows with their rows, not with these times the purges before each. What each counts stays what
// it would count alone. What is counted is rows walked, over several transactions.
func TestPurgesThatComeTogetherWalkEachRowOnce(t *testing.T) {
	const purges, entries = 64, 600
	s, selectors := sharedByHand(t, purges, entries)
	k := s.diskWriter
	reqs := heldPurges(s, false, selectors...)
	dry := heldPurges(s, true, selectors...)
	before, shards := k.walked.Load(), uint64(len(s.memory.shards))
	stats := s.disk.use.db.Stats().TxStats
	k.commitPurges(slices.Concat(dry[:purges/2], reqs, dry[purges/2:]))
	for i, req := range reqs {
		n, err := req.Wait()
		if want := map[bool]int{true: entries}[i == 0]; n != want || err != nil {
			t.Errorf("purge %d = %d, %v, want %d", i, n, err, want)
		}
	}
	for i, req := range dry {
		if n, err := req.Wait(); n != 0 || err != nil {
			t.Errorf("dry run %d = %d, %v, all is purged", i, n, err)
		}
	}
	// The rows of each are counted, and those of the purges noted for the others.
	walked, most := k.walked.Load()-before, 3*purges*entries+2*purges*shards
	if walked > most {
		t.Errorf("%d rows were walked through, want %d at most", walked, most)
	}
	after := s.disk.use.db.Stats().TxStats
	if read := after.GetCursorCount() - stats.GetCursorCount(); read > purges*entries/16 {
		t.Errorf("%d records or so were read, want %d at most", read, purges*entries/16)
	}
	if walked < countedRows {
		t.Errorf("%d rows need no more than one transaction", walked)
	}
	stepAll(s)
	if n := s.disk.entries.Load(); n != 0 || s.purges.pending() != 0 {
		t.Errorf("%d entries are left, %d purges pending", n, s.purges.pending())
	}
}

// TestLongCountIsNoStall: purges whose counts take longer together than the disk is waited for are
// no stall, as long as each of them comes forward.
func TestLongCountIsNoStall(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		t.Run(fmt.Sprintf("dry run %v", dryRun), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, selectors := sharedByHand(t, 8, 10)
				reqs := heldPurges(s, dryRun, selectors...)
				s.diskWriter.now = func() time.Time { // each count asks once
					time.Sleep(stallTime / 2)
					return s.now()
				}
				began := time.Now()
				answerHeld(s, reqs)
				s.diskWriter.now = s.now
				if took := time.Since(began); took < 3*stallTime {
					t.Fatalf("counting took %v", took)
				}
				for i, req := range reqs {
					n, err := req.Wait()
					if want := map[bool]int{true: 10}[i == 0 || dryRun]; n != want || err != nil {
						t.Errorf("%d: %d, %v, want %d", i, n, err, want)
					}
				}
				if st := s.Stats(); st.Disk.State != "open" || st.Disk.Entries != 10 || st.Errors[DiskTier] != 0 {
					t.Errorf("stats %+v, errors %v", st.Disk, st.Errors)
				}
			})
		})
	}
}

// TestStallOfACount: where no row comes for too long a purge is not durable, and the file is given
// up; the error is counted once and nothing is counted anew. A dry run that meets this says so, and
// leaves the file alone.
func TestStallOfACount(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		t.Run(fmt.Sprintf("dry run %v", dryRun), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, selectors := sharedByHand(t, 8, 10)
				reqs := heldPurges(s, dryRun, selectors...)
				var counted atomic.Int32 // how often the time was asked for
				s.diskWriter.now = func() time.Time {
					if counted.Add(1) == 1 {
						time.Sleep(stallTime + time.Second)
					}
					return s.now()
				}
				want, other, state, errs := ErrNotDurable, ErrNotCounted, "failed", uint64(1)
				if dryRun {
					want, other, state, errs = ErrNotCounted, ErrNotDurable, "open", 0
				}
				within(t, "the answer", stallTime, func() { answerHeld(s, reqs) })
				for i, req := range reqs {
					if n, err := req.Wait(); n != 0 || !errors.Is(err, want) || errors.Is(err, other) || !errors.Is(err, errStalled) {
						t.Errorf("%d: %d, %v", i, n, err)
					}
				}
				if st := s.Stats(); st.Disk.State != state || st.Errors[DiskTier] != errs {
					t.Errorf("stats %+v, errors %v", st.Disk, st.Errors)
				}
				time.Sleep(time.Minute) // what was not waited for is through
				if dryRun {
					if n := purgeNow(t, s, selectors[0], Hard); n != 10 {
						t.Errorf("the purge that follows = %d", n)
					}
				}
			})
		})
	}
}

// TestStallIsCountedOnce: many purges that wait while the disk does not answer are one error, and
// not one each.
func TestStallIsCountedOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Path: dir, Required: true}, bothTiers)
		must(t, s.Open())
		disk := newStill()
		interceptWrites(t, s, disk.wrap(0, everyOffset))
		s.Put(testEntry(s, "http://example.com/", nil), 0)
		<-disk.reached
		var reqs []*PurgeRequest
		for i := range 20 {
			reqs = append(reqs, beginPurge(t, s, Selectors{Tags: []string{"t"}}, PurgeOptions{DryRun: i%2 == 0}))
		}
		for i, req := range reqs {
			_, err := req.Wait()
			if notDurable := errors.Is(err, ErrNotDurable); notDurable != (i%2 == 1) {
				t.Errorf("%d, dry run %v: %v", i, req.dryRun, err)
			}
		}
		synctest.Wait()
		// Where the file can be removed at once, that no other is opened beside the one that stands
		// still is an error of its own. Which of the two happens is the scheduler's.
		if n := s.Stats().Errors[DiskTier]; n != 1 && n != 2 {
			t.Errorf("%d errors are counted", n)
		}
		must(t, s.Close())
		close(disk.on)
		synctest.Wait()
	})
}

// TestSelectorsThatAnotherTakesIn: what is selected by a shorter prefix of the same purge, or by
// All, is neither noted nor counted for itself.
func TestSelectorsThatAnotherTakesIn(t *testing.T) {
	const root = "http://example.com/"
	for name, c := range map[string]struct{ given, want []string }{
		"nested":      {[]string{root + "aaa", root + "a", root + "aa"}, []string{root + "a"}},
		"side by":     {[]string{root + "b", root + "a", root + "ab", root + "b0", root + "c"}, []string{root + "a", root + "b", root + "c"}},
		"not nested":  {[]string{root + "a/", root + "ab", root + "a!"}, []string{root + "a!", root + "a/", root + "ab"}},
		"over others": {[]string{root + "a/b", root + "a", root + "a.b", root + "aé"}, []string{root + "a"}},
	} {
		sel := Selectors{Prefixes: c.given, Tags: []string{"t"}}
		if got := sel.distinct(); !slices.Equal(got.Prefixes, c.want) || len(got.Tags) != 1 {
			t.Errorf("%s: %q, want %q", name, got.Prefixes, c.want)
		}
		sel.All = true
		if got := sel.distinct(); !got.All || len(scansOf(&got)) != 1 || len(got.Tags)+len(got.Prefixes) != 0 {
			t.Errorf("%s: all is %+v", name, got)
		}
	}
}

// TestCountsInMemoryAreAnsweredInTurn: where there is no file, purges that come together are
// answered as they are counted, and the first does not wait for all.
func TestCountsInMemoryAreAnsweredInTurn(t *testing.T) {
	const entries = countedRows / 8
	for _, dryRun := range []bool{false, true} {
		t.Run(fmt.Sprintf("dry run %v", dryRun), func(t *testing.T) {
			s := New(Config{}, Settings{Memory: 64 << 20}) // kept by hand
			s.diskWriter.sweepAnew()
			s.state.Store(stateOpen)
			t.Cleanup(s.memory.clear)
			for i := range entries {
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil), 0)
			}
			reqs := heldPurges(s, dryRun, slices.Repeat([]Selectors{{All: true}}, 17)...)
			k, counted, answered := s.diskWriter, 0, 0
			now := k.now
			k.now = func() time.Time { // each count asks once
				counted++
				for answered = 0; answered < len(reqs) && isClosed(reqs[answered].done); {
					answered++
				}
				if waiting := counted - answered; waiting > 9 {
					t.Errorf("%d are counted, and only %d are answered", counted, answered)
				}
				return now()
			}
			k.commitPurges(reqs)
			for i, req := range reqs {
				n, err := req.Wait()
				if want := map[bool]int{true: entries}[i == 0 || dryRun]; n != want || err != nil {
					t.Errorf("%d: %d, %v, want %d", i, n, err, want)
				}
			}
		})
	}
}

func isClosed(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

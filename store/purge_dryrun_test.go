package store

import (
	"fmt"
	"testing"
	"time"
)

// dryRunWorld is a store kept by hand with so many entries on disk that a dry run has some slices.
func dryRunWorld(t *testing.T) (s *Store, entries int) {
	t.Helper()
	s, entries = keptByHand(t, bothTiers), 3*sliceRows+100
	for i := range entries {
		if r := s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil), 0); r != Stored {
			t.Fatal(r)
		}
		if i%1000 == 0 {
			must(t, s.diskWriter.flush())
		}
	}
	must(t, s.diskWriter.flush())
	return s, entries
}

// TestDryRunGivesWayToPurges: a purge that comes while a dry run is counted, or stands behind
// others, is answered before it.
func TestDryRunGivesWayToPurges(t *testing.T) {
	s, entries := dryRunWorld(t)
	var dryRuns []*PurgeRequest
	for range 3 {
		dryRuns = append(dryRuns, beginPurge(t, s, Selectors{All: true}, PurgeOptions{DryRun: true}))
	}
	var purge *PurgeRequest
	s.diskWriter.now = func() time.Time { // the first slice has begun
		if purge == nil {
			purge = beginPurge(t, s, Selectors{Tags: []string{"none"}}, PurgeOptions{})
		}
		return s.now()
	}
	s.diskWriter.countDryRun()
	if !answered(purge) {
		t.Error("the purge waits until the dry run is through")
	}
	if !answered(dryRuns[0]) || answered(dryRuns[1]) {
		t.Error("it is not one dry run that is counted")
	}
	s.diskWriter.now = s.now
	s.diskWriter.countDryRun()
	s.diskWriter.countDryRun()
	for i, req := range dryRuns {
		if n, err := req.Wait(); n != entries || err != nil {
			t.Errorf("dry run %d = %d, %v, want %d", i, n, err, entries)
		}
	}
}

// answered tells whether the outcome of a purge is known.
func answered(req *PurgeRequest) bool {
	select {
	case <-req.done:
		return true
	default:
		return false
	}
}

// TestDryRunInSlices: a dry run for which there is always a purge that waits comes to an end, and
// counts each entry once, on disk and in memory.
func TestDryRunInSlices(t *testing.T) {
	s, entries := dryRunWorld(t)
	for i := range 50 { // not on disk yet
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/queued/%d", i), nil), 0)
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil), 0)
	}
	for _, sel := range []Selectors{
		{All: true}, {Hosts: []string{"example.com"}, Prefixes: []string{"http://example.com/"}}, {Prefixes: []string{"http://example.com/"}},
	} {
		for _, onDisk := range []bool{true, false} {
			c := s.diskWriter.newCounting(&purgeRecord{gen: everything - 1, severity: Hard, sel: sel}, &masks{})
			c.purgeWaits = func() bool { return true }
			slices := 0
			for through := false; !through; slices++ {
				var err error
				if through, err = s.diskWriter.countSlice(c, onDisk); err != nil {
					t.Fatal(err)
				}
			}
			if c.n != entries+50 || slices < 3 {
				t.Errorf("%+v, disk %t: %d in %d slices, want %d in several", sel, onDisk, c.n, slices, entries+50)
			}
		}
	}
}

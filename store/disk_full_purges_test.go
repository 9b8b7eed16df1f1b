package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// TestPurgeOfAFullDisk: it is written at once where there is room for it. Where there is none the
// file goes.
func TestPurgeOfAFullDisk(t *testing.T) {
	for _, room := range []bool{true, false} {
		t.Run(fmt.Sprintf("room %v", room), func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 10, 1000)
			s, disk, clock, log := onFullDisk(t, dir, bothTiers)
			disk.fillUp(t, s)
			disk.full.Store(!room)
			n, err := s.Purge(Selectors{URLs: urls[:4]}, PurgeOptions{})
			if n != 4 || errors.Is(err, ErrNotDurable) == room {
				t.Errorf("Purge = %d, %v", n, err)
			}
			state, left := "full", 6
			if !room { // a new file is begun
				state, left = "open", 0
			}
			if st := s.Stats(); st.Disk.State != state {
				t.Errorf("%+v", st.Disk)
			}
			if purged, others := hits(t, s, urls[:4]), hits(t, s, urls[4:]); purged != 0 || others != left {
				t.Errorf("%d purged, %d of %d others are found", purged, others, left)
			}
			if removed := strings.Contains(log.String(), "so the file is removed"); removed == room {
				t.Errorf("logged:\n%s", log)
			}
			if room {
				k := killed(t, dir)
				if purged, others := hits(t, k, urls[:4]), hits(t, k, urls[4:]); purged != 0 || others != left {
					t.Errorf("after a crash %d purged, %d of %d others are found", purged, others, left)
				}
				disk.makeRoom(t, s, clock)
			}
			waitFor(t, func() bool { st := s.Stats(); return st.PurgesPending == 0 && st.Disk.Entries == int64(left+1) })
			goOn(t, s)
			checkAgreement(t, s)
		})
	}
}

// TestFullDiskInTheMiddleOfASweep: what a transaction had swept that failed was passed over by the
// next, and would have been back when the purge was through.
func TestFullDiskInTheMiddleOfASweep(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 100, 1000)
	s, disk, clock, _ := onFullDisk(t, dir, diskTier)
	var writes atomic.Int64
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) {
			if off < 2*int64(os.Getpagesize()) && writes.Add(1) == 1 { // the purge itself is written
				defer disk.full.Store(true)
			}
			return write(p, off)
		}
	})
	n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
	if n != 100 || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "full" })
	if n := hits(t, s, urls); n != 0 {
		t.Errorf("%d purged are found", n)
	}
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	if n, st := hits(t, s, urls), s.Stats(); n != 0 || st.Disk.Entries != 0 {
		t.Errorf("%d purged are found, %d are on disk", n, st.Disk.Entries)
	}
	checkAgreement(t, s)
}

// TestPurgesOfAFullDiskAreSwept: those that there was room for in a pause stayed in force, and in
// memory, until there was room for everything.
func TestPurgesOfAFullDiskAreSwept(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 200, 1000)
	s, disk, _, _ := onFullDisk(t, dir, bothTiers)
	disk.fillUp(t, s)
	disk.full.Store(false) // the file has free pages
	for range 100 {
		if _, err := s.Purge(Selectors{URLs: urls[:1]}, PurgeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
	if n != len(urls)-1 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	if st := s.Stats(); st.Disk.State != "full" || st.Disk.Entries != 0 || s.purges.bytes() != 0 {
		t.Errorf("%+v, %d bytes of purges", st.Disk, s.purges.bytes())
	}
	if n := hits(t, killed(t, dir), urls); n != 0 {
		t.Errorf("%d purged are found after a crash", n)
	}
}

// TestLargeBodyPurgedOnAFullDisk: when its last reader had left, it kept its room until there was
// room for everything.
func TestLargeBodyPurgedOnAFullDisk(t *testing.T) {
	const url = "http://example.com/large"
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), diskTier)
	s.Put(testEntry(s, url, randomBody(rng, 7*chunkSize)), 0)
	must(t, s.Sync())
	r := s.Lookup(keyOf(url), matchAny)
	disk.fillUp(t, s)
	disk.full.Store(false) // the file has free pages
	if _, err := s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	used := s.disk.slots.Load().Used
	if used() == 0 {
		t.Error("its room is given back while it is read")
	}
	r.Release()
	waitFor(t, func() bool { return used() == 0 })
	if st := s.Stats(); st.Disk.State != "full" {
		t.Errorf("%+v", st.Disk)
	}
	disk.makeRoom(t, s, clock)
	must(t, s.Sync())
	checkAgreement(t, s)
}

// TestFullDiskHasNoRoomToSweep: that is tried again with everything else, and not later for it.
func TestFullDiskHasNoRoomToSweep(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 100, 1000)
	s, disk, clock, _ := onFullDisk(t, dir, diskTier)
	disk.fillUp(t, s)
	var writes atomic.Int64
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) {
			if off < 2*int64(os.Getpagesize()) && writes.Add(1) == 1 { // the purge itself is written
				defer disk.full.Store(true)
			}
			return write(p, off)
		}
	})
	disk.full.Store(false)
	clock.advance(retryTime / 2)
	n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
	if n != len(urls) || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] == 2 })
	if st, n := s.Stats(), hits(t, s, urls); st.Disk.State != "full" || n != 0 {
		t.Errorf("%+v: %d purged are found", st.Disk, n)
	}
	disk.full.Store(false)
	if err := s.Sync(); !errors.Is(err, errPaused) || s.Stats().PurgesPending != 1 {
		t.Errorf("Sync: %v, and %d purges are pending", err, s.Stats().PurgesPending)
	}
	clock.advance(retryTime / 2)
	waitFor(t, func() bool { st := s.Stats(); return st.Disk.State == "open" && st.PurgesPending == 0 })
	checkAgreement(t, s)
}

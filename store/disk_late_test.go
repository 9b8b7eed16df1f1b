package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// storedWithoutDisk puts pages while the disk tier has failed, and changes some of them.
func storedWithoutDisk(t *testing.T, s *Store) (want map[string]int) {
	t.Helper()
	want = make(map[string]int)
	for n := range 40 {
		url, size := fmt.Sprintf("http://example.com/%d", n), 1000
		if n%2 == 1 {
			size = 2 * chunkSize
		}
		if r := s.Put(signedEntry(s, url, 1, size, fmt.Sprintf("tag %d", n%10)), 0); r != Stored {
			t.Fatal(r)
		}
		want[url] = 1
	}
	for _, n := range []int{4, 7} { // is replaced
		url := fmt.Sprintf("http://example.com/%d", n)
		s.Put(signedEntry(s, url, 2, 5000), 0)
		want[url] = 2
	}
	removed := s.Lookup(keyOf("http://example.com/5"), matchAny)
	s.Remove(removed.Entry)
	removed.Release()
	want["http://example.com/5"] = 0
	return want
}

// wantVersions checks which versions of pages are there.
func wantVersions(t *testing.T, s *Store, want map[string]int) {
	t.Helper()
	for url, version := range want {
		if got, _ := found(t, s, url); got != version {
			t.Errorf("%s: version %d, want %d", url, got, version)
		}
	}
}

// TestPurgedWhileTheTierHadFailedIsNotWritten: what is written late has not been purged meanwhile.
func TestPurgedWhileTheTierHadFailedIsNotWritten(t *testing.T) {
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	files := &breakable{deny: true}
	cfg := Config{Path: t.TempDir(), OpenFile: files.openFile, Now: clock.now}
	s := openImpatient(t, cfg, bothTiers)
	want := storedWithoutDisk(t, s)
	if _, err := s.Purge(Selectors{Tags: []string{"tag 3"}}, PurgeOptions{}); !errors.Is(err, ErrNotDurable) {
		t.Fatal(err)
	}
	if _, err := s.Purge(Selectors{Tags: []string{"tag 2"}}, PurgeOptions{Severity: Soft}); !errors.Is(err, ErrNotDurable) {
		t.Fatal(err)
	}
	for n := 3; n < 40; n += 10 {
		want[fmt.Sprintf("http://example.com/%d", n)] = 0
	}
	files.mend()
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.Entries == int64(len(want)-5) })
	must(t, s.Close())
	s = openStore(t, cfg, diskTier)
	wantVersions(t, s, want)
	for n := 2; n < 40; n += 10 {
		r := s.Lookup(keyOf(fmt.Sprintf("http://example.com/%d", n)), matchAny)
		if r.Severity != Soft {
			t.Errorf("%d is %v", n, r.Severity)
		}
		r.Release()
	}
	checkAgreement(t, s)
}

// TestStopAfterTheFolderWasRemoved: it is noticed by the stop, and what is in memory is in the new
// file.
func TestStopAfterTheFolderWasRemoved(t *testing.T) {
	cfg := Config{Path: filepath.Join(t.TempDir(), "larder"), Required: true}
	s := openStore(t, cfg, bothTiers)
	want := storedWithoutDisk(t, s)
	must(t, s.Sync())
	must(t, os.RemoveAll(cfg.Path))
	must(t, s.Close())
	s = openStore(t, cfg, diskTier)
	wantVersions(t, s, want)
	checkAgreement(t, s)
}

// TestRenewalThatFindsTheQueueFullIsWrittenLater: a renewed response of more than 32 KiB is written
// with its body, and with its record alone where the file still has what it renews.
func TestRenewalThatFindsTheQueueFullIsWrittenLater(t *testing.T) {
	for _, superseded := range []bool{true, false} {
		s := keptByHand(t, bothTiers)
		body := bytes.Repeat([]byte("0123456789abcdef"), chunkSize/4)
		old := testEntry(s, "http://example.com/", body, "old")
		s.Put(old, 0)
		must(t, s.diskWriter.flush())
		r := s.Lookup(old.Key, matchAny)
		renewal := r.Entry.Renewal()
		renewal.Tags = []string{"new"}
		empty := fillQueue(s)
		if result := s.Put(renewal, 0); result != Stored {
			t.Fatal(result)
		}
		r.Release()
		empty()
		if superseded {
			must(t, s.diskWriter.flush())
		}
		writeLateByHand(t, s)
		if s.Stats().Disk.Entries != 1 || !isOnDiskNow(t, s, renewal) {
			t.Errorf("superseded %v: %d entries on disk", superseded, s.Stats().Disk.Entries)
		}
		s.memory.clear()
		wantBody(t, s, old.URL, body)
		if r := s.Lookup(old.Key, matchAny); r.Entry == nil || r.Entry.Tags[0] != "new" {
			t.Errorf("superseded %v: %+v", superseded, r.Entry)
		} else {
			r.Release()
		}
	}
}

// TestWhatWasHeldBackIsWrittenLater: a body for which there was no room beside what clients read is
// written when they have left, and at the stop in any case, as long as the file stays in its bound.
func TestWhatWasHeldBackIsWrittenLater(t *testing.T) {
	fillsByLength(t)
	const budget = 32 << 20
	for _, stop := range []bool{false, true} {
		s := keptByHand(t, Settings{Memory: 8 << 20, Disk: budget})
		var held []Result
		for n := range 2 {
			e := testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, 3<<20))
			if result := s.Put(e, 0); result != Stored {
				t.Fatal(n, result)
			}
			must(t, s.diskWriter.flush())
			r := s.Lookup(e.Key, matchAny)
			held = append(held, r)
			s.Remove(r.Entry)
			must(t, s.diskWriter.flush())
		}
		e := testEntry(s, "http://example.com/large", bytes.Repeat([]byte("0123456789abcdef"), 3<<16))
		if s.Put(e, 0) != Stored {
			t.Fatal("not stored")
		}
		writeLateByHand(t, s)
		if isOnDiskNow(t, s, e) || s.Stats().Skipped != 1 {
			t.Fatalf("%d bytes are held, so that this shows nothing", s.Stats().DiskHeld)
		}
		if stop {
			s.diskWriter.drain()
		} else {
			for i := range held {
				held[i].Release()
			}
			s.diskWriter.onTick() // the rest of the walk that has left it
			for range lateRest {
				s.diskWriter.lateTick()
			}
			writeAll(t, s)
		}
		if !isOnDiskNow(t, s, e) {
			t.Errorf("stop %v: it is not on disk", stop)
		}
		if stop {
			for i := range held {
				held[i].Release()
			}
		}
	}
}

// TestWhatDoesNotFitIsNotLate: it is looked at once. What the disk has evicted is not written
// again.
func TestWhatDoesNotFitIsNotLate(t *testing.T) {
	fillsByLength(t)
	s := keptByHand(t, Settings{Memory: 16 << 20, Disk: 4 << 20})
	s.Put(testEntry(s, "http://example.com/large", make([]byte, 3<<20)), 0)
	for n := range 64 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, 100<<10)), 0)
		writeAll(t, s)
	}
	if st := s.Stats(); s.memory.late.Load() != 0 || st.Skipped != 1 || st.Disk.Entries >= 60 {
		t.Errorf("%d are late, %d skipped, %d on disk", s.memory.late.Load(), st.Skipped, st.Disk.Entries)
	}
}

// TestLateListIsBounded: what is late and leaves memory is late no more, and its place is used
// again.
func TestLateListIsBounded(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 64 << 20})
	s.diskWriter.detach()
	for n := range 20_000 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), nil), 0)
	}
	var late, entries int64
	for _, sh := range s.memory.shards {
		late += int64(len(sh.late))
		entries += sh.entries.Load()
	}
	if most := 2*entries + shardCount*expireStep; entries == 0 || late > most || s.memory.late.Load() != entries {
		t.Errorf("%d refs, at most %d; %d are late of %d entries", late, most, s.memory.late.Load(), entries)
	}
	must(t, s.attach())
	writeLateByHand(t, s)
	if n := s.disk.entries.Load(); n != entries || s.memory.late.Load() != 0 {
		t.Errorf("%d of %d on disk, %d still late", n, entries, s.memory.late.Load())
	}
}

// TestLargeBodyIsWrittenLate: behind another that was late a body that is larger than the queue was
// refused by it, at an orderly stop as well.
func TestLargeBodyIsWrittenLate(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 256 << 20, Disk: 1 << 30})
	s.diskWriter.detach()
	for n := range 40 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, 1000)), 0)
	}
	large := testEntry(s, "http://example.com/large", make([]byte, queueBytes+8<<20))
	if r := s.Put(large, 0); r != Stored {
		t.Fatal(r)
	}
	must(t, s.attach())
	s.diskWriter.drain()
	if late := s.memory.late.Load(); late > 0 || !isOnDiskNow(t, s, large) {
		t.Errorf("the large body is on disk: %v; %d are late", isOnDiskNow(t, s, large), late)
	}
}

// TestLateRenewalsCountTheirBodies: of a renewal that is written anew the body counted for nothing,
// so that all of memory came into the queue at once, ahead of what was stored meanwhile.
func TestLateRenewalsCountTheirBodies(t *testing.T) {
	const pages, size = 128, 100 << 10
	s := keptByHand(t, Settings{Memory: 256 << 20, Disk: 1 << 30})
	for n := range pages {
		e := testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, size))
		s.Put(e, 0)
		found := s.Lookup(e.Key, matchAny)
		s.Put(found.Entry.Renewal(), 0)
		found.Release()
	}
	must(t, s.diskWriter.flush())
	s.memory.forgetDisk(true)
	if late := s.memory.late.Load(); late != pages {
		t.Fatalf("%d of %d are late", late, pages)
	}
	s.diskWriter.late.begin(s.memory)
	for s.diskWriter.queueLate() {
	}
	jobs, _, _ := s.queue.state()
	if most := s.diskWriter.batchLimit()/size + 1; jobs > most {
		t.Errorf("%d renewals are queued at once, want %d at most", jobs, most)
	}
}

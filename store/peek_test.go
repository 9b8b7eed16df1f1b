package store

import (
	"testing"
	"time"
)

// TestPeekLeavesNoTrace: it finds what Lookup finds, in memory and on disk, and neither counts as a
// use nor brings anything to memory.
func TestPeekLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, Settings{Memory: 16 << 20, Disk: 64 << 20})
	e := testEntry(s, "http://example.com/a", []byte("body"))
	if r := s.Put(e, 0); r != Stored {
		t.Fatalf("Put = %v", r)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	peek := func(tier Tier) {
		t.Helper()
		found := s.Peek(e.Key, matchAny)
		defer found.Release()
		if found.Entry == nil || found.Tier != tier {
			t.Fatalf("Peek = %+v, want one in %v", found, tier)
		}
		if b, err := found.Entry.Body.Chunk(0); err != nil || string(b) != "body" {
			t.Errorf("body %q, %v", b, err)
		}
	}
	peek(MemoryTier)
	if s.memory.usedSince(e.Key, e.ID) {
		t.Error("a peek counts as a use")
	}
	s.memory.clear()
	peek(DiskTier)
	peek(DiskTier)
	if n := s.memory.entries(); n != 0 {
		t.Errorf("a peek has brought %d entries to memory", n)
	}
	if n := s.diskWriter.accesses.len(); n != 0 {
		t.Errorf("a peek counts as %d uses on disk", n)
	}
}

// TestPeekTellsWhatItPassedOver and Departed tells why nothing is there.
func TestPeekTellsWhatItPassedOver(t *testing.T) {
	clock := newTestClock()
	s := openStore(t, Config{Now: clock.now}, Settings{Memory: 16 << 20})
	put := func(url string, keep time.Duration) *Entry {
		e := testEntry(s, url, []byte("body"))
		e.KeepUntil = clock.now().Add(keep)
		if r := s.Put(e, 0); r != Stored {
			t.Fatalf("Put = %v", r)
		}
		return e
	}
	purged, expired := put("http://example.com/purged", time.Hour), put("http://example.com/expired", time.Second)
	evicted := put("http://example.com/evicted", time.Hour)
	ticket := s.Begin() // keeps the purge from being swept
	defer ticket.End()
	if _, err := s.Purge(Selectors{URLs: []string{purged.URL}}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	s.memory.shard(evicted.Key).mu.Lock()
	s.memory.discard(s.memory.shard(evicted.Key), s.memory.shard(evicted.Key).find(&evicted.Key, evicted.ID), Capacity)
	s.memory.shard(evicted.Key).mu.Unlock()
	for _, tc := range []struct {
		e    *Entry
		want EvictionReason
	}{{purged, PurgedHard}, {expired, Expired}, {evicted, Capacity}} {
		found := s.Peek(tc.e.Key, matchAny)
		why, at, known := s.Departed(tc.e.Key)
		told := found.Passed && found.PassedFor == tc.want || known && why == tc.want
		if found.Entry != nil || !told {
			t.Errorf("%s: %+v, departed %v %v %v; want %v", tc.e.URL, found, why, at, known, tc.want)
		}
		if known && at.Unix() != clock.now().Unix() && tc.e == evicted {
			t.Errorf("%s departed at %v, want %v", tc.e.URL, at, clock.now())
		}
	}
	if _, _, known := s.Departed(Key{1}); known {
		t.Error("what was never there has departed")
	}
}

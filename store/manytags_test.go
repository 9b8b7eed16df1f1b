package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// taggedEntry has so many tags that no other entry has, at random places among those of others.
func taggedEntry(s *Store, i, tags, length int) *Entry {
	names := make([]string, tags)
	for t := range names {
		names[t] = fmt.Sprintf("%08x-%d", uint32(i*tags+t)*2654435761, i)
		names[t] += strings.Repeat("x", max(0, length-len(names[t])))
	}
	return testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, 500), names...)
}

// TestFileStaysWithinItsBudgetWithManyTags: one and a half times, from the smallest budget on,
// whatever tags the entries have. What such a budget has no room to write at once stays in memory.
func TestFileStaysWithinItsBudgetWithManyTags(t *testing.T) {
	for _, c := range []struct {
		budget       int64
		tags, length int
		stored       bool
	}{
		{1 << 20, 0, 0, true},
		{1 << 20, 30, 20, true},
		{1 << 20, 50, 60, true},
		{1 << 20, 128, 60, false},
		{3 << 20, 128, 60, true},
		{4 << 20, 30, 20, true},
		{8 << 20, 128, 200, true},
	} {
		t.Run(fmt.Sprintf("%d MiB, %d tags of %d", c.budget>>20, c.tags, c.length), func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, Config{Path: dir, Required: true}, Settings{Memory: 16 << 20, Disk: c.budget})
			most := int64(0)
			for i := range 24 {
				for j := range max(1, int(c.budget)/(1+c.tags)>>12) {
					s.Put(taggedEntry(s, i*1000+j, c.tags, c.length), 0)
				}
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				info, err := os.Stat(filepath.Join(dir, FileName))
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, info.Size())
			}
			st := s.Stats()
			t.Logf("the file had %.2f of its budget, %d entries", float64(most)/float64(c.budget), st.Disk.Entries)
			if most > c.budget*3/2 {
				t.Errorf("the file had %d bytes under a budget of %d", most, c.budget)
			}
			if (st.Disk.Entries > 0) != c.stored {
				t.Errorf("%d entries are on disk", st.Disk.Entries)
			}
			checkAgreement(t, s)
		})
	}
}

// TestFileStaysWithinItsBudgetWithBodies: from 16 MiB on, up to half of it each. Below that it has
// been seen to take twice as much.
func TestFileStaysWithinItsBudgetWithBodies(t *testing.T) {
	const budget = 16 << 20
	rng := seeded(t)
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, Settings{Memory: 16 << 20, Disk: budget})
	most := int64(0)
	for i := range 120 {
		size := rng.IntN(1 << (6 + rng.IntN(17)))
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, size), fmt.Sprint(i%7), fmt.Sprint("own-", i)), 0)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, FileName))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, info.Size())
	}
	if most > budget*3/2 {
		t.Errorf("the file had %d bytes under a budget of %d", most, budget)
	}
}

// TestBatchIsBoundedByPages: where each entry changes many pages a batch has few entries.
func TestBatchIsBoundedByPages(t *testing.T) {
	const tags = 30
	s := keptByHand(t, Settings{Memory: 16 << 20, Disk: 1 << 30})
	next := 0
	store := func(n int) {
		for range n {
			s.Put(taggedEntry(s, next, tags, 60), 0)
			next++
		}
	}
	for range 8 { // so that there are some pages
		store(200)
		if err := s.diskWriter.flush(); err != nil {
			t.Fatal(err)
		}
	}
	limit := int64(s.diskWriter.touchLimit()/pageSize + 2*(tags+12))
	store(600)
	batches := 0
	for s.queue.waiting() > 0 {
		stats := s.disk.use.db.Stats().TxStats
		before := stats.GetNodeCount()
		if err := s.diskWriter.writeJobs(); err != nil {
			t.Fatal(err)
		}
		stats = s.disk.use.db.Stats().TxStats
		if n := stats.GetNodeCount() - before; n > limit {
			t.Errorf("a batch changed %d pages, more than %d", n, limit)
		}
		batches++
	}
	if batches < 4 {
		t.Errorf("%d batches, so that this shows nothing", batches)
	}
}

// TestTagsTakeWhatIsCounted: tags that one entry has, two, or many.
func TestTagsTakeWhatIsCounted(t *testing.T) {
	for _, tags := range []int{1_000, 100_000, 200_000} {
		if n := tagReference(20_000, 10, tags); n > float64(tagBytes)*4/3 {
			t.Errorf("%d tags: a reference takes %.0f bytes, and %d are counted", tags, n, tagBytes)
		}
	}
}

// tagReference is what a reference takes on the heap.
func tagReference(entries, each, tags int) float64 {
	s := New(Config{}, Settings{Memory: 1 << 30})
	items := make([]*item, entries)
	for i := range items {
		e := &Entry{ID: uint64(i), Key: keyOf(fmt.Sprint(i)), Tags: make([]string, each), Body: NewBody(nil)}
		for t := range e.Tags {
			e.Tags[t] = fmt.Sprintf("t%d", (i+t*entries)%tags)
		}
		items[i], _ = s.stage(e, nil, 0, false)
		items[i].id = uint64(i + 1)
	}
	before := heap()
	for _, it := range items {
		s.memory.shards[it.shard].index.add(it)
	}
	with := heap() - before
	runtime.KeepAlive(s)
	return float64(with) / float64(entries*each)
}

// TestQueueIsCounted: what waits for the disk counts with its bookkeeping, deletions too.
func TestQueueIsCounted(t *testing.T) {
	s := keptByHand(t, bothTiers)
	e := testEntry(s, "http://example.com/", nil)
	s.Put(e, 0)
	one := s.memory.used.Load()
	s.Remove(e)
	for n := range 99 {
		s.forget(e.Key, e.ID+uint64(n)+1, Removed)
	}
	if n := s.memory.used.Load(); n < 100*deletionCost {
		t.Errorf("%d bytes are counted of a hundred deletions, %d of an entry", n, one)
	}
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	if n := s.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are counted of nothing", n)
	}
}

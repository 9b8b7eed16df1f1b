package store

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// keptEntry is an entry that is only kept from a minute on, for an hour.
func keptEntry(s *Store, clock *testClock, url string, size int) *Entry {
	e := testEntry(s, url, make([]byte, size))
	e.KeptFrom, e.KeepUntil = clock.now().Add(time.Minute), clock.now().Add(time.Hour)
	return e
}

// freshEntry is one that is fresh for a day.
func freshEntry(s *Store, clock *testClock, url string, size int) *Entry {
	e := testEntry(s, url, make([]byte, size))
	e.KeptFrom, e.KeepUntil = clock.now().Add(24*time.Hour), clock.now().Add(25*time.Hour)
	return e
}

// countFound counts the URLs of a kind that are found.
func countFound(s *Store, kind string, n int) (count int) {
	for i := range n {
		r := s.Lookup(keyOf(fmt.Sprintf("http://example.com/%s/%d", kind, i)), matchAny)
		if r.Entry != nil {
			count++
		}
		r.Release()
	}
	return count
}

// keepingStore is a store in memory, and the clock that it goes by.
func keepingStore(t *testing.T, settings Settings) (*Store, *testClock) {
	t.Helper()
	clock := newTestClock()
	s := New(Config{Now: clock.now}, settings)
	s.state.Store(stateOpen)
	t.Cleanup(s.memory.clear)
	return s, clock
}

// TestKeptGoesFirstInMemory: however much is only kept, and however often it is used, it makes room
// for what is fresh, and nothing that is fresh goes before it.
func TestKeptGoesFirstInMemory(t *testing.T) {
	const size, each = 4096, 100
	for _, policy := range []Eviction{LRU, LFU, FIFO, None} {
		t.Run(policy.String(), func(t *testing.T) {
			s, clock := keepingStore(t, Settings{Memory: 2 * each * (size + 1024), Eviction: policy})
			put := func(e *Entry) {
				t.Helper()
				if r := s.Put(e, 0); r != Stored {
					t.Fatalf("%s: %v", e.URL, r)
				}
			}
			for i := range each { // the fresh ones first, so that they are the older ones
				put(freshEntry(s, clock, fmt.Sprintf("http://example.com/fresh/%d", i), size))
			}
			for i := range each {
				put(keptEntry(s, clock, fmt.Sprintf("http://example.com/kept/%d", i), size))
			}
			if countFound(s, "fresh", each) != each || countFound(s, "kept", each) != each {
				t.Fatal("they do not fit")
			}
			clock.advance(2 * time.Minute)
			if countFound(s, "kept", each) != each {
				t.Fatal("what is kept is not found")
			}
			for i := range each {
				put(freshEntry(s, clock, fmt.Sprintf("http://example.com/new/%d", i), size))
				if n := countFound(s, "fresh", each); n != each {
					t.Fatalf("after %d new ones %d of %d are left that were fresh, and %d that are only kept", i, n, each, countFound(s, "kept", each))
				}
			}
			if n := countFound(s, "kept", each); n > each/2 {
				t.Errorf("%d are kept", n)
			}
			if held := s.memory.used.Load(); held > s.memory.budget.Load() {
				t.Errorf("%d bytes are held of %d", held, s.memory.budget.Load())
			}
		})
	}
}

// TestKeptAndHeldGoesFirstAgain: what is only kept, and held when room was needed, goes first again
// once it has been given back.
func TestKeptAndHeldGoesFirstAgain(t *testing.T) {
	const size, each = 4096, 40
	for _, policy := range []Eviction{LRU, LFU, FIFO, None} {
		t.Run(policy.String(), func(t *testing.T) {
			s, clock := keepingStore(t, Settings{Memory: 2 * each * (size + 1024), Eviction: policy})
			for i := range each {
				s.Put(freshEntry(s, clock, fmt.Sprintf("http://example.com/fresh/%d", i), size), 0)
				s.Put(keptEntry(s, clock, fmt.Sprintf("http://example.com/kept/%d", i), size), 0)
			}
			clock.advance(2 * time.Minute)
			var held []Result
			for i := range each {
				held = append(held, s.Lookup(keyOf(fmt.Sprintf("http://example.com/kept/%d", i)), matchAny))
			}
			if s.memory.evictOne(true) {
				t.Error("what is held was evicted")
			}
			if n := countFound(s, "kept", each); n != each {
				t.Fatalf("%d of %d are kept", n, each)
			}
			for i := range held {
				held[i].Release()
			}
			clock.advance(keptAgain)
			for range each {
				if !s.memory.evictOne(true) {
					break
				}
			}
			if kept, fresh := countFound(s, "kept", each), countFound(s, "fresh", each); kept > 0 || fresh != each {
				t.Errorf("%d that are only kept and %d of %d fresh ones are left", kept, fresh, each)
			}
		})
	}
}

// TestPolicyChangesAroundWhatIsKept: another policy does not make what is kept like the rest.
func TestPolicyChangesAroundWhatIsKept(t *testing.T) {
	s, clock := keepingStore(t, Settings{Memory: 1 << 20})
	for i := range 20 {
		s.Put(keptEntry(s, clock, fmt.Sprintf("http://example.com/kept/%d", i), 100), 0)
		s.Put(freshEntry(s, clock, fmt.Sprintf("http://example.com/fresh/%d", i), 100), 0)
	}
	clock.advance(2 * time.Minute)
	s.diskWriter.expireMemory()
	for _, policy := range []Eviction{LFU, FIFO, None, LRU} {
		s.Apply(Settings{Memory: 1 << 20, Eviction: policy})
		if kept, fresh := countFound(s, "kept", 20), countFound(s, "fresh", 20); kept != 20 || fresh != 20 {
			t.Fatalf("%v: %d kept, %d fresh", policy, kept, fresh)
		}
	}
	for range 20 {
		s.memory.evictOne(false)
	}
	if kept, fresh := countFound(s, "kept", 20), countFound(s, "fresh", 20); kept != 0 || fresh != 20 {
		t.Errorf("%d kept, %d fresh", kept, fresh)
	}
	clock.advance(26 * time.Hour)
	s.diskWriter.expireMemory()
	if n := s.memory.entries(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// TestKeptGoesFirstOnDisk has a small file, with times of keeping that are in no order.
func TestKeptGoesFirstOnDisk(t *testing.T) {
	fillsByLength(t)
	const size, each = 16 << 10, 170
	for _, policy := range []Eviction{LRU, None} {
		t.Run(policy.String(), func(t *testing.T) {
			clock := newTestClock()
			s := openStore(t, Config{Path: t.TempDir(), Now: clock.now},
				Settings{Memory: 64 << 10, Disk: 8 << 20, Eviction: policy})
			put := func(e *Entry) {
				t.Helper()
				if r := s.Put(e, 0); r != Stored {
					t.Fatalf("%s: %v", e.URL, r)
				}
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			for i := range each {
				put(freshEntry(s, clock, fmt.Sprintf("http://example.com/fresh/%d", i), size))
			}
			for i := range each {
				e := keptEntry(s, clock, fmt.Sprintf("http://example.com/kept/%d", i), size)
				if i%2 == 0 { // past the end of all that is fresh
					e.KeepUntil = clock.now().Add(100 * time.Hour)
				}
				put(e)
			}
			if n := countFound(s, "kept", each); n != each {
				t.Fatalf("%d of %d fit", n, each)
			}
			clock.advance(2 * time.Minute)
			for i := range each {
				put(freshEntry(s, clock, fmt.Sprintf("http://example.com/new/%d", i), size))
			}
			fresh, kept, young := countFound(s, "fresh", each), countFound(s, "kept", each), countFound(s, "new", each)
			if fresh != each || young != each || kept > each*2/3 {
				t.Errorf("%d fresh and %d new ones of %d each, %d that are only kept", fresh, young, each, kept)
			}
		})
	}
}

// TestNoMoreIsEvictedThanIsNeeded: of a large entry most chunks are deleted later. Until they have
// gone, they do not count as room that is missing.
func TestNoMoreIsEvictedThanIsNeeded(t *testing.T) {
	fillsByLength(t)
	const size, each = 8 << 20, 4
	for _, policy := range []Eviction{LRU, None} {
		t.Run(policy.String(), func(t *testing.T) {
			s := keptByHand(t, Settings{Disk: 64 << 20, Eviction: policy})
			for i := range each {
				e := testEntry(s, fmt.Sprintf("http://example.com/%d", i), make([]byte, size))
				e.KeptFrom = s.now()
				if r := s.Put(e, 0); r != Stored {
					t.Fatal(r)
				}
				if err := s.diskWriter.flush(); err != nil {
					t.Fatal(err)
				}
			}
			s.Apply(Settings{Disk: 14 << 20, Eviction: policy})
			for more := true; more; {
				var err error
				if more, err = s.diskWriter.evictStep(); err != nil {
					t.Fatal(err)
				}
			}
			if n := s.disk.entries.Load(); n != 1 {
				t.Errorf("%d are left, with room for one", n)
			}
		})
	}
}

// TestRecordOfBefore: a record without KeptFrom, in a file without its bucket, is read as before.
func TestRecordOfBefore(t *testing.T) {
	clock := newTestClock()
	dir := t.TempDir()
	name := filepath.Join(dir, "larder.db")
	settings := Settings{Memory: 1 << 20, Disk: 8 << 20}
	s := openStore(t, Config{Path: dir, Now: clock.now}, settings)
	s.Put(keptEntry(s, clock, "http://example.com/kept/0", 100), 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(name, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		k, v := tx.Bucket(recordsBucket).Cursor().First()
		r, inline, err := openRecord(rowID(k), v)
		if err != nil {
			return err
		}
		old := slices.Clone(r[:r.end()])
		old[4] = recordWithoutKeptFrom
		binary.BigEndian.PutUint32(old[8:], uint32(len(old)))
		value := append(slices.Clone(old), inline...)
		seal(rowID(k), value, len(old))
		if err := tx.Bucket(recordsBucket).Put(slices.Clone(k), value); err != nil {
			return err
		}
		return tx.DeleteBucket(keptBucket)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, Config{Path: dir, Now: clock.now}, settings)
	r := s.Lookup(keyOf("http://example.com/kept/0"), matchAny)
	defer r.Release()
	if r.Entry == nil || !r.Entry.KeptFrom.IsZero() {
		t.Fatalf("found %+v", r.Entry)
	}
	s.Put(keptEntry(s, clock, "http://example.com/kept/1", 100), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if n := countFound(s, "kept", 2); n != 2 {
		t.Errorf("%d are found", n)
	}
}

// TestDueHeap takes moments out in their order.
func TestDueHeap(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var h dueHeap
		var want, got []int64
		for range rng.IntN(100) {
			at := rng.Int64N(50)
			h.push(due{at: at})
			want = append(want, at)
		}
		slices.Sort(want)
		for len(h) > 0 {
			got = append(got, h.pop().at)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

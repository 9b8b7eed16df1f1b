package store

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"
)

// TestResultKeepsItsBytes: what a look-up returned stays as it is, whatever becomes of the entry,
// until it is released; and it counts for as long.
func TestResultKeepsItsBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(s *Store, e *Entry)
	}{
		{"removed", func(s *Store, e *Entry) { s.Remove(e) }},
		{"replaced", func(s *Store, e *Entry) { s.Put(testEntry(s, e.URL, []byte("another")), 0) }},
		{"evicted", func(s *Store, _ *Entry) { s.Apply(Settings{Memory: 1}) }},
		{"purged", func(s *Store, _ *Entry) {
			if _, err := s.Purge(Selectors{All: true}, PurgeOptions{}); err != nil {
				t.Errorf("Purge: %v", err)
			}
		}},
		{"closed", func(s *Store, _ *Entry) { _ = s.Close() }},
	} {
		for _, size := range []int{0, 1000, 100_000, 3 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", tt.name, size), func(t *testing.T) {
				s := openStore(t, Config{}, Settings{Memory: 64 << 20})
				url, body := "http://example.com/", bytes.Repeat([]byte("x"), size)
				s.Put(testEntry(s, url, body), 0)
				first := s.Lookup(keyOf(url), matchAny)
				if first.Entry == nil {
					t.Fatal("not stored")
				}
				second := first.Share()
				tt.end(s, first.Entry)
				first.Release()
				first.Release() // does no harm
				s.Put(testEntry(s, "http://example.com/other", bytes.Repeat([]byte("y"), size)), 0)
				if got := bodyOf(t, second.Entry); !bytes.Equal(got, body) || second.Entry.URL != url {
					t.Error("the entry has changed under a reader")
				}
				if used := s.memory.used.Load(); used < int64(size) {
					t.Errorf("%d bytes are counted while %d are being read", used, size)
				}
				second.Release()
				_ = s.Close()
				if n, pages := s.memory.used.Load(), arenaPages(s); n != 0 || pages != 0 {
					t.Errorf("%d bytes are counted in a closed store, %d bytes of pages held", n, pages)
				}
			})
		}
	}
}

// TestPutHeld: what is put is held as if it had been looked up, also when it is to go to disk only,
// and not where it is refused.
func TestPutHeld(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 300_000)
	for _, tt := range []struct {
		name     string
		settings Settings
		disk     bool
		want     PutResult
	}{
		{"in memory", Settings{Memory: 1 << 20}, false, Stored},
		{"in memory and on disk", Settings{Memory: 2 << 20, Disk: 16 << 20}, true, Stored},
		{"on disk only", Settings{Memory: 1 << 20, Disk: 16 << 20}, true, Stored},
		{"refused", Settings{Memory: 64 << 10}, false, RefusedFull},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Config
			if tt.disk {
				c = Config{Path: t.TempDir(), Required: true}
			}
			s := openStore(t, c, tt.settings)
			held, got := s.PutHeld(testEntry(s, "http://example.com/", body), 0)
			if got != tt.want || (held.Entry != nil) != (got == Stored) {
				t.Fatalf("PutHeld = %v, %v, want %v", held.Entry, got, tt.want)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got == Stored {
				if !bytes.Equal(bodyOf(t, held.Entry), body) {
					t.Error("the body has changed under its reader")
				}
				if used := s.memory.used.Load(); used < int64(len(body)) {
					t.Errorf("%d bytes are counted while %d are being read", used, len(body))
				}
			}
			held.Release()
			if n, pages := s.memory.used.Load(), arenaPages(s); n != 0 || pages != 0 {
				t.Errorf("%d bytes are counted in a closed store, %d bytes of pages held", n, pages)
			}
		})
	}
}

func TestReleasedTwicePanics(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	e := testEntry(s, "http://example.com/", []byte("body"))
	s.Put(e, 0)
	r := s.Lookup(e.Key, matchAny)
	copied := r // a copy that is not a Share
	s.Remove(r.Entry)
	r.Release()
	defer func() {
		if recover() == nil {
			t.Error("the bytes of another entry could be given up")
		}
	}()
	copied.Release()
}

// brokenBody ends in an error, or in a panic where there is none, as reading a damaged file does.
type brokenBody struct{ err error }

func (b brokenBody) Len() int64 { return 100_000 }

func (b brokenBody) Chunk(off int64) ([]byte, error) {
	if off == 0 {
		return make([]byte, 1000), nil
	}
	if b.err == nil {
		panic("page is damaged")
	}
	return nil, b.err
}

func TestBrokenBodyLeavesNothing(t *testing.T) {
	for _, body := range []brokenBody{{}, {errDamaged}} {
		t.Run(fmt.Sprint(body.err), func(t *testing.T) {
			s := openStore(t, Config{}, Settings{Memory: 1 << 20})
			e := testEntry(s, "http://example.com/", nil)
			e.Body = body
			func() {
				defer func() {
					if v := recover(); (v == nil) != (body.err != nil) {
						t.Errorf("recovered %v", v)
					}
				}()
				if got := s.Put(e, 0); got != RefusedFull {
					t.Errorf("Put = %v", got)
				}
			}()
			if body.err != nil && s.Stats().Errors[MemoryTier] != 1 {
				t.Error("the failure is not counted")
			}
			if n, used := s.memory.used.Load(), arenaUsed(s); n != 0 || used != 0 {
				t.Errorf("%d bytes are counted, %d in use, of an entry that was not made", n, used)
			}
		})
	}
}

// TestReadersAndEviction has readers check what they hold while entries of all sizes come and go.
func TestReadersAndEviction(t *testing.T) {
	seed := seeded(t).Uint64()
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 2 << 20, Disk: 64 << 20})
	steps := 4000
	if testing.Short() {
		steps = 500
	}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(worker)))
			var held []Result
			for range steps {
				url := fmt.Sprintf("http://example.com/%d", rng.IntN(300))
				if rng.IntN(3) == 0 {
					body := make([]byte, 4+rng.IntN(1<<(6+rng.IntN(12))))
					for i := range body[4:] {
						body[4+i] = byte(rng.Uint32())
					}
					sum := crc32.ChecksumIEEE(body[4:])
					body[0], body[1], body[2], body[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
					s.Put(testEntry(s, url, body, fmt.Sprint("t", rng.IntN(10))), 0)
				} else if r := s.Lookup(keyOf(url), matchAny); r.Entry != nil {
					held = append(held, r)
				}
				if len(held) > 8 {
					body := bodyOf(t, held[0].Entry)
					sum := crc32.ChecksumIEEE(body[4:])
					if !bytes.Equal(body[:4], []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}) {
						t.Errorf("%s: %d bytes have changed under a reader", held[0].Entry.URL, len(body))
					}
					held[0].Release()
					held = held[1:]
				}
			}
			for i := range held {
				held[i].Release()
			}
		})
	}
	wg.Wait()
	checkAgreement(t, s)
}

// TestSizeShiftsGiveRoom fills the tier with entries of one size, thins them out, and fills it with
// another size: what is resident must not be both.
func TestSizeShiftsGiveRoom(t *testing.T) {
	const budget = 32 << 20
	s := openStore(t, Config{}, Settings{Memory: budget})
	for i := range 30_000 {
		e := testEntry(s, fmt.Sprintf("http://example.com/small/%d", i), make([]byte, 1000), fmt.Sprint("t", i%2))
		s.Put(e, 0)
	}
	if _, err := s.Purge(Selectors{Tags: []string{"t1"}}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	for i := range 30_000 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/large/%d", i), make([]byte, 5000)), 0)
	}
	_, pages, dirty := s.memory.arena.Held()
	if held := pages + dirty; held > budget*5/4 {
		t.Errorf("%d bytes are held under a budget of %d", pages+dirty, budget)
	}
	checkAgreement(t, s)
}

// TestRoomIsNotCompacted: entries of all sizes leave many slabs half used, which is no reason to
// evict while the budget is far away.
func TestRoomIsNotCompacted(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 30})
	const n = 2000
	for i := range n {
		url := fmt.Sprintf("http://h/%d", i)
		if r := s.Put(testEntry(s, url, make([]byte, 100+i*37%40_000)), 0); r != Stored {
			t.Fatalf("%s: %v", url, r)
		}
	}
	if st := s.Stats(); st.Memory.Entries != n {
		t.Errorf("%d entries of %d are left in %d of %d bytes", st.Memory.Entries, n, st.Memory.Bytes, st.Memory.Budget)
	}
}

// TestSizesOfTheIndex holds what doc.go says.
func TestSizesOfTheIndex(t *testing.T) {
	if n := unsafe.Sizeof(item{}); n != 64 {
		t.Errorf("an item takes %d bytes, want a cache line", n)
	}
	if itemBytes != 136 || tagBytes != 64 || itemBytes%costUnit != 0 || tagBytes%costUnit != 0 {
		t.Errorf("an entry is charged %d bytes of index, a tag %d", itemBytes, tagBytes)
	}
}

func arenaUsed(s *Store) int64 {
	used, _, _ := s.memory.arena.Held()
	return used
}

func arenaPages(s *Store) int64 {
	_, pages, _ := s.memory.arena.Held()
	return pages
}

// TestCompactionLeavesWhatIsBeingMade: the bytes of an item whose extent has just been taken are
// those of what was there before.
func TestCompactionLeavesWhatIsBeingMade(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 1 << 20})
	m := s.memory
	it := m.items.take()
	at, _, err := m.arena.Alloc(1000, uint32(it.self))
	if err != nil {
		t.Fatal(err)
	}
	before := m.arena.Bytes(at, 1000)[8:] // behind the owner, which the arena writes
	for i := range before {
		before[i] = 0xff
	}
	it.at = at
	it.holds.Store(1)
	m.compact()
	if n := it.holds.Load(); n != 1 {
		t.Errorf("%d holds on it, want its maker's", n)
	}
	m.arena.Free(at)
	m.items.put(it)
}

package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

const largeURL = "http://example.com/large"

// largeSize is that of a body of three chunks.
const largeSize = 2*chunkSize + 1000

// storedLarge is a store whose only entry is a large one, in a folder.
func storedLarge(t *testing.T) (s *Store, dir string, body []byte) {
	t.Helper()
	dir, body = t.TempDir(), randomBody(rand.New(rand.NewPCG(1, 2)), largeSize)
	s = openStore(t, Config{Path: dir, Required: true}, diskTier)
	if r := s.Put(testEntry(s, largeURL, body), 0); r != Stored {
		t.Fatalf("Put = %v", r)
	}
	return s, dir, body
}

// spoilt is a store whose only entry has a chunk that is damaged, or missing.
func spoilt(t *testing.T, chunk int, missing bool) (*Store, []byte) {
	t.Helper()
	s, dir, body := storedLarge(t)
	must(t, s.Close())
	edit(t, filepath.Join(dir, FileName), func(tx *bbolt.Tx) error { return spoilRow(tx, dir, chunk, missing) })
	return openStore(t, Config{Path: dir, Required: true}, diskTier), body
}

// spoilRow damages, or deletes, a chunk of the last entry there is, in a row or a slot of the files
// in a folder.
func spoilRow(tx *bbolt.Tx, dir string, chunk int, missing bool) error {
	b := tx.Bucket(chunksBucket)
	last, _ := b.Cursor().Last()
	k := chunkKey(rowID(last[:8]), chunk)
	if v := b.Get(slotKey(k)); v != nil {
		if missing {
			return b.Delete(slotKey(k))
		}
		ref, err := decodeSlotRow(slotKey(k), v)
		if err != nil {
			return err
		}
		return flipByte(filepath.Join(dir, BodiesName), int64(ref.slot)*slots.Size)
	}
	if missing {
		return b.Delete(k)
	}
	v := bytes.Clone(b.Get(k))
	v[sumsIn(len(v))] ^= 1 // the first byte of the body
	return b.Put(k, v)
}

// flipByte changes a byte of a file.
func flipByte(name string, off int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	b[0] ^= 1
	if err == nil {
		_, err = f.WriteAt(b[:], off)
	}
	return errors.Join(err, f.Close())
}

// spoilNow damages the same in an open file.
func spoilNow(t *testing.T, s *Store, chunk int) {
	t.Helper()
	must(t, s.disk.use.db.Update(func(tx *bbolt.Tx) error { return spoilRow(tx, filepath.Dir(s.disk.path), chunk, false) }))
}

// wantForgotten checks that the entry is gone, counted once, and that its URL can be stored anew.
func wantForgotten(t *testing.T, s *Store) {
	t.Helper()
	r := s.Lookup(keyOf(largeURL), matchAny)
	defer r.Release()
	if r.Entry != nil {
		t.Error("it is still found")
	}
	must(t, s.Sync())
	st := s.Stats()
	if st.Errors[DiskTier] != 1 || st.Disk.Entries != 0 || st.Disk.State != "open" {
		t.Errorf("errors %v, %d entries, state %s", st.Errors, st.Disk.Entries, st.Disk.State)
	}
	if n := s.counts.evictions[DiskTier][Damaged].Load(); n != 1 {
		t.Errorf("%d are counted as damaged", n)
	}
	allSwept(t, s, 0)
	s.Put(testEntry(s, largeURL, []byte("anew")), 0)
	wantBody(t, s, largeURL, []byte("anew"))
}

// TestDamagedChunkCostsTheEntry: a body that is read chunk by chunk was found again and again.
func TestDamagedChunkCostsTheEntry(t *testing.T) {
	for chunk := range 3 {
		for _, missing := range []bool{false, true} {
			t.Run(fmt.Sprintf("chunk %d, missing %v", chunk, missing), func(t *testing.T) {
				s, body := spoilt(t, chunk, missing)
				r := s.Lookup(keyOf(largeURL), matchAny)
				if chunk == 0 && missing {
					if r.Entry != nil {
						t.Error("it is found without its first chunk")
					}
					wantForgotten(t, s)
					return
				}
				for n := range chunk {
					if c, err := r.Entry.Body.Chunk(int64(n) * chunkSize); err != nil || len(c) == 0 || !bytes.HasPrefix(body[n*chunkSize:], c) {
						t.Errorf("sound chunk %d: %d bytes, %v", n, len(c), err)
					}
				}
				if c, err := r.Entry.Body.Chunk(int64(chunk) * chunkSize); !errors.Is(err, errDamaged) || c != nil {
					t.Errorf("%d bytes, %v", len(c), err)
				}
				if !IsDamaged(r.Entry.Body) {
					t.Error("that is not known")
				}
				r.Release()
				wantForgotten(t, s)
			})
		}
	}
}

// TestReadersOfADamagedBody: two have it when the damage is found. It is counted once, and what is
// sound is read on.
func TestReadersOfADamagedBody(t *testing.T) {
	s, body := spoilt(t, 1, false)
	first, second := s.Lookup(keyOf(largeURL), matchAny), s.Lookup(keyOf(largeURL), matchAny)
	for _, r := range []*Result{&first, &second} {
		if _, err := r.Entry.Body.Chunk(chunkSize); !errors.Is(err, errDamaged) {
			t.Errorf("Chunk: %v", err)
		}
	}
	if third := s.Lookup(keyOf(largeURL), matchAny); third.Entry != nil {
		t.Error("it is found after that")
	}
	must(t, s.Sync()) // it is deleted under its readers
	for _, r := range []*Result{&first, &second} {
		if c, err := r.Entry.Body.Chunk(2 * chunkSize); err != nil || !bytes.Equal(c, body[2*chunkSize:]) {
			t.Errorf("a sound chunk: %d bytes, %v", len(c), err)
		}
		if r.Ready(2*chunkSize) == nil {
			t.Error("what is known to be damaged is ready")
		}
		r.Release()
	}
	wantForgotten(t, s)
	if n := len(s.disk.pins.spoiled); n > 0 {
		t.Errorf("%d are still noted as damaged", n)
	}
}

// TestWhatIsSoundIsSentBeforeDamage: who reads a whole chunk at once got nothing of it where a part
// further on was damaged. So a client that was sent such a body had an empty reply.
func TestWhatIsSoundIsSentBeforeDamage(t *testing.T) {
	s, dir, body := storedLarge(t)
	must(t, s.Sync())
	const sound = 3 * blockSize
	bodies := filepath.Join(dir, BodiesName)
	file, err := os.ReadFile(bodies)
	must(t, err)
	must(t, flipByte(bodies, int64(bytes.Index(file, body[sound:sound+64]))))
	r := s.Lookup(keyOf(largeURL), matchAny)
	must(t, r.Ready(0))
	var sent bytes.Buffer
	if _, err := WriteBody(&sent, r.Entry.Body, 0, -1, nil); !errors.Is(err, errDamaged) {
		t.Errorf("WriteBody = %v", err)
	}
	if !bytes.Equal(sent.Bytes(), body[:sound]) {
		t.Errorf("%d bytes are sent, want the %d that are sound", sent.Len(), sound)
	}
	r.Release()
	wantForgotten(t, s)
}

// TestReadyTellsOfDamage: of that at the place where an answer begins.
func TestReadyTellsOfDamage(t *testing.T) {
	s, _ := spoilt(t, 1, false)
	r := s.Lookup(keyOf(largeURL), matchAny)
	for _, off := range []int64{0, chunkSize - 1, 2 * chunkSize, largeSize} {
		must(t, r.Ready(off))
	}
	if err := r.Ready(chunkSize + blockSize - 1); !errors.Is(err, errDamaged) {
		t.Errorf("Ready = %v", err)
	}
	if err := r.Ready(0); !errors.Is(err, errDamaged) {
		t.Errorf("Ready elsewhere, once it is known = %v", err)
	}
	r.Release()
	wantForgotten(t, s)
}

// TestDamagedEntryIsNotRenewed: neither when the damage is found before the renewal, nor while that
// waits for the disk, nor after.
func TestDamagedEntryIsNotRenewed(t *testing.T) {
	for _, when := range []string{"before", "queued", "after"} {
		t.Run(when, func(t *testing.T) {
			s, _ := spoilt(t, 1, false)
			r := s.Lookup(keyOf(largeURL), matchAny)
			meet := func() {
				if _, err := r.Entry.Body.Chunk(chunkSize); !errors.Is(err, errDamaged) {
					t.Errorf("Chunk: %v", err)
				}
			}
			e := r.Entry.Renewal()
			e.Header, e.Generation = http.Header{"Renewed": {"1"}}, s.purges.last.Load()
			want := Stored
			if when == "before" {
				meet()
				want = RefusedDamaged
			}
			if got := s.Put(e, 0); got != want {
				t.Errorf("Put = %v", got)
			}
			if when == "after" {
				must(t, s.Sync())
			}
			if when != "before" {
				meet()
			}
			r.Release()
			if r := s.Lookup(keyOf(largeURL), matchAny); r.Entry != nil {
				t.Error("it is still found")
				r.Release()
			}
			must(t, s.Sync())
			if st := s.Stats(); st.Errors[DiskTier] != 1 || st.Disk.Entries != 0 {
				t.Errorf("errors %v, %d entries", st.Errors, st.Disk.Entries)
			}
			allSwept(t, s, 0)
		})
	}
}

// TestDamagedDraft: who reads a body while it arrives meets the damage before the entry is made, or
// after.
func TestDamagedDraft(t *testing.T) {
	for _, put := range []bool{false, true} {
		t.Run(fmt.Sprintf("put %v", put), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
			d := writtenBody(t, s, rng, randomBody(rng, largeSize))
			e := testEntry(s, largeURL, nil)
			e.Body = d.Body()
			spoilNow(t, s, 1)
			if put && s.Put(e, 0) != Stored {
				t.Fatal("not stored")
			}
			if _, err := d.Chunk(chunkSize); !errors.Is(err, errDamaged) {
				t.Errorf("Chunk: %v", err)
			}
			if !put {
				if got := s.Put(e, 0); got != RefusedDamaged {
					t.Errorf("Put = %v", got)
				}
				if d.Body() != nil {
					t.Error("it has a body to be put")
				}
			}
			d.Close()
			if r := s.Lookup(keyOf(largeURL), matchAny); r.Entry != nil {
				t.Error("it is found")
				r.Release()
			}
			must(t, s.Sync())
			if st := s.Stats(); st.Errors[DiskTier] != 1 || st.Disk.Entries != 0 {
				t.Errorf("errors %v, %d entries", st.Errors, st.Disk.Entries)
			}
			allSwept(t, s, 0)
		})
	}
}

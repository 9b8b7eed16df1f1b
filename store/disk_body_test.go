package store

import (
	"bytes"
	"fmt"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/internal/frames/framestest"
)

// wantPieces reads a body by Chunk and fails the test unless each piece is a small allocation of
// its own: a client that takes its time keeps it on the heap, uncounted.
func wantPieces(t *testing.T, want []byte, chunk func(off int64) ([]byte, error)) {
	t.Helper()
	for off := 0; off < len(want); {
		b, err := chunk(int64(off))
		if err != nil || len(b) == 0 || !bytes.HasPrefix(want[off:], b) {
			t.Fatalf("Chunk(%d): %d bytes, %v", off, len(b), err)
		}
		if cap(b) > 32<<10 {
			t.Fatalf("Chunk(%d) keeps %d bytes", off, cap(b))
		}
		off += len(b)
	}
}

// A reader of a body on disk has a small piece of it in hand, and not a whole chunk: of a body
// writer that still arrives, of a body that is too large for memory, and of one that memory has no
// room for.
func TestReadersOfTheDiskHoldLittle(t *testing.T) {
	rng := seeded(t)
	for _, size := range []int{inlineSize, inlineSize + 1, chunkSize, chunkSize + 1, 3 << 20, 9_999_999} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 64 << 20, Disk: 64 << 20})
			want := randomBody(rng, size)
			d := writtenBody(t, s, rng, want)
			wantPieces(t, want, d.Chunk)
			e := testEntry(s, "http://example.com/", nil)
			e.Body = d.Body()
			s.Put(e, 0)
			d.Close()
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			s.memory.clear()
			s.memory.budget.Store(1)
			r := s.Lookup(e.Key, matchAny)
			defer r.Release()
			if r.Entry == nil || r.Tier != DiskTier {
				t.Fatalf("found %v in %v", r.Entry != nil, r.Tier)
			}
			wantPieces(t, want, r.Entry.Body.Chunk)
		})
	}
}

// TestDamageOfWhatHasNoRoomIsAMiss: a body that memory has no room for is read to its end before
// any of it is sent.
func TestDamageOfWhatHasNoRoomIsAMiss(t *testing.T) {
	s := keptByHand(t, Settings{Memory: 64 << 20, Disk: 64 << 20})
	e := testEntry(s, "http://example.com/", framestest.Noise(3<<20, 1)) // in slots, also where bodies are compressed
	s.Put(e, 0)
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.disk.update(func(tx *bbolt.Tx) error {
		return tx.Bucket(chunksBucket).Put(slotKey(chunkKey(e.ID, 5)), []byte("damaged"))
	}); err != nil {
		t.Fatal(err)
	}
	s.memory.clear()
	s.memory.budget.Store(1)
	r := s.Lookup(e.Key, matchAny)
	defer r.Release()
	if r.Entry != nil {
		t.Error("what is damaged was found")
	}
	if n := s.Stats().Errors[DiskTier]; n != 1 {
		t.Errorf("%d errors are counted", n)
	}
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/internal/frames/framestest"
)

// writtenBody brings body into a body writer in random pieces, of which nothing is left when they
// are given back, and waits now and then as a flight does.
func writtenBody(t testing.TB, s *Store, rng *rand.Rand, body []byte) *BodyWriter {
	t.Helper()
	d, err := s.NewBodyWriter(int64(len(body)))
	if err != nil {
		t.Fatalf("NewBodyWriter: %v", err)
	}
	d.Of(http.Header{"Content-Type": {"text/plain"}})
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 1+rng.IntN(100_000))
		piece := bytes.Clone(rest[:n])
		if err := d.Append(piece, func() { clear(piece) }); err != nil {
			t.Fatalf("Append: %v", err)
		}
		rest = rest[n:]
		if rng.IntN(4) == 0 {
			if _, err := d.Await(t.Context(), int64(rng.IntN(1<<20))); err != nil {
				t.Fatalf("Await: %v", err)
			}
		}
	}
	if err := d.Seal(); err != nil {
		t.Fatalf("Seal: %v", err)
	}
	return d
}

// putWritten stores body through a body writer.
func putWritten(t testing.TB, s *Store, rng *rand.Rand, url string, body []byte, tags ...string) PutResult {
	t.Helper()
	d := writtenBody(t, s, rng, body)
	defer d.Close()
	e := testEntry(s, url, nil, tags...)
	e.Body = d.Body()
	return s.Put(e, 0)
}

// A piece of a body is given back once: when it is on disk, or when the writer has failed and no
// transaction reads it any more.
func TestBodyWriterGivesBackEachPieceOnce(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fails func(d *BodyWriter) // while a transaction reads what was appended
	}{
		{"written", func(*BodyWriter) {}},
		{"unstorable", (*BodyWriter).Unstorable},
		{"closed", (*BodyWriter).Close},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := keptByHand(t, diskTier)
			d, err := s.NewBodyWriter(-1)
			must(t, err)
			var times [4]int
			for i := range times {
				must(t, d.Append(make([]byte, chunkSize), func() { times[i]++ }))
			}
			s.bodyWriters.mu.Lock()
			d.sealed = true
			s.bodyWriters.mu.Unlock()
			portions, _ := s.bodyWriters.due(4 * chunkSize)
			tc.fails(d)
			if times != [4]int{} {
				t.Errorf("given back %v times while a transaction reads them", times)
			}
			must(t, s.diskWriter.writePortions(portions[:1]))
			s.bodyWriters.done(portions)
			s.bodyWriters.read(portions)
			if times != [4]int{1, 1, 1, 1} {
				t.Errorf("given back %v times", times)
			}
			refused := 0
			if err := d.Append([]byte("more"), func() { refused++ }); err == nil || refused != 1 {
				t.Errorf("Append: %v, and what was refused is given back %d times", err, refused)
			}
			d.Close()
			if times != [4]int{1, 1, 1, 1} {
				t.Errorf("given back %v times in all", times)
			}
		})
	}
}

// chunkRows counts the rows of chunks and of those pending.
func chunkRows(t testing.TB, s *Store) (chunks, pending int) {
	t.Helper()
	if err := s.disk.view(func(tx *bbolt.Tx) error {
		chunks, pending = tx.Bucket(chunksBucket).Stats().KeyN, tx.Bucket(pendingBucket).Stats().KeyN
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return chunks, pending
}

// allSwept waits until nothing is left of chunks without a record.
func allSwept(t testing.TB, s *Store, chunks int) {
	t.Helper()
	waitFor(t.(*testing.T), func() bool {
		n, pending := chunkRows(t, s)
		return n == chunks && pending == 0
	})
}

func randomBody(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// wantBody fails the test unless url has that body; nil means that nothing is found.
func wantBody(t testing.TB, s *Store, url string, body []byte) {
	t.Helper()
	r := s.Lookup(keyOf(url), matchAny)
	defer r.Release()
	switch {
	case (r.Entry == nil) != (body == nil):
		t.Errorf("%s: found %v, want %v", url, r.Entry != nil, body != nil)
	case body != nil && !bytes.Equal(bodyOf(t, r.Entry), body):
		t.Errorf("%s: another body", url)
	}
}

func TestBodyWriterBecomesAnEntry(t *testing.T) {
	rng := seeded(t)
	for _, size := range []int{0, 1, inlineSize, inlineSize + 1, chunkSize - 1, chunkSize, chunkSize + 1, 4 * chunkSize, 9_999_999} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			cfg := Config{Path: t.TempDir(), Required: true}
			s := openStore(t, cfg, diskTier)
			url, want := "http://example.com/", append([]byte{}, randomBody(rng, size)...)
			d := writtenBody(t, s, rng, want)
			wantBody(t, s, url, nil)
			for off := 0; off < size; {
				b, err := d.Chunk(int64(off))
				if err != nil || !bytes.HasPrefix(want[off:], b) {
					t.Fatalf("Chunk(%d): %d bytes, %v", off, len(b), err)
				}
				off += len(b)
			}
			e := testEntry(s, url, nil, "tag")
			e.Body = d.Body()
			if r := s.Put(e, 0); r != Stored || (e.ID == d.id) != (size > inlineSize) {
				t.Fatalf("Put = %v, id %d, the body writer's is %d", r, e.ID, d.id)
			}
			d.Close()
			wantBody(t, s, url, want)
			checkAgreement(t, s)
			wantBody(t, s, url, want)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, cfg, diskTier)
			wantBody(t, s, url, want)
			chunks := 0
			if size > inlineSize {
				chunks = (size + chunkSize - 1) / chunkSize
			}
			allSwept(t, s, chunks)
			if n, err := s.Purge(Selectors{Tags: []string{"tag"}}, PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("Purge = %d, %v", n, err)
			}
			allSwept(t, s, 0)
		})
	}
}

func TestBodyWriterThatIsGivenUpIsSwept(t *testing.T) {
	rng := seeded(t)
	for _, tt := range []struct {
		name string
		end  func(s *Store, d *BodyWriter)
	}{
		{"closed", func(_ *Store, d *BodyWriter) { d.Close() }},
		{"put, and purged since it began", func(s *Store, d *BodyWriter) {
			defer s.Begin().End()
			e := testEntry(s, "http://example.com/", nil)
			e.Body = d.Body()
			if _, err := s.Purge(Selectors{All: true}, PurgeOptions{}); err != nil {
				t.Errorf("Purge: %v", err)
			}
			if r := s.Put(e, 0); r != RefusedPurged {
				t.Errorf("Put = %v", r)
			}
			d.Close()
		}},
		{"put, and purged before its record was written", func(s *Store, d *BodyWriter) {
			e := testEntry(s, "http://example.com/", nil)
			e.Body = d.Body()
			if r := s.Put(e, 0); r != Stored {
				t.Errorf("Put = %v", r)
			}
			d.Close()
			if n, err := s.Purge(Selectors{All: true}, PurgeOptions{}); n != 1 || err != nil {
				t.Errorf("Purge = %d, %v", n, err)
			}
		}},
		{"put, and replaced at once", func(s *Store, d *BodyWriter) {
			e := testEntry(s, "http://example.com/", nil)
			e.Body = d.Body()
			s.Put(e, 0)
			s.Put(testEntry(s, e.URL, []byte("another"), "t"), 0)
			d.Close()
			wantBody(t, s, e.URL, []byte("another"))
			r := s.Lookup(e.Key, matchAny)
			defer r.Release()
			s.Remove(r.Entry)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
			d := writtenBody(t, s, rng, randomBody(rng, 6<<20))
			tt.end(s, d)
			d.Close() // once more does no harm
			wantBody(t, s, "http://example.com/", nil)
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			wantBody(t, s, "http://example.com/", nil)
			allSwept(t, s, 0)
			checkAgreement(t, s)
			if s.bodyWriters.held != 0 || s.bodyWriters.waiting != 0 || len(s.bodyWriters.list) != 0 {
				t.Errorf("%d bytes held, %d waiting, %d body writers", s.bodyWriters.held, s.bodyWriters.waiting, len(s.bodyWriters.list))
			}
		})
	}
}

// TestChunksOfABodyThatBreaksAreSwept: of a renewed entry whose body turns out to be damaged, the
// chunks copied before that are not left in the file.
func TestChunksOfABodyThatBreaksAreSwept(t *testing.T) {
	s := keptByHand(t, diskTier)
	body := framestest.Noise(3*chunkSize, 1) // in slots, also where bodies are compressed
	s.Put(testEntry(s, "http://example.com/", body), 0)
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	r := s.Lookup(keyOf("http://example.com/"), matchAny)
	if err := s.disk.update(func(tx *bbolt.Tx) error {
		return tx.Bucket(chunksBucket).Put(slotKey(chunkKey(r.Entry.ID, 1)), []byte("damaged"))
	}); err != nil {
		t.Fatal(err)
	}
	s.Put(r.Entry.Clone(), 0)
	r.Release()
	if err := s.diskWriter.flush(); err != nil {
		t.Fatal(err)
	}
	sweepPending(t, s)
	if chunks, pending := chunkRows(t, s); chunks != 0 || pending != 0 {
		t.Errorf("%d chunks are left, %d ids pending", chunks, pending)
	}
}

// sweepPending sweeps the chunks without a record that have no reader, as the disk writer does.
func sweepPending(t *testing.T, s *Store) {
	t.Helper()
	s.disk.pins.takeLeft()
	s.diskWriter.pending = true
	for s.diskWriter.pending {
		if _, err := s.diskWriter.pendingStep(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBodyWriterSweptWhileItIsFound: a look-up that has chosen a body writer in the queue, of which
// the purge of a moment later leaves nothing, does not return a body without bytes.
func TestBodyWriterSweptWhileItIsFound(t *testing.T) {
	s := keptByHand(t, diskTier)
	d, err := s.NewBodyWriter(-1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Append(make([]byte, 10*chunkSize), unread); err != nil {
		t.Fatal(err)
	}
	d.sealed = true
	for d.Body() == nil {
		if _, err := s.diskWriter.writeBodies(); err != nil {
			t.Fatal(err)
		}
	}
	e := testEntry(s, "http://example.com/", nil, "tag")
	e.Body = d.Body()
	s.Put(e, 0)
	d.Close()
	r := s.Lookup(e.Key, func(*Variant) int {
		rec := purgeByHand(s, "tag")
		for rec.sweep == nil || !rec.sweep.memoryDone() {
			s.diskWriter.step()
		}
		if err := s.diskWriter.flush(); err != nil {
			t.Error(err)
		}
		sweepPending(t, s)
		return 1
	})
	defer r.Release()
	if r.Entry != nil {
		if _, err := r.Entry.Body.Chunk(0); err != nil {
			t.Errorf("found, and cannot be read: %v", err)
		}
	}
}

// Whoever puts last has the place, however early its body writer began.
func TestBodyWritersReplaceInTheOrderOfPut(t *testing.T) {
	rng := seeded(t)
	cfg := Config{Path: t.TempDir(), Required: true}
	s := openStore(t, cfg, diskTier)
	url := "http://example.com/"
	early := writtenBody(t, s, rng, []byte("the body writer begun first, put last"))
	late := writtenBody(t, s, rng, []byte("the body writer begun last, put first"))
	put := func(d *BodyWriter) {
		t.Helper()
		e := testEntry(s, url, nil, "t")
		e.Body = d.Body()
		if r := s.Put(e, 0); r != Stored {
			t.Fatalf("Put = %v", r)
		}
		d.Close()
	}
	step := func(body string, sync bool) {
		t.Helper()
		wantBody(t, s, url, []byte(body))
		if sync {
			checkAgreement(t, s)
			wantBody(t, s, url, []byte(body))
		}
		if n, err := s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{DryRun: true}); n != 1 || err != nil {
			t.Errorf("%q: counted %d, %v", body, n, err)
		}
	}
	for _, sync := range []bool{true, false} {
		put(late)
		step("the body writer begun last, put first", sync)
		s.Put(testEntry(s, url, []byte("no body writer"), "t"), 0)
		step("no body writer", sync)
		put(early)
		step("the body writer begun first, put last", sync)
		early = writtenBody(t, s, rng, []byte("the body writer begun first, put last"))
		late = writtenBody(t, s, rng, []byte("the body writer begun last, put first"))
	}
	early.Close()
	late.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, cfg, diskTier)
	step("the body writer begun first, put last", true)
	allSwept(t, s, 0)
}

// What is read through an open body writer stays, whatever becomes of the entry.
func TestOpenBodyWriterKeepsItsChunks(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	want := randomBody(rng, 5<<20)
	d := writtenBody(t, s, rng, want)
	e := testEntry(s, "http://example.com/", nil)
	e.Body = d.Body()
	s.Put(e, 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.Remove(e)
	checkAgreement(t, s)
	wantBody(t, s, e.URL, nil)
	for off := 0; off < len(want); {
		b, err := d.Chunk(int64(off))
		if err != nil || !bytes.HasPrefix(want[off:], b) {
			t.Fatalf("Chunk(%d): %d bytes, %v", off, len(b), err)
		}
		off += len(b)
	}
	d.Close()
	if _, err := d.Chunk(0); !errors.Is(err, errNotThere) {
		t.Errorf("Chunk after Close: %v", err)
	}
	allSwept(t, s, 0)
}

func TestBodyWritersKeepToTheDiskBudget(t *testing.T) {
	fillsByLength(t)
	const mib = 1 << 20
	full := func(d *BodyWriter) error {
		for range 64 {
			if err := d.Append(make([]byte, mib), unread); err != nil {
				return err
			}
		}
		return nil
	}
	for _, tt := range []struct {
		name     string
		settings Settings
		path     bool
		try      func(s *Store) error
		want     error
	}{
		{"half", Settings{Disk: 64 * mib}, true, func(s *Store) error { _, err := s.NewBodyWriter(32*mib - 4096); return err }, nil},
		{"announced larger than half", Settings{Disk: 64 * mib}, true, func(s *Store) error { _, err := s.NewBodyWriter(32 * mib); return err }, ErrNoSpace},
		{"grows larger than half", Settings{Disk: 64 * mib}, true, func(s *Store) error {
			d, err := s.NewBodyWriter(-1)
			return errors.Join(err, full(d))
		}, ErrNoSpace},
		{"three at once", Settings{Disk: 64 * mib}, true, func(s *Store) error {
			for range 3 {
				d, err := s.NewBodyWriter(-1)
				if err != nil {
					return err
				}
				for range 20 {
					if err := d.Append(make([]byte, mib), unread); err != nil {
						return err
					}
				}
			}
			return nil
		}, ErrNoSpace},
		{"full, and nothing is evicted", Settings{Disk: 16 * mib, Eviction: None}, true, func(s *Store) error {
			for i := range 8 {
				url := fmt.Sprint("http://example.com/", i)
				s.Put(testEntry(s, url, make([]byte, 2*mib)), 0)
				if err := s.Sync(); err != nil {
					return err
				}
			}
			d, err := s.NewBodyWriter(-1)
			return errors.Join(err, d.Append(make([]byte, 4*mib), unread))
		}, ErrNoSpace},
		{"no disk", Settings{Memory: 64 * mib}, false, func(s *Store) error { _, err := s.NewBodyWriter(1); return err }, ErrNoDisk},
		{"closed", Settings{Disk: 64 * mib}, true, func(s *Store) error {
			d, err := s.NewBodyWriter(-1)
			if err := errors.Join(err, s.Close()); err != nil {
				return err
			}
			if _, err := s.NewBodyWriter(-1); !errors.Is(err, ErrNoDisk) {
				return err
			}
			return d.Append([]byte("a"), unread)
		}, ErrNoDisk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{}
			if tt.path {
				cfg = Config{Path: t.TempDir(), Required: true}
			}
			if err := tt.try(openStore(t, cfg, tt.settings)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// Large entries are evicted one for one, and the file does not outgrow its budget.
func TestBodyWritersEvictWhatTheyNeed(t *testing.T) {
	const budget, size, n = 32 << 20, 3 << 20, 40
	rng := seeded(t)
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, Settings{Memory: 1, Disk: budget})
	for i := range n {
		if r := putWritten(t, s, rng, fmt.Sprint("http://example.com/", i), make([]byte, size)); r != Stored {
			t.Fatalf("Put = %v", r)
		}
	}
	checkAgreement(t, s)
	waitFor(t, func() bool { return s.Stats().Disk.Bytes <= budget })
	if st := s.Stats(); st.Disk.Entries < budget/size-2 {
		t.Errorf("%d entries are left: %d bytes of %d", st.Disk.Entries, st.Disk.Bytes, budget)
	}
	if info, err := os.Stat(filepath.Join(dir, FileName)); err != nil || info.Size() > budget*3/2 {
		t.Errorf("file of %d bytes for a budget of %d", info.Size(), budget)
	}
}

// A disk that writes nothing is not waited for without end, and nothing is lost but the body
// writer.
func TestBodyWriterOfADiskThatStandsStill(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	s.bodyWriters.patience = 1
	d, err := s.NewBodyWriter(-1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s.disk.mu.Lock() // the disk writer can begin no transaction
	err = d.Append(make([]byte, 1<<20), unread)
	_, awaited := d.Await(t.Context(), 0)
	again := d.Append(make([]byte, 1), unread)
	s.disk.mu.Unlock()
	if err != nil || !errors.Is(awaited, ErrDiskSlow) || !errors.Is(again, ErrDiskSlow) {
		t.Errorf("Append: %v; Await: %v; Append: %v", err, awaited, again)
	}
	if err := d.Seal(); !errors.Is(err, ErrDiskSlow) || d.Body() != nil {
		t.Errorf("Seal: %v, body %v", err, d.Body())
	}
	url := "http://example.com/"
	s.Put(testEntry(s, url, []byte(url)), 0)
	if err := s.Sync(); err != nil {
		t.Errorf("Sync: %v", err)
	}
	wantBody(t, s, url, []byte(url))
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	d, err := s.NewBodyWriter(-1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s.disk.mu.Lock()
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("no reader is left")
	cancel(gone)
	err = d.Append(make([]byte, 1<<20), unread)
	_, awaited := d.Await(ctx, 0)
	s.disk.mu.Unlock()
	if err != nil || !errors.Is(awaited, gone) {
		t.Errorf("Append: %v, Await: %v", err, awaited)
	}
	if n, err := d.Await(t.Context(), 0); n != (1<<20)/chunkSize*chunkSize || err != nil {
		t.Errorf("then: %d bytes written, %v", n, err)
	}
}

// unread is for Append, of bytes of the Go heap.
func unread() {}

// TestReadChunk: it reads what Chunk does, to whatever room there is, and nothing of a writer that
// is closed.
func TestReadChunk(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	body := bytes.Clone(randomBody(rng, 3*chunkSize+1234))
	d := writtenBody(t, s, rng, body)
	for off := int64(0); off < int64(len(body)); {
		room := bytes.Repeat([]byte{0xee}, 1+rng.IntN(2*pieceSize))
		piece, err := d.ReadChunk(room, off)
		if err != nil || len(piece) == 0 || len(piece) > pieceSize || &piece[0] != &room[0] || !bytes.HasPrefix(body[off:], piece) {
			t.Fatalf("%d bytes at %d to room for %d, error %v; or not those of the body", len(piece), off, len(room), err)
		}
		if rest := room[len(piece):]; bytes.Count(rest, []byte{0xee}) != len(rest) {
			t.Errorf("the room behind %d bytes was written to", len(piece))
		}
		off += int64(len(piece))
	}
	if _, err := d.ReadChunk(make([]byte, 10), int64(len(body))); !errors.Is(err, errNotThere) {
		t.Errorf("behind the end: %v", err)
	}
	d.Close()
	if _, err := d.ReadChunk(make([]byte, 10), 0); !errors.Is(err, errNotThere) {
		t.Errorf("closed: %v", err)
	}
}

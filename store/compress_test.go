package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/internal/frames"
	"github.com/larder-cache/larder/internal/frames/framestest"
)

// compressAll has every test of the package store its entries compressed, where that saves
// something. .ci/run runs some of them a second time like this.
var compressAll = os.Getenv("LARDER_COMPRESS") == CompressZstd.String()

func init() {
	for _, settings := range []*Settings{&bothTiers, &diskTier, &crashTier, &powerTier, &damageTier, &compactSettings} {
		*settings = inAll(*settings)
	}
}

// inAll is what settings are in a run of compressAll.
func inAll(settings Settings) Settings {
	if compressAll {
		settings.Compress = CompressZstd
	}
	return settings
}

// fillsByLength leaves out a test that counts on bodies to take their length of the file.
func fillsByLength(t *testing.T) {
	t.Helper()
	if compressAll {
		t.Skip("bodies take less than their length in this run")
	}
}

// packing is a disk tier that compresses, with no memory tier before it.
var packing = Settings{Memory: 1, Disk: 64 << 20, Compress: CompressZstd}

// page is an entry with a body that can be compressed, of a type that says so.
func page(s *Store, url string, body []byte, tags ...string) *Entry {
	e := testEntry(s, url, body, tags...)
	e.Header = http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	return e
}

// pageSizes are around where a body is begun to be compressed, comes in a row of its own, has two
// frames, two chunks.
var pageSizes = []int{
	minCompressed, 5000, inlineSize - 1, inlineSize, inlineSize + 1, 2*frames.Size + 1, chunkSize - 1, chunkSize, chunkSize + 1,
	chunkSize + frames.Size, 3*chunkSize + 12345,
}

// halfNoise is a body of which every second frame cannot be compressed, and of a long one the
// second chunk.
func halfNoise(size int) []byte {
	b := framestest.HTML(size, uint64(size))
	for from := frames.Size; from < size; from += 2 * frames.Size {
		copy(b[from:min(from+frames.Size, size)], framestest.Noise(frames.Size, uint64(from)))
	}
	if size > chunkSize {
		copy(b[chunkSize:min(2*chunkSize, size)], framestest.Noise(chunkSize, 1))
	}
	return b
}

// TestCompressedBodiesAreReadAsTheyWere, with and without a memory tier that they come to, whole
// and in parts, after a restart too, and whatever is configured then.
func TestCompressedBodiesAreReadAsTheyWere(t *testing.T) {
	for _, memory := range []int64{1, 16 << 20} {
		t.Run(fmt.Sprint("memory ", memory), func(t *testing.T) {
			dir, settings := t.TempDir(), packing
			settings.Memory = memory
			bodies := map[string][]byte{}
			s := openStore(t, Config{Path: dir, Required: true}, settings)
			for _, size := range pageSizes {
				for name, body := range map[string][]byte{"page": framestest.HTML(size, 1), "half": halfNoise(size), "noise": framestest.Noise(size, 2)} {
					url := fmt.Sprintf("http://example.com/%s/%d", name, size)
					bodies[url] = body
					if got := s.Put(page(s, url, body), 0); got != Stored {
						t.Fatalf("%s: %v", url, got)
					}
				}
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			checkBodies(t, s, bodies)
			for _, compression := range []Compression{CompressOff, CompressZstd} {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				settings.Compress = compression
				s = openStore(t, Config{Path: dir, Required: true}, settings)
				checkBodies(t, s, bodies)
			}
			if n := s.Stats().Errors[DiskTier]; n != 0 {
				t.Errorf("%d errors", n)
			}
		})
	}
}

// checkBodies looks entries up and reads them.
func checkBodies(t *testing.T, s *Store, bodies map[string][]byte) {
	t.Helper()
	for url, want := range bodies {
		r := s.Lookup(keyOf(url), matchAny)
		if r.Entry == nil {
			t.Errorf("%s is not there", url)
			continue
		}
		checkRanges(t, url, r.Entry.Body, want)
		r.Release()
	}
}

// checkRanges reads a body as a whole and in parts that begin and end anywhere.
func checkRanges(t *testing.T, url string, body Body, want []byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(len(want))))
	size := int64(len(want))
	for n := range 8 {
		off, length := int64(0), int64(-1)
		if n > 0 {
			off = rng.Int64N(size)
			length = rng.Int64N(size - off + 1)
		}
		var out bytes.Buffer
		written, err := WriteBody(&out, body, off, length, nil)
		end := size
		if length >= 0 {
			end = off + length
		}
		if err != nil || written != int64(out.Len()) || !bytes.Equal(out.Bytes(), want[off:end]) {
			t.Fatalf("%s: %d bytes from %d on: %d, %v, or others", url, length, off, written, err)
		}
		if off < size {
			piece, err := body.Chunk(off)
			if err != nil || len(piece) == 0 || !bytes.Equal(piece, want[off:off+int64(len(piece))]) {
				t.Fatalf("%s: piece at %d: %d bytes, %v", url, off, len(piece), err)
			}
		}
	}
}

// TestWhatIsCompressed: by type and length, unless it is coded or saves little.
func TestWhatIsCompressed(t *testing.T) {
	html := framestest.HTML(20_000, 1)
	for _, test := range []struct {
		name, kind, coding string
		body               []byte
		settings           Compression
		want               bool
	}{
		{"a page", "text/html; charset=utf-8", "", html, CompressZstd, true},
		{"a wrong parameter", "text/html; charset", "", html, CompressZstd, true},
		{"capitals", "Application/JSON", "", html, CompressZstd, true},
		{"a suffix", "application/problem+json", "", html, CompressZstd, true},
		{"svg", "image/svg+xml", "", html, CompressZstd, true},
		{"several chunks", "text/css", "", framestest.HTML(600_000, 1), CompressZstd, true},
		{"off", "text/html", "", html, CompressOff, false},
		{"an image", "image/jpeg", "", html, CompressZstd, false},
		{"no type", "", "", html, CompressZstd, false},
		{"no valid type", "text html/", "", html, CompressZstd, false},
		{"coded", "text/html", "gzip", html, CompressZstd, false},
		{"short", "text/html", "", html[:minCompressed-1], CompressZstd, false},
		{"long enough", "text/html", "", html[:minCompressed], CompressZstd, true},
		{"noise", "text/html", "", framestest.Noise(20_000, 1), CompressZstd, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			settings := packing
			settings.Compress = test.settings
			s := openStore(t, Config{Path: t.TempDir(), Required: true}, settings)
			s.Apply(settings)
			e := testEntry(s, "http://example.com/", test.body)
			e.Header = http.Header{}
			if test.kind != "" {
				e.Header.Set("Content-Type", test.kind)
			}
			if test.coding != "" {
				e.Header.Set("Content-Encoding", test.coding)
				e.Variant.Coding = test.coding
			}
			s.Put(e, 0)
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			r, stats := recordOnDisk(t, s, e.ID), s.Stats()
			if r.isPacked() != test.want || stats.Compressed > 0 != test.want {
				t.Errorf("compressed: %v, and %d bytes counted", r.isPacked(), stats.Compressed)
			}
			if want := int64(len(test.body)); test.want != (r.stored() < want) || r.bodyLen() != want {
				t.Errorf("%d bytes in %d", r.bodyLen(), r.stored())
			}
			if test.want && (int64(stats.CompressedStored) != r.stored() || int(stats.Compressed) != len(test.body)) {
				t.Errorf("counted %d bytes in %d, stored in %d", stats.Compressed, stats.CompressedStored, r.stored())
			}
		})
	}
}

// recordOnDisk is a copy of a record.
func recordOnDisk(t *testing.T, s *Store, id uint64) (r record) {
	t.Helper()
	err := s.disk.view(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		found, _, err := b.record(id)
		r = bytes.Clone(found)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCompressedBodyOnItsWay: chunks of a BodyWriter are read while it is open, those that break
// off are swept, and what is put says how much room it takes.
func TestCompressedBodyOnItsWay(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, packing)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{1, 5000, inlineSize + 1, chunkSize + 1, 3*chunkSize + 12345} {
		body := halfNoise(size)
		d := writtenBody(t, s, rng, body)
		for off := int64(0); off < int64(size); {
			piece, err := d.Chunk(off)
			if err != nil || !bytes.Equal(piece, body[off:off+int64(len(piece))]) {
				t.Fatalf("%d bytes: piece at %d: %v", size, off, err)
			}
			off += int64(len(piece))
		}
		url := fmt.Sprintf("http://example.com/%d", size)
		e := page(s, url, nil)
		e.Body = d.Body()
		if got := s.Put(e, 0); got != Stored {
			t.Fatal(got)
		}
		d.Close()
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		checkBodies(t, s, map[string][]byte{url: body})
		if r := recordOnDisk(t, s, e.ID); r.isPacked() != (size >= minCompressed) || r.stored() > int64(size) {
			t.Errorf("%d bytes: compressed %v, in %d", size, r.isPacked(), r.stored())
		}
	}
	broken := writtenBody(t, s, rng, halfNoise(3*chunkSize))
	broken.Close()
	for rowsOf(t, s, pendingBucket) > 0 {
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

// rowsOf is how many rows a bucket has.
func rowsOf(t *testing.T, s *Store, name []byte) (n int) {
	t.Helper()
	err := s.disk.view(func(tx *bbolt.Tx) error {
		n = tx.Bucket(name).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCompressedBodyIsRenewed: the record of a renewal leaves the chunks where they are and says of
// them what the one before said, whatever is configured by then; a small body is written anew.
func TestCompressedBodyIsRenewed(t *testing.T) {
	for _, size := range []int{5000, inlineSize + 1, 2*chunkSize + 1} {
		for _, memory := range []int64{1, 16 << 20} {
			t.Run(fmt.Sprint(size, " memory ", memory), func(t *testing.T) {
				dir, settings, url, body := t.TempDir(), packing, "http://example.com/a", halfNoise(size)
				settings.Memory = memory
				s := openStore(t, Config{Path: dir, Required: true}, settings)
				s.Put(page(s, url, body), 0)
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				for n := range 3 {
					if n == 2 {
						settings.Compress = CompressOff
						s.Apply(settings)
					}
					r := s.Lookup(keyOf(url), matchAny)
					e := r.Entry.Renewal()
					e.Header = e.Header.Clone()
					e.Header.Set("Renewed", fmt.Sprint(n))
					if got := s.Put(e, 0); got != Stored {
						t.Fatal(got)
					}
					r.Release()
					if err := s.Sync(); err != nil {
						t.Fatal(err)
					}
					if r := recordOnDisk(t, s, e.ID); r.isPacked() != (n < 2 || size > inlineSize) {
						t.Errorf("renewal %d: compressed %v", n, r.isPacked())
					}
					checkBodies(t, s, map[string][]byte{url: body})
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				checkBodies(t, openStore(t, Config{Path: dir, Required: true}, settings), map[string][]byte{url: body})
			})
		}
	}
}

// TestDamagedFramesAreAMiss: damage whose checksum is right, as a faulty program leaves it, is
// found by the frame's own, counted, deleted, and no other bytes are served.
func TestDamagedFramesAreAMiss(t *testing.T) {
	for name, size := range map[string]int{"beside its record": 20_000, "a chunk": chunkSize - 1, "the second chunk": chunkSize + 20_000} {
		for _, memory := range []int64{1, 16 << 20} {
			t.Run(fmt.Sprint(name, " memory ", memory), func(t *testing.T) {
				settings := packing
				settings.Memory = memory
				s := openStore(t, Config{Path: t.TempDir(), Required: true}, settings)
				url, body := "http://example.com/a", framestest.JSON(size, 1)
				e := page(s, url, body)
				s.Put(e, 0)
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				s.Apply(Settings{Memory: 1, Disk: settings.Disk}) // it leaves memory
				s.Apply(settings)
				spoilFrame(t, s, e.ID, size)
				r := s.Lookup(keyOf(url), matchAny)
				if r.Entry != nil {
					var out bytes.Buffer
					_, err := WriteBody(&out, r.Entry.Body, 0, -1, nil)
					if !errors.Is(err, errDamaged) || !bytes.HasPrefix(body, out.Bytes()) {
						t.Errorf("%d bytes were written, %v", out.Len(), err)
					}
				}
				r.Release()
				if err := s.Sync(); err != nil {
					t.Fatal(err)
				}
				if r := s.Lookup(keyOf(url), matchAny); r.Entry != nil {
					t.Error("it is still there")
				}
				if st := s.Stats(); st.Errors[DiskTier] != 1 || st.Disk.Entries != 0 {
					t.Errorf("%d errors, %d entries left", st.Errors[DiskTier], st.Disk.Entries)
				}
			})
		}
	}
}

// spoilFrame flips a bit in the last frame of a body, and has the checksum of its row agree.
func spoilFrame(t *testing.T, s *Store, id uint64, size int) {
	t.Helper()
	err := s.disk.update(func(tx *bbolt.Tx) error {
		b, err := openBuckets(tx)
		if err != nil {
			return err
		}
		if size <= inlineSize {
			value := bytes.Clone(b.records.Get(idBytes(id)))
			r, _, err := openRecord(id, value)
			if err != nil {
				return err
			}
			value[len(value)-10] ^= 1
			seal(id, value, len(r))
			return b.records.Put(idBytes(id), value)
		}
		number := (size - 1) / chunkSize
		value := bytes.Clone(b.chunks.Get(chunkKey(id, number)))
		value[len(value)-10] ^= 1
		return b.putChunkValue(id, number, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}

package pagein

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// pageSize is that of bbolt's files here.
var pageSize = os.Getpagesize()

// noted is a file of which it is known which pages have been read, and how much in all.
type noted struct {
	io.ReaderAt
	pageSize int64
	read     map[int64]bool
	bytes    int64
}

func note(image []byte) *noted {
	return &noted{ReaderAt: bytes.NewReader(image), pageSize: int64(pageSize), read: make(map[int64]bool)}
}

func (n *noted) ReadAt(p []byte, off int64) (int, error) {
	n.bytes += int64(len(p))
	for page := off / n.pageSize; page*n.pageSize < off+int64(len(p)); page++ {
		n.read[page] = true
	}
	return n.ReaderAt.ReadAt(p, off)
}

// lacks are the pages of some bytes of the map that have not been read.
func (n *noted) lacks(base uintptr, b []byte) (missing []int64) {
	if len(b) == 0 {
		return nil
	}
	off := int64(uintptr(unsafe.Pointer(&b[0])) - base)
	for page := off / n.pageSize; page*n.pageSize < off+int64(len(b)); page++ {
		if !n.read[page] {
			missing = append(missing, page)
		}
	}
	return missing
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rows fills a bucket with rows of many sizes: trees of several levels, keys longer than a page,
// and rows that go on for many pages.
func rows(tx *bbolt.Tx, name string, n int, rnd *rand.Rand) (keys [][]byte, err error) {
	b, err := tx.CreateBucketIfNotExists([]byte(name))
	for i := 0; err == nil && i < n; i++ {
		key := fmt.Appendf(nil, "%08x", rnd.Uint32())
		if rnd.IntN(20) == 0 {
			key = append(key, strings.Repeat("k", rnd.IntN(9000))...)
		}
		value := make([]byte, rnd.IntN(200))
		if rnd.IntN(10) == 0 {
			value = make([]byte, rnd.IntN(300<<10))
		}
		keys = append(keys, key)
		err = b.Put(key, value)
	}
	return keys, err
}

// TestRowReadsWhatIsTouched: all pages that bbolt touches in finding a row, and those of the row,
// have been read before.
func TestRowReadsWhatIsTouched(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	keys := make(map[string][][]byte)
	for name, n := range map[string]int{"few": 3, "some": 300, "many": 3000} {
		err := db.Update(func(tx *bbolt.Tx) (err error) {
			keys[name], err = rows(tx, name, n, rnd)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	image := readFile(t, db.Path())
	err = db.View(func(tx *bbolt.Tx) error {
		for name, keys := range keys {
			b := tx.Bucket([]byte(name))
			for _, key := range keys[:min(len(keys), 300)] {
				file := note(image)
				if b.Root() == 0 { // all of it is in the page of buckets
					New(file, db.Info().PageSize).Row(0, key, 0, 1)
					if len(file.read) > 0 {
						t.Errorf("pages %v are read of a bucket without any", file.read)
					}
					continue
				}
				checkRow(t, db, b, file, key[:4+rnd.IntN(len(key)-3)], seed)
				clear(file.read)
				checkLeaf(t, tx, b, file, key, rnd.IntN(2) == 0, seed)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkRow looks a row up by the beginning of a key: the first row behind that is what counts.
func checkRow(t *testing.T, db *bbolt.DB, b *bbolt.Bucket, file *noted, seek []byte, seed uint64) {
	t.Helper()
	k, v := b.Cursor().Seek(seek)
	from := len(v) / 3
	New(file, db.Info().PageSize).Row(uint64(b.Root()), seek, int64(from), int64(len(v)))
	if missing := append(file.lacks(db.Info().Data, k), file.lacks(db.Info().Data, v[from:])...); len(missing) > 0 {
		t.Fatalf("a key of %d bytes, a row of %d: pages %v are not read (seed %d)", len(seek), len(k)+len(v), missing, seed)
	}
	if from > 2*pageSize && len(file.lacks(db.Info().Data, v[pageSize:from-pageSize])) == 0 {
		t.Fatalf("a row of %d: what is not wanted is read (seed %d)", len(k)+len(v), seed)
	}
}

// checkLeaf changes a row, or deletes it: then its own pages need not be read.
func checkLeaf(t *testing.T, tx *bbolt.Tx, b *bbolt.Bucket, file *noted, key []byte, goes bool, seed uint64) {
	t.Helper()
	db := tx.DB()
	k, v := b.Cursor().Seek(key)
	pages := New(file, db.Info().PageSize)
	id := pages.Leaf(uint64(b.Root()), key, goes, 0)
	leaf, err := tx.Page(int(id))
	if err != nil || leaf.Type != "leaf" {
		t.Fatalf("page %d: %v, %v", id, leaf, err)
	}
	begin := int64(uintptr(unsafe.Pointer(&k[0])) - db.Info().Data)
	end := begin + int64(len(k)+len(v))
	for page := int64(id); page <= int64(id)+int64(leaf.OverflowCount); page++ {
		own := page*file.pageSize >= begin && (page+1)*file.pageSize <= end
		if !file.read[page] && (!goes || !own) {
			t.Fatalf("page %d of a leaf of %d is not read (seed %d)", page, leaf.OverflowCount+1, seed)
		}
	}
	clear(file.read)
	if again := pages.Leaf(uint64(b.Root()), key, goes, id); again != id {
		t.Fatalf("the leaf of page %d is that of page %d (seed %d)", id, again, seed)
	}
	for page := range file.read {
		if page > int64(id) && page <= int64(id)+int64(leaf.OverflowCount) {
			t.Fatalf("page %d of the leaf of page %d is read again (seed %d)", page, id, seed)
		}
	}
}

// TestRowOfAnythingElse: what is no tree ends it, and so does a file that cannot be read.
func TestRowOfAnythingElse(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	name := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(name, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var root uint64
	err = errors.Join(db.Update(func(tx *bbolt.Tx) error {
		_, err := rows(tx, "rows", 60, rnd)
		return err
	}), db.View(func(tx *bbolt.Tx) error {
		root = uint64(tx.Bucket([]byte("rows")).Root())
		return nil
	}), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	image := readFile(t, name)
	further := 0
	for range 300 {
		damaged := bytes.Clone(image)
		for range 1 + rnd.IntN(30) {
			page := rnd.IntN(len(damaged) / pageSize)
			damaged[page*pageSize+rnd.IntN(200)] = byte(rnd.Uint32())
			damaged[int(root)*pageSize+boltcheck.PageHeader+rnd.IntN(200)] = byte(rnd.Uint32())
		}
		file := note(damaged)
		New(file, pageSize).Row(root, fmt.Appendf(nil, "%08x", rnd.Uint32()), 0, 1<<40)
		New(file, pageSize).Leaf(root, fmt.Appendf(nil, "%08x", rnd.Uint32()), false, 0)
		if file.bytes > 2*maxRead {
			t.Fatalf("%d bytes are read (seed %d)", file.bytes, seed)
		}
		if file.bytes > 2*int64(pageSize) {
			further++
		}
	}
	if further == 0 {
		t.Errorf("no page but the root is ever read (seed %d)", seed)
	}
	New(bytes.NewReader(nil), pageSize).Row(root, []byte("a"), 0, 1)
}

// TestPageThatIsItsOwnChild: bbolt's pages have no checksums.
func TestPageThatIsItsOwnChild(t *testing.T) {
	page := make([]byte, 2*pageSize)
	binary.NativeEndian.PutUint64(page[pageSize:], 1)
	binary.NativeEndian.PutUint16(page[pageSize+8:], boltcheck.Branch)
	binary.NativeEndian.PutUint16(page[pageSize+10:], 1)
	binary.NativeEndian.PutUint64(page[pageSize+boltcheck.PageHeader+8:], 1)
	file := note(page)
	New(file, pageSize).Row(1, []byte("key"), 0, 1)
	if file.bytes == 0 || file.bytes > maxRead {
		t.Errorf("%d bytes are read", file.bytes)
	}
}

// FuzzRow takes any bytes for a file.
func FuzzRow(f *testing.F) {
	page := make([]byte, 2*pageSize)
	binary.NativeEndian.PutUint64(page[pageSize:], 1)
	binary.NativeEndian.PutUint16(page[pageSize+8:], boltcheck.Leaf)
	binary.NativeEndian.PutUint16(page[pageSize+10:], 1)
	f.Add(page, uint64(1), []byte("key"))
	branch := bytes.Clone(page)
	binary.NativeEndian.PutUint16(branch[pageSize+8:], boltcheck.Branch)
	binary.NativeEndian.PutUint64(branch[pageSize+boltcheck.PageHeader+8:], 1) // its own child
	f.Add(branch, uint64(1), []byte("key"))
	f.Fuzz(func(_ *testing.T, image []byte, root uint64, key []byte) {
		file := New(bytes.NewReader(image), pageSize)
		file.Row(root, key, 0, 1<<40)
		file.Leaf(root, key, true, 0)
	})
}

package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

const (
	damageURLs = 120
	damageTags = 6
)

var damageTier = Settings{Memory: 64 << 10, Disk: 16 << 20}

func damageURL(n int) string { return fmt.Sprintf("http://example.com/%d", n) }

// damagedFile is a file of many small and some large entries, with a purge not yet swept.
func damagedFile(t *testing.T, rng *rand.Rand) []byte {
	t.Helper()
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, damageTier)
	held := s.Begin() // keeps the purge's record in the file
	defer held.End()
	for n := range damageURLs {
		size := rng.IntN(2_000)
		if n%10 == 0 {
			size = rng.IntN(600_000)
		}
		s.Put(signedEntry(s, damageURL(n), 1, size, fmt.Sprintf("t%d", n%damageTags), "all"), 0)
	}
	if _, err := s.Purge(Selectors{Tags: []string{"t0"}}, PurgeOptions{Severity: Soft}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// damage changes a file of size bytes at a random place, in one of the ways disks and people do.
func damage(t *testing.T, rng *rand.Rand, file *os.File, size int64) string {
	t.Helper()
	pages := size / pageBytes
	// Most pages hold bodies. The tree's are the smaller half, at the end of what is written last.
	page := rng.Int64N(pages)
	for range 20 {
		if treePage(t, file, page) {
			break
		}
		page = rng.Int64N(pages)
	}
	write := func(data []byte, off int64) {
		if _, err := file.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
	garbage := make([]byte, pageBytes)
	for i := range garbage {
		garbage[i] = byte(rng.Uint32())
	}
	switch rng.IntN(7) {
	case 0:
		off := rng.IntN(62)
		if off >= 14 {
			// The upper half of the number of overflow pages is left out: see the caveats in
			// doc.go.
			off += 2
		}
		off -= childNumber(t, file, page, off)
		write(garbage[:1], page*pageBytes+int64(off))
		return fmt.Sprintf("byte %d of page %d", off, page)
	case 1:
		off := 64 + rng.IntN(pageBytes-64)
		off -= childNumber(t, file, page, off)
		write(garbage[:1], page*pageBytes+int64(off))
		return fmt.Sprintf("byte %d of page %d", off, page)
	case 2:
		write(garbage, page*pageBytes)
		return fmt.Sprintf("garbage in page %d", page)
	case 3:
		write(make([]byte, pageBytes), page*pageBytes)
		return fmt.Sprintf("zeros in page %d", page)
	case 4:
		n := rng.IntN(pageBytes/sector) * sector
		write(garbage[:sector], page*pageBytes+int64(n))
		return fmt.Sprintf("garbage in a sector of page %d", page)
	case 5:
		other, data := rng.Int64N(pages), make([]byte, pageBytes)
		if _, err := file.ReadAt(data, other*pageBytes); err != nil {
			t.Fatal(err)
		}
		write(data, page*pageBytes)
		return fmt.Sprintf("page %d in place of %d", other, page)
	default:
		n := page * pageBytes
		if err := file.Truncate(n); err != nil {
			t.Fatal(err)
		}
		if rng.IntN(2) == 0 { // as after a repair of the file system
			if err := file.Truncate(size); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("zeros from page %d on", page)
		}
		return fmt.Sprintf("cut at page %d", page)
	}
}

// childNumber is how far before a byte of a child's number in a branch page something else stands,
// 0 where the byte is none of that: a child that is its own parent ends the process (see the
// caveats in doc.go). Of the files here, of some hundred pages, one flipped bit in a few makes such
// a circle; of real ones, one in millions.
func childNumber(t *testing.T, file *os.File, page int64, off int) int {
	t.Helper()
	const number = 8 // an element is pos(4), length of the key(4), child(8)
	var head [boltcheck.PageHeader]byte
	if _, err := file.ReadAt(head[:], page*pageBytes); err != nil || head[8]&boltcheck.Branch == 0 {
		return 0
	}
	count := int(binary.NativeEndian.Uint16(head[10:]))
	if off >= boltcheck.PageHeader && off < boltcheck.PageHeader+count*boltcheck.Element && (off-boltcheck.PageHeader)%boltcheck.Element >= number {
		return number
	}
	return 0
}

// treePage tells whether a page is a branch, a leaf, a meta page or the list of free pages.
func treePage(t *testing.T, file *os.File, page int64) bool {
	t.Helper()
	var head [boltcheck.PageHeader]byte
	if _, err := file.ReadAt(head[:], page*pageBytes); err != nil {
		return false
	}
	id, flags := head[0], head[8]
	return id == byte(page) && flags != 0 && flags&^0x17 == 0 && head[9] == 0
}

// useDamaged does everything a server does with a store, and accepts every answer but a wrong body.
// A purge may miss what damaged index rows no longer lead to: see the caveats in doc.go.
func useDamaged(t *testing.T, rng *rand.Rand, s *Store, version int) {
	t.Helper()
	for range 60 {
		n := rng.IntN(damageURLs)
		switch rng.IntN(10) {
		case 0, 1:
			s.Put(signedEntry(s, damageURL(n), version, rng.IntN(3_000), fmt.Sprintf("t%d", n%damageTags), "all"), 0)
		case 2:
			_, err := s.Purge(Selectors{URLs: []string{damageURL(n)}}, PurgeOptions{})
			if err != nil && !errors.Is(err, ErrNotDurable) {
				t.Errorf("Purge: %v", err)
			}
		case 3:
			_, _, _ = s.List(Filter{Tag: fmt.Sprintf("t%d", n%damageTags)}, 20, "")
		case 4:
			_, _, _ = s.List(Filter{}, 100, "")
		case 5:
			_ = s.Sync()
		default:
			found(t, s, damageURL(n))
		}
	}
	_, _ = s.Purge(Selectors{Tags: []string{fmt.Sprintf("t%d", rng.IntN(damageTags))}}, PurgeOptions{Severity: Severity(rng.IntN(4))})
	for n := range damageURLs {
		found(t, s, damageURL(n))
	}
	_ = s.Sync()
}

// TestFaultDamagedPages damages the file at random places, before it is opened and while it is
// open. There are right bodies or misses, and in the end the disk works.
func TestFaultDamagedPages(t *testing.T) {
	rng := seeded(t)
	image := damagedFile(t, rng)
	aside, failed := 0, 0
	for round := range rounds(16, 2000) {
		dir := t.TempDir()
		name := filepath.Join(dir, FileName)
		if err := os.WriteFile(name, image, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		clock := newTestClock()
		clock.nanos.Store(time.Now().UnixNano())
		how := "while running: "
		s := New(Config{Path: dir, Required: true, Now: clock.now}, damageTier)
		if round%2 == 0 {
			how = "before opening: " + damage(t, rng, file, int64(len(image)))
		}
		if err := s.Open(); err != nil {
			t.Fatalf("round %d, %s: Open: %v", round, how, err)
		}
		useDamaged(t, rng, s, 2)
		if round%2 == 1 {
			how += damage(t, rng, file, int64(len(image)))
			useDamaged(t, rng, s, 3)
		}
		if s.Stats().Disk.State == "failed" {
			failed++
		}
		_ = s.Close() // what could not be written is lost
		file.Close()

		s = openStore(t, Config{Path: dir, Required: true}, damageTier)
		useDamaged(t, rng, s, 4)
		_ = s.Close()
		aside += min(1, len(asideFiles(t, dir)))
		if t.Failed() {
			t.Fatalf("round %d, %s", round, how)
		}
		_ = os.RemoveAll(dir)
	}
	t.Logf("%d files set aside, %d given up while running", aside, failed)
}

// TestFaultFileEmptied empties the file under readers and a writer: none waits for ever for a
// lock of the database, memory goes on, and a new file is begun.
func TestFaultFileEmptied(t *testing.T) {
	dir := t.TempDir()
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	s := openImpatient(t, Config{Path: dir, Required: true, Now: clock.now}, Settings{Memory: 64 << 10, Disk: 16 << 20})
	for n := range damageURLs {
		s.Put(signedEntry(s, damageURL(n), 1, 3_000), 0)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for reader := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					found(t, s, damageURL((n+reader*30)%damageURLs))
					s.Put(signedEntry(s, fmt.Sprintf("http://example.com/new/%d/%d", reader, n%100), n+1, 100), 0)
				}
			}
		})
	}
	if err := os.Truncate(filepath.Join(dir, FileName), 0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "failed" })
	waitFor(t, func() bool {
		// The first try may still meet the lock of the file that was given up.
		clock.advance(retryTime)
		return s.Stats().Disk.State == "open"
	})
	close(stop)
	load.Wait()
	goOn(t, s)
	checkAgreement(t, s)
}

// TestDamagedListOfFreePages damages the one page that bbolt believes without a check, before the
// file is opened and while it is open.
func TestDamagedListOfFreePages(t *testing.T) {
	image := damagedFile(t, seeded(t))
	meta, ok := boltcheck.ReadMeta(bytes.NewReader(image))
	if !ok {
		t.Fatal("no meta page")
	}
	list, err := boltcheck.ReadList(bytes.NewReader(image), meta)
	if err != nil || list.Count < 2 {
		t.Fatalf("%d free pages, %v", list.Count, err)
	}
	page := int64(meta.Freelist) * meta.PageSize
	for _, tt := range []struct {
		name string
		at   int64
		data []byte
	}{
		{"another page's number", 0, []byte{^image[page]}},
		{"another kind of page", 8, []byte{1}},
		{"as long as memory", 10, []byte{0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0}},
		{"going on for gigabytes", 15, []byte{0xff}},
		{"going on over pages in use", 12, []byte{1}},
		{"a page outside of the file", 16 + 5, []byte{0xff}},
		{"a page twice", 24, image[page+16 : page+24]},
	} {
		for _, running := range []bool{false, true} {
			if running && tt.at >= 16 {
				continue // bbolt has read them
			}
			t.Run(fmt.Sprintf("%s, running %v", tt.name, running), func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, FileName)
				if err := os.WriteFile(file, image, 0o600); err != nil {
					t.Fatal(err)
				}
				if running {
					s := openStore(t, Config{Path: dir, Required: true}, damageTier)
					s.disk.mu.Lock() // no transaction is under way
					meta, _ := boltcheck.ReadMeta(mustOpen(t, file))
					overwrite(t, file, int64(meta.Freelist)*meta.PageSize+tt.at, tt.data)
					s.disk.mu.Unlock()
					s.Put(signedEntry(s, damageURL(1), 2, 10), 0)
					waitFor(t, func() bool { return s.Stats().Disk.State == "failed" })
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				} else {
					overwrite(t, file, page+tt.at, tt.data)
				}
				s := openStore(t, Config{Path: dir, Required: true}, damageTier)
				if aside := asideFiles(t, dir); len(aside) != 1 {
					t.Errorf("set aside: %q", aside)
				}
				goOn(t, s)
			})
		}
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/store/internal/slots"
)

// fullDisk is a disk that can be full, for both files of a store.
type fullDisk struct {
	slots.Storage              // of the bodies
	full          atomic.Bool  // writes fail
	tried         atomic.Int64 // how many have failed
	inPart        atomic.Bool  // they write all, and say that they have not
	syncs         atomic.Bool  // syncs of the bodies fail too
	limit         atomic.Int64 // of the length of the bodies' file; 0: there is none
}

func (d *fullDisk) error(op string) error {
	return &fs.PathError{Op: op, Path: FileName, Err: fullErrors[0]}
}

func (d *fullDisk) write(write writeAt, p []byte, off int64) (int, error) {
	if !d.full.Load() {
		return write(p, off)
	}
	d.tried.Add(1)
	if !d.inPart.Load() {
		return 0, d.error("write")
	}
	n, err := write(p, off)
	return n, errors.Join(err, d.error("write"))
}

func (d *fullDisk) WriteAt(p []byte, off int64) (int, error) {
	if limit := d.limit.Load(); limit > 0 && off+int64(len(p)) > limit {
		return 0, d.error("write")
	}
	return d.write(d.Storage.WriteAt, p, off)
}

func (d *fullDisk) Sync() error {
	if d.syncs.Load() {
		return d.error("sync")
	}
	return d.Storage.Sync()
}

// onFullDisk opens a store whose disk can be full.
func onFullDisk(t *testing.T, dir string, settings Settings) (s *Store, disk *fullDisk, clock *testClock, log *bytes.Buffer) {
	t.Helper()
	disk, clock, log = new(fullDisk), newTestClock(), new(bytes.Buffer)
	clock.nanos.Store(time.Now().UnixNano())
	s = New(Config{Path: dir, Required: true, Now: clock.now, Logger: slog.New(slog.NewTextHandler(log, nil))}, settings)
	s.diskWriter.tick = 5 * time.Millisecond
	s.disk.bodiesStorage = func(f *os.File) slots.Storage {
		disk.Storage = f
		return disk
	}
	must(t, s.Open())
	t.Cleanup(func() { _ = s.Close() })
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) { return disk.write(write, p, off) }
	})
	return s, disk, clock, log
}

// fillUp fills the disk, and has the store notice.
func (d *fullDisk) fillUp(t *testing.T, s *Store) {
	t.Helper()
	d.full.Store(true)
	s.Put(signedEntry(s, "http://example.com/notices", 1, 5_000), 0)
	if err := s.Sync(); !errors.Is(err, fullErrors[0]) {
		t.Fatalf("Sync: %v", err)
	}
	if st := s.Stats(); st.Disk.State != "full" || st.Errors[DiskTier] != 1 {
		t.Fatalf("on a full disk: %+v, errors %v", st.Disk, st.Errors)
	}
}

// makeRoom makes room, and has the store notice.
func (d *fullDisk) makeRoom(t *testing.T, s *Store, clock *testClock) {
	t.Helper()
	d.full.Store(false)
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
}

// killed opens what a crash would leave of a store.
func killed(t *testing.T, dir string) *Store {
	t.Helper()
	left := t.TempDir()
	for _, name := range []string{FileName, BodiesName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // no large body has come
		}
		must(t, err)
		must(t, os.WriteFile(filepath.Join(left, name), data, 0o600))
	}
	return openStore(t, Config{Path: left, Required: true}, diskTier)
}

// TestFullDiskIsReadOn: one write for which there was no room had the whole file given up: bodies
// that clients were reading broke off, and all that is on disk was a miss for as long as the disk
// was full.
func TestFullDiskIsReadOn(t *testing.T) {
	rng, dir := seeded(t), t.TempDir()
	const large = "http://example.com/large"
	body := randomBody(rng, 5<<20)
	s := openStore(t, Config{Path: dir, Required: true}, diskTier)
	urls := putPages(t, s, 20)
	s.Put(testEntry(s, large, body), 0)
	must(t, s.Close())

	s, disk, clock, log := onFullDisk(t, dir, bothTiers)
	r := s.Lookup(keyOf(large), matchAny)
	var read bytes.Buffer
	if _, err := WriteBody(&read, r.Entry.Body, 0, 2<<20, nil); err != nil {
		t.Fatal(err)
	}
	disk.fillUp(t, s)
	tried := disk.tried.Load()
	if _, err := WriteBody(&read, r.Entry.Body, 2<<20, -1, nil); err != nil || !bytes.Equal(read.Bytes(), body) {
		t.Errorf("a reader in mid-body: %d bytes, %v", read.Len(), err)
	}
	r.Release()
	wantBody(t, s, large, body)
	if n := hits(t, s, urls); n != len(urls) {
		t.Errorf("%d of %d pages are found", n, len(urls))
	}
	s.Put(signedEntry(s, "http://example.com/new", 1, 5_000), 0)
	if n := s.LargestBody(); n != bothTiers.Memory {
		t.Errorf("a body may have %d bytes", n)
	}
	if _, err := s.Compact(t.Context()); !errors.Is(err, errPaused) {
		t.Errorf("Compact: %v", err)
	}
	clock.advance(retryTime - time.Second)
	if err := s.Sync(); !errors.Is(err, errPaused) {
		t.Errorf("Sync: %v", err)
	}
	if n := disk.tried.Load(); n != tried {
		t.Errorf("%d writes were tried before it was time", n-tried)
	}
	k := killed(t, dir)
	if n := hits(t, k, urls); n != len(urls) {
		t.Errorf("%d of %d pages are left by a crash", n, len(urls))
	}
	wantBody(t, k, large, body)
	checkAgreement(t, k)

	clock.advance(time.Second) // it is full still
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] == 2 && s.Stats().Disk.State == "full" })
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.Stats().Disk.Entries == int64(len(urls)+3) })
	goOn(t, s)
	must(t, s.Close())
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "the disk is full") {
		t.Errorf("%d errors logged, want one:\n%s", n, log)
	}
	s = openStore(t, Config{Path: dir, Required: true}, diskTier)
	if version, _ := found(t, s, "http://example.com/new"); version != 1 {
		t.Error("what came while the disk was full has not been written")
	}
	wantBody(t, s, large, body)
	checkAgreement(t, s)
}

// TestFullDiskOfAMetaPage: a transaction of which bbolt says that it has failed may have happened.
// Then the file is opened anew, and else it stays.
func TestFullDiskOfAMetaPage(t *testing.T) {
	for _, happened := range []bool{false, true} {
		t.Run(fmt.Sprintf("happened %v", happened), func(t *testing.T) {
			dir := t.TempDir()
			s, disk, clock, _ := onFullDisk(t, dir, bothTiers)
			urls := putPages(t, s, 20)
			meta := func(write writeAt) writeAt {
				return func(p []byte, off int64) (int, error) {
					disk.full.Store(disk.full.Load() || off < 2*int64(os.Getpagesize()))
					return write(p, off)
				}
			}
			interceptWrites(t, s, meta)
			disk.inPart.Store(happened)
			s.Put(signedEntry(s, "http://example.com/new", 1, 5_000), 0)
			if err := s.Sync(); !errors.Is(err, fullErrors[0]) {
				t.Fatalf("Sync: %v", err)
			}
			want := map[bool]string{false: "full", true: "failed"}[happened]
			if st := s.Stats(); st.Disk.State != want {
				t.Errorf("%+v, want it to be %s", st.Disk, want)
			}
			if happened {
				disk.makeRoom(t, s, clock)
				goOn(t, s)
			}
			must(t, s.Close())
			s = openStore(t, Config{Path: dir, Required: true}, diskTier)
			if n := hits(t, s, urls); n != len(urls) {
				t.Errorf("%d of %d pages are left", n, len(urls))
			}
			checkAgreement(t, s)
		})
	}
}

// TestFullDiskOfASync: what it has lost of what was written before is not known, so the file is
// given up.
func TestFullDiskOfASync(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), bothTiers)
	disk.syncs.Store(true)
	s.Put(testEntry(s, "http://example.com/", randomBody(rng, 3*chunkSize)), 0)
	if err := s.Sync(); !errors.Is(err, fullErrors[0]) {
		t.Fatalf("Sync: %v", err)
	}
	if st := s.Stats(); st.Disk.State != "failed" {
		t.Errorf("%+v", st.Disk)
	}
	disk.syncs.Store(false)
	disk.makeRoom(t, s, clock)
	goOn(t, s)
}

// TestStopOfAFullDisk tries once more, and else loses what is in memory, and nothing else.
func TestStopOfAFullDisk(t *testing.T) {
	for _, room := range []bool{true, false} {
		t.Run(fmt.Sprintf("room %v", room), func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 10, 1000)
			s, disk, _, _ := onFullDisk(t, dir, bothTiers)
			disk.fillUp(t, s)
			disk.full.Store(!room)
			must(t, s.Close())
			s = openStore(t, Config{Path: dir, Required: true}, diskTier)
			want := map[bool]int{true: 1}[room]
			if version, _ := found(t, s, "http://example.com/notices"); version != want {
				t.Errorf("what was in memory: version %d, want %d", version, want)
			}
			if n := hits(t, s, urls); n != len(urls) {
				t.Errorf("%d of %d pages are left", n, len(urls))
			}
			checkAgreement(t, s)
		})
	}
}

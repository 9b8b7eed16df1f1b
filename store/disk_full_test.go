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

// TestFullDiskOfABodyOnItsWay: what of it is on disk can be read by those who are behind, also
// when the disk is written to again, until they have left.
func TestFullDiskOfABodyOnItsWay(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), diskTier)
	d, err := s.NewBodyWriter(-1)
	must(t, err)
	body := randomBody(rng, 4<<20)
	must(t, d.Append(body[:2<<20], unread))
	written, err := d.Await(t.Context(), 0)
	must(t, err)
	disk.full.Store(true)
	must(t, d.Append(body[2<<20:], unread))
	if n, err := d.Await(t.Context(), 0); n != written || !errors.Is(err, ErrNoDisk) {
		t.Errorf("Await = %d, %v; %d are written", n, err, written)
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "full" })
	isRead := func() {
		t.Helper()
		for off := int64(0); off < written; {
			piece, err := d.Chunk(off)
			if err != nil || !bytes.Equal(piece, body[off:][:len(piece)]) {
				t.Fatalf("Chunk(%d): %d bytes, %v", off, len(piece), err)
			}
			off += int64(len(piece))
		}
	}
	isRead()
	if _, err := s.NewBodyWriter(-1); !errors.Is(err, ErrNoDisk) {
		t.Errorf("NewBodyWriter: %v", err)
	}
	disk.makeRoom(t, s, clock)
	other := randomBody(rng, 3<<20)
	if r := putWritten(t, s, rng, "http://example.com/", other); r != Stored {
		t.Errorf("Put = %v", r)
	}
	must(t, s.Sync())
	isRead()
	d.Close()
	allSwept(t, s, (len(other)+chunkSize-1)/chunkSize)
	wantBody(t, s, "http://example.com/", other)
	if n := s.Stats().Errors[DiskTier]; n != 1 {
		t.Errorf("%d errors are counted", n)
	}
	checkAgreement(t, s)
}

// TestFullDiskGivesSlotsBack: what was written of a body before there was no room for the rest is
// no entry's.
func TestFullDiskGivesSlotsBack(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), bothTiers)
	s.Put(testEntry(s, "http://example.com/there", randomBody(rng, 3*chunkSize)), 0)
	must(t, s.Sync())
	file := s.disk.slots.Load()
	used := file.Used()
	disk.limit.Store(used + 2*slots.Size)
	s.Put(testEntry(s, "http://example.com/", randomBody(rng, 9*chunkSize)), 0)
	if err := s.Sync(); !errors.Is(err, fullErrors[0]) {
		t.Fatalf("Sync: %v", err)
	}
	if st := s.Stats(); st.Disk.State != "full" || file.Used() != used {
		t.Errorf("%+v: %d bytes of slots are used, %d were", st.Disk, file.Used(), used)
	}
	disk.limit.Store(0)
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.Stats().Disk.Entries == 2 })
	must(t, s.Sync())
	if rows, _ := slotRows(t, s); file.Used() != int64(rows)*slots.Size {
		t.Errorf("%d bytes of slots are used by %d rows", file.Used(), rows)
	}
	checkAgreement(t, s)
}

// TestFullDiskOfBodiesOnTheirWay: of what was written together one was written, and one in part.
// Who reads has it until they have left, and then it takes no room.
func TestFullDiskOfBodiesOnTheirWay(t *testing.T) {
	rng := seeded(t)
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), diskTier)
	body := randomBody(rng, 7*chunkSize)
	disk.limit.Store(10 * slots.Size)
	var writers []*BodyWriter
	for range 2 {
		d, err := s.NewBodyWriter(-1)
		must(t, err)
		writers = append(writers, d)
	}
	s.bodyWriters.mu.Lock() // both are written in one step
	unlock := s.bodyWriters.mu.Unlock
	for _, d := range writers {
		d.pieces, d.appended, d.onItsWay = []piece{{body, unread}}, int64(len(body)), int64(len(body))
		s.bodyWriters.waiting += int64(len(body))
		s.bodyWriters.held += int64(len(body))
	}
	unlock()
	all := int64(0)
	for _, d := range writers {
		written, err := d.Await(t.Context(), 0)
		if all += written; err != nil && !errors.Is(err, ErrNoDisk) {
			t.Errorf("Await: %v", err)
		}
		if written > 0 {
			got := make([]byte, written)
			if err := copyBody(got, d.body(written)); err != nil || !bytes.Equal(got, body[:written]) {
				t.Errorf("%d bytes are written: %v", written, err)
			}
		}
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "full" })
	used := s.disk.slots.Load().Used()
	if all == 0 || all > used || used != (all+chunkSize-1)/chunkSize*slots.Size {
		t.Errorf("%d bytes are written, and %d bytes of slots are used", all, used)
	}
	for _, d := range writers {
		d.Close()
	}
	disk.limit.Store(0)
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.disk.slots.Load().Used() == 0 })
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

// TestPurgeOfAFullDisk: it is written at once where there is room for it. Where there is none the
// file goes.
func TestPurgeOfAFullDisk(t *testing.T) {
	for _, room := range []bool{true, false} {
		t.Run(fmt.Sprintf("room %v", room), func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 10, 1000)
			s, disk, clock, log := onFullDisk(t, dir, bothTiers)
			disk.fillUp(t, s)
			disk.full.Store(!room)
			n, err := s.Purge(Selectors{URLs: urls[:4]}, PurgeOptions{})
			if n != 4 || errors.Is(err, ErrNotDurable) == room {
				t.Errorf("Purge = %d, %v", n, err)
			}
			state, left := "full", 6
			if !room { // a new file is begun
				state, left = "open", 0
			}
			if st := s.Stats(); st.Disk.State != state {
				t.Errorf("%+v", st.Disk)
			}
			if purged, others := hits(t, s, urls[:4]), hits(t, s, urls[4:]); purged != 0 || others != left {
				t.Errorf("%d purged, %d of %d others are found", purged, others, left)
			}
			if removed := strings.Contains(log.String(), "so the file is removed"); removed == room {
				t.Errorf("logged:\n%s", log)
			}
			if room {
				k := killed(t, dir)
				if purged, others := hits(t, k, urls[:4]), hits(t, k, urls[4:]); purged != 0 || others != left {
					t.Errorf("after a crash %d purged, %d of %d others are found", purged, others, left)
				}
				disk.makeRoom(t, s, clock)
			}
			waitFor(t, func() bool { st := s.Stats(); return st.PurgesPending == 0 && st.Disk.Entries == int64(left+1) })
			goOn(t, s)
			checkAgreement(t, s)
		})
	}
}

// TestFullDiskInTheMiddleOfASweep: what a transaction had swept that failed was passed over by the
// next, and would have been back when the purge was through.
func TestFullDiskInTheMiddleOfASweep(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 100, 1000)
	s, disk, clock, _ := onFullDisk(t, dir, diskTier)
	var writes atomic.Int64
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) {
			if off < 2*int64(os.Getpagesize()) && writes.Add(1) == 1 { // the purge itself is written
				defer disk.full.Store(true)
			}
			return write(p, off)
		}
	})
	n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
	if n != 100 || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "full" })
	if n := hits(t, s, urls); n != 0 {
		t.Errorf("%d purged are found", n)
	}
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	if n, st := hits(t, s, urls), s.Stats(); n != 0 || st.Disk.Entries != 0 {
		t.Errorf("%d purged are found, %d are on disk", n, st.Disk.Entries)
	}
	checkAgreement(t, s)
}

// TestWhatAFullDiskHasIsReplaced: an old response is not back when the one that has taken its place
// has left memory, and what was removed stays so.
func TestWhatAFullDiskHasIsReplaced(t *testing.T) {
	dir := t.TempDir()
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	s, disk, clock, _ := onFullDisk(t, dir, bothTiers)
	for n := range 4 {
		s.Put(signedEntry(s, url(n), 1, 50_000), 0)
	}
	must(t, s.Sync())
	r := s.Lookup(keyOf(url(0)), matchAny)
	s.disk.pins.pin(r.Entry.ID, 50_000)        // it is read from disk
	s.Put(signedEntry(s, url(0), 2, 5_000), 0) // queued when the disk is found to be full
	disk.fillUp(t, s)
	if held, used := s.disk.pins.inUse(); held != 0 || used != 50_000 {
		t.Errorf("%d bytes count as deleted, and %d as read; none is deleted, and 50,000 are read", held, used)
	}
	s.disk.pins.unpin(r.Entry.ID)
	r.Release()
	if held := s.Stats().DiskHeld; held != 0 {
		t.Errorf("%d bytes count as deleted when the reader has left", held)
	}
	if r := s.Lookup(keyOf("http://example.com/not there"), matchAny); r.Entry != nil {
		t.Error("it is there")
	}
	s.Put(signedEntry(s, "http://example.com/not there", 1, 5_000), 0) // in the place of nothing
	for version := range 3 {
		s.Put(signedEntry(s, url(1), 2+version, 5_000), 0)
	}
	r = s.Lookup(keyOf(url(2)), matchAny)
	s.Remove(r.Entry)
	s.Remove(r.Entry)
	r.Release()
	if n, _, _ := s.queue.state(); n != 4 { // with that of the one by which it was noticed
		t.Errorf("%d deletions wait", n)
	}
	s.Apply(Settings{Memory: 1, Disk: bothTiers.Disk})
	for n, want := range []int{0, 0, 0, 1} {
		if version, _ := found(t, s, url(n)); version != want {
			t.Errorf("%s: version %d, want %d", url(n), version, want)
		}
	}
	disk.makeRoom(t, s, clock)
	must(t, s.Sync())
	for n, want := range []int{0, 0, 0, 1} {
		if version, _ := found(t, s, url(n)); version != want {
			t.Errorf("%s: version %d, want %d, when it is written again", url(n), version, want)
		}
	}
	checkAgreement(t, s)
}

// manyReplaced are those of a store of replacedOnFullDisk.
var manyReplaced = Settings{Memory: 2 << 20, Disk: 64 << 20}

// replacedOnFullDisk stores pages, and replaces all of them when the disk is full: more than a
// store with so little memory remembers to delete.
func replacedOnFullDisk(t *testing.T, pages int) (s *Store, disk *fullDisk, clock *testClock, url func(n int) string) {
	t.Helper()
	s, disk, clock, _ = onFullDisk(t, t.TempDir(), manyReplaced)
	url = func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range pages {
		s.Put(signedEntry(s, url(n), 1, 200), 0)
	}
	must(t, s.Sync())
	disk.fillUp(t, s)
	if most := s.diskWriter.pausedJobs(); most >= pages {
		t.Fatalf("%d deletions may wait", most)
	}
	for n := range pages {
		s.Put(signedEntry(s, url(n), 2, 200), 0)
	}
	return s, disk, clock, url
}

// TestMoreIsReplacedThanAFullDiskRemembers: what was deleted past the bound of the queue was
// forgotten, and 477 of 1,500 responses that had been replaced were served again.
func TestMoreIsReplacedThanAFullDiskRemembers(t *testing.T) {
	const pages = 1500
	s, disk, clock, url := replacedOnFullDisk(t, pages)
	count := func(version int) (n int) {
		for i := range pages {
			if v, _ := found(t, s, url(i)); v == version {
				n++
			}
		}
		return n
	}
	if old, replaced := count(1), count(2); old > 0 || replaced != pages {
		t.Errorf("%d of before and %d of now are found", old, replaced)
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "failed" })
	disk.makeRoom(t, s, clock) // what is in memory is written
	waitFor(t, func() bool { return s.memory.late.Load() == 0 })
	must(t, s.Sync())
	s.Apply(Settings{Memory: 1, Disk: manyReplaced.Disk})
	if old, replaced := count(1), count(2); old > 0 || replaced != pages {
		t.Errorf("when there is room %d of before and %d of now are found", old, replaced)
	}
	checkAgreement(t, s)
}

// TestWhatAFullDiskForgetsIsNotServed is the same where the new ones have left memory.
func TestWhatAFullDiskForgetsIsNotServed(t *testing.T) {
	const pages = 1500
	s, _, _, url := replacedOnFullDisk(t, pages)
	s.Apply(Settings{Memory: 1, Disk: manyReplaced.Disk})
	for n := range pages {
		if version, _ := found(t, s, url(n)); version != 0 {
			t.Fatalf("%s: version %d, which was replaced", url(n), version)
		}
	}
	waitFor(t, func() bool { return s.Stats().Disk.State == "failed" })
}

// TestDeletionsOfAFullDiskAreBounded: beyond a share of memory they are not kept, and the file is
// not read any more.
func TestDeletionsOfAFullDiskAreBounded(t *testing.T) {
	s := keptByHand(t, bothTiers)
	s.diskWriter.failed(&fullError{fullErrors[0]})
	most := s.diskWriter.pausedJobs()
	for n := range most + 10 {
		if kept := s.queue.push(deletion(uint64(n), keyOf(fmt.Sprint(n)), Removed)); kept != (n < most) || s.disk.up.Load() != kept {
			t.Fatalf("%d of %d: %v, and the file is read: %v", n, most, kept, s.disk.up.Load())
		}
	}
	if !s.queue.push(deletion(0, keyOf("0"), Removed)) {
		t.Error("one that waits already is refused")
	}
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

// TestPurgesOfAFullDiskAreSwept: those that there was room for in a pause stayed in force, and in
// memory, until there was room for everything.
func TestPurgesOfAFullDiskAreSwept(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 200, 1000)
	s, disk, _, _ := onFullDisk(t, dir, bothTiers)
	disk.fillUp(t, s)
	disk.full.Store(false) // the file has free pages
	for range 100 {
		if _, err := s.Purge(Selectors{URLs: urls[:1]}, PurgeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
	if n != len(urls)-1 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	if st := s.Stats(); st.Disk.State != "full" || st.Disk.Entries != 0 || s.purges.bytes() != 0 {
		t.Errorf("%+v, %d bytes of purges", st.Disk, s.purges.bytes())
	}
	if n := hits(t, killed(t, dir), urls); n != 0 {
		t.Errorf("%d purged are found after a crash", n)
	}
}

// TestFullDiskHasNoRoomToSweep: that is tried again with everything else, and not later for it.
func TestFullDiskHasNoRoomToSweep(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 100, 1000)
	s, disk, clock, _ := onFullDisk(t, dir, diskTier)
	disk.fillUp(t, s)
	var writes atomic.Int64
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) {
			if off < 2*int64(os.Getpagesize()) && writes.Add(1) == 1 { // the purge itself is written
				defer disk.full.Store(true)
			}
			return write(p, off)
		}
	})
	disk.full.Store(false)
	clock.advance(retryTime / 2)
	n, err := s.Purge(Selectors{Tags: []string{"t"}}, PurgeOptions{})
	if n != len(urls) || err != nil {
		t.Fatalf("Purge = %d, %v", n, err)
	}
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] == 2 })
	if st, n := s.Stats(), hits(t, s, urls); st.Disk.State != "full" || n != 0 {
		t.Errorf("%+v: %d purged are found", st.Disk, n)
	}
	disk.full.Store(false)
	if err := s.Sync(); !errors.Is(err, errPaused) || s.Stats().PurgesPending != 1 {
		t.Errorf("Sync: %v, and %d purges are pending", err, s.Stats().PurgesPending)
	}
	clock.advance(retryTime / 2)
	waitFor(t, func() bool { st := s.Stats(); return st.Disk.State == "open" && st.PurgesPending == 0 })
	checkAgreement(t, s)
}

// TestFullDiskDeletesFirst: what waits to be deleted, and would give room, was in one transaction
// with what there was no room for, and was rolled back with that on each retry.
func TestFullDiskDeletesFirst(t *testing.T) {
	dir := t.TempDir()
	s, disk, clock, _ := onFullDisk(t, dir, bothTiers)
	old, given := putPages(t, s, 40), 20
	remove := func(url string) {
		r := s.Lookup(keyOf(url), matchAny)
		s.Remove(r.Entry)
		r.Release()
	}
	for n := range given { // leaves free pages
		s.Put(signedEntry(s, fmt.Sprintf("http://example.com/given/%d", n), 1, 20_000), 0)
	}
	must(t, s.Sync())
	for n := range given {
		remove(fmt.Sprintf("http://example.com/given/%d", n))
	}
	must(t, s.Sync())
	end := s.disk.size.Load()
	interceptWrites(t, s, func(write writeAt) writeAt {
		return func(p []byte, off int64) (int, error) {
			if off+int64(len(p)) > end {
				return 0, disk.error("write")
			}
			return write(p, off)
		}
	})
	for n := range 100 {
		s.Put(signedEntry(s, fmt.Sprintf("http://example.com/new/%d", n), 1, 30_000), 0)
	}
	if err := s.Sync(); !errors.Is(err, fullErrors[0]) {
		t.Fatalf("Sync: %v", err)
	}
	for _, url := range old {
		remove(url)
	}
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] >= 2 })
	if n := hits(t, killed(t, dir), old); n != 0 {
		t.Errorf("%d of %d that were removed are on disk", n, len(old))
	}
}

// TestRenewalOnAFullDisk: one that was queued when the disk was found to be full had the large body
// deleted that it has in common with what it renews.
func TestRenewalOnAFullDisk(t *testing.T) {
	const url = "http://example.com/"
	dir := t.TempDir()
	s, disk, clock, _ := onFullDisk(t, dir, Settings{Memory: 1 << 20, Disk: 64 << 20})
	s.Put(signedEntry(s, url, 1, 2<<20), 0)
	must(t, s.Sync())
	disk.full.Store(true)
	if !renew(t, s, url, "1") {
		t.Fatal("not stored")
	}
	disk.fillUp(t, s)
	wantRenewed(t, s, url, 1, "")
	disk.makeRoom(t, s, clock)
	must(t, s.Sync())
	wantRenewed(t, s, url, 1, "")
	if !renew(t, s, url, "2") {
		t.Error("not stored when there is room")
	}
	must(t, s.Sync())
	wantRenewed(t, killed(t, dir), url, 1, "2")
	checkAgreement(t, s)
}

// TestVariantsOnAFullDisk: each new variant of one URL had a deletion wait, and so had each that
// went for it. They filled the queue with what was never on disk.
func TestVariantsOnAFullDisk(t *testing.T) {
	const limit, there = 4, 2
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), bothTiers)
	w := variantWorld{t, s, limit}
	for n := range there {
		w.put(fmt.Sprint("there ", n))
	}
	disk.fillUp(t, s)
	for n := range 500 {
		value := fmt.Sprint(n)
		if w.finds(value) {
			t.Fatalf("%s is there", value)
		}
		e := testEntry(s, variantURL, []byte(value))
		e.Variant = Variant{Names: []string{"Accept-Language"}, Values: []string{value}}
		if r := s.Put(e, limit); r != Stored || !w.finds(value) {
			t.Fatalf("put %s: %v", value, r)
		}
	}
	if n, _, _ := s.queue.state(); n > there+1 { // with that of the one by which it was noticed
		t.Errorf("%d deletions wait, of %d variants that were on disk", n, there)
	}
	for n := range there {
		if value := fmt.Sprint("there ", n); w.finds(value) {
			t.Errorf("%s is found", value)
		}
	}
	disk.makeRoom(t, s, clock)
	waitFor(t, func() bool { return s.memory.late.Load() == 0 })
	must(t, s.Sync())
	if n := s.Stats().Disk.Entries; n != limit+1 {
		t.Errorf("%d entries are on disk", n)
	}
	checkAgreement(t, s)
}

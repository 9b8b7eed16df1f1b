package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// breakWrites puts a read-only descriptor in place of every file opened: from then on writes fail.
func (b *breakable) breakWrites(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.open {
		ro, err := os.Open(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		defer ro.Close()
		if err := syscall.Dup3(int(ro.Fd()), int(f.Fd()), syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	b.deny = true
}

func TestWriteErrorsLeaveMemory(t *testing.T) {
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	var log bytes.Buffer
	files := &breakable{}
	s := openStore(t, Config{
		Path: t.TempDir(), Required: true, OpenFile: files.openFile, Now: clock.now,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}, bothTiers)
	url := "http://example.com/"
	s.Put(testEntry(s, url, []byte(url)), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	files.breakWrites(t)
	for range 3 {
		s.Put(testEntry(s, url, []byte(url)), 0)
		_ = s.Sync() // the first fails, then there is nothing to write to
	}
	st := s.Stats()
	if st.Disk.State != "failed" || st.Errors[DiskTier] == 0 || st.Skipped == 0 || st.Queue != 0 {
		t.Errorf("stats %+v", st)
	}
	if hits(t, s, []string{url}) != 1 {
		t.Error("memory does not go on")
	}
	files.mend()
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	s.Put(testEntry(s, url, []byte(url)), 0)
	if err := s.Sync(); err != nil {
		t.Errorf("Sync after recovery: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors logged, want one:\n%s", n, &log)
	}
}

// TestFolderThatBecomesAFile: no file can be begun in its place, and the log says so once, with the
// cause, and not that one was begun.
func TestFolderThatBecomesAFile(t *testing.T) {
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	var log bytes.Buffer
	dir := filepath.Join(t.TempDir(), "larder")
	s := openStore(t, Config{Path: dir, Required: true, Now: clock.now, Logger: slog.New(slog.NewTextHandler(&log, nil))}, bothTiers)
	must(t, os.Rename(dir, dir+"-moved"))
	must(t, os.WriteFile(dir, nil, 0o600))
	s.Put(testEntry(s, "http://example.com/", nil), 0)
	if err := s.Sync(); !errors.Is(err, errRemoved) {
		t.Fatalf("Sync: %v", err)
	}
	errorsCounted := s.Stats().Errors[DiskTier]
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] > errorsCounted })
	must(t, os.Remove(dir))
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	must(t, s.Close())
	const want = `msg="disk tier: a new file cannot be begun; running from memory"`
	if n := strings.Count(log.String(), want); n != 1 || !strings.Contains(log.String(), "not a directory") || strings.Contains(log.String(), "is begun") {
		t.Errorf("%d lines of %s, want one with the cause:\n%s", n, want, &log)
	}
}

func TestPurgeThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 10, 1000)
	files := &breakable{}
	s := openStore(t, Config{Path: dir, Required: true, OpenFile: files.openFile}, bothTiers)
	if n := hits(t, s, urls); n != 10 {
		t.Fatalf("%d hits", n)
	}
	files.breakWrites(t)
	n, err := s.Purge(Selectors{URLs: urls[:4]}, PurgeOptions{})
	if n != 4 || !errors.Is(err, ErrNotDurable) {
		t.Errorf("Purge = %d, %v", n, err)
	}
	if n := hits(t, s, urls); n != 6 {
		t.Errorf("%d hits after the purge", n)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		// A full disk, which is the likely cause, has its room back.
		t.Errorf("left in the folder: %v, %v", left, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s = openStore(t, Config{Path: dir, Required: true}, bothTiers)
	if n := hits(t, s, urls[:4]); n != 0 {
		t.Errorf("%d purged entries are back after a restart", n)
	}
}

// TestPurgeOfAFileThatCannotBeRemoved: a purge can neither be written nor the file be removed, as
// where it has been made immutable. It said 503, and the next process served what it had hit. The
// process itself still knows the purge, and keeps what is in the file.
func TestPurgeOfAFileThatCannotBeRemoved(t *testing.T) {
	for _, tt := range []struct {
		name    string
		opened  bool // by the process that purges
		restart bool
		left    int // of 6 entries that are not purged
	}{
		{"at the next start", true, true, 0},
		{"at the next start, by a process that could not open it", false, true, 0},
		{"when it can be written again", true, false, 6},
		{"when it can be opened", false, false, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			urls := fill(t, dir, 10, 1000)
			clock := newTestClock()
			clock.nanos.Store(time.Now().UnixNano())
			files := &breakable{deny: !tt.opened}
			cfg := Config{Path: dir, Required: tt.opened, OpenFile: files.openFile, Now: clock.now}
			s := openStore(t, cfg, diskTier)
			s.disk.takeAway = func(time.Time) error { return syscall.EPERM }
			files.breakWrites(t)
			if _, err := s.Purge(Selectors{URLs: urls[:4]}, PurgeOptions{}); !errors.Is(err, ErrNotDurable) {
				t.Errorf("Purge: %v", err)
			}
			files.mend()
			if tt.restart {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s = openStore(t, cfg, diskTier)
			} else {
				clock.advance(retryTime)
				waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
			}
			if purged, left := hits(t, s, urls[:4]), hits(t, s, urls[4:]); purged != 0 || left != tt.left {
				t.Errorf("%d purged entries are back, %d others are there, want %d", purged, left, tt.left)
			}
			if aside := asideFiles(t, dir); len(aside) > 0 {
				t.Errorf("left beside the file: %q", aside)
			}
		})
	}
}

func TestBodyWriterOfADiskThatFails(t *testing.T) {
	rng := seeded(t)
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	files := &breakable{}
	s := openStore(t, Config{Path: t.TempDir(), Required: true, OpenFile: files.openFile, Now: clock.now}, diskTier)
	sealed := writtenBody(t, s, rng, randomBody(rng, 3<<20))
	growing, err := s.NewBodyWriter(-1)
	if err != nil {
		t.Fatal(err)
	}
	begin := randomBody(rng, 2<<20)
	if err := growing.Append(begin, unread); err != nil {
		t.Fatal(err)
	}
	written, err := growing.Await(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	files.breakWrites(t)
	if err := growing.Append(make([]byte, 2<<20), unread); err != nil {
		t.Errorf("Append before the failure is noticed: %v", err)
	}
	if n, err := growing.Await(t.Context(), 0); n != written || !errors.Is(err, ErrNoDisk) {
		t.Errorf("Await = %d, %v; %d are written", n, err, written)
	}
	// A body writer learns of the failure before the disk writer has let go of the file.
	waitFor(t, func() bool { return s.Stats().Disk.State != "open" })
	if n := s.bodyWriters.onTheirWay(); n != 0 { // it kept others from the next file
		t.Errorf("%d bytes count as on their way to a file that is given up", n)
	}
	if err := growing.Append([]byte("a"), unread); !errors.Is(err, ErrNoDisk) {
		t.Errorf("Append: %v", err)
	}
	if _, err := growing.Chunk(0); !errors.Is(err, errDetached) {
		t.Errorf("Chunk: %v", err)
	}
	if _, err := s.NewBodyWriter(-1); !errors.Is(err, ErrNoDisk) {
		t.Errorf("NewBodyWriter: %v", err)
	}
	if sealed.Body() != nil {
		t.Error("a body writer sealed before the failure is still a body")
	}
	files.mend()
	failures := s.Stats().Errors[DiskTier]
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	if _, err := growing.Chunk(0); !errors.Is(err, errDetached) { // its slots are others' now
		t.Errorf("Chunk of the same file, opened anew: %v", err)
	}
	if n := s.Stats().Errors[DiskTier]; n != failures {
		t.Errorf("%d errors are counted, %d before: it was taken for damage", n, failures)
	}
	if err := growing.Append([]byte("a"), unread); !errors.Is(err, ErrNoDisk) {
		t.Errorf("Append to a body writer that has failed: %v", err)
	}
	sealed.Close()
	growing.Close()
	allSwept(t, s, 0)
	body := randomBody(rng, 2<<20)
	if r := putWritten(t, s, rng, "http://example.com/", body); r != Stored {
		t.Errorf("Put = %v", r)
	}
	wantBody(t, s, "http://example.com/", body)
	checkAgreement(t, s)
}

// A record is not written for chunks that are in another file.
func TestBodyWriterOfAFileThatIsSetAside(t *testing.T) {
	rng := seeded(t)
	files := &breakable{}
	s := openStore(t, Config{Path: t.TempDir(), Required: true, OpenFile: files.openFile}, diskTier)
	d := writtenBody(t, s, rng, randomBody(rng, 3<<20))
	defer d.Close()
	e := testEntry(s, "http://example.com/", nil)
	e.Body = d.Body()
	s.Put(testEntry(s, "http://example.com/old", make([]byte, 10_000)), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	files.breakWrites(t)
	files.mend() // what is opened from here on works
	if _, err := s.Purge(Selectors{URLs: []string{"http://example.com/old"}}, PurgeOptions{}); !errors.Is(err, ErrNotDurable) {
		t.Fatalf("Purge: %v", err)
	}
	if st := s.Stats(); st.Disk.State != "open" {
		t.Fatalf("disk tier %+v", st.Disk)
	}
	for _, late := range []bool{false, true} {
		if late { // the file went after Put had looked
			s.bodyWriters.mu.Lock()
			d.err = nil
			s.bodyWriters.mu.Unlock()
		}
		s.Put(e, 0)
		if (e.ID == d.id) != late {
			t.Errorf("late %v: id %d, the body writer's is %d", late, e.ID, d.id)
		}
		if err := s.Sync(); err != nil {
			t.Errorf("Sync: %v", err)
		}
		wantBody(t, s, e.URL, nil)
		checkAgreement(t, s)
	}
}

// TestWhatIsStoredWhileTheTierHasFailedIsWritten: what came while the disk could not be written, or
// while the file could not be opened at first, stayed in memory alone for good, and a stop lost it.
func TestWhatIsStoredWhileTheTierHasFailedIsWritten(t *testing.T) {
	for _, opened := range []bool{true, false} {
		for _, again := range []bool{true, false} {
			t.Run(fmt.Sprintf("opened at first %v, open again before the stop %v", opened, again), func(t *testing.T) {
				clock := newTestClock()
				clock.nanos.Store(time.Now().UnixNano())
				files := &breakable{deny: !opened}
				cfg := Config{Path: t.TempDir(), OpenFile: files.openFile, Now: clock.now}
				s := openImpatient(t, cfg, bothTiers)
				if opened {
					s.Put(signedEntry(s, "http://example.com/before", 1, 5000), 0)
					must(t, s.Sync())
					files.breakWrites(t)
					s.Put(signedEntry(s, "http://example.com/queued", 1, 5000), 0)
					if s.Sync() == nil {
						t.Fatal("the disk has not failed")
					}
				}
				want := storedWithoutDisk(t, s)
				if opened {
					want["http://example.com/before"], want["http://example.com/queued"] = 1, 1
				}
				files.mend()
				if again {
					clock.advance(retryTime)
					waitFor(t, func() bool { return s.Stats().Disk.Entries == int64(len(want)-1) })
				}
				must(t, s.Close())
				s = openStore(t, cfg, diskTier)
				wantVersions(t, s, want)
				checkAgreement(t, s)
			})
		}
	}
}

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// openImpatient opens a store that looks at its clock every few milliseconds, where others do every
// second.
func openImpatient(t *testing.T, cfg Config, settings Settings) *Store {
	t.Helper()
	s := New(cfg, settings)
	s.diskWriter.tick = 5 * time.Millisecond
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// failing lets a number of writes pass, and fails all that come after.
type failing struct {
	mu   sync.Mutex
	pass int
	err  error
}

// wrap fails in the middle of a write: what came before the error is in the file.
func (f *failing) wrap(write writeAt) writeAt {
	return func(data []byte, off int64) (int, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.pass--; f.pass >= 0 {
			return write(data, off)
		}
		n, err := write(data[:len(data)/2/sector*sector], off)
		if err == nil {
			err = &fs.PathError{Op: "write", Path: FileName, Err: f.err}
		}
		return n, err
	}
}

// mend has all writes pass from now on.
func (f *failing) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pass = math.MaxInt
}

// TestFaultWriteErrors has the disk fail at any write of any transaction, in the ways disks fail,
// and come back after two retries. Memory goes on meanwhile; it is said once in the log and counted
// each time; what was durable before is there again, unless it was purged meanwhile.
func TestFaultWriteErrors(t *testing.T) {
	for _, tt := range []struct {
		name          string
		write, reopen error
	}{
		{"disk full", syscall.ENOSPC, nil},
		{"input/output error", syscall.EIO, syscall.EIO},
		{"mounted read-only", syscall.EROFS, syscall.EROFS},
		{"permission lost", syscall.EACCES, syscall.EACCES},
		{"file removed", syscall.EIO, syscall.ENOENT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := seeded(t)
			for range rounds(2, 100) {
				faultyDisk(t, rng.IntN(40), tt.write, tt.reopen)
			}
		})
	}
}

func faultyDisk(t *testing.T, pass int, write, reopen error) {
	t.Helper()
	clock := newTestClock()
	var log bytes.Buffer
	files := &refusing{}
	cfg := Config{
		Path: t.TempDir(), Required: true, Now: clock.now, OpenFile: files.openFile,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}
	s := openImpatient(t, cfg, bothTiers)
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range 20 {
		s.Put(signedEntry(s, url(n), 1, n*500), 0)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	failure := &failing{pass: pass, err: write}
	interceptWrites(t, s, failure.wrap)
	files.refuse(reopen)
	for n := 20; s.Stats().Disk.State == "open"; n++ {
		s.Put(signedEntry(s, url(20+n%20), n, 700), 0)
		_ = s.Sync()
	}
	if full := errors.Is(write, syscall.ENOSPC); !full && s.Stats().Disk.State == "full" {
		t.Errorf("after %d writes: the disk counts as full", pass)
	}
	for n := range 20 {
		if version, _ := found(t, s, url(n)); version != 1 {
			t.Errorf("after %d writes: %s: version %d; memory does not go on", pass, url(n), version)
		}
	}
	if st := s.Stats(); st.Errors[DiskTier] != 1 {
		t.Errorf("after %d writes: %d errors counted", pass, st.Errors[DiskTier])
	}
	if reopen != nil {
		clock.advance(retryTime)
		waitFor(t, func() bool { return s.Stats().Errors[DiskTier] == 2 })
		files.refuse(nil)
	}
	failure.mend()
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	goOn(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors logged, want one:\n%s", n, &log)
	}
	s = openStore(t, cfg, diskTier)
	for n := range 20 {
		if version, _ := found(t, s, url(n)); version != 1 {
			t.Errorf("after %d writes: %s: version %d on disk; it was durable", pass, url(n), version)
		}
	}
	if aside := asideFiles(t, cfg.Path); len(aside) > 0 {
		t.Errorf("after %d writes: set aside %q", pass, aside)
	}
	checkAgreement(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// refusing opens files unless it is told not to.
type refusing struct {
	mu  sync.Mutex
	err error
}

func (r *refusing) refuse(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *refusing) openFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: r.err}
	}
	return os.OpenFile(name, flag, perm)
}

// TestFaultShortReads: the file ends before what a reader wants of it, while it is open. What is
// left is served; in the end the file is begun anew.
func TestFaultShortReads(t *testing.T) {
	dir := t.TempDir()
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	s := openImpatient(t, Config{Path: dir, Required: true, Now: clock.now}, diskTier)
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range 60 {
		s.Put(signedEntry(s, url(n), 1, 20_000), 0)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.disk.path, s.disk.pages.Load()/2); err != nil {
		t.Fatal(err)
	}
	there := 0
	for n := range 60 {
		if version, _ := found(t, s, url(n)); version == 1 {
			there++
		}
	}
	if st := s.Stats(); there == 60 || st.Errors[DiskTier] == 0 {
		// The disk writer may have met it first.
		t.Errorf("%d of 60 found in half a file; errors %v", there, st.Errors)
	}
	for n := 0; s.Stats().Disk.State == "open" && n < 1_000; n++ {
		found(t, s, url(n%60))
	}
	waitFor(t, func() bool {
		// It is set aside at the latest when writes have met the damage three times.
		s.Put(signedEntry(s, url(0), 2, 100), 0)
		_ = s.Sync()
		clock.advance(retryTime)
		return len(asideFiles(t, dir)) > 0 && s.Stats().Disk.State == "open"
	})
	goOn(t, s)
}

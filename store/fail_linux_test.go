package store

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
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

func (b *breakable) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deny = false
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
	if aside := asideFiles(t, dir); len(aside) != 1 || !strings.Contains(aside[0], ".purged-") {
		t.Errorf("set aside: %q", aside)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s = openStore(t, Config{Path: dir, Required: true}, bothTiers)
	if n := hits(t, s, urls[:4]); n != 0 {
		t.Errorf("%d purged entries are back after a restart", n)
	}
}

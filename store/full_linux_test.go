package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mountedTest says that a test runs in a child with mounts of its own.
const mountedTest = "LARDER_TEST_MOUNTED"

// mounted runs a test again in a process that may mount what it likes, where the system allows
// that; it returns true in there.
func mounted(t *testing.T) bool {
	t.Helper()
	if os.Getenv(mountedTest) != "" {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mountedTest+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("no user namespaces here: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	return false
}

// onSmallDisk opens a store on a file system of its own, of the size that the mount option names.
func onSmallDisk(t *testing.T, size string) (cfg Config, s *Store, clock *testClock, log *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	clock, log = newTestClock(), new(bytes.Buffer)
	clock.nanos.Store(time.Now().UnixNano())
	cfg = Config{Path: filepath.Join(dir, "store"), Required: true, Now: clock.now, Logger: slog.New(slog.NewTextHandler(log, nil))}
	return cfg, openImpatient(t, cfg, bothTiers), clock, log
}

// TestFaultFullDisk fills a real file system of 8 MiB around the store, and makes room again. What
// is on disk is found all the time.
func TestFaultFullDisk(t *testing.T) {
	if !mounted(t) {
		return
	}
	cfg, s, clock, log := onSmallDisk(t, "8m")
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range 100 {
		s.Put(signedEntry(s, url(n), 1, 5_000), 0)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	s.memory.clear()
	ballast := filepath.Join(filepath.Dir(cfg.Path), "ballast")
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err == nil {
		t.Fatal("16 MiB went onto 8")
	}
	for n := 100; s.Stats().Disk.State == "open" && n < 2_000; n++ {
		s.Put(signedEntry(s, url(n), 1, 5_000), 0)
		_ = s.Sync()
	}
	if st := s.Stats(); st.Disk.State != "full" || st.Errors[DiskTier] == 0 {
		t.Fatalf("on a full disk: %+v", st)
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors logged, want one:\n%s", n, log)
	}
	for n := range 100 {
		if version, _ := found(t, s, url(n)); version != 1 {
			t.Errorf("%s: version %d; neither tier goes on", url(n), version)
		}
	}
	clock.advance(retryTime) // the file has free pages: this may succeed, until more is stored
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] > 1 || s.Stats().Disk.State == "open" })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	goOn(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = openStore(t, cfg, diskTier)
	for n := range 100 {
		if version, _ := found(t, s, url(n)); version != 1 {
			t.Errorf("%s: version %d on disk; it was durable", url(n), version)
		}
	}
	checkAgreement(t, s)
}

// TestFaultFullDiskLogsOnce: on a disk that stays full each retry may succeed, and a purge has the
// file removed, which makes room for a little while. All that is one trouble, and one line in the
// log at its beginning.
func TestFaultFullDiskLogsOnce(t *testing.T) {
	if !mounted(t) {
		return
	}
	_, s, clock, log := onSmallDisk(t, "1m")
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for round := range 40 {
		for n := range 200 {
			s.Put(signedEntry(s, url(n), 1, 5_000), 0)
			if n%50 == 49 {
				_ = s.Sync()
			}
		}
		_, _ = s.Purge(Selectors{URLs: []string{url(round)}}, PurgeOptions{})
		before := s.Stats()
		clock.advance(retryTime)
		waitFor(t, func() bool {
			st := s.Stats()
			return st.Disk.State == "open" || st.Errors[DiskTier] > before.Errors[DiskTier]
		})
	}
	if st := s.Stats(); st.Errors[DiskTier] < 40 {
		t.Errorf("%d errors counted, the disk was not full", st.Errors[DiskTier])
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "\n"); n > 2 {
		t.Errorf("%d lines logged:\n%.3000s", n, log)
	}
}

// TestStartOnAFullDisk: what is there is found.
func TestStartOnAFullDisk(t *testing.T) {
	if !mounted(t) {
		return
	}
	cfg, s, _, log := onSmallDisk(t, "8m")
	urls := putPages(t, s, 100)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	ballast := filepath.Join(filepath.Dir(cfg.Path), "ballast")
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err == nil {
		t.Fatal("16 MiB went onto 8")
	}
	s = openImpatient(t, cfg, diskTier)
	for n := 0; s.Stats().Disk.State == "open" && n < 2_000; n++ {
		s.Put(signedEntry(s, fmt.Sprintf("http://example.com/new/%d", n), 1, 5_000), 0)
		_ = s.Sync()
	}
	if n := hits(t, s, urls); n != len(urls) || s.Stats().Disk.State != "full" {
		t.Errorf("%d of %d pages are found, %+v:\n%s", n, len(urls), s.Stats().Disk, log)
	}
}

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// In a process that is started again by a test, childDir names the folder of its store and childJob
// what it is there for.
const (
	childDir = "LARDER_TEST_DIR"
	childJob = "LARDER_TEST_JOB"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(childJobs[os.Getenv(childJob)](dir))
	}
	verifyNoLeaks(m)
}

// childJobs are what a child can be told to do, by name; each returns the exit status.
var childJobs = map[string]func(dir string) int{
	"sync":    func(dir string) int { return writeUntilKilled(dir, true, func(*Store) {}) },
	"behind":  func(dir string) int { return writeUntilKilled(dir, false, func(*Store) {}) },
	"compact": func(dir string) int { return writeUntilKilled(dir, true, compactUntilKilled) },

	"position": stepUntilKilled,
}

// child starts this test binary again.
func child(t *testing.T, job, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childJob+"="+job)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// crashTier is more than a writer fills before it is killed, however late that is: what the budget
// evicts is not lost by the crash, and cannot be told from it afterwards.
var crashTier = Settings{Memory: 1 << 20, Disk: 4 << 30}

const (
	killWriters = 4
	killURLs    = 300 // of each writer
	killTags    = 10
)

func killURL(pid, writer, n int) string {
	return fmt.Sprintf("http://example.com/%d/%d/%d", pid, writer, n)
}

func killTag(pid, writer, tag int) string { return fmt.Sprintf("p%dw%dt%d", pid, writer, tag) }

// writeUntilKilled stores ever new versions of many pages from several goroutines, and reports on
// standard output what it has put, what Sync has vouched for, and purges before they begin and
// after they were answered. Without syncs only the write-behind's own promise holds.
// begin is called before the store is opened.
func writeUntilKilled(dir string, syncs bool, begin func(*Store)) int {
	s := New(Config{Path: dir, Required: true}, crashTier)
	begin(s)
	if err := s.Open(); err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("ready")
	failed := make(chan string)
	for writer := range killWriters {
		go func() {
			for version := 1; ; version++ {
				if err := writeOne(s, writer, version, syncs); err != nil {
					failed <- err.Error()
				}
			}
		}()
	}
	fmt.Println("error", <-failed)
	return 1
}

func writeOne(s *Store, writer, version int, syncs bool) error {
	n, size := rand.IntN(killURLs), rand.IntN(2_000)
	switch rand.IntN(100) {
	case 0:
		size = rand.IntN(700_000)
	case 1, 2, 3, 4:
		size = rand.IntN(40_000)
	}
	e := signedEntry(s, killURL(os.Getpid(), writer, n), version, size, killTag(os.Getpid(), writer, n%killTags))
	if syncs && rand.IntN(100) == 0 { // it waits for the disk, as the other writers do not
		var err error
		if e.Body, err = writeAhead(s, e.Body); err != nil {
			return err
		}
	}
	if r := s.Put(e, 0); r != Stored {
		return fmt.Errorf("put: %v", r)
	}
	fmt.Println("put", writer, version, n)
	for s.Stats().Queue > 256<<10 { // what a machine cannot write in a second is another promise
		time.Sleep(time.Millisecond)
	}
	if st := s.Stats(); st.Skipped > 0 {
		return fmt.Errorf("%d were kept from the disk", st.Skipped)
	}
	if syncs && version%25 == 0 {
		if err := s.Sync(); err != nil {
			return err
		}
		fmt.Println("synced", writer, version, 0)
	}
	if version%60 == 0 {
		tag := rand.IntN(killTags)
		fmt.Println("purging", writer, version, tag)
		if _, err := s.Purge(Selectors{Tags: []string{killTag(os.Getpid(), writer, tag)}}, PurgeOptions{}); err != nil {
			return err
		}
		fmt.Println("purged", writer, version, tag)
	}
	return nil
}

// writeAhead brings a body to disk by a body writer, beside another that comes to no end: of both
// the kill may find chunks and no record.
func writeAhead(s *Store, body Body) (Body, error) {
	unfinished, err := s.NewBodyWriter(-1)
	if err != nil {
		return nil, err
	}
	defer unfinished.Close()
	whole, err := readRange(body, 0, body.Len())
	if err != nil {
		return nil, err
	}
	d, err := s.NewBodyWriter(body.Len())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unfinished.Append(make([]byte, 3*chunkSize), unread), d.Append(whole, unread)); err != nil {
		return nil, err
	}
	if _, err := unfinished.Await(context.Background(), 0); err != nil {
		return nil, err
	}
	err = d.Seal()
	return d.Body(), err // d stays open, as with a reader that does not end
}

// TestFaultKill kills a writing process at random moments, on the file of those killed before. It
// always opens, no body is wrong or mixed, and what was reported is true: what Sync vouched for,
// what had been stored for two seconds, the purges that were answered. The two seconds are asked of
// a machine that has the time for them, so only where the test is told to be long.
func TestFaultKill(t *testing.T) {
	rng := seeded(t)
	var dir string
	var kept map[string]int
	for round := range rounds(4, 200) {
		if round%10 == 0 {
			dir, kept = t.TempDir(), map[string]int{}
		}
		job, after := "sync", time.Duration(50+rng.IntN(400))*time.Millisecond
		if round%4 == 3 && rounds(0, 1) > 0 {
			job, after = "behind", 2200*time.Millisecond+time.Duration(rng.IntN(800))*time.Millisecond
		}
		report := killedWriter(t, job, dir, after)
		s := openStore(t, Config{Path: dir, Required: true}, crashTier)
		if aside := asideFiles(t, dir); len(aside) > 0 {
			t.Fatalf("round %d: set aside %q", round, aside)
		}
		for url, version := range kept {
			if got, _ := found(t, s, url); got != version {
				t.Errorf("round %d: %s: version %d, which was %d after an earlier kill", round, url, got, version)
			}
		}
		promised, there := report.check(t, s, kept)
		waitFor(t, func() bool { // what was written ahead of a record that never came is swept
			_, pending := chunkRows(t, s)
			return pending == 0
		})
		t.Logf("round %d: killed after %v: %d puts, %d pages promised, %d there", round, after, report.puts, promised, there)
		checkAgreement(t, s)
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		if round%10 == 9 {
			_ = os.RemoveAll(dir)
		}
	}
}

// killReport is what a writer had reported when it was killed.
type killReport struct {
	pid, puts int
	pages     [killWriters][killURLs]struct{ durable, waiting int }
	purging   [killWriters][killTags]int // the version before the last purge begun
	purged    [killWriters][killTags]int // the version before the last purge answered
}

// killedWriter runs a writer and kills it.
func killedWriter(t *testing.T, job, dir string, after time.Duration) *killReport {
	t.Helper()
	cmd, out := child(t, job, dir)
	type put struct {
		n, version int
		at         time.Time // when it was read here: not before it was done
	}
	report := &killReport{pid: cmd.Process.Pid}
	var puts [killWriters][]put
	var synced [killWriters]int
	killed := make(chan time.Time, 1)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			time.AfterFunc(after, func() {
				killed <- time.Now()
				_ = cmd.Process.Kill()
			})
			continue
		}
		var what string
		var writer, version, n int
		if _, err := fmt.Sscan(lines.Text(), &what, &writer, &version, &n); err != nil {
			if strings.HasPrefix(lines.Text(), "error") {
				t.Errorf("writer: %s", lines.Text())
			}
			continue // the kill has cut the line
		}
		switch what {
		case "put":
			puts[writer] = append(puts[writer], put{n, version, time.Now()})
			report.puts++
		case "synced":
			synced[writer] = version
		case "purging":
			report.purging[writer][n] = version
		case "purged":
			report.purged[writer][n] = version
		}
	}
	if err := cmd.Wait(); err == nil || t.Failed() {
		t.Fatalf("the writer ended by itself: %v", err)
	}
	end := <-killed
	for writer := range puts {
		for _, p := range puts[writer] {
			page := &report.pages[writer][p.n]
			if p.version <= synced[writer] || end.Sub(p.at) >= 2*time.Second {
				page.durable = p.version
			}
			page.waiting = p.version
		}
	}
	return report
}

// check compares what is in the file with the report, and adds what it finds to kept.
func (r *killReport) check(t *testing.T, s *Store, kept map[string]int) (promised, there int) {
	t.Helper()
	for writer := range r.pages {
		for n, page := range r.pages[writer] {
			url := killURL(r.pid, writer, n)
			version, _ := found(t, s, url)
			if version > 0 {
				there++
				kept[url] = version
			}
			purging, purged := r.purging[writer][n%killTags], r.purged[writer][n%killTags]
			// A purge begun and not answered may have come to the file.
			must := page.durable > purging
			if must {
				promised++
			}
			switch {
			case version > 0 && version <= purged:
				t.Errorf("%s: version %d is back after the purge at %d", url, version, purged)
			case must && version < page.durable:
				t.Errorf("%s: version %d instead of %d, which was durable, or %d", url, version, page.durable, page.waiting)
			}
		}
	}
	return promised, there
}

// TestFaultLockedByAnotherProcess: a required path fails with the cause; the default path runs from
// memory and takes the file up, with what the other has left in it, once that is gone.
func TestFaultLockedByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	cmd, out := child(t, "sync", dir)
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "synced") {
		continue
	}
	err := New(Config{Path: dir, Required: true}, crashTier).Open()
	if err == nil || !strings.Contains(err.Error(), "locked by another process") || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open of a locked file: %v", err)
	}
	clock := newTestClock()
	clock.nanos.Store(time.Now().UnixNano())
	var log lineLog
	s := openImpatient(t, Config{Path: dir, Now: clock.now, Logger: slog.New(slog.NewTextHandler(&log, nil))}, crashTier)
	log.wantOnce(t, "level=WARN", "disk tier is not available", "locked by another process", "file="+filepath.Join(dir, FileName))
	if st := s.Stats(); st.Disk.State != "failed" || st.Errors[DiskTier] != 1 {
		t.Errorf("beside the other process: %+v", st)
	}
	const url = "http://example.com/ours"
	s.Put(signedEntry(s, url, 1, 100), 0)
	if version, _ := found(t, s, url); version != 1 {
		t.Error("memory does not go on alone")
	}
	go func() {
		for lines.Scan() { // the other may not block on its report
			continue
		}
	}()
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Errors[DiskTier] == 2 })
	if st := s.Stats(); st.Disk.State != "failed" {
		t.Errorf("the lock was not heeded: %+v", st)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	clock.advance(retryTime)
	waitFor(t, func() bool { return s.Stats().Disk.State == "open" })
	waitFor(t, func() bool { return log.count("level=INFO") == 1 })
	log.wantOnce(t, "level=INFO", "disk tier is open", "file="+filepath.Join(dir, FileName), "disk=", "disk_bytes=", "disk_entries=")
	there := 0
	for writer := range killWriters {
		for n := range killURLs {
			if version, _ := found(t, s, killURL(cmd.Process.Pid, writer, n)); version > 0 {
				there++
			}
		}
	}
	if there == 0 {
		t.Error("nothing of what the other process stored is found")
	}
	checkAgreement(t, s)
}

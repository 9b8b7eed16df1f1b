package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"
)

// still has writes wait while it is on, as on a frozen file system.
type still struct {
	on      chan struct{} // nil: off
	reached chan struct{} // told when a write waits
}

func newStill() *still { return &still{on: make(chan struct{}), reached: make(chan struct{}, 1000)} }

// wrap stops the writes that come to certain offsets.
func (f *still) wrap(from, to int64) func(writeAt) writeAt {
	return func(write writeAt) writeAt {
		return func(data []byte, off int64) (int, error) {
			if off >= from && off < to {
				f.reached <- struct{}{}
				<-f.on
			}
			return write(data, off)
		}
	}
}

// bubbleTime is a clock for what was stored in a bubble, whose time begins in 2000.
func bubbleTime() time.Time { return time.Date(2000, 1, 1, 0, 10, 0, 0, time.UTC) }

const everyOffset = 1 << 62

// within fails the test when fn takes longer than the disk is waited for, by the bubble's clock.
func within(t *testing.T, what string, limit time.Duration, fn func()) {
	t.Helper()
	began := time.Now()
	fn()
	if took := time.Since(began); took > limit {
		t.Errorf("%s took %v, want at most %v", what, took, limit)
	}
}

// TestFaultDiskStandsStill has a write not return. A purge holds in memory after 10 s and says that
// it is not durable; those that come later say so at once, as everything else goes on without the
// disk. It is counted and logged once. When the disk answers again nothing that was purged comes
// back, not after a restart either.
func TestFaultDiskStandsStill(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	cfg := Config{Path: dir, Required: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, bothTiers)
		if err := s.Open(); err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			s.Put(signedEntry(s, url(n), 1, 500), 0)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		disk := newStill()
		interceptWrites(t, s, disk.wrap(0, everyOffset))
		s.Put(signedEntry(s, url(10), 1, 500), 0)
		<-disk.reached
		none := func() bool { return false }
		within(t, "PurgeIsNoop", 0, func() {
			if !s.PurgeIsNoop(&Selectors{URLs: []string{"http://example.com/nothing"}}, none) {
				t.Error("a URL of which nothing is stored is to be purged, which waits for the disk")
			}
			if s.PurgeIsNoop(&Selectors{URLs: []string{url(10)}}, none) {
				t.Error("what is queued counts as not there")
			}
		})
		within(t, "a purge", stallTime, func() {
			if _, err := s.Purge(Selectors{URLs: []string{url(0)}}, PurgeOptions{}); !errors.Is(err, ErrNotDurable) {
				t.Errorf("Purge: %v", err)
			}
		})
		synctest.Wait()
		within(t, "what follows", 0, func() {
			if _, err := s.Purge(Selectors{URLs: []string{url(1)}}, PurgeOptions{}); !errors.Is(err, ErrNotDurable) {
				t.Errorf("Purge: %v", err)
			}
			for n, want := range []int{0, 0, 1} {
				if version, _ := found(t, s, url(n)); version != want {
					t.Errorf("%s: version %d, want %d", url(n), version, want)
				}
			}
			if items, _, err := s.List(Filter{}, 100, ""); err != nil || len(items) != 9 {
				t.Errorf("List: %d, %v", len(items), err)
			}
			if _, err := s.NewBodyWriter(-1); !errors.Is(err, ErrNoDisk) {
				t.Errorf("NewBodyWriter: %v", err)
			}
			s.Apply(bothTiers)
			if st := s.Stats(); st.Disk.State != "failed" || st.Errors[DiskTier] == 0 {
				t.Errorf("stats %+v, errors %v", st.Disk, st.Errors)
			}
		})
		time.Sleep(5 * time.Minute) // retries, by the bubble's clock
		if st := s.Stats(); st.Disk.State != "failed" {
			t.Errorf("stats %+v", st.Disk)
		}
		within(t, "Close", stallTime, func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors logged, want one:\n%s", n, &log)
		}
		close(disk.on)
		synctest.Wait()
	})
	cfg.Now = bubbleTime
	s := openStore(t, cfg, diskTier)
	for n := range 2 {
		if version, _ := found(t, s, url(n)); version != 0 {
			t.Errorf("%s is back after a restart", url(n))
		}
	}
	goOn(t, s)
}

// TestFaultDiskAnswersAgain: no purge came while the disk stood still. The file is taken up again
// as it was.
func TestFaultDiskAnswersAgain(t *testing.T) {
	dir := t.TempDir()
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Path: dir, Required: true}, diskTier)
		if err := s.Open(); err != nil {
			t.Fatal(err)
		}
		s.Put(signedEntry(s, url(0), 1, 500), 0)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		disk := newStill()
		interceptWrites(t, s, disk.wrap(0, everyOffset))
		s.Put(signedEntry(s, url(1), 1, 500), 0)
		<-disk.reached
		time.Sleep(stallTime + time.Second)
		if st := s.Stats(); st.Disk.State != "failed" || st.Errors[DiskTier] != 1 {
			t.Errorf("stats %+v, errors %v", st.Disk, st.Errors)
		}
		// As after a reload with another path, and back.
		err := New(Config{Path: dir, Required: true}, diskTier).Open()
		if err == nil || !strings.Contains(err.Error(), "has not answered") || strings.Contains(err.Error(), "another process") {
			t.Errorf("Open while the file is held: %v", err)
		}
		close(disk.on)
		time.Sleep(retryTime + 2*time.Second)
		if st := s.Stats(); st.Disk.State != "open" || st.Errors[DiskTier] != 1 {
			t.Errorf("stats %+v, errors %v", st.Disk, st.Errors)
		}
		if version, _ := found(t, s, url(0)); version != 1 {
			t.Errorf("version %d of what was on disk", version)
		}
		if _, err := s.Purge(Selectors{URLs: []string{url(0)}}, PurgeOptions{}); err != nil {
			t.Errorf("Purge: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
	})
}

// TestFaultReadersOfADiskThatStandsStill: the write of a meta page, within which bbolt keeps
// readers out, does not return. Look-ups, listings and bodies are not waited for without end, and
// what a look-up asked for is not asked any more when it comes back.
func TestFaultReadersOfADiskThatStandsStill(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	url := "http://example.com/"
	s.Put(signedEntry(s, url, 1, 500), 0)
	s.Put(testEntry(s, url+"large", make([]byte, 5<<20)), 0)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	large := s.Lookup(keyOf(url+"large"), matchAny)
	defer large.Release()
	disk := newStill()
	interceptWrites(t, s, disk.wrap(0, 2*pageBytes))
	s.Put(signedEntry(s, url+"other", 1, 500), 0)
	<-disk.reached
	// Of those that come now: they wait in any case.
	s.disk.patience.Store(int64(20 * time.Millisecond))
	asked := false
	r := s.Lookup(keyOf(url), func(*Variant) int { asked = true; return 1 })
	if r.Entry != nil || asked {
		t.Errorf("found %v, asked %v", r.Entry, asked)
	}
	r.Release()
	if _, err := large.Entry.Body.Chunk(1 << 20); err == nil {
		t.Error("a body was read through a lock that is held")
	}
	if _, _, err := s.List(Filter{}, 10, ""); err != nil && !errors.Is(err, errStalled) {
		t.Errorf("List: %v", err)
	}
	s.disk.patience.Store(int64(stallTime))
	close(disk.on)
	if asked {
		t.Error("asked for a look-up that has gone")
	}
}

// TestFaultOpenStandsStill: the file cannot be opened, nor is there an error. A folder that the
// user wrote is an error at start, the default one is taken up when it answers.
func TestFaultOpenStandsStill(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		on := make(chan struct{})
		cfg := Config{Path: dir, Required: true, OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			<-on
			return os.OpenFile(name, flag, perm)
		}}
		within(t, "Open", stallTime, func() {
			if err := New(cfg, bothTiers).Open(); !errors.Is(err, errStalled) || !strings.Contains(err.Error(), dir) {
				t.Errorf("Open: %v", err)
			}
		})
		cfg.Required = false
		s := New(cfg, bothTiers)
		within(t, "Open", stallTime, func() {
			if err := s.Open(); err != nil {
				t.Errorf("Open: %v", err)
			}
		})
		s.Put(signedEntry(s, "http://example.com/", 1, 500), 0)
		time.Sleep(3 * retryTime)
		if version, _ := found(t, s, "http://example.com/"); version != 1 || s.Stats().Disk.State != "failed" {
			t.Errorf("version %d, disk tier %+v", version, s.Stats().Disk)
		}
		close(on)
		time.Sleep(retryTime + 2*time.Second)
		if st := s.Stats(); st.Disk.State != "open" {
			t.Errorf("disk tier %+v", st.Disk)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		synctest.Wait()
	})
}

// TestFaultFileTakenAway: the file, or its folder, is removed, moved or replaced while it is open.
// That is noticed within 10 s where nothing is written, and by whatever is written; a new file is
// begun, and what is in memory, or stored and purged from then on, is there after a restart.
func TestFaultFileTakenAway(t *testing.T) {
	for _, tt := range []struct {
		name string
		take func(t *testing.T, file string)
	}{
		{"file removed", func(t *testing.T, file string) { must(t, os.Remove(file)) }},
		{"folder removed", func(t *testing.T, file string) { must(t, os.RemoveAll(filepath.Dir(file))) }},
		{"file moved", func(t *testing.T, file string) { must(t, os.Rename(file, file+".old")) }},
		{"folder moved", func(t *testing.T, file string) { must(t, os.Rename(filepath.Dir(file), filepath.Dir(file)+".old")) }},
		{"another file in its place", func(t *testing.T, file string) {
			other := filepath.Join(t.TempDir(), FileName)
			fill(t, filepath.Dir(other), 3, 100)
			must(t, os.Rename(other, file))
		}},
	} {
		for _, writes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, written to %v", tt.name, writes), func(t *testing.T) {
				var log bytes.Buffer
				cfg := Config{Path: filepath.Join(t.TempDir(), "larder"), Required: true, Logger: slog.New(slog.NewTextHandler(&log, nil))}
				url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
				synctest.Test(t, func(t *testing.T) {
					s := New(cfg, bothTiers)
					if err := s.Open(); err != nil {
						t.Fatal(err)
					}
					for n := range 3 {
						s.Put(testEntry(s, url(n), []byte(url(n))), 0)
					}
					must(t, s.Sync())
					tt.take(t, s.disk.path)
					if !writes {
						time.Sleep(10 * time.Second)
						if st := s.Stats(); st.Errors[DiskTier] == 0 || st.Disk.State != "open" || st.Disk.Entries != 3 {
							t.Errorf("after 10 s: stats %+v, errors %v", st.Disk, st.Errors)
						}
					}
					if n, err := s.Purge(Selectors{URLs: []string{url(0)}}, PurgeOptions{}); n != 1 || err != nil {
						t.Errorf("Purge = %d, %v", n, err)
					}
					for n := range 3 {
						if version := hits(t, s, []string{url(n)}); version != min(n, 1) {
							t.Errorf("%s: %d hits in memory", url(n), version)
						}
					}
					s.Put(testEntry(s, url(3), []byte(url(3))), 0)
					must(t, s.Close())
					if n := strings.Count(log.String(), "level=ERROR"); n != 1 && tt.name != "another file in its place" {
						t.Errorf("%d errors logged, want one:\n%s", n, &log)
					}
					synctest.Wait()
				})
				cfg.Now = bubbleTime
				s := openStore(t, cfg, diskTier)
				for n, want := range []int{0, 1, 1, 1} {
					if got := hits(t, s, []string{url(n)}); got != want {
						t.Errorf("%s: %d hits after a restart, want %d", url(n), got, want)
					}
				}
			})
		}
	}
}

// TestFaultReaderStallsWhileABatchIsMade: a reader has waited too long for its page while the disk
// writer is between the beginning of a transaction and its end. The transaction ends all the same,
// else the file is never closed, and no other is opened in its place.
func TestFaultReaderStallsWhileABatchIsMade(t *testing.T) {
	s := keptByHand(t, bothTiers)
	s.Put(testEntry(s, "http://example.com/a", nil), 0)
	must(t, s.diskWriter.flush())
	err := s.diskWriter.transact(func(b *batch) error {
		s.disk.use.stall()
		return b.pending.Put(idBytes(1), nil)
	})
	if !errors.Is(err, errStalled) {
		t.Errorf("the batch ends by %v", err)
	}
	s.diskWriter.failed(err)
	waitFor(t, func() bool { return s.disk.stuck.Load() == 0 })
	must(t, s.attach())
	must(t, s.disk.view(func(tx *bbolt.Tx) error {
		if tx.Bucket(pendingBucket).Get(idBytes(1)) != nil {
			t.Error("the batch is in the file although it was given up before its commit")
		}
		return nil
	}))
}

// TestFaultCommitThatComesLate: what a batch writes is read by its commit. Where none waits for
// that any more the bytes belong to it until it has come back, and to others after that.
func TestFaultCommitThatComesLate(t *testing.T) {
	s := keptByHand(t, bothTiers)
	s.Put(testEntry(s, "http://example.com/a", make([]byte, 1000)), 0)
	disk := newStill()
	interceptWrites(t, s, disk.wrap(0, everyOffset))
	u := s.disk.use
	go func() {
		<-disk.reached
		u.stall()
	}()
	err := s.diskWriter.writeJobs()
	if !errors.Is(err, errStalled) {
		t.Errorf("the batch ends by %v", err)
	}
	s.diskWriter.failed(err)
	s.memory.clear()
	if s.memory.used.Load() == 0 {
		t.Error("the entry's bytes are given back while its commit may read them")
	}
	close(disk.on)
	waitFor(t, func() bool { return s.disk.stuck.Load() == 0 })
	if n := s.memory.used.Load(); n != 0 {
		t.Errorf("%d bytes are counted when the commit has come back", n)
	}
}

// TestFaultLateReaderThatFails: a look-up that was given up, and has an entry in hand when it meets
// an error, gives that back as one that was through.
func TestFaultLateReaderThatFails(t *testing.T) {
	s := keptByHand(t, bothTiers)
	given := 0
	err := s.disk.viewOr(func(*bbolt.Tx) error {
		s.disk.use.stall()
		return errNotThere
	}, func() { given++ })
	s.diskWriter.failed(err)
	waitFor(t, func() bool { return s.disk.stuck.Load() == 0 })
	if given != 1 {
		t.Errorf("it was given back %d times", given)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

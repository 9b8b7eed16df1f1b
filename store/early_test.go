package store

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestPurgeBeforeOpen: a store that is about to be opened has what was stored when its file was
// last in use. A purge that comes before waits for that, and holds for good.
func TestPurgeBeforeOpen(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 5, 100)
	s := New(Config{Path: dir, Required: true}, diskTier)
	early := beginPurge(t, s, Selectors{URLs: urls[:2]}, PurgeOptions{})
	dryRun := beginPurge(t, s, Selectors{All: true}, PurgeOptions{DryRun: true})
	if _, err := s.Purge(Selectors{}, PurgeOptions{}); !errors.Is(err, ErrNoSelector) {
		t.Errorf("Purge of nothing: %v", err)
	}
	select {
	case <-early.done:
		t.Error("answered by a store that has no file open")
	default:
	}
	for round := range 2 {
		must(t, s.Open())
		if gone, left := hits(t, s, urls[:2]), hits(t, s, urls[2:]); gone != 0 || left != 3 {
			t.Errorf("opened %d times: %d of what was purged, %d of the rest", round+1, gone, left)
		}
		if n, err := early.Wait(); n != 2 || err != nil {
			t.Errorf("the purge matched %d, %v", n, err)
		}
		if n, err := dryRun.Wait(); n != 3 || err != nil {
			t.Errorf("the dry run matched %d, %v", n, err)
		}
		waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
		checkAgreement(t, s)
		must(t, s.Close())
		s = New(Config{Path: dir, Required: true}, diskTier)
	}
}

// TestPurgeOfAStoreThatCannotBeOpened: it was answered as if it held. What it names was served
// after the next start.
func TestPurgeOfAStoreThatCannotBeOpened(t *testing.T) {
	broken := errors.New("input/output error")
	fails := func(s *Store) { // as when it is opened at the same time
		if err := s.Open(); !errors.Is(err, broken) {
			t.Errorf("Open = %v", err)
		}
	}
	for name, tt := range map[string]struct{ before, after func(*Store) }{
		"while it is being opened": {func(*Store) {}, fails},
		"afterwards":               {fails, func(*Store) {}},
		"which is never opened":    {func(*Store) {}, func(s *Store) { must(t, s.Close()) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				urls := fill(t, dir, 5, 100)
				s := New(Config{Path: dir, Required: true, OpenFile: func(string, int, os.FileMode) (*os.File, error) {
					return nil, broken
				}}, diskTier)
				tt.before(s)
				began := time.Now()
				early := beginPurge(t, s, Selectors{URLs: urls[:2]}, PurgeOptions{})
				dryRun := beginPurge(t, s, Selectors{All: true}, PurgeOptions{DryRun: true})
				tt.after(s)
				if _, err := early.Wait(); !errors.Is(err, ErrNotDurable) {
					t.Errorf("the purge: %v", err)
				}
				if _, err := dryRun.Wait(); !errors.Is(err, ErrNotCounted) {
					t.Errorf("the dry run: %v", err)
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("answered after %v", took)
				}
				must(t, s.Close())
				if n := hits(t, openStore(t, Config{Path: dir, Required: true}, diskTier), urls[:2]); n != 0 {
					t.Errorf("after the next start there are %d of what was purged", n)
				}
			})
		})
	}
}

// TestStoreThatIsOpenedAtTheSecondAttempt takes up what was purged before.
func TestStoreThatIsOpenedAtTheSecondAttempt(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 5, 100)
	var broken atomic.Bool
	s := New(Config{Path: dir, Required: true, OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
		if broken.Load() {
			return nil, os.ErrPermission
		}
		return os.OpenFile(name, flag, perm)
	}}, diskTier)
	early := beginPurge(t, s, Selectors{URLs: urls[:1]}, PurgeOptions{})
	broken.Store(true)
	if err := s.Open(); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Open = %v", err)
	}
	if _, err := early.Wait(); !errors.Is(err, ErrNotDurable) {
		t.Errorf("Wait = %v", err)
	}
	broken.Store(false)
	must(t, s.Open())
	defer func() { must(t, s.Close()) }()
	if n, err := s.Purge(Selectors{URLs: urls[1:2]}, PurgeOptions{}); n != 1 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	if gone, left := hits(t, s, urls[:2]), hits(t, s, urls[2:]); gone != 0 || left != 3 {
		t.Errorf("%d of what was purged, %d of the rest", gone, left)
	}
	waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
	checkAgreement(t, s)
}

// TestDiscard: a file that has missed purges is begun anew, and is none to look into later.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 5, 100)
	s := New(Config{Path: dir, Required: true}, diskTier)
	s.Discard()
	must(t, s.Open())
	if n := hits(t, s, urls); n != 0 || len(asideFiles(t, dir)) > 0 {
		t.Errorf("%d hits, set aside %q", n, asideFiles(t, dir))
	}
	if st := s.Stats(); st.Disk.State != "open" || st.Errors[DiskTier] != 0 {
		t.Errorf("stats %+v, errors %v", st.Disk, st.Errors)
	}
	s.Discard() // too late
	s.Put(testEntry(s, urls[0], []byte(urls[0])), 0)
	must(t, s.Close())
	s = openStore(t, Config{Path: dir, Required: true}, diskTier)
	if n := hits(t, s, urls); n != 1 {
		t.Errorf("%d hits", n)
	}
}

// TestEarlyPurgeIsCounted: one that was made before Open had batches look at no purge any more, for
// as long as the process lived.
func TestEarlyPurgeIsCounted(t *testing.T) {
	for name, dir := range map[string]string{"with a file": t.TempDir(), "memory alone": ""} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Path: dir, Required: dir != ""}, bothTiers)
			early := beginPurge(t, s, Selectors{All: true}, PurgeOptions{})
			must(t, s.Open())
			defer func() { must(t, s.Close()) }()
			if n, err := early.Wait(); n != 0 || err != nil {
				t.Errorf("Wait = %d, %v", n, err)
			}
			if below := s.purges.countedBelow(); below <= s.purges.last.Load() {
				t.Errorf("only purges below %d are looked at, of %d", below, s.purges.last.Load())
			}
			waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
		})
	}
}

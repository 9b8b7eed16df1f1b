package store

import (
	"errors"
	"testing"
)

// TestPurgeBeforeOpen: a store that is about to be opened has what was stored when its file was
// last in use. A purge that comes before holds for that, and for good.
func TestPurgeBeforeOpen(t *testing.T) {
	dir := t.TempDir()
	urls := fill(t, dir, 5, 100)
	s := New(Config{Path: dir, Required: true}, diskTier)
	if n, err := s.Purge(Selectors{URLs: urls[:2]}, PurgeOptions{}); n != 0 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	if n, err := s.Purge(Selectors{All: true}, PurgeOptions{DryRun: true}); n != 0 || err != nil {
		t.Errorf("Purge, dry run = %d, %v", n, err)
	}
	if _, err := s.Purge(Selectors{}, PurgeOptions{}); !errors.Is(err, ErrNoSelector) {
		t.Errorf("Purge of nothing: %v", err)
	}
	for round := range 2 {
		must(t, s.Open())
		if gone, left := hits(t, s, urls[:2]), hits(t, s, urls[2:]); gone != 0 || left != 3 {
			t.Errorf("opened %d times: %d of what was purged, %d of the rest", round+1, gone, left)
		}
		waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
		checkAgreement(t, s)
		must(t, s.Close())
		s = New(Config{Path: dir, Required: true}, diskTier)
	}
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
			if _, err := s.Purge(Selectors{All: true}, PurgeOptions{}); err != nil {
				t.Error(err)
			}
			if below := s.purges.countedBelow(); below <= s.purges.last.Load() {
				t.Errorf("only purges below %d are looked at, of %d", below, s.purges.last.Load())
			}
			must(t, s.Open())
			defer func() { must(t, s.Close()) }()
			waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
		})
	}
}

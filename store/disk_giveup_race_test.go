package store

import (
	"errors"
	"runtime"
	"testing"
)

// whileItDetaches calls fn when the disk writer gives the file up and waits for a look-up that
// still reads it.
func whileItDetaches(s *Store, fn func()) {
	s.disk.mu.RLock() // as a look-up does
	detached := make(chan struct{})
	go func() {
		defer close(detached)
		s.diskWriter.detach()
	}()
	for s.disk.mu.TryRLock() { // not any more once it waits
		s.disk.mu.RUnlock()
		runtime.Gosched()
	}
	fn()
	s.disk.mu.RUnlock()
	<-detached
}

// TestGivenUpFileShowsNothingThatWasRemoved: the queue was emptied while look-ups still read the
// file, and what they found of what had been removed came to memory, and stayed there without it.
func TestGivenUpFileShowsNothingThatWasRemoved(t *testing.T) {
	const url = "http://example.com/"
	s := keptByHand(t, bothTiers)
	e := signedEntry(s, url, 1, 200)
	s.Put(e, 0)
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(&fullError{fullErrors[0]})
	remove(s, url)
	r := appendRecord(nil, e)
	whileItDetaches(s, func() {
		if !s.queue.supersedes(e.ID, r) {
			t.Error("nothing says any more that it was removed, and the file is read")
		}
	})
	if version, _ := found(t, s, url); version != 0 || s.queue.waiting() > 0 {
		t.Errorf("version %d is found, and %d bytes wait", version, s.queue.waiting())
	}
}

// TestGivenUpFileTakesNoBodiesIn: bodies were begun while look-ups still read the file, and broken
// off as soon as they did not.
func TestGivenUpFileTakesNoBodiesIn(t *testing.T) {
	s := keptByHand(t, bothTiers)
	whileItDetaches(s, func() {
		if d, err := s.NewBodyWriter(1 << 20); !errors.Is(err, ErrNoDisk) {
			t.Errorf("%v, want ErrNoDisk", err)
			d.Close()
		}
	})
}

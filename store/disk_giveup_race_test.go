package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestGivenUpFileShowsNothingThatWasRemoved: the queue was emptied while look-ups still read the
// file, and what they found of what had been removed came to memory, and stayed there without it.
func TestGivenUpFileShowsNothingThatWasRemoved(t *testing.T) {
	const pages = 32
	s := keptByHand(t, Settings{Memory: 256 << 20, Disk: 64 << 20})
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range pages {
		s.Put(signedEntry(s, url(n), 1, 200), 0)
	}
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(&fullError{fullErrors[0]})
	for n := range pages {
		remove(s, url(n))
	}
	for n := range 100_000 {
		s.queue.push(deletion(uint64(1e9+n), keyOf(fmt.Sprint(n)), Removed))
	}
	var over atomic.Bool
	var readers sync.WaitGroup
	for n := range pages {
		readers.Go(func() {
			for !over.Load() {
				r := s.Lookup(keyOf(url(n)), matchAny)
				r.Release()
			}
		})
	}
	purgeThatCannotBeWritten := &fullError{fullErrors[0]}
	s.diskWriter.giveUp(purgeThatCannotBeWritten)
	s.diskWriter.giveUpFile()
	over.Store(true)
	readers.Wait()
	back := 0
	for n := range pages {
		if version, _ := found(t, s, url(n)); version != 0 {
			back++
		}
	}
	if back > 0 {
		t.Errorf("%d of %d that were removed are found", back, pages)
	}
}

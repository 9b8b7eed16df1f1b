package store

import "testing"

// TestDeletionThatIsLeftToAPut: one that waited was left to a newer response behind it, and that
// one left no deletion where there was no room for it either, as another job was to delete what is
// on disk. The oldest response was back once the newest had left memory.
func TestDeletionThatIsLeftToAPut(t *testing.T) {
	const url = "http://example.com/"
	for _, known := range []string{"in memory", "on disk"} {
		t.Run("as is known "+known, func(t *testing.T) {
			s := keptByHand(t, bothTiers)
			dw := s.diskWriter
			s.Put(signedEntry(s, url, 1, 200), 0)
			must(t, dw.flush())
			dw.failed(&fullError{fullErrors[0]})
			s.Put(signedEntry(s, url, 2, 200), 0)
			if known == "in memory" {
				found(t, s, url) // the disk has nothing else
			} else {
				s.memory.clear()
			}
			dw.resume()
			s.Put(signedEntry(s, url, 3, 200), 0)
			must(t, dw.writeJobs()) // what waits to be deleted
			dw.failed(&fullError{fullErrors[0]})
			s.memory.clear()
			if version, _ := found(t, s, url); version != 0 {
				t.Errorf("version %d is found, and was replaced", version)
			}
		})
	}
}

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

// TestDeletionThatIsLeftToARenewal: what a renewal with another tag, or a newer response, was to
// delete was left to a renewal of that behind it. This one is no narrower than what it renews, and
// left what is on disk, where there was no room for it either.
func TestDeletionThatIsLeftToARenewal(t *testing.T) {
	const url = "http://example.com/"
	tagged := func(e *Entry) { e.Tags = []string{"a", "b"} }
	for name, first := range map[string]func(t *testing.T) *Store{
		"queued": func(t *testing.T) *Store { return renewedLarge(t, url, "before", tagged) },
		"in memory": func(t *testing.T) *Store {
			s := keptByHand(t, bothTiers)
			s.Put(signedEntry(s, url, 1, 2<<20, "a"), 0)
			must(t, s.diskWriter.flush())
			s.diskWriter.failed(&fullError{fullErrors[0]})
			if got := renewAs(t, s, url, "1", tagged); got != Stored {
				t.Fatalf("the renewal is %v", got)
			}
			s.diskWriter.resume()
			return s
		},
		"of another response": func(t *testing.T) *Store {
			s := keptByHand(t, Settings{Memory: 1 << 20, Disk: 64 << 20})
			s.Put(signedEntry(s, url, 1, 2<<20, "a"), 0)
			must(t, s.diskWriter.flush())
			if got := s.Put(signedEntry(s, url, 2, 2<<20, "a", "b"), 0); got != Stored {
				t.Fatalf("the newer response is %v", got)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := first(t)
			dw := s.diskWriter
			// Memory may be lowered while it is validated.
			less := func(e *Entry) { s.Apply(Settings{Memory: 1 << 20, Disk: 64 << 20}); tagged(e) }
			if got := renewAs(t, s, url, "2", less); got != Stored {
				t.Fatalf("the second renewal is %v", got)
			}
			taken, end := s.queue.position()
			dw.roomFirst = roomFirst{jobs: taken + 1, step: 1}
			must(t, dw.writeJobs())
			if taken, _ := s.queue.position(); taken != end-1 {
				t.Fatalf("%d of %d jobs are done", taken, end)
			}
			dw.failed(&fullError{fullErrors[0]})
			s.memory.clear()
			if version, _ := found(t, s, url); version != 0 {
				t.Errorf("version %d is found, which has been replaced or lacks a tag", version)
			}
		})
	}
}

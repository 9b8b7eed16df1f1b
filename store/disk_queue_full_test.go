package store

import (
	"fmt"
	"testing"
)

// TestDeletionThatAFullQueueRefuses: what a slow disk had in its queue left no place for the
// deletion of what is replaced or removed, and nothing was said of it.
func TestDeletionThatAFullQueueRefuses(t *testing.T) {
	const url = "http://example.com/"
	for name, change := range map[string]func(s *Store){
		"replaced": func(s *Store) { s.Put(signedEntry(s, url, 2, 200), 0) },
		"removed":  func(s *Store) { remove(s, url) },
	} {
		t.Run(name, func(t *testing.T) {
			s := keptByHand(t, Settings{Memory: 512 << 20, Disk: 64 << 20})
			s.Put(signedEntry(s, url, 1, 200), 0)
			must(t, s.diskWriter.flush())
			for n := range queueJobs {
				s.queue.push(deletion(uint64(1e9+n), keyOf(fmt.Sprint(n)), Removed))
			}
			change(s)
			s.queue.done(queueJobs) // the disk has come to it
			must(t, s.diskWriter.flush())
			s.memory.clear()
			if version, _ := found(t, s, url); version != 0 {
				t.Errorf("version %d is found", version)
			}
		})
	}
}

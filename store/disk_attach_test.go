package store

import (
	"errors"
	"fmt"
	"testing"
)

// TestRemovedWhileAFileIsPutToUse: a file was read before the queue of it was open, so that what
// was removed or replaced in between was found again.
func TestRemovedWhileAFileIsPutToUse(t *testing.T) {
	s := keptByHand(t, bothTiers)
	var url string
	for n := 0; url == "" || s.memory.shard(keyOf(url)) == s.memory.shards[shardCount-1]; n++ {
		url = fmt.Sprintf("http://example.com/%d", n)
	}
	s.Put(signedEntry(s, url, 1, 200), 0)
	must(t, s.diskWriter.flush())
	s.diskWriter.failed(errors.New("an input/output error"))
	s.memory.clear()
	last := s.memory.shards[shardCount-1]
	last.mu.Lock() // attach looks at what is in memory, which may be much
	attached := make(chan error)
	go func() { attached <- s.attach() }()
	waitFor(t, func() bool { return s.disk.up.Load() })
	remove(s, url)
	last.mu.Unlock()
	must(t, <-attached)
	must(t, s.diskWriter.flush())
	s.memory.clear()
	if version, _ := found(t, s, url); version != 0 {
		t.Errorf("version %d is found, and was removed", version)
	}
}

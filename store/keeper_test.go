package store

import (
	"fmt"
	"sync"
	"testing"
)

// TestSyncEnds: what is put while Sync waits is not waited for.
func TestSyncEnds(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, bothTiers)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for writer := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					s.Put(signedEntry(s, fmt.Sprintf("http://example.com/%d/%d", writer, n%50), n+1, 100), 0)
				}
			}
		})
	}
	for range 3 {
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	load.Wait()
}

// TestBatchDoesSomething: even when its time was up before it began.
func TestBatchDoesSomething(t *testing.T) {
	b := &batch{k: newKeeper(New(Config{}, bothTiers))}
	if b.full() {
		t.Error("full before anything was done")
	}
	if !b.full() {
		t.Error("not full after its time")
	}
}

package store

import (
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store/internal/pagein"
)

// notedReads counts what is read of a file by system calls.
type notedReads struct {
	io.ReaderAt
	mu    sync.Mutex
	bytes int64
}

func (n *notedReads) ReadAt(p []byte, off int64) (int, error) {
	n.mu.Lock()
	n.bytes += int64(len(p))
	n.mu.Unlock()
	return n.ReaderAt.ReadAt(p, off)
}

func (n *notedReads) take() (read int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	read, n.bytes = n.bytes, 0
	return read
}

// noteReads has what is read of the store's file by system calls counted.
func noteReads(t *testing.T, s *Store) *notedReads {
	t.Helper()
	file, err := os.Open(s.disk.path)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	reads := &notedReads{ReaderAt: file}
	s.disk.paging.Store(pagein.New(reads, os.Getpagesize()))
	return reads
}

// TestColdPagesAreReadByCalls: a look-up touched pages that were not in memory, and a page fault
// kept its processor from all other requests until the disk had answered. Now they are read by
// system calls before, and where pages are in memory nothing is. Which it is the time of the last
// look-ups tells. Changes touch the same pages.
func TestColdPagesAreReadByCalls(t *testing.T) {
	cfg := Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg, diskTier)
		must(t, s.Open())
		const size = 50 << 10
		for version, url := range []string{"http://example.com/a", "http://example.com/b"} {
			if r := s.Put(signedEntry(s, url, version+1, size), 0); r != Stored {
				t.Fatalf("Put = %v", r)
			}
		}
		must(t, s.Sync())
		reads := noteReads(t, s)
		look := func(when string, want bool) {
			t.Helper()
			if version, _ := found(t, s, "http://example.com/a"); version != 1 {
				t.Errorf("%s: found version %d", when, version)
			}
			switch n := reads.take(); {
			case want && n < size:
				t.Errorf("%s: only %d bytes are read before they are touched", when, n)
			case !want && n > 0:
				t.Errorf("%s: %d bytes are read before they are touched", when, n)
			}
		}
		look("after the file was opened", true)
		lookups := func(n int, takes time.Duration) {
			for range n {
				r := s.Lookup(keyOf("http://example.com/b"), func(*Variant) int { time.Sleep(takes); return 1 })
				r.Release()
			}
			reads.take()
		}
		lookups(coldest, 0)
		look("where look-ups are fast", false)
		for range 5 {
			lookups(1, slowRead) // twice that, as match is asked twice
			lookups(slowWeight, 0)
		}
		look("where one now and then is slow", false)
		lookups(coldAbove/slowWeight+1, slowRead)
		look("where many are slow", true)
		lookups(coldest, 0)
		lookups(1, lookupTime/10)
		look("after one that was very slow", true)
		if r := s.Put(signedEntry(s, "http://example.com/b", 3, size), 0); r != Stored {
			t.Fatalf("Put = %v", r)
		}
		reads.take()
		must(t, s.Sync())
		if n := reads.take(); n < size {
			t.Errorf("a change: %d bytes are read before they are touched", n)
		}
		must(t, s.Close())
	})
}

// TestColdPagesOfALargeBody: also of one that is compressed, whose chunks have the sizes of their
// frames to be read first.
func TestColdPagesOfALargeBody(t *testing.T) {
	for _, compress := range []Compression{CompressOff, CompressZstd} {
		s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1, Disk: 64 << 20, Compress: compress})
		s.Put(page(s, "http://example.com/a", halfNoise(chunkSize-blockSize)), 0)
		must(t, s.Sync())
		reads := noteReads(t, s)
		s.disk.cold.Store(coldest)
		r := s.Lookup(keyOf("http://example.com/a"), matchAny)
		must(t, r.Ready(0))
		if n := reads.take(); n < blockSize/2 {
			t.Errorf("compression %v: %d bytes are read before the first block is touched", compress, n)
		}
		r.Release()
	}
}

// TestColdPagesOfACompactedFile: pages are read of the file that is in use.
func TestColdPagesOfACompactedFile(t *testing.T) {
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	for version := 1; version <= 200; version++ { // what is replaced leaves pages free
		s.Put(signedEntry(s, "http://example.com/a", version, 20_000), 0)
		must(t, s.Sync())
	}
	before := s.disk.paging.Load()
	_, err := s.Compact(t.Context())
	must(t, err)
	if s.disk.paging.Load() == before {
		t.Error("pages are read of the file that was compacted")
	}
}

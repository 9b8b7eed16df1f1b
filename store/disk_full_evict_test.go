package store

import (
	"fmt"
	"testing"
	"time"
)

// TestFullDiskEvictsInSmallSteps: what goes for a smaller budget, by which a full disk is to have
// room, went in one transaction that found none. It was rolled back on each retry, so that nothing
// ever went.
func TestFullDiskEvictsInSmallSteps(t *testing.T) {
	const pages, mostTries = 3000, 8
	s, disk, clock, _ := onFullDisk(t, t.TempDir(), bothTiers)
	for n := range pages {
		s.Put(signedEntry(s, fmt.Sprintf("http://example.com/%d", n), 1, 3_000), 0)
	}
	must(t, s.Sync())
	disk.outgrown(t, s, 8)
	budget := s.disk.used() * 3 / 4
	s.Apply(Settings{Memory: bothTiers.Memory, Disk: budget})
	for tries := 0; s.disk.used() > budget; tries++ {
		t.Log(s.Stats().Disk, s.Stats().Errors[DiskTier], s.disk.length())
		if tries == mostTries {
			t.Fatalf("%d bytes are used of %d after %d retries", s.disk.used(), budget, tries)
		}
		before := s.Stats().Errors[DiskTier]
		clock.advance(retryTime)
		waitFor(t, func() bool { return s.Stats().Errors[DiskTier] > before || s.disk.used() <= budget })
	}
}

// TestEvictionInStepsLeavesWhatIsRead: a step that may remove few looked at no more than those, so
// that it removed what was being read, which gave no room, where that came first.
func TestEvictionInStepsLeavesWhatIsRead(t *testing.T) {
	const pages, length, held = 16, 100_000, 4
	for _, step := range []int{0, 1, held} {
		s := keptByHand(t, Settings{Memory: 1, Disk: 64 << 20})
		dw := s.diskWriter
		var stored []*Entry
		for n := range pages {
			e := signedEntry(s, fmt.Sprintf("http://example.com/%d", n), 1, length)
			if got := s.Put(e, 0); got != Stored {
				t.Fatal(got)
			}
			must(t, dw.flush())
			stored = append(stored, e)
		}
		s.disk.pins.pin(1e9, 0)
		s.disk.pins.delete(1e9, 17<<20) // there is no more beyond the budget for what is read
		for _, e := range stored[:held] {
			s.disk.pins.pin(e.ID, length)
		}
		dw.roomFirst.step = step
		for range 4 {
			must(t, dw.transact(func(b *batch) error { return b.evict(length * 9 / 10) }))
		}
		for n, e := range stored {
			if there := isOnDiskNow(t, s, e); there != (n < held || n >= held+4) {
				t.Errorf("%d at a time: entry %d is on disk: %v", step, n, there)
			}
		}
	}
}

// TestEvictionKeepsToItsStep: it removed as many again as a step may where some were only kept.
func TestEvictionKeepsToItsStep(t *testing.T) {
	const pages, kept, step = 32, 5, 4
	s := keptByHand(t, Settings{Memory: 1, Disk: 64 << 20})
	dw := s.diskWriter
	for n := range pages {
		e := signedEntry(s, fmt.Sprintf("http://example.com/%d", n), 1, 3_000)
		if n < kept {
			e.KeptFrom = s.now().Add(-time.Second)
		}
		s.Put(e, 0)
	}
	must(t, dw.flush())
	dw.roomFirst.step = step
	for n := range pages / step {
		must(t, dw.transact(func(b *batch) error { return b.evict(1 << 20) }))
		if left, want := s.disk.entries.Load(), int64(pages-(n+1)*step); left != want {
			t.Fatalf("%d are left after %d steps of %d, want %d", left, n+1, step, want)
		}
	}
}

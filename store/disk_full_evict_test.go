package store

import (
	"fmt"
	"testing"
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

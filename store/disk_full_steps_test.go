package store

import (
	"fmt"
	"testing"
)

// taggedPages is a store with so many pages on disk that are tagged.
func taggedPages(t *testing.T, pages int) *Store {
	t.Helper()
	s := keptByHand(t, bothTiers)
	for n := range pages {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), nil, "tag"), 0)
	}
	must(t, s.diskWriter.flush())
	return s
}

// sweepMemory sweeps memory until the disk is to be swept.
func sweepMemory(t *testing.T, dw *diskWriter) {
	t.Helper()
	for len(dw.sweeps.disk) == 0 {
		_, err := dw.sweepMemoryStep()
		must(t, err)
	}
}

// TestPutWithoutRoomBoundsNoSweep: each put for which there was no room halved the steps of sweeps,
// down to one entry.
func TestPutWithoutRoomBoundsNoSweep(t *testing.T) {
	const retries = 5
	s := taggedPages(t, 200)
	dw := s.diskWriter
	dw.failed(&fullError{fullErrors[0]})
	purgeByHand(s, "tag")
	for range retries {
		dw.resume()
		sweepMemory(t, dw)
		_, _, err := dw.sweepDisk(firstStep)
		must(t, err)
		dw.failed(&fullError{fullErrors[0]})
	}
	if step := dw.roomFirst.step; step < firstStep<<retries {
		t.Errorf("%d are swept in a step", step)
	}
}

// TestStepsGrowAfterAFailure: after one for which there was no room they stayed as small as that
// had made them, for as long as the disk had no room for all.
func TestStepsGrowAfterAFailure(t *testing.T) {
	f, full := roomFirst{step: firstStep}, &fullError{fullErrors[0]}
	for range 6 {
		f.ended(full)
	}
	if f.step != 1 {
		t.Fatalf("a step has %d", f.step)
	}
	for range firstStep * firstStep {
		f.ended(nil)
	}
	if f.step < firstStep || f.step > 2*firstStep {
		t.Errorf("a step has %d after %d that have committed", f.step, firstStep*firstStep)
	}
	if f.ended(fmt.Errorf("another: %w", errDamaged)); f.step < firstStep {
		t.Errorf("another failure makes it %d", f.step)
	}
}

// TestBoundOfStepsEnds: it held for good where nothing had come to memory while the disk was full.
func TestBoundOfStepsEnds(t *testing.T) {
	s := taggedPages(t, 100)
	dw := s.diskWriter
	dw.failed(&fullError{fullErrors[0]})
	for range 6 {
		dw.roomFirst.ended(&fullError{fullErrors[0]})
	}
	dw.resume()
	for range 100 {
		dw.onTick()
		dw.step()
	}
	purgeByHand(s, "tag")
	sweepMemory(t, dw)
	// A step that is not bounded ends when it has taken long, so that not all of 64 may be in it.
	if n, _, err := dw.sweepDisk(64); n <= firstStep || dw.roomFirst != (roomFirst{}) {
		t.Errorf("%d of 64 are swept in a later step (%v), %+v", n, err, dw.roomFirst)
	}
}

// TestChunksAreDeletedInSmallSteps: those of all bodies that were deleted while they were read went
// in one transaction, also where there was no room for so large a one.
func TestChunksAreDeletedInSmallSteps(t *testing.T) {
	const bodies, step = 20, 4
	s := keptByHand(t, bothTiers)
	dw := s.diskWriter
	var ids []uint64
	for n := range bodies {
		e := signedEntry(s, fmt.Sprintf("http://example.com/%d", n), 1, 200_000)
		s.Put(e, 0)
		ids = append(ids, e.ID)
	}
	must(t, dw.flush())
	for n, id := range ids {
		s.disk.pins.pin(id, 200_000)
		s.forget(keyOf(fmt.Sprintf("http://example.com/%d", n)), id, Removed)
	}
	must(t, dw.flush())
	for _, id := range ids {
		s.disk.pins.unpin(id)
	}
	dw.roomFirst.step, dw.roomFirst.tried, dw.pending = step, true, true
	for left := bodies - step; left >= 0; left -= step {
		_, err := dw.pendingStep()
		must(t, err)
		dw.roomFirst.step = bodies
		ids, err := dw.pendingIDs()
		if dw.roomFirst.step = step; err != nil || len(ids) != left {
			t.Errorf("%d are left, want %d (%v)", len(ids), left, err)
		}
	}
}

// TestFlushOfAFullDiskDeletesFirst: a flush evicted to make room that what waited to be deleted
// would have made.
func TestFlushOfAFullDiskDeletesFirst(t *testing.T) {
	const pages, length = 20, 200_000
	s := keptByHand(t, Settings{Memory: 64 << 20, Disk: 64 << 20})
	dw, url := s.diskWriter, func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for n := range pages {
		s.Put(signedEntry(s, url(n), 1, length), 0)
		must(t, dw.flush())
	}
	dw.failed(&fullError{fullErrors[0]})
	for n := pages / 2; n < pages; n++ {
		remove(s, url(n))
	}
	s.memory.clear()
	settings := *s.settings.Load()
	settings.Disk = s.disk.used() * 3 / 4
	s.settings.Store(&settings)
	dw.resume()
	must(t, dw.flush())
	for n := range pages / 2 {
		if version, _ := found(t, s, url(n)); version != 1 {
			t.Errorf("%s was evicted", url(n))
		}
	}
}

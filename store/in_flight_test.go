package store

import (
	"fmt"
	"testing"
)

// TestBodiesInFlightLeaveHalf: bodies on their way that may come to nothing, of clients that read
// nothing, evict no more than half of what is stored, and leave half of the budget for what comes.
func TestBodiesInFlightLeaveHalf(t *testing.T) {
	const budget, chunk = 8 << 20, 64 << 10
	s := openStore(t, Config{}, Settings{Memory: budget})
	for n := 0; s.Stats().Memory.Bytes < budget*9/10; n++ {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", n), make([]byte, 4000)), 0)
	}
	before, taken := s.Stats().Memory.Entries, int64(0)
	for s.Reserve(chunk, 0) {
		taken += chunk
	}
	if left := s.Stats().Memory.Entries; taken != budget/2 || left < before/2 {
		t.Errorf("%d bytes in flight, %d of %d entries left", taken, left, before)
	}
	if r := s.Put(testEntry(s, "http://example.com/new", make([]byte, 4000)), 0); r != Stored {
		t.Errorf("Put beside them: %v", r)
	}
	if s.Reserve(chunk, taken) {
		t.Error("one that is announced as long as what is taken got more")
	}
	const long = 6 << 20
	for taken < long && s.Reserve(chunk, long) {
		taken += chunk
	}
	if taken != long {
		t.Errorf("one that is announced with %d bytes got %d", long, taken)
	}
	s.Unreserve(taken)
	if !s.Reserve(budget/2, 0) {
		t.Error("what was given back is still in flight")
	}
	s.Unreserve(budget / 2)
}

// TestBodiesOnTheirWayToDiskGoBeyondByAQuarter: what they take beyond the budget is bounded for all
// of them together, and is none of what is stored.
func TestBodiesOnTheirWayToDiskGoBeyondByAQuarter(t *testing.T) {
	for budget, want := range map[int64]int64{8 << 20: 2 << 20, 64 << 10: 1 << 20} {
		s := openStore(t, Config{}, Settings{Memory: budget})
		taken := int64(0)
		for s.ReserveBeyond(64 << 10) {
			taken += 64 << 10
		}
		if used := s.Stats().Memory.Bytes; taken != want || used != 0 {
			t.Errorf("%d bytes go beyond a budget of %d, want %d; %d count as used", taken, budget, want, used)
		}
		s.UnreserveBeyond(taken)
		if !s.ReserveBeyond(want) {
			t.Error("what was given back is still counted")
		}
	}
}

// TestWindowsTakeAnEighth: what is passed on is none of what is stored. One window may be large
// while half of the room for all of them is free, and has a chunk behind that.
func TestWindowsTakeAnEighth(t *testing.T) {
	for budget, want := range map[int64]int64{64 << 20: 8 << 20, 64 << 10: 1 << 20} {
		s := openStore(t, Config{}, Settings{Memory: budget})
		const chunk = 64 << 10
		taken := int64(0)
		for s.ReserveWindow(chunk, taken) {
			taken += chunk
		}
		if taken != want/2 {
			t.Errorf("one takes %d bytes beside a budget of %d, want %d", taken, budget, want/2)
		}
		for s.ReserveWindow(chunk, 0) {
			taken += chunk
		}
		if used := s.Stats().Memory.Bytes; taken != want || used != 0 {
			t.Errorf("all take %d bytes beside a budget of %d, want %d; %d count as used", taken, budget, want, used)
		}
		s.UnreserveWindow(taken)
		if !s.ReserveWindow(want/2, 0) {
			t.Error("what was given back is still counted")
		}
	}
}

// TestSmallBodiesHaveRoomInFlight: where bodies on their way have all that larger ones may take,
// small ones still come in, announced or not.
func TestSmallBodiesHaveRoomInFlight(t *testing.T) {
	const budget, page = 16 << 20, 4 << 10
	s := openStore(t, Config{}, Settings{Memory: budget})
	for s.Reserve(64<<10, -1<<20) {
	}
	if s.Reserve(page, -1<<20) || s.Reserve(page, 3<<20) {
		t.Error("a larger one has room")
	}
	for _, total := range []int64{0, page, -page} {
		if !s.Reserve(page, total) {
			t.Errorf("a page of %d has none", total)
		}
	}
	taken := int64(0)
	for s.Reserve(page, page) {
		taken += page
	}
	if want := int64(budget/8*3 - 3*page); taken != want {
		t.Errorf("small ones take %d bytes beside, want %d", taken, want)
	}
}

package store

import (
	"fmt"
	"testing"
)

// TestFullDiskMovesNothingBeforeThereIsRoom: chunks were moved as soon as a full disk was tried
// again, for which there may be no room, before what waited to be deleted had given some, or what
// goes for a smaller budget. So each retry ended after one step of that.
func TestFullDiskMovesNothingBeforeThereIsRoom(t *testing.T) {
	const bodies, length = 40, 1 << 20
	url := func(n int) string { return fmt.Sprintf("http://example.com/%d", n) }
	for name, tt := range map[string]struct {
		budget, removed int
		compacts        bool
	}{
		"deletions wait":         {24 * length, bodies * 3 / 4, false},
		"the budget is less":     {16 * length, bodies / 2, false},
		"before it is compacted": {24 * length, bodies * 3 / 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := keptByHand(t, Settings{Memory: 8 << 20, Disk: 64 << 20})
			dw := s.diskWriter
			for n := range bodies {
				s.Put(signedEntry(s, url(n), 1, length), 0)
				must(t, dw.flush())
			}
			for n := range bodies / 2 {
				remove(s, url(n))
			}
			must(t, dw.flush())
			sweepPending(t, s)
			dw.failed(&fullError{fullErrors[0]})
			for n := bodies / 2; n < tt.removed; n++ {
				remove(s, url(n))
			}
			settings := *s.settings.Load()
			settings.Disk = int64(tt.budget)
			s.settings.Store(&settings)
			dw.resume()
			if !dw.movesDue() {
				t.Fatal("nothing is to be moved, so that this shows nothing")
			}
			dw.expiring, dw.pending = false, false // nothing has expired
			dw.endRoomFirst()
			step := dw.moveStep
			if tt.compacts {
				step = dw.compactStep
				must(t, dw.beginCompaction(nil))
			}
			if moves, err := step(); moves {
				t.Errorf("chunks are moved before there is room: %v", err)
			}
			for more := true; more; {
				var err error
				more, err = dw.writeTurn()
				must(t, err)
			}
			sweepPending(t, s)
			if moves, err := step(); !moves || err != nil {
				t.Errorf("none are moved after that: %v", err)
			}
		})
	}
}

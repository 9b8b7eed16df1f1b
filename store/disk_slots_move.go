package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/larder-cache/larder/store/internal/slots"
)

// How the file of large bodies becomes shorter: chunks beyond the length that it would have without
// free slots are moved to the lowest of these, and what is free at its end then is cut off. A
// compaction does it, and it is done by itself where both files together have grown far beyond the
// budget: the database grows into what large bodies leave. Each chunk is read and checked, written
// and synced before its row says where it is, and its old slot is free when that has been
// committed: a crash leaves it in one of the two.

// movePause is how long after a pass through the rows none begins by itself: the chunks of bodies
// on their way have no rows yet, and stay where they are.
const movePause = time.Second

// slotMove is how far the rows have been looked at for chunks to move.
type slotMove struct {
	behind []byte // the last of them
	done   bool
}

// moveStep does a piece of a pass through the rows, if one is under way or due.
func (dw *diskWriter) moveStep() (bool, error) {
	if !dw.diskUp() || dw.compacting != nil {
		dw.moving = nil
		return false, nil
	}
	if dw.moving == nil {
		if !dw.movesDue() {
			return false, nil
		}
		dw.moving = new(slotMove)
	}
	if err := dw.moveSlots(dw.moving); err != nil {
		return false, err
	}
	if dw.moving.done {
		dw.moving, dw.moveAfter = nil, dw.now().Add(movePause)
	}
	return true, nil
}

// movesDue tells whether the files are so long that free slots are to be cut off, where there are
// enough to be worth it.
func (dw *diskWriter) movesDue() bool {
	d, file, budget := dw.disk, dw.disk.openSlots(), dw.diskBudget()
	return d.length() > budget/4*5 && file.Len()-file.Used() > budget/16 && file.IsKnown() && !dw.now().Before(dw.moveAfter)
}

// movable is a row whose chunk is to be moved.
type movable struct {
	id     uint64
	number int
	ref    slotRef
}

// moveSlots moves as many chunks as a step may; then done is set where no row is left to look at.
func (dw *diskWriter) moveSlots(m *slotMove) error {
	file := dw.disk.slots.Load()
	if file == nil || !file.IsKnown() {
		return nil // the rows are still being looked at
	}
	end, limit := uint32(file.Used()/slots.Size), max(dw.batchLimit()/chunkSize, 1)
	var found []movable // the transaction's, as in scanSlots
	behind, err := dw.slotRows(m.behind, func(key []byte, ref *slotRef) bool {
		if ref.slot >= end {
			found = append(found, movable{rowNumber(key), chunkNumber(key), *ref})
		}
		return len(found) < limit
	})
	if err != nil {
		return fmt.Errorf("look for chunks to move: %w", err)
	}
	if len(found) > 0 {
		if err := dw.transact(func(b *batch) error { return b.moveChunks(found) }); err != nil {
			return fmt.Errorf("move chunks: %w", err)
		}
	}
	if m.behind = behind; behind == nil {
		m.done = true
		dw.shrinkSlots()
	}
	return nil
}

// moveChunks moves chunks to lower slots, where there are any: as long as others read, what they
// may read is not free yet.
func (b *batch) moveChunks(found []movable) error {
	for _, m := range found {
		if b.slots.Next() >= uint64(m.ref.slot) {
			continue
		}
		old := slotted{file: b.slots, key: chunkKey(m.id, m.number), ref: m.ref, length: chunkSize}
		v := b.chunkRoom(chunkSize)
		v = v[:cap(v)]
		data := v[sumsOf(chunkSize):]
		err := b.writer.disk.use.do(func() error { return old.blocks(data, 0) }, nil, longWork{own: true})
		if errors.Is(err, errDamaged) {
			continue // the next request for it finds that out
		}
		if err != nil {
			return err
		}
		if err := b.putSlot(m.id, m.number, v); err != nil {
			return err
		}
	}
	return nil
}

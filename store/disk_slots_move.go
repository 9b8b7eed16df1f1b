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

// movePause is how long after a pass through the rows none begins by itself. Twice as long follows
// one that has moved nothing, up to longestMovePause: chunks of bodies on their way have no rows
// yet, and stay where they are.
const (
	movePause        = time.Second
	longestMovePause = time.Minute
)

// slotMove is how far the rows have been looked at for chunks to move.
type slotMove struct {
	behind []byte // the last of them
	moved  bool   // some have been
	done   bool
}

// moveStep does a piece of a pass through the rows, if one is under way or due. It changes pages,
// for which a disk that was full may have no room before more has been deleted.
func (dw *diskWriter) moveStep() (bool, error) {
	if !dw.diskUp() || dw.compacting != nil || dw.givesRoom() {
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
		if dw.moveRest = min(2*dw.moveRest, longestMovePause); dw.moving.moved || dw.moveRest == 0 {
			dw.moveRest = movePause
		}
		dw.moving, dw.moveAfter = nil, dw.now().Add(dw.moveRest)
	}
	return true, nil
}

// movesDue tells whether the files are so long that free slots are to be cut off, where there are
// enough to be worth it.
func (dw *diskWriter) movesDue() bool {
	d, file, budget := dw.disk, dw.disk.openSlots(), dw.diskBudget()
	length, used := file.Len(), file.Used()
	worth := d.length() > budget/4*5 && length-used > budget/16 || d.length() > budget && muchFree(budget, length, used)
	return worth && file.IsKnown() && !dw.now().Before(dw.moveAfter)
}

// muchFree tells whether more than half of a file is free, and enough by the budget to be worth it.
func muchFree(budget, size, used int64) bool { return size-used > max(size/2, budget/8) }

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
	end, limit := max(uint64(file.Used()/slots.Size), file.Next()+1), max(dw.batchLimit()/chunkSize, 1)
	var found []movable // the transaction's, as in scanSlots
	behind, err := dw.slotRows(m.behind, func(key []byte, ref *slotRef) bool {
		if uint64(ref.slot) >= end {
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
		m.moved = true
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
	damaged := make(map[uint64]bool)
	for _, m := range found {
		if damaged[m.id] || b.slots.Next() >= uint64(m.ref.slot) {
			continue
		}
		old := slotted{file: b.slots, key: chunkKey(m.id, m.number), ref: m.ref, length: chunkSize}
		v := b.chunkRoom(chunkSize)
		v = v[:cap(v)]
		data := v[sumsOf(chunkSize):]
		err := b.writer.disk.use.do(func() error { return old.blocks(data, 0) }, nil, longWork{own: true})
		switch {
		case errors.Is(err, errDamaged):
			damaged[m.id] = true
			b.writer.counts.errors[DiskTier].Add(1)
			if err := b.remove(m.id, Key{}, Damaged); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		if err := b.putSlot(m.id, m.number, v); err != nil {
			return err
		}
	}
	return nil
}

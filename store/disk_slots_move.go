package store

import (
	"errors"
	"fmt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// What a compaction does for the file of large bodies: chunks beyond the length that it would have
// without free slots are moved to the lowest of these, and what is free at its end then is cut off.
// Each chunk is read and checked, written and synced before its row says where it is, and its old
// slot is free when that has been committed: a crash leaves it in one of the two.

// slotMove is how far the rows have been looked at for chunks to move.
type slotMove struct {
	behind []byte // the last of them
	done   bool
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

package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// What a compaction does for the file of large bodies: chunks beyond the length that it would have
// without free slots are moved to the lowest of these, and what is free at its end then is cut off.
// Each chunk is read and checked, written and synced before its row says where it is, and its old
// slot is free when that has been committed: a crash leaves it in one of the two.

// slotMove is how far the rows have been looked at for chunks to move.
type slotMove struct {
	last []byte // behind the last of them
	done bool
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
	found, last, err := dw.slotsBeyond(uint32(file.Used()/slots.Size), m.last)
	if err != nil {
		return fmt.Errorf("look for chunks to move: %w", err)
	}
	if len(found) > 0 {
		if err := dw.transact(func(b *batch) error { return b.moveChunks(found) }); err != nil {
			return fmt.Errorf("move chunks: %w", err)
		}
	}
	if m.last = last; last == nil {
		m.done = true
		dw.shrinkSlots()
	}
	return nil
}

// slotsBeyond are the rows after from that lead to slots from end on, as many as one transaction
// moves, and from where on to look for more; nil where none is left.
func (dw *diskWriter) slotsBeyond(end uint32, from []byte) (found []movable, last []byte, err error) {
	limit := max(dw.batchLimit()/chunkSize, 1)
	err = dw.disk.viewOwn(func(tx *bbolt.Tx) error {
		c := tx.Bucket(chunksBucket).Cursor()
		k, v := c.Seek(from)
		for n := 0; k != nil; k, v = c.Next() {
			if isSlotKey(k) {
				ref, err := decodeSlotRow(k, v)
				if err == nil && ref.slot >= end {
					found = append(found, movable{rowNumber(k), chunkNumber(k), ref})
				}
			}
			if n++; n == dw.slotRows || len(found) == limit {
				last = append(append([]byte(nil), k...), 0) // the next row follows that
				return nil
			}
		}
		return nil
	})
	return found, last, err
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
			continue // whoever asks for it finds that out
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

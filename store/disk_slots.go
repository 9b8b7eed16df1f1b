package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
	"github.com/larder-cache/larder/store/internal/wire"
)

// A full chunk that is not compressed stands in a file of its own, in a slot (internal/slots), and
// its row says in which: bbolt would copy it to a buffer, zeroed before, write that between two
// syncs, and leave its pages to be found again by others of 256 KiB. What is less than a chunk
// stays in its row.
//
//	id, number(4), 's'  → slot(4), checksums as in chunk.go, wire.Checksum of the key and these
//
// The slot is written and synced before its row is committed, and given back after a row's deletion
// is. So a row that is there leads to its own bytes, whenever the power fails; and where it does
// not, because files were exchanged, the checksums are those of other bytes, or of another row.

// slotMark ends the key of a row that leads to a slot. Such a row goes with the other chunks of its
// id, also in a release that knows nothing of slots.
const slotMark = 's'

// slotRef is a chunk in a slot.
type slotRef struct {
	slot uint32
	sums [chunkSums * sumSize]byte
}

// chunkSums is how many checksums a full chunk has.
const chunkSums = (chunkSize + blockSize - 1) / blockSize

// slotKey is the key of the row for the chunk at key.
func slotKey(key []byte) []byte { return append(slices.Clip(key), slotMark) }

func isSlotKey(key []byte) bool { return len(key) == chunkKeyLen+1 && key[chunkKeyLen] == slotMark }

// row is the value of the row at key.
func (r *slotRef) row(key []byte) []byte {
	v := binary.BigEndian.AppendUint32(make([]byte, 0, 8+len(r.sums)), r.slot)
	v = append(v, r.sums[:]...)
	return binary.BigEndian.AppendUint32(v, wire.Checksum(key, v))
}

// decodeSlotRow reads the value of the row at key.
func decodeSlotRow(key, v []byte) (r slotRef, err error) {
	end := 4 + len(r.sums)
	if len(v) != end+4 || binary.BigEndian.Uint32(v[end:]) != wire.Checksum(key, v[:end]) {
		return r, fmt.Errorf("row of a slot: checksum: %w", errDamaged)
	}
	r.slot = binary.BigEndian.Uint32(v)
	copy(r.sums[:], v[4:])
	return r, nil
}

// slotted is a chunk in a slot, of so many bytes.
type slotted struct {
	file   *slots.File
	key    []byte // that of chunkKey, which the checksums are of
	ref    slotRef
	length int
}

// read is that of chunk: it reads whole blocks, so that it can check them.
func (s *slotted) read(room []byte, off int) (n int, err error) {
	if len(room) == 0 {
		return 0, s.inBlock(off, func([]byte) {})
	}
	for n < len(room) && off < s.length {
		got := s.wholeBlocks(off, len(room)-n)
		if got > 0 {
			err = s.blocks(room[n:n+got], off)
		} else {
			err = s.inBlock(off, func(data []byte) { got = copy(room[n:], data[off%blockSize:]) })
		}
		if err != nil {
			return n, err
		}
		n, off = n+got, off+got
	}
	return n, nil
}

// wholeBlocks is how many bytes from off on are whole blocks that there is so much room for.
func (s *slotted) wholeBlocks(off, room int) int {
	switch {
	case off%blockSize != 0:
		return 0
	case room >= s.length-off:
		return s.length - off
	}
	return room - room%blockSize
}

// inBlock calls fn with the block that has the byte at off.
func (s *slotted) inBlock(off int, fn func(data []byte)) error {
	spare := pieces.Get().(*[pieceSize]byte)
	from := off - off%blockSize
	data := spare[:min(blockSize, s.length-from)]
	err := s.blocks(data, from)
	if err == nil {
		fn(data)
	}
	pieces.Put(spare)
	return err
}

// blocks fills dst from the beginning of a block on, up to the end of one, and checks it.
func (s *slotted) blocks(dst []byte, from int) error {
	if err := s.file.ReadAt(dst, s.ref.slot, int64(from)); err != nil {
		return errSlot(err)
	}
	for i := from / blockSize; len(dst) > 0; i++ {
		block := dst[:min(blockSize, len(dst))]
		if err := checkBlock(s.key, s.ref.sums[:], i, block); err != nil {
			return fmt.Errorf("slot %d: %w", s.ref.slot, err)
		}
		dst = dst[len(block):]
	}
	return nil
}

// errSlot is an error of reading a slot. What the disk does not give is damaged as what is wrong
// is; what comes after the file was closed says nothing of it.
func errSlot(err error) error {
	if errors.Is(err, slots.ErrClosed) {
		return errDetached
	}
	return fmt.Errorf("%w: %w", err, errDamaged)
}

// checkAll looks at all of it.
func (s *slotted) checkAll() error {
	for off := 0; off < s.length; off += blockSize {
		if err := s.inBlock(off, func([]byte) {}); err != nil {
			return err
		}
	}
	return nil
}

// slotWrite is a chunk to be written to a slot: the value of its row as if it stood there, sealed
// (largestChunk.room, sealChunk), and where it is afterwards.
type slotWrite struct {
	value []byte
	ref   slotRef
}

// writeSlots writes chunks to slots. After an error none is taken: no row leads to them. It is for
// the disk writer.
func (u *use) writeSlots(writes []slotWrite) error {
	return u.do(func() error {
		for i := range writes {
			if err := u.writeSlot(&writes[i]); err != nil {
				for _, w := range writes[:i] {
					u.slots.Give(w.ref.slot)
				}
				return err
			}
		}
		return nil
	}, nil, longWork{own: true})
}

// writeSlot writes a chunk to a slot, which is taken unless it fails.
func (u *use) writeSlot(w *slotWrite) error {
	slot, made, err := u.slots.Take()
	if err != nil {
		return fmt.Errorf("%s: %w", u.d.bodies, err)
	}
	if made {
		u.d.syncFolder()
	}
	n := sumsIn(len(w.value))
	w.ref.slot = slot
	copy(w.ref.sums[:], w.value[:n])
	if err = u.slots.WriteAt(w.value[n:], slot); err != nil {
		u.slots.Give(slot)
	}
	return err
}

// writeSlots is that of the use, outside of a transaction.
func (d *disk) writeSlots(writes []slotWrite) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.use == nil {
		return errDetached
	}
	err := d.use.writeSlots(writes)
	if isNoRoom(err) {
		return &fullError{err}
	}
	return err
}

// putSlot writes a full chunk to a slot, and its row. value is as in slotWrite.
func (b *batch) putSlot(id uint64, number int, value []byte) error {
	key := chunkKey(id, number)
	sealChunk(key, value)
	u, writes := b.writer.disk.use, []slotWrite{{value: value}}
	if err := u.writeSlots(writes); err != nil {
		return err
	}
	b.taken = append(b.taken, writes[0].ref.slot)
	u.slotted.Store(true)
	return b.putSlotRow(key, &writes[0].ref)
}

// putSlotRow writes the row of the chunk at key, which is in a slot. One that the row leads to so
// far, of the same chunk, is free then.
func (b *batch) putSlotRow(key []byte, ref *slotRef) error {
	key = slotKey(key)
	if old, err := decodeSlotRow(key, b.chunks.Get(key)); err == nil {
		b.freed = append(b.freed, old.slot)
	}
	return b.chunks.Put(key, ref.row(key))
}

// giveSlots gives back the slots of rows that a transaction has deleted, once it has committed.
func (b *batch) giveSlots() { b.slots.Give(b.freed...) }

// openSlots is the file of large bodies in use; a closed one where there is none.
func (d *disk) openSlots() *slots.File {
	if file := d.slots.Load(); file != nil {
		return file
	}
	return noSlots
}

var noSlots = slots.Closed()

// used is how many bytes of both files are in use: of the database as of its last commit.
func (d *disk) used() int64 { return d.pages.Load() + d.openSlots().Used() }

// length is how many bytes both files have.
func (d *disk) length() int64 { return d.size.Load() + d.openSlots().Len() }

// scanSlots marks slots that rows lead to, as many as a step may take, and says when there are no
// more: see slots.File.
func (dw *diskWriter) scanSlots() (bool, error) {
	if !dw.diskUp() {
		return false, nil
	}
	file := dw.disk.slots.Load()
	if file == nil || file.IsKnown() {
		return false, nil
	}
	scan := &dw.slotScan
	if scan.file != file {
		*scan = slotScan{file: file}
	}
	var found []uint32 // the transaction's, which may go on after a stall
	behind, err := dw.slotRows(scan.behind, func(_ []byte, ref *slotRef) bool {
		found = append(found, ref.slot)
		return true
	})
	if err != nil {
		return false, fmt.Errorf("look for slots: %w", err)
	}
	for _, slot := range found {
		file.Mark(slot)
	}
	if scan.behind = behind; behind == nil {
		file.Known()
	}
	return true, nil
}

// slotScan is how far the rows of a file have been looked at.
type slotScan struct {
	file   *slots.File
	behind []byte // the last of them
}

// rowsLookedAt is how many rows are looked at for slots before others have their turn.
const rowsLookedAt = 4096

// slotRows calls fn for the rows behind one that lead to slots, as many as a step may look at,
// while it agrees. It returns behind which to look for more; nil where none is left.
func (dw *diskWriter) slotRows(behind []byte, fn func(key []byte, ref *slotRef) (more bool)) ([]byte, error) {
	var last []byte // the transaction's, as in scanSlots
	err := dw.disk.viewOwn(func(tx *bbolt.Tx) error {
		c := tx.Bucket(chunksBucket).Cursor()
		k, v := c.Seek(behind)
		for left, more := dw.slotRowsAtOnce, true; k != nil; k, v = c.Next() {
			if isSlotKey(k) {
				if ref, err := decodeSlotRow(k, v); err == nil {
					more = fn(k, &ref)
				}
			}
			if left--; left == 0 || !more {
				last = append(append([]byte(nil), k...), 0) // the next row follows that
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return last, nil
}

// shrinkSlots gives free slots at the end of their file back to the file system. One that cannot be
// cut is longer than it need be, and nothing else.
func (dw *diskWriter) shrinkSlots() {
	dw.disk.mu.RLock()
	defer dw.disk.mu.RUnlock()
	u := dw.disk.use
	if u == nil || !u.slots.Shrinkable() {
		return
	}
	if err := u.do(u.slots.Shrink, nil, longWork{own: true}); err != nil {
		dw.tell(slog.LevelWarn, "disk tier: the file of large bodies cannot be cut", slog.Any("error", err))
	}
}

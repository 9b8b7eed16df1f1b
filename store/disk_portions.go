package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/larder-cache/larder/store/internal/slots"
)

// portion is what is written of one body at once: pieces from an offset on, which is a chunk's.
type portion struct {
	writer *BodyWriter
	from   int64
	pieces []piece
	length int64
	wrote  int64
	stored int64 // what that takes of the files
	// compress is as in the writer.
	compress bool
	// direct says that it goes to slots, of which refs are those that it has been written to, and
	// to no row yet.
	direct bool
	refs   []slotRef
	slots  *slots.File // that has them
	// rows are the slots of before that have no row yet, firstRow is the chunk in the first of
	// them, and rowed is of how many it was written.
	rows            []slotRef
	firstRow, rowed int
}

const (
	// syncBytes is how much of bodies is written to slots before that is synced.
	syncBytes = 4 << 20
	// maxUnsynced is beyond how much nothing more is written before it is: else a disk that is
	// slower than the system's cache would have the next commit of a slot's row wait for all of
	// that, and a purge behind it.
	maxUnsynced = 2 * syncBytes
	// rowsAtOnce is how many rows of slots one transaction writes.
	rowsAtOnce = 4096
	// slotRowBytes is what such a row takes, about.
	slotRowBytes = 64
)

// due are the portions worth writing, of about limit bytes at most but for the last. What the file
// has no room for is given up, and outgrown says that something was.
func (set *bodyWriters) due(limit int) (portions []portion, outgrown bool) {
	set.mu.Lock()
	defer set.mu.Unlock()
	budget, all := set.settings.Load().Disk, int64(0)
	for _, d := range set.list {
		if limit <= 0 {
			break
		}
		p, ok := d.portion()
		if !ok {
			continue
		}
		if set.disk.outgrows(budget, all+p.length) {
			outgrown = true
			set.lose(d, fmt.Errorf("%w: with what is deleted and read", ErrNoSpace))
			continue
		}
		if p.direct && set.disk.lacksSlots(budget, all+p.length) && !d.part {
			d.toRows = true
			if p, ok = d.portion(); !ok {
				continue
			}
		}
		lacks := set.disk.lacksSlots
		if d.toRows {
			lacks = set.disk.lacksRoom
		}
		if (p.direct || d.toRows) && lacks(budget, all+p.length) {
			set.lose(d, fmt.Errorf("%w: the files have no room for large bodies", ErrNoSpace))
			continue
		}
		all += p.length
		d.writing = true
		portions = append(portions, p)
		limit -= int(p.length)
	}
	return portions, outgrown
}

// portion is what is to be written of a body next; ok is false where nothing is. Chunks that are
// not to be compressed go to slots as they come, where there are any. Their rows come with the end
// of the body, when they are synced; that of a part needs none.
func (d *BodyWriter) portion() (p portion, ok bool) {
	if d.err != nil {
		return portion{}, false
	}
	left := d.appended - d.written
	p = portion{writer: d, from: d.written, length: left, compress: d.compress}
	ends := d.sealed && !d.part
	toRows := d.compress || d.toRows
	if tail := left % chunkSize; !d.sealed || ends && !toRows && left > tail {
		p.length -= tail
	}
	switch p.direct = !toRows && (p.length >= chunkSize || d.part); {
	case p.direct:
		ok = d.due() && p.length > 0 && d.set.wrote-d.set.synced < maxUnsynced
	case toRows:
		p.rows = d.rowless()
		ok = d.due() || len(p.rows) > 0
	default:
		p.rows = d.rowless()
		ok = ends && (left > 0 || len(p.rows) > 0) && d.end <= d.set.synced
	}
	p.firstRow = d.rowed
	p.pieces = slices.Clip(d.pieces)
	return p, ok
}

// rowless are the slots that get their rows now: all that have none, once the body has ended and
// they are synced.
func (d *BodyWriter) rowless() []slotRef {
	if !d.sealed || d.end > d.set.synced {
		return nil
	}
	return d.refs[d.rowed:]
}

// done notes what has been written.
func (set *bodyWriters) done(portions []portion) {
	set.mu.Lock()
	defer set.mu.Unlock()
	for i := range portions {
		p := &portions[i]
		d := p.writer
		if len(p.refs) > 0 {
			set.wrote += int64(len(p.refs)) * chunkSize
			d.refs, d.end, d.slots = append(d.refs, p.refs...), set.wrote, p.slots
		}
		d.rowed += p.rowed
		d.stored += p.stored
		if d.err != nil {
			set.disk.pins.grew(d.id, p.stored)
			continue
		}
		if p.wrote == 0 && p.rowed == 0 {
			continue
		}
		if d.part {
			set.disk.pins.grew(d.id, p.stored)
		}
		d.written += p.wrote
		set.waiting -= p.wrote
		d.pieces = advance(d.pieces, p.wrote)
		set.forget(d)
		set.list = append(set.list, d) // last now, so that all have their turn
		d.moved()
	}
}

// syncDue says that what has been written to slots is to be synced, and up to where that is: enough
// has come together, or a body waits for it.
func (set *bodyWriters) syncDue() (upTo int64, due bool) {
	set.mu.Lock()
	defer set.mu.Unlock()
	due = set.wrote-set.synced >= syncBytes
	for _, d := range set.list {
		due = due || d.sealed && !d.part && d.err == nil && d.end > set.synced && d.rowed < len(d.refs)
	}
	if due = due && !set.syncing; due {
		set.syncing = true
	}
	return set.wrote, due
}

// syncEnded notes that a sync has succeeded. After one that has failed there is no other in this
// use of the file: it would succeed without what the first has lost.
func (set *bodyWriters) syncEnded(upTo int64) {
	set.mu.Lock()
	set.syncing, set.synced = false, upTo
	set.mu.Unlock()
	set.wake()
}

// read notes that nothing reads the portions any more, which are not changed before that.
func (set *bodyWriters) read(portions []portion) {
	set.mu.Lock()
	defer set.mu.Unlock()
	for _, p := range portions {
		d := p.writer
		d.writing = false
		giveBack(d.left)
		d.left = nil
		if d.closed {
			d.giveSlots()
		}
	}
}

// giveSlots gives back the slots of a closed writer that have no row: those that have are its
// entry's, or swept.
func (d *BodyWriter) giveSlots() {
	left := make([]uint32, 0, len(d.refs)-d.rowed)
	for _, ref := range d.refs[d.rowed:] {
		left = append(left, ref.slot)
	}
	if len(left) > 0 {
		d.slots.Give(left...)
	}
	d.refs = d.refs[:d.rowed]
}

// advance cuts the first n bytes off.
func advance(pieces []piece, n int64) []piece {
	for n > 0 {
		p := &pieces[0]
		if int64(len(p.data)) > n {
			p.data = p.data[n:]
			break
		}
		n -= int64(len(p.data))
		p.done()
		*p = piece{}
		pieces = pieces[1:]
	}
	return pieces
}

// writeInTurn writes the queue or bodies on their way, in turn, so that neither waits for
// the end of the other.
func (dw *diskWriter) writeInTurn() (bool, error) {
	steps := [2]func() (bool, error){dw.writeStep, dw.writeBodies}
	if dw.bodiesTurn {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for i, step := range steps {
		if did, err := step(); did || err != nil {
			dw.bodiesTurn = dw.bodiesTurn == (i == 1) // the other's turn is next
			return did, err
		}
	}
	return false, nil
}

// writeBodies writes one step's worth of bodies on their way.
func (dw *diskWriter) writeBodies() (bool, error) {
	portions, outgrown := dw.bodyWriters.due(dw.batchLimit())
	if outgrown {
		dw.noteShortage()
	}
	if len(portions) > 0 {
		defer dw.bodyWriters.read(portions)
		err := dw.writePortions(portions)
		dw.bodyWriters.done(portions) // also of some that went before the error
		if err != nil {
			return false, err
		}
	}
	dw.syncBodies()
	return len(portions) > 0, nil
}

// syncBodies begins to sync slots, where that is due: others are written meanwhile. Only bodies on
// their way wait for it, and are given up where it takes too long.
func (dw *diskWriter) syncBodies() {
	file := dw.disk.slots.Load()
	if file == nil {
		return
	}
	upTo, due := dw.bodyWriters.syncDue()
	if !due {
		return
	}
	time, set := dw.disk.times.Load(), dw.bodyWriters
	go func() {
		switch err := file.Sync(); {
		case err == nil:
			set.syncEnded(upTo)
		case !errors.Is(err, slots.ErrClosed):
			dw.s.report(&readError{time, fmt.Errorf("%s: %w", dw.disk.bodies, err)})
		}
	}()
}

// writePortions writes to slots what goes there, and then what goes to rows, in a transaction.
func (dw *diskWriter) writePortions(portions []portion) error {
	toRows := false
	limit := dw.batchLimit()
	for i := range portions {
		p := &portions[i]
		if !p.direct {
			toRows = true
			continue
		}
		if err := dw.writeToSlots(p, max(limit, chunkSize)); err != nil {
			return fmt.Errorf("write body %d: %w", p.writer.id, err)
		}
		limit -= int(p.wrote)
	}
	if !toRows {
		return nil
	}
	err := dw.transact(func(b *batch) error {
		for i := range portions {
			p := &portions[i]
			if p.direct {
				continue
			}
			if b.bytes > 0 && b.full() {
				return nil
			}
			if err := b.writePortion(p); err != nil {
				return fmt.Errorf("write body %d: %w", p.writer.id, err)
			}
		}
		return nil
	})
	for i := range portions {
		if p := &portions[i]; err != nil && !p.direct {
			p.wrote, p.stored, p.rowed = 0, 0, 0
		}
	}
	return err
}

// writeToSlots writes chunks of a body to slots, up to limit bytes.
func (dw *diskWriter) writeToSlots(p *portion, limit int) error {
	var values []*largestChunk
	var writes []slotWrite
	for at := int64(0); at < p.length && at < int64(limit); at += chunkSize {
		size := int(min(p.length-at, chunkSize))
		c := largestChunks.Get().(*largestChunk)
		values = append(values, c)
		v := gather(c.room(size), p.pieces, at)
		sealChunk(chunkKey(p.writer.id, int((p.from+at)/chunkSize)), v)
		writes = append(writes, slotWrite{value: v})
	}
	if err := dw.disk.writeSlots(writes); err != nil {
		return err // what it has may still be read by a disk that stands still
	}
	p.slots = dw.disk.slots.Load()
	for i := range writes {
		p.refs = append(p.refs, writes[i].ref)
		p.wrote += int64(len(writes[i].value) - sumsIn(len(writes[i].value)))
		largestChunks.Put(values[i])
	}
	if p.stored = p.wrote; p.writer.part { // whose last chunk, which is short, takes a slot too
		p.stored = int64(len(writes)) * slots.Size
	}
	return nil
}

// writePortion writes rows of a body's slots, and chunks of it, one at least, as many as the batch
// has room for.
func (b *batch) writePortion(p *portion) error {
	id := p.writer.id
	if err := b.pending.Put(idBytes(id), nil); err != nil {
		return err
	}
	for ; p.rowed < min(len(p.rows), rowsAtOnce); p.rowed++ {
		if err := b.putSlotRow(chunkKey(id, p.firstRow+p.rowed), &p.rows[p.rowed]); err != nil {
			return err
		}
	}
	b.bytes += p.rowed * slotRowBytes
	if p.rowed < len(p.rows) {
		return nil
	}
	for p.wrote < p.length && (p.wrote == 0 || !b.full()) {
		size, number := min(p.length-p.wrote, chunkSize), int((p.from+p.wrote)/chunkSize)
		v := gather(b.chunkRoom(int(size)), p.pieces, p.wrote)
		plain := v[sumsOf(int(size)):]
		var packed []byte
		if p.compress {
			packed = packPiece(plain)
		}
		var err error
		stored := size
		if packed != nil {
			stored, err = b.putPiece(id, number, plain, packed)
		} else {
			err = b.putValue(id, number, v)
		}
		if err != nil {
			return err
		}
		p.wrote += size
		p.stored += stored
		b.bytes += int(size)
	}
	return nil
}

// chunkRoom is room for a value that is the transaction's until it has committed. A small one has
// memory of its own: many of them fit into one transaction.
func (b *batch) chunkRoom(data int) []byte {
	if data < chunkSize/2 {
		return roomForChunk(data)
	}
	c := largestChunks.Get().(*largestChunk)
	b.chunkValues = append(b.chunkValues, c)
	return c.room(data)
}

// reuseChunkValues gives back what a transaction has committed. One that has failed may still be
// under way at a disk that stands still: what it has is left to the garbage collector.
func (b *batch) reuseChunkValues() {
	for _, c := range b.chunkValues {
		largestChunks.Put(c)
	}
}

// gather fills v up to its capacity from the pieces, beginning at offset off of them.
func gather(v []byte, pieces []piece, off int64) []byte {
	for _, p := range pieces {
		if off >= int64(len(p.data)) {
			off -= int64(len(p.data))
			continue
		}
		v = append(v, p.data[off:][:min(len(p.data)-int(off), cap(v)-len(v))]...)
		if off = 0; len(v) == cap(v) {
			break
		}
	}
	return v
}

// adopt makes the chunks of a body writer those of a record that is about to be written. The row in
// the pending bucket vouches for their being in this file, which may be another than they were
// written to.
func (b *batch) adopt(id uint64) error {
	if !b.isPending(id) {
		return fmt.Errorf("%w: the body is not in this file", errBody)
	}
	return b.pending.Delete(idBytes(id))
}

// isPending tells whether there are chunks of id that belong to no record.
func (b *batch) isPending(id uint64) bool {
	row := idBytes(id)
	found, _ := b.pending.Cursor().Seek(row)
	return bytes.Equal(found, row)
}

package store

import (
	"bytes"
	"fmt"
	"slices"
)

// portion is what a batch writes of one body: pieces from an offset on, which is a chunk's.
type portion struct {
	writer *BodyWriter
	from   int64
	pieces []piece
	length int64
	wrote  int64
	stored int64 // what that takes of the file
	// compress is as in the writer.
	compress bool
}

// due are the portions worth a transaction, of about limit bytes at most but for the last. What the
// file has no room for is given up, and outgrown says that something was.
func (set *bodyWriters) due(limit int) (portions []portion, outgrown bool) {
	set.mu.Lock()
	defer set.mu.Unlock()
	budget, all := set.settings.Load().Disk, int64(0)
	for _, d := range set.list {
		if limit <= 0 {
			break
		}
		if !d.due() {
			continue
		}
		length := d.appended - d.written
		if !d.sealed {
			length -= length % chunkSize
		}
		if set.disk.outgrows(budget, all+length) {
			outgrown = true
			set.lose(d, fmt.Errorf("%w: with what is deleted and read", ErrNoSpace))
			continue
		}
		all += length
		d.writing = true
		portions = append(portions, portion{
			writer: d, from: d.written, pieces: slices.Clip(d.pieces), length: length, compress: d.compress,
		})
		limit -= int(length)
	}
	return portions, outgrown
}

// done notes what has been committed.
func (set *bodyWriters) done(portions []portion) {
	set.mu.Lock()
	defer set.mu.Unlock()
	for _, p := range portions {
		d := p.writer
		d.stored += p.stored
		if d.err != nil {
			set.disk.pins.grew(d.id, p.stored)
			continue
		}
		if p.wrote == 0 {
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

// read notes that no transaction reads the portions any more, which are not changed before that.
func (set *bodyWriters) read(portions []portion) {
	set.mu.Lock()
	defer set.mu.Unlock()
	for _, p := range portions {
		d := p.writer
		d.writing = false
		giveBack(d.left)
		d.left = nil
	}
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

// writeBodies writes one transaction's worth of bodies on their way.
func (dw *diskWriter) writeBodies() (bool, error) {
	portions, outgrown := dw.bodyWriters.due(dw.batchLimit())
	if outgrown {
		dw.noteShortage()
	}
	if len(portions) == 0 {
		return false, nil
	}
	defer dw.bodyWriters.read(portions)
	err := dw.transact(func(b *batch) error {
		for i := range portions {
			if i > 0 && b.full() {
				return nil
			}
			if err := b.writePortion(&portions[i]); err != nil {
				return fmt.Errorf("write body %d: %w", portions[i].writer.id, err)
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	dw.bodyWriters.done(portions)
	return true, nil
}

// writePortion writes chunks of a body, one at least, as many as the batch has room for.
func (b *batch) writePortion(p *portion) error {
	id := p.writer.id
	if err := b.pending.Put(idBytes(id), nil); err != nil {
		return err
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
			err = b.putChunkValue(id, number, v)
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

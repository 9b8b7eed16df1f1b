package store

import (
	"errors"
	"fmt"
)

// writeBody sees to it that all chunks are on disk; false when the rest is left to the next batch.
func (b *batch) writeBody(j *job) (bool, error) {
	if j.ahead {
		j.stored = b.storedChunks(j.id)
		return true, b.adopt(j.id)
	}
	return b.writeChunks(j)
}

// writeChunks writes the chunks that are missing, as many as the batch has room for.
func (b *batch) writeChunks(j *job) (bool, error) {
	body := b.writer.s.body(j.item)
	count := int((body.Len() + chunkSize - 1) / chunkSize)
	for ; j.written < count; j.written++ {
		if b.bytes > 0 && b.full() { // one chunk at least
			b.writer.writing = j.id
			return false, b.pending.Put(idBytes(j.id), nil)
		}
		data, err := readRange(body, int64(j.written)*chunkSize, chunkSize)
		if err != nil {
			return false, err
		}
		packed := j.packed
		if j.compress {
			packed = packPiece(data)
		}
		stored, err := b.putPiece(j.id, j.written, data, packed)
		if err != nil {
			return false, err
		}
		j.stored += stored
		b.bytes += len(data)
	}
	b.writer.writing = 0
	return true, b.pending.Delete(idBytes(j.id))
}

// putPiece writes a chunk, compressed where packed is not nil, and returns how many bytes it takes.
func (b *batch) putPiece(id uint64, number int, plain, packed []byte) (stored int64, err error) {
	if packed == nil {
		return int64(len(plain)), b.putChunk(id, number, plain)
	}
	b.compressed(int64(len(plain)), int64(len(packed)))
	return int64(len(packed)), b.putChunk(id, number, packed)
}

// putChunk is putValue for data that has to be copied.
func (b *batch) putChunk(id uint64, number int, data []byte) error {
	return b.putValue(id, number, append(b.chunkRoom(len(data)), data...))
}

// putValue writes a chunk by the value that its row has, to a slot where it is a full one and the
// files have room for that.
func (b *batch) putValue(id uint64, number int, value []byte) error {
	if len(value)-sumsIn(len(value)) == chunkSize && !b.writer.disk.lacksSlots(b.writer.diskBudget(), chunkSize) {
		return b.putSlot(id, number, value)
	}
	return b.putChunkValue(id, number, value)
}

// compressed counts bytes of bodies that are stored in fewer, once the batch has committed.
func (b *batch) compressed(plain, stored int64) {
	b.plainBytes += plain
	b.packedBytes += stored
}

// errBody says that a body to be written could not be read.
var errBody = errors.New("read body")

// readRange returns up to n bytes of a body from off on, copied only where they are in more than
// one chunk.
func readRange(body Body, off, n int64) ([]byte, error) {
	n = min(n, body.Len()-off)
	var out []byte
	for int64(len(out)) < n {
		c, err := body.Chunk(off + int64(len(out)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBody, err)
		}
		c = c[:min(int64(len(c)), n-int64(len(out)))]
		if out == nil && int64(len(c)) == n {
			return c, nil
		}
		out = append(out, c...)
	}
	return out, nil
}

// row is the record of an item for the file, and the value of its row: with the body, where that is
// small.
func (b *batch) row(j *job, r record) (record, []byte) {
	switch small := r.bodyLen() <= inlineSize; {
	case small && j.packed != nil:
		packed := r.packed(int64(len(j.packed)), len(j.packed))
		b.compressed(r.bodyLen(), packed.stored())
		return packed, append(packed, j.packed...)
	case small:
		return r, b.writer.memory.value(j.item)
	case j.stored < r.bodyLen():
		packed := r.packed(j.stored, 0)
		return packed, packed
	default:
		return r, r
	}
}

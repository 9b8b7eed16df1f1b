package store

import (
	"bytes"
	"fmt"
)

// chunk reads one chunk of a body, in the transaction's memory.
func (t *buckets) chunk(id uint64, number int, length int64) (chunk, error) {
	k := chunkKey(id, number)
	v, n := t.chunks.Get(k), min(length-int64(number)*chunkSize, chunkSize)
	if v == nil {
		if c, ok, err := t.chunkInSlot(k, n); ok {
			return c, err
		}
	}
	c, err := openChunk(&t.chunks, k, v, n)
	if err != nil {
		return chunk{}, fmt.Errorf("chunk %d of %d: %w", number, id, err)
	}
	return c, nil
}

// chunkInSlot is a chunk of n bytes in a slot; ok says that its row is there.
func (t *buckets) chunkInSlot(key []byte, n int64) (c chunk, ok bool, err error) {
	rowKey := slotKey(key)
	v := t.chunks.Get(rowKey)
	if v == nil {
		return chunk{}, false, nil
	}
	ref, err := decodeSlotRow(rowKey, v)
	if err == nil && n < chunkSize {
		err = fmt.Errorf("%d bytes in a slot: %w", n, errDamaged)
	}
	return chunk{slotted: &slotted{file: t.slots, key: key, ref: ref, length: int(n)}}, true, err
}

// hasChunks tells whether a body has its first chunk.
func (t *buckets) hasChunks(id uint64) bool {
	chunks, k := &t.chunks, chunkKey(id, 0)
	return chunks.Get(k) != nil || chunks.Get(slotKey(k)) != nil
}

// storedChunks is how many bytes the chunks of a body take.
func (t *buckets) storedChunks(id uint64) (n int64) {
	prefix := idBytes(id)
	c := t.chunks.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if isSlotKey(k) {
			n += chunkSize
			continue
		}
		n += int64(len(v) - min(sumsIn(len(v)), len(v)))
	}
	return n
}

// putChunkValue writes one chunk, as it is or compressed, by a value that begins with room for its
// checksums (roomForChunk, chunkRoom).
func (t *buckets) putChunkValue(id uint64, number int, v []byte) error {
	k := chunkKey(id, number)
	sealChunk(k, v)
	return t.chunks.Put(k, v)
}

// deleteChunks deletes chunks of id, as many as a transaction may, and reports whether that is all.
func (t *buckets) deleteChunks(id uint64) (all bool, err error) {
	prefix := idBytes(id)
	t.chunks.pageLeaf(prefix, true)
	c := t.chunks.Cursor()
	limit := deleteChunksAtOnce * rowsForChunk
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Seek(prefix) {
		if limit <= 0 {
			return false, nil
		}
		if limit -= rowsForChunk; isSlotKey(k) {
			limit += rowsForChunk - 1
			if ref, err := decodeSlotRow(k, v); err == nil { // else it is found free at the next start
				t.freed = append(t.freed, ref.slot)
			}
		}
		t.chunks.rows.note(k)
		t.chunks.pageLeaf(k, true) // nothing where it is that of the one before
		if err := c.Delete(); err != nil {
			return false, err
		}
	}
	return true, nil
}

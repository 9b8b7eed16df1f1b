package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/larder-cache/larder/internal/frames"
	"github.com/larder-cache/larder/store/internal/wire"
)

// The value of a chunk's row is checksums, then data, but for full chunks (disk_slots.go):
//
//	sums  4 bytes for each block of the data: wire.Checksum of the row's key and of the block
//	data  up to chunkSize bytes of a body, as they are, or compressed (internal/frames), which
//	      are fewer. A block is of blockSize bytes, the last of as many as are left
//
// So one who reads a piece of a chunk checks that piece. One checksum for the whole of it had each
// of the eight pieces of a chunk cost the check of all eight.

const (
	// blockSize is how much of a chunk one checksum is of: a piece, which is a frame too.
	blockSize = pieceSize
	// sumSize is how many bytes a checksum takes.
	sumSize = 4
)

// sumsOf is how many bytes the checksums of so many bytes of data take.
func sumsOf(data int) int { return (data + blockSize - 1) / blockSize * sumSize }

// sumsIn is how many bytes of a row's value are checksums.
func sumsIn(value int) int {
	const sealed = blockSize + sumSize
	return (value + sealed - 1) / sealed * sumSize
}

// largestChunk is a value of as many bytes as one can have.
type largestChunk [chunkSize + (chunkSize+blockSize-1)/blockSize*sumSize]byte

// largestChunks has values to use again: bbolt has copied them to pages that are committed.
var largestChunks = sync.Pool{New: func() any { return new(largestChunk) }}

// room returns a value with its checksums left open, to which so many bytes can be appended.
func (c *largestChunk) room(data int) []byte { return c[: sumsOf(data) : sumsOf(data)+data] }

// roomForChunk is room in memory of its own.
func roomForChunk(data int) []byte { return make([]byte, sumsOf(data), sumsOf(data)+data) }

// chunk is one as it stands in the file, in a transaction's memory. What is read of it is checked.
type chunk struct {
	key, sums, data []byte
	packed          bool
	frames          frames.Frames // of packed data
	slotted         *slotted      // nil unless it is in a slot
	in              *bucket       // that has its row
}

// openChunk is the chunk of so many bytes of a body that stands at key in a bucket.
func openChunk(in *bucket, key, value []byte, length int64) (c chunk, err error) {
	n := sumsIn(len(value))
	c = chunk{in: in, key: key, sums: value[:min(n, len(value))], data: value[min(n, len(value)):]}
	if len(c.data) == 0 || int64(len(c.data)) > length {
		return chunk{}, fmt.Errorf("%d bytes are not of %d: %w", len(c.data), length, errDamaged)
	}
	if c.packed = int64(len(c.data)) < length; !c.packed {
		return c, nil
	}
	if err := c.check(0, frames.SizesOf(int(length))); err != nil {
		return chunk{}, err
	}
	c.frames, err = openFrames(c.data, length)
	return c, err
}

// sealChunk fills in the checksums of a value.
func sealChunk(key, value []byte) {
	n := sumsIn(len(value))
	data := value[n:]
	for i := 0; i < n; i += sumSize {
		block := data[:min(blockSize, len(data))]
		binary.BigEndian.PutUint32(value[i:], wire.Checksum(key, block))
		data = data[len(block):]
	}
}

// check looks at the blocks that have the data from here to there. Data is touched after that only.
func (c *chunk) check(from, to int) error {
	last := (to + blockSize - 1) / blockSize * blockSize
	c.in.pageIn(c.key, int64(len(c.sums)+from/blockSize*blockSize), int64(len(c.sums)+last))
	for i := from / blockSize; i*blockSize < min(to, len(c.data)); i++ {
		if err := checkBlock(c.key, c.sums, i, c.data[i*blockSize:min((i+1)*blockSize, len(c.data))]); err != nil {
			return err
		}
	}
	return nil
}

// checkBlock looks at a block by its checksum among those of its chunk.
func checkBlock(key, sums []byte, number int, block []byte) error {
	if binary.BigEndian.Uint32(sums[number*sumSize:]) != wire.Checksum(key, block) {
		return fmt.Errorf("block %d: %w", number, errDamaged)
	}
	return nil
}

// checkAll looks at all of it.
func (c *chunk) checkAll() error {
	if c.slotted != nil {
		return c.slotted.checkAll()
	}
	return c.check(0, len(c.data))
}

// read copies what follows off to room, as far as that and the chunk reach, and returns how much it
// is. Without room it checks what stands at off. Where something is damaged it is less: who reads
// on from there gets the error.
func (c *chunk) read(room []byte, off int) (n int, err error) {
	n, err = c.readSound(room, off)
	if block := blockSize - off%blockSize; errors.Is(err, errDamaged) && len(room) > block {
		return c.readSound(room[:block], off)
	}
	return n, err
}

// readSound is read where nothing is damaged.
func (c *chunk) readSound(room []byte, off int) (n int, err error) {
	switch {
	case c.slotted != nil:
		return c.slotted.read(room, off)
	case c.packed:
		return c.readFrames(room, off)
	}
	to := min(off+len(room), len(c.data))
	if err := c.check(off, max(to, off+1)); err != nil {
		return 0, err
	}
	return copy(room, c.data[off:to]), nil
}

// readFrames is read of what is compressed. A frame that begins at off is decompressed where it is
// wanted. After the first one, read stops at a frame for which there is no room.
func (c *chunk) readFrames(room []byte, off int) (n int, err error) {
	for {
		if err := c.check(c.frames.Place(off)); err != nil || len(room) == 0 {
			return n, err
		}
		into := room[n:]
		if off%frames.Size != 0 {
			spare := pieces.Get().(*[pieceSize]byte)
			defer pieces.Put(spare)
			into = spare[:]
		}
		plain, err := c.frames.Read(into, off)
		if err != nil {
			return n, fmt.Errorf("%w: %w", err, errDamaged)
		}
		copied := copy(room[n:], plain)
		n, off = n+copied, off+copied
		if copied < len(plain) || off == c.frames.Len() || len(room)-n < frames.Size {
			return n, nil
		}
	}
}

// fill copies all of the chunk to dst, which has its length.
func (c *chunk) fill(dst []byte) error {
	if c.slotted != nil {
		return c.slotted.blocks(dst, 0)
	}
	if err := c.checkAll(); err != nil {
		return err
	}
	if !c.packed {
		copy(dst, c.data)
		return nil
	}
	return packedBody{c.frames}.fill(dst)
}

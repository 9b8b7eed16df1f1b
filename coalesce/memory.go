package coalesce

import (
	"slices"
	"sync/atomic"
)

// Memory is a Budget that has memory of its own for chunks, outside of Go's heap. The collector
// lets the heap grow to twice of what is alive, so bodies on their way cost twice their bytes
// there, and each chunk that is let go of stays until its next turn.
type Memory interface {
	// Chunk returns n bytes, with anything in them, which are nobody else's until free is called,
	// once; nil where the chunk is to be of Go's heap. Both may be called under locks of this
	// package.
	Chunk(n int) (data []byte, free func())
}

// block is the memory of a chunk that has to be given back, when the last holder lets go of it: the
// body; a Write that copies into it; a reader that has some of it in hand; a Spill that has not
// written it yet. Of the chunks in Go's heap it is nil.
type block struct {
	free  func()
	holds atomic.Int32
}

// newChunk returns an empty chunk, which its body holds.
func (c *config) newChunk(capacity int) chunk {
	if c.memory != nil {
		if data, free := c.memory.Chunk(capacity); data != nil {
			b := &block{free: free}
			b.hold()
			return chunk{data: data[:0:capacity], block: b}
		}
	}
	return chunk{data: make([]byte, 0, capacity)}
}

func (b *block) hold() {
	if b != nil {
		b.holds.Add(1)
	}
}

func (b *block) letGo() {
	if b != nil && b.holds.Add(-1) == 0 {
		b.free()
	}
}

// held returns chunks as they are now, each held for one who is under no lock.
func held(chunks []chunk) []chunk {
	chunks = slices.Clone(chunks)
	for i := range chunks {
		chunks[i].data = slices.Clip(chunks[i].data)
		chunks[i].block.hold()
	}
	return chunks
}

// letGo lets go of chunks that were held.
func letGo(chunks []chunk) {
	for _, c := range chunks {
		c.block.letGo()
	}
}

// appendAll appends chunks that are held to a Spill, which lets go of them.
func appendAll(s Spill, chunks []chunk) error {
	for i, c := range chunks {
		if err := s.Append(c.data, c.block.letGo); err != nil {
			letGo(chunks[i+1:])
			return err //nolint:wrapcheck // callers only look whether there is one
		}
	}
	return nil
}

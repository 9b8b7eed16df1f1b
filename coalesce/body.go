package coalesce

import (
	"slices"
	"sort"
)

const (
	minChunk = 4 << 10
	maxChunk = 64 << 10
	// soleWindow is what a window holds that has one reader: what the writer and the reader fill
	// and take while the other waits for a processor.
	soleWindow = 8 * maxChunk
)

// body is a growing run of bytes in chunks. It has no lock. Bytes once published are never written
// again. Only the last chunk has space left, which its one writer may fill while others read what
// is published before it.
type body struct {
	chunks []chunk
	size   int64 // bytes published, dropped ones included
	held   int64 // capacity of the chunks held
	gone   bool  // given up for good
}

type chunk struct {
	start int64 // offset of its first byte in the body
	data  []byte
	block *block // whose memory that is
}

func (c chunk) end() int64 { return c.start + int64(len(c.data)) }

func (c chunk) full() bool { return len(c.data) == cap(c.data) }

// add appends an empty chunk; the last one must be full.
func (b *body) add(c chunk) {
	c.start = b.size
	b.chunks = append(b.chunks, c)
	b.held += int64(cap(c.data))
}

// spare returns the space left in the last chunk.
func (b *body) spare() chunk {
	if len(b.chunks) == 0 {
		return chunk{}
	}
	last := b.chunks[len(b.chunks)-1]
	return chunk{start: b.size, data: last.data[len(last.data):cap(last.data)], block: last.block}
}

// publish makes the first n bytes of spare visible.
func (b *body) publish(n int) {
	last := &b.chunks[len(b.chunks)-1]
	last.data = last.data[:len(last.data)+n]
	b.size += int64(n)
}

// at returns what is published from off to the end of the chunk that holds off, and whose memory
// that is; nothing if that is not there yet.
func (b *body) at(off int64) ([]byte, *block) {
	if off >= b.size || off < b.start() {
		return nil, nil
	}
	i := sort.Search(len(b.chunks), func(i int) bool { return b.chunks[i].end() > off })
	c := b.chunks[i]
	return c.data[off-c.start : len(c.data) : len(c.data)], c.block
}

// start returns the offset of the first byte held.
func (b *body) start() int64 {
	if len(b.chunks) == 0 {
		return b.size
	}
	return b.chunks[0].start
}

// firstEnd returns where the first chunk ends, and whether it is full, so that it can be dropped
// once all readers are past it.
func (b *body) firstEnd() (end int64, ok bool) {
	if len(b.chunks) == 0 || !b.chunks[0].full() {
		return 0, false
	}
	return b.chunks[0].end(), true
}

// drop frees the full chunks that end at or before off.
func (b *body) drop(off int64) {
	for {
		end, ok := b.firstEnd()
		if !ok || end > off {
			return
		}
		b.held -= int64(cap(b.chunks[0].data))
		b.chunks[0].block.letGo()
		b.chunks[0] = chunk{} // the slice's array outlives the reslicing
		b.chunks = b.chunks[1:]
	}
}

// from returns the chunks held that begin at off or behind.
func (b *body) from(off int64) []chunk {
	first := sort.Search(len(b.chunks), func(i int) bool { return b.chunks[i].start >= off })
	return b.chunks[first:]
}

// clear frees all chunks of a body that gets no more.
func (b *body) clear() {
	for _, c := range b.chunks {
		c.block.letGo()
	}
	b.chunks, b.held = nil, 0
}

// trim replaces a last chunk that is less than seven eighths full by one that fits. Readers in the
// old one find the same bytes at the same offsets in the new one.
func (b *body) trim(c *config) {
	if len(b.chunks) == 0 {
		return
	}
	last := &b.chunks[len(b.chunks)-1]
	waste := cap(last.data) - len(last.data)
	if waste <= cap(last.data)/8 {
		return
	}
	fit := c.newChunk(len(last.data))
	fit.start, fit.data = last.start, append(fit.data, last.data...)
	last.block.letGo()
	*last = fit
	b.held -= int64(waste)
}

// list returns the chunks that have bytes, for an owner that cannot append to them.
func (b *body) list() [][]byte {
	all := make([][]byte, 0, len(b.chunks))
	for _, c := range b.chunks {
		if len(c.data) > 0 {
			all = append(all, slices.Clip(c.data))
		}
	}
	return all
}

package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/larder-cache/larder/internal/frames"
	"github.com/larder-cache/larder/store"
)

// batchChunks is how many chunks are read at a time.
const batchChunks = 4

// errLost says that a chunk is gone, or is not what the record says.
var errLost = errors.New("a chunk of the body is lost")

// openBody gives a record's entry its body. A long one is not begun unless all of its chunks are
// there and the first are what the record says: afterwards a loss would break an answer off.
func (t *SharedTier) openBody(ctx context.Context, r *record, raw []byte, at place) error {
	if r.length <= inlineBody {
		r.entry.Body = store.NewBody([][]byte{r.inline})
		return nil
	}
	b := &chunkedBody{tier: t, ctx: ctx, record: r, raw: raw, at: at, id: chunkID(r.sums)}
	r.entry.Body = b
	if err := b.lookForAll(); err != nil {
		return err
	}
	_, err := b.Chunk(0)
	return err
}

// chunkedBody is a body that is read from the server while it is sent. It keeps one batch of its
// chunks. The first that is lost has its record removed, or the next answer would break off there.
type chunkedBody struct {
	tier   *SharedTier
	ctx    context.Context // of the fetch that has found it
	record *record
	raw    []byte // the record as it was read
	at     place
	id     string

	mu    sync.Mutex
	first int // of the batch
	batch [][]byte
}

// Len implements store.Body.
func (b *chunkedBody) Len() int64 { return b.record.length }

// Chunk implements store.Body.
func (b *chunkedBody) Chunk(off int64) ([]byte, error) {
	if off < 0 || off > b.record.length {
		return nil, fmt.Errorf("offset %d outside of %d bytes", off, b.record.length)
	}
	if off == b.record.length {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := int(off / chunkBytes)
	if i < b.first || i >= b.first+len(b.batch) {
		if err := b.read(i); err != nil {
			return nil, err
		}
	}
	return b.batch[i-b.first][off%chunkBytes:], nil
}

// lookForAll asks whether all chunks are there. Where one batch is the whole body that is known
// when it is read.
func (b *chunkedBody) lookForAll() error {
	t, n, all := b.tier, chunksOf(b.record.length), false
	if n <= batchChunks {
		return nil
	}
	err := t.ask(b.ctx, t.config.Timeout, func(ctx context.Context) (err error) {
		all, err = t.engine.HasChunks(ctx, b.id, n)
		return err
	})
	if err != nil || all {
		return err
	}
	return b.lose()
}

// lose has the record removed, unless it is another by now.
func (b *chunkedBody) lose() error {
	b.tier.uploads.remove(b.at, b.raw)
	return errLost
}

// read reads a batch that begins with chunk i.
func (b *chunkedBody) read(i int) error {
	numbers := make([]int, 0, batchChunks)
	for n := i; n < chunksOf(b.record.length) && len(numbers) < batchChunks; n++ {
		numbers = append(numbers, n)
	}
	var chunks [][]byte
	t := b.tier
	err := t.ask(b.ctx, t.config.Timeout, func(ctx context.Context) (err error) {
		chunks, err = t.engine.Chunks(ctx, b.id, numbers)
		return err
	})
	if err != nil {
		return err
	}
	if len(chunks) != len(numbers) {
		return b.lose()
	}
	for at, n := range numbers {
		sum := sha256.Sum256(chunks[at])
		if !bytes.Equal(sum[:], b.record.sum(n)) {
			return fmt.Errorf("chunk %d: %w", n, b.lose())
		}
		if chunks[at], err = b.expand(n, chunks[at]); err != nil {
			return fmt.Errorf("chunk %d: %w: %w", n, b.lose(), err)
		}
	}
	b.first, b.batch = i, chunks
	return nil
}

// lengthOf is the length of chunk n.
func (b *chunkedBody) lengthOf(n int) int64 {
	return min(chunkBytes, b.record.length-int64(n)*chunkBytes)
}

// expand returns chunk n as it is, which is longer than what stands on the server if that is
// compressed.
func (b *chunkedBody) expand(n int, chunk []byte) ([]byte, error) {
	length := b.lengthOf(n)
	switch {
	case int64(len(chunk)) == length:
		return chunk, nil
	case b.record.coding == codingZstd:
		return unpack(chunk, length)
	default:
		return nil, errLost
	}
}

// unpack decompresses what frames.Append has made of length bytes.
func unpack(packed []byte, length int64) ([]byte, error) {
	f, err := frames.Open(packed, int(length))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, length)
	return plain, f.ReadAll(plain)
}

// storedBody is a body as the server is to have it.
type storedBody struct {
	store.Body
	packed [][]byte // its chunks, nil for one that stays as it is; nil: all do
	saved  int64    // bytes
}

// pack compresses the chunks where that saves something, and keeps them.
func (b *storedBody) pack() error {
	return eachChunk(b.Body, func(_ int, chunk []byte) error {
		var kept []byte
		if packed, ok := frames.Append(nil, chunk); ok {
			b.saved += int64(len(chunk) - len(packed))
			kept = bytes.Clone(packed) // without the room behind it
		}
		b.packed = append(b.packed, kept)
		return nil
	})
}

// each calls fn for each chunk as it is to stand, which is fn's until it returns.
func (b *storedBody) each(fn func(n int, chunk []byte) error) error {
	return eachChunk(b.Body, func(n int, chunk []byte) error {
		if n < len(b.packed) && b.packed[n] != nil {
			chunk = b.packed[n]
		}
		return fn(n, chunk)
	})
}

// sums returns the sums of the chunks. It reads all of the body.
func (b *storedBody) sums() ([]byte, error) {
	sums := make([]byte, 0, chunksOf(b.Len())*sha256.Size)
	err := b.each(func(_ int, chunk []byte) error {
		sum := sha256.Sum256(chunk)
		sums = append(sums, sum[:]...)
		return nil
	})
	return sums, err
}

// eachChunk calls fn for each chunk of a body, which is fn's until it returns.
func eachChunk(body store.Body, fn func(n int, chunk []byte) error) error {
	buf := make([]byte, 0, chunkBytes)
	for off, n := int64(0), 0; off < body.Len(); n++ {
		buf = buf[:0]
		for len(buf) < chunkBytes && off < body.Len() {
			piece, err := body.Chunk(off)
			if err != nil {
				return fmt.Errorf("reading a stored body: %w", err)
			}
			piece = piece[:min(len(piece), chunkBytes-len(buf))]
			buf = append(buf, piece...)
			off += int64(len(piece))
		}
		if err := fn(n, buf); err != nil {
			return err
		}
	}
	return nil
}

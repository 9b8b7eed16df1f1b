package store

import (
	"fmt"
	"io"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/internal/frames"
)

// pieceSize is how much of a body on disk a reader has in hand at once, on the Go heap and not
// counted, for as long as its client takes to accept it. It is what reverse_proxy has in hand for a
// client. Whole chunks would be no faster: each of them is a large allocation.
const pieceSize = 32 << 10

// pieces are buffers of pieceSize bytes that have been used.
var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// WriteBody writes n bytes of a body from off on to w, or all that follow if n is negative. It
// returns how many went out. Its errors are those of w, and those of the body, which say so.
//
// client is interrupted if nothing more is taken of a body on disk that has been deleted, and that
// keeps others from being stored; nil is for what never waits. The error is ErrIdle then, or what w
// makes of it.
func WriteBody(w io.Writer, b Body, off, n int64, client Interrupter) (written int64, err error) {
	end := b.Len()
	if n >= 0 {
		end = off + n
	}
	onDisk, ok := b.(*diskBody)
	if !ok {
		return writePieces(w, b.Chunk, off, end)
	}
	if client != nil {
		r := &clientReader{client: client}
		onDisk.pins().addReader(onDisk.id, r)
		defer func() {
			onDisk.pins().removeReader(onDisk.id, r)
			if r.end() && err == nil {
				err = ErrIdle
			}
		}()
	}
	room := pieces.Get().(*[pieceSize]byte)
	written, err = writePieces(w, func(off int64) ([]byte, error) { return onDisk.read(room[:], off) }, off, end)
	if err == nil { // else a read that came too late may still be filling it
		pieces.Put(room)
	}
	return written, err
}

func writePieces(
	w io.Writer, next func(off int64) ([]byte, error), off, end int64,
) (written int64, err error) {
	for off < end {
		piece, err := next(off)
		if err != nil {
			return written, fmt.Errorf("reading a stored body: %w", err)
		}
		if left := end - off; int64(len(piece)) > left {
			piece = piece[:left]
		}
		n, err := w.Write(piece)
		written += int64(n)
		if err != nil {
			return written, err
		}
		off += int64(len(piece))
	}
	return written, nil
}

// diskBody is a body on disk, read piece by piece, each in a transaction of its own.
type diskBody struct {
	s      *Store
	id     uint64
	key    Key // of its entry; that of a BodyWriter's is known to that
	length int64
	writer *BodyWriter // of a body that has not been put yet, or just now
}

// pins are those of its file: they keep its chunks.
func (b *diskBody) pins() *pins { return &b.s.disk.pins }

// Len is the whole length in bytes.
func (b *diskBody) Len() int64 { return b.length }

// Chunk returns a copy of up to pieceSize bytes from off on.
func (b *diskBody) Chunk(off int64) ([]byte, error) {
	if off < 0 || off > b.length {
		return nil, errOffset(off, b.length)
	}
	if off == b.length {
		return nil, nil
	}
	return b.read(make([]byte, min(pieceSize, b.length-off, chunkSize-off%chunkSize)), off)
}

// read fills room from off on, as far as the chunk on disk reaches that has these bytes, or of a
// compressed one the frame, and returns what it has filled. The chunk is checked as a whole each
// time, and of its frames the one that is read.
func (b *diskBody) read(room []byte, off int64) ([]byte, error) {
	b.pins().took(b.id)
	n := 0 // the transaction's, which may go on after a stall
	err := b.s.disk.view(func(tx *bbolt.Tx) error {
		t := new(buckets)
		var err error
		if t.chunks.Bucket, err = openBucket(tx, chunksBucket); err != nil {
			return err
		}
		c, err := t.chunk(b.id, int(off/chunkSize), b.length)
		if err == nil {
			n, err = c.read(room, int(off%chunkSize))
		}
		return err
	})
	if err != nil {
		b.failed(err)
		return nil, fmt.Errorf("read body: %w", err)
	}
	return room[:n], nil
}

// chunk is one as it stands in the file, in a transaction's memory, checked.
type chunk struct {
	plain  []byte // nil: it is compressed
	frames frames.Frames
}

// read copies what follows off to room, up to the end of the chunk or of the frame. A frame that
// begins at off is decompressed where it is wanted.
func (c *chunk) read(room []byte, off int) (int, error) {
	if c.plain != nil {
		return copy(room, c.plain[off:]), nil
	}
	if len(room) == 0 {
		return 0, nil
	}
	into := room
	if off%frames.Size != 0 {
		spare := pieces.Get().(*[pieceSize]byte)
		defer pieces.Put(spare)
		into = spare[:]
	}
	plain, err := c.frames.Read(into, off)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", err, errDamaged)
	}
	return copy(room, plain), nil
}

// fill copies all of the chunk to dst, which has its length.
func (c *chunk) fill(dst []byte) error {
	if c.plain != nil {
		copy(dst, c.plain)
		return nil
	}
	return packedBody{c.frames}.fill(dst)
}

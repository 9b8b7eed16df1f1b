package store

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// pieceSize is how much of a body on disk a reader has in hand at once, on the Go heap and not
// counted, for as long as its client takes to accept it. It is what reverse_proxy has in hand for a
// client.
const pieceSize = 32 << 10

// maxLargePieces is how many readers may have a whole chunk in hand, a MiB in all. A client that
// takes it at once is served in half the time, and gives it back. Where slow clients hold all of
// them, the others read piece by piece.
const maxLargePieces = 4

// Buffers that have been used, and who has one of the large ones.
var (
	pieces      = sync.Pool{New: func() any { return new([pieceSize]byte) }}
	largePieces = sync.Pool{New: func() any { return new([chunkSize]byte) }}
	largeTaken  = make(chan struct{}, maxLargePieces)
)

// WriteBody writes n bytes of a body from off on to w, or all that follow if n is negative. It
// returns how many went out. Its errors are those of w, and those of the body, which say so.
//
// client is interrupted if nothing more is taken of a body on disk that has been deleted, and that
// keeps others from being stored; nil is for what never waits. The error is ErrIdle then, or what w
// makes of it.
func WriteBody(w io.Writer, b Body, off, n int64, client Interrupter) (written int64, err error) {
	end := endOf(b, off, n)
	if onDisk, ok := b.(*diskBody); ok {
		return onDisk.writeTo(w, off, end, client)
	}
	return writeByChunk(w, b, off, end)
}

// endOf is where n bytes of a body from off on end, or all that follow.
func endOf(b Body, off, n int64) int64 {
	if n < 0 {
		return b.Len()
	}
	return off + n
}

// writeByChunk writes a body of any kind but a diskBody, whose chunks would be copied.
func writeByChunk(w io.Writer, b Body, off, end int64) (written int64, err error) {
	for off+written < end {
		piece, err := b.Chunk(off + written)
		if err != nil {
			return written, errReading(err)
		}
		n, err := w.Write(piece[:min(int64(len(piece)), end-off-written)])
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// writeTo is WriteBody for what is on disk.
func (b *diskBody) writeTo(w io.Writer, off, end int64, client Interrupter) (written int64, err error) {
	if client != nil {
		r := &clientReader{client: client}
		b.pins().addReader(b.id, r)
		defer func() {
			b.pins().removeReader(b.id, r)
			if r.end() && err == nil {
				err = ErrIdle
			}
		}()
	}
	for off+written < end {
		n, err := b.writeOnce(w, off+written, end)
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

func errReading(err error) error { return fmt.Errorf("reading a stored body: %w", err) }

// writeOnce writes what one read has.
func (b *diskBody) writeOnce(w io.Writer, off, end int64) (int64, error) {
	if end-off > pieceSize {
		select {
		case largeTaken <- struct{}{}:
			defer func() { <-largeTaken }()
			room := largePieces.Get().(*[chunkSize]byte)
			n, err := b.writeRead(w, room[:], off, end)
			if err == nil { // else a read that came too late may still be filling it
				largePieces.Put(room)
			}
			return n, err
		default:
		}
	}
	room := pieces.Get().(*[pieceSize]byte)
	n, err := b.writeRead(w, room[:], off, end)
	if err == nil {
		pieces.Put(room)
	}
	return n, err
}

// writeRead writes what one read to room has, and tells of each piece that is taken: a client is
// slow that takes no piece, however many are in hand.
func (b *diskBody) writeRead(w io.Writer, room []byte, off, end int64) (written int64, err error) {
	read, err := b.read(room[:min(int64(len(room)), end-off)], off)
	if err != nil {
		return 0, errReading(err)
	}
	for piece := range slices.Chunk(read, pieceSize) {
		n, err := w.Write(piece)
		b.pins().took(b.id, int64(n))
		written += int64(n)
		if err != nil {
			return written, err
		}
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
	piece, err := b.read(make([]byte, min(pieceSize, b.length-off, chunkSize-off%chunkSize)), off)
	b.pins().took(b.id, int64(len(piece)))
	return piece, err
}

// readChunk reads a piece at most. It goes by way of a buffer, which is not used again after an
// error: a read that came too late may still be filling that.
func (b *diskBody) readChunk(room []byte, off int64) ([]byte, error) {
	piece := pieces.Get().(*[pieceSize]byte)
	n := min(pieceSize, int64(len(room)), b.length-off, chunkSize-off%chunkSize)
	read, err := b.read(piece[:n], off)
	if err != nil {
		return nil, err
	}
	room = room[:copy(room, read)]
	pieces.Put(piece)
	b.pins().took(b.id, int64(len(room)))
	return room, nil
}

// read fills room from off on, as far as the chunk on disk reaches that has these bytes, or of a
// compressed one the last frame that there is room for, and returns what it has filled. Of the
// chunk no more is checked than what is read.
func (b *diskBody) read(room []byte, off int64) ([]byte, error) {
	n := 0 // the helper's, which may go on after a stall
	err := b.s.disk.view(func(tx *bbolt.Tx) error {
		defer b.s.disk.timeRead(time.Now(), int64(len(room)))
		c, err := b.chunk(tx, int(off/chunkSize))
		if err == nil {
			n, err = c.read(room, int(off%chunkSize))
		}
		return err
	})
	if err != nil {
		if !errors.Is(err, errNotThere) {
			b.failed(err)
		}
		return nil, fmt.Errorf("read body: %w", err)
	}
	return room[:n], nil
}

// chunk is one of the body's, in a transaction's memory or in a slot. It is errNotThere for one who
// still reads what a BodyWriter has given up.
func (b *diskBody) chunk(tx *bbolt.Tx, number int) (chunk, error) {
	t := b.s.disk.readBuckets()
	if b.writer != nil {
		switch c, ok := b.writer.chunkInSlot(number, b.length); {
		case ok && c.file != t.slots: // no row leads to it, so it is free in the next use
			return chunk{}, errDetached
		case ok:
			return chunk{slotted: &c}, nil
		case b.writer.isGone():
			return chunk{}, errNotThere
		}
	}
	var err error
	if t.chunks.Bucket, err = openBucket(tx, chunksBucket); err != nil {
		return chunk{}, err
	}
	return t.chunk(b.id, number, b.length)
}

package httpcache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/larder-cache/larder/coalesce"
)

// flightBody is the streaming body of a flight.
type flightBody struct {
	flight *coalesce.Flight
	reader *coalesce.Reader
	ctx    context.Context
	head   []byte // bytes that are read and not sent: those of first, or behind what was sent last
	pos    int64  // of what is sent next; head begins there
	err    error
	length int64           // -1 if not known
	over   <-chan struct{} // closed when the body has been stored

	// patience is how long it waits while the origin sends nothing, and then fails with errStalled;
	// 0 for as long as that takes.
	patience time.Duration

	announced []string // Trailer, for a client that did not get it with the header
}

// first waits for the first bytes or the end. A limit other than zero bounds the wait; past it the
// error is errStalled.
func (b *flightBody) first(limit time.Duration) error {
	ctx := b.ctx
	if limit > 0 && !b.reader.Ready() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, errStalled)
		defer cancel()
	}
	b.head, b.err = b.reader.Next(ctx)
	return b.err
}

// firstAt waits for the byte at a position. Where newcomers that wait as long as limit would not
// join the flight any more, the error is errStalled.
func (b *flightBody) firstAt(off int64, limit time.Duration) error {
	b.reader.Skip(off)
	b.pos = off
	b.head, b.err = b.nextInTime(func() time.Duration { return b.flight.TimeLeft(limit) })
	return b.err
}

// send writes n bytes from off to w, all the rest if n is negative, and returns how many went out.
func (b *flightBody) send(w http.ResponseWriter, off, n int64) (sent int64, err error) {
	if off != b.pos {
		b.reader.Skip(off)
		b.head, b.err, b.pos = nil, nil, off
	}
	for n != 0 {
		chunk, err := b.next(w)
		if n > 0 && int64(len(chunk)) > n {
			b.head, chunk = chunk[n:], chunk[:n] // what follows may be sent next
		}
		if errors.Is(err, io.EOF) || b.length >= 0 && b.pos+int64(len(chunk)) >= b.length {
			b.awaitStored()
			// All announced bytes are here. If the origin sent more, they may not be the response.
			if err := b.flight.Err(); errors.Is(err, errOverlong) {
				return sent, err
			}
		}
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		written, err := w.Write(chunk)
		sent += int64(written)
		if err != nil {
			return sent, err
		}
		b.pos += int64(len(chunk))
		if n > 0 {
			n -= int64(len(chunk))
		}
	}
	return sent, nil
}

// awaitStored keeps the end of a body back until the fetch is over, which is when its handlers have
// returned. A client that has the whole body and asks again gets a hit then, and a purge that it
// sends counts the response.
func (b *flightBody) awaitStored() {
	select {
	case <-b.over: // the usual case; looking at one channel is quicker
		return
	default:
	}
	select {
	case <-b.over:
	case <-b.ctx.Done():
	}
}

// next returns the next bytes. Before it waits for them it flushes what the client has not been
// sent yet.
func (b *flightBody) next(w http.ResponseWriter) ([]byte, error) {
	if len(b.head) > 0 || b.err != nil {
		chunk, err := b.head, b.err
		b.head = nil
		return chunk, err
	}
	if !b.reader.Ready() {
		if err := http.NewResponseController(w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return nil, err
		}
	}
	if b.patience > 0 { // who has a part of the body stays, however slowly it comes
		return b.nextInTime(func() time.Duration { return b.patience - b.flight.Silent() })
	}
	return b.reader.Next(b.ctx)
}

// nextInTime is the part of next that waits, while there is time left.
func (b *flightBody) nextInTime(left func() time.Duration) ([]byte, error) {
	for {
		ctx, cancel := context.WithTimeoutCause(b.ctx, max(1, left()), errStalled)
		chunk, err := b.reader.Next(ctx)
		cancel()
		if !errors.Is(err, errStalled) || left() <= 0 {
			return chunk, err
		}
	}
}

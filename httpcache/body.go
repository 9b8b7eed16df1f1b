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
	head   []byte // what first took
	pos    int64  // of the reader, head not counted as read
	err    error
	length int64           // -1 if not known
	over   <-chan struct{} // closed when the body has been stored

	announced []string // Trailer, for who has not got it with the header
}

// first waits for the first bytes, or the end; with a limit that is not zero so long, then its
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

func (b *flightBody) send(w http.ResponseWriter, off, n int64) error {
	if off != b.pos {
		b.reader.Skip(off)
		b.head, b.err, b.pos = nil, nil, off
	}
	for n != 0 {
		chunk, err := b.next(w)
		if errors.Is(err, io.EOF) || b.length >= 0 && b.pos+int64(len(chunk)) >= b.length {
			b.awaitStored()
			if err := b.flight.Err(); errors.Is(err, errOverlong) { // the announced bytes are there, but are they the response?
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 && int64(len(chunk)) > n {
			chunk = chunk[:n]
		}
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		b.pos += int64(len(chunk))
		if n > 0 {
			n -= int64(len(chunk))
		}
	}
	return nil
}

// awaitStored keeps the end of a body back until the fetch is over, which is when its handlers have
// returned: a client that has the whole and asks again is to have a hit, and one that purges is to
// have it counted.
func (b *flightBody) awaitStored() {
	select {
	case <-b.over: // as a rule; to look at one channel is quicker
		return
	default:
	}
	select {
	case <-b.over:
	case <-b.ctx.Done():
	}
}

// next returns the next bytes. Before it has to wait for them it sends on what the client is owed.
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
	return b.reader.Next(b.ctx)
}

package httpcache

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/larder-cache/larder/coalesce"
)

// writeBreak ends writes of a request's answer that hang. It is used by goroutines of others,
// beside the client's own, and there is none before the client is given up: a hit has no room for
// one.
type writeBreak struct {
	mu    sync.Mutex
	again *time.Timer // nil until a write is broken off
}

// breakAgain is after how long a write is broken off again. A writer above the connection may have
// set a later deadline in the same moment.
const breakAgain = time.Second

// bodyClient is the client of a request as the reader of a stored body.
type bodyClient Request

// Interrupt implements store.Interrupter.
func (c *bodyClient) Interrupt() int {
	(*Request)(c).breakWrite()
	return 1
}

// breakWrite ends a write that hangs, so that it does not keep its goroutine, and those of the same
// answer that follow. What has gone out whole is left alone: a part of it may be in a buffer still,
// and a deadline would keep that from the client. It runs on a goroutine of neither the client nor
// the fetch.
func (q *Request) breakWrite() {
	q.breaking.CompareAndSwap(nil, new(writeBreak))
	q.breakIfSending()
}

// breakIfSending ends a write of an answer that is under way, if the client is given up.
func (q *Request) breakIfSending() {
	b := q.breaking.Load()
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if q.sending.Load() {
		q.endWrite(b)
	}
}

// beginSending has writes broken off again and again if the client is given up, or has been.
func (q *Request) beginSending() {
	q.sending.Store(true) // before it looks: else neither this nor breakWrite might see the other
	q.breakIfSending()
}

// endSending ends that. The writer is not used by another goroutine for it afterwards.
func (q *Request) endSending() {
	q.sending.Store(false)
	b := q.breaking.Load()
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.again != nil {
		b.again.Stop()
	}
}

// endWrite ends a write with a deadline. A panic of the writer would end the process.
func (q *Request) endWrite(b *writeBreak) {
	w := deadlineWriter(q.w)
	if w == nil {
		return
	}
	// HTTP/2 resets the stream at once for a deadline that has passed.
	err := guarded(func() error { return w.SetWriteDeadline(time.Now().Add(-time.Second)) })
	if p, ok := errors.AsType[*coalesce.PanicError](err); ok {
		q.route.logPanic("panic of a response writer at SetWriteDeadline", p)
		return
	}
	if b.again == nil {
		b.again = time.AfterFunc(breakAgain, q.breakIfSending)
	} else {
		b.again.Reset(breakAgain)
	}
}

// writeDeadliner is what [http.ResponseController] looks for.
type writeDeadliner interface{ SetWriteDeadline(time.Time) error }

// deadlineWriter returns the writer nearest to the connection that takes a deadline, nil if none
// does. The server's own may be given one on any goroutine. Those above it may keep it in a field
// that the client's goroutine reads, as Caddy's do for the time that a write may take.
func deadlineWriter(w http.ResponseWriter) (nearest writeDeadliner) {
	for w != nil {
		if d, ok := w.(writeDeadliner); ok {
			nearest = d
		}
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = outer.Unwrap()
	}
	return nearest
}

package httpcache

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// A client may leave before the origin has answered its unsafe request. A proxy would cancel the
// request then, and no one would learn whether it has succeeded. But what has succeeded is to be
// invalidated (RFC 9111 4.4), whether its client has waited or not. What has not been answered must
// not be: then any client could empty a page by leaving early. So the request outlives its client
// until the response header.

const (
	// outliveTime is how long a request outlives its client at most.
	outliveTime = 10 * time.Second
	// maxOutliving is how many do so at most, see places.go. What finds no place is cancelled at
	// once, as without a cache.
	maxOutliving = 256
)

// lasting is a request's context that outlives its client.
type lasting struct {
	ctx      context.Context
	client   context.Context // what the request had before
	answered chan struct{}   // closed at the header
	cancel   context.CancelCauseFunc
	forget   func() bool // the end of client
}

// outlive gives the client's request a context that outlives the client until seeThrough: at the
// header, or when the handlers have returned. A request that invalidates nothing keeps its own.
func (pw *passWriter) outlive() {
	if pw.invalidation == nil {
		return
	}
	r, client := pw.q.r, pw.q.r.Context()
	ctx, cancel := context.WithCancelCause(pw.invalidation.ctx)
	answered, of := make(chan struct{}), pw.q.holder()
	forget := context.AfterFunc(client, func() {
		if !errors.Is(client.Err(), context.DeadlineExceeded) {
			pw.goOn(answered, of)
		}
		cancel(context.Cause(client))
	})
	pw.lasting = &lasting{ctx: ctx, client: client, answered: answered, cancel: cancel, forget: forget}
	// In place: handlers may rewrite the request, and those in front of the cache see that.
	*r = *r.WithContext(ctx)
}

// seeThrough is called at the header: from now on the request ends with its client. It reports
// whether that has left already.
func (pw *passWriter) seeThrough() (left bool) {
	l := pw.lasting
	if l == nil || l.answered == nil {
		return false
	}
	close(l.answered)
	l.answered = nil
	return errors.Is(l.client.Err(), context.Canceled)
}

// forgetUnanswered is called when the handlers have returned. What they have written nothing of
// until their request was cancelled has not been answered, whether they say so by an error or not.
func (pw *passWriter) forgetUnanswered() {
	if l := pw.lasting; l != nil && !pw.wroteHeader && l.ctx.Err() != nil {
		pw.invalidation = nil
	}
}

// handBack ends what outlive has begun when the handlers have returned. The request has its
// client's context again, unless handlers have given it another one. The server ends that of each
// client, and if it were still waited for then, each request would cost a goroutine.
func (pw *passWriter) handBack() {
	pw.seeThrough()
	l, r := pw.lasting, pw.q.r
	if l == nil || r.Context() != l.ctx || !l.forget() {
		return
	}
	*r = *r.WithContext(l.client)
	l.cancel(nil)
}

// writeGone answers a client that has left before the header, as a proxy does that cancels its
// request. The handlers get no body any more, so with the origin's header a client that has closed
// only its own side of the connection would take what it gets for the whole of a response.
func (pw *passWriter) writeGone(h http.Header) {
	pw.bodiless = true
	clear(h)
	h["Content-Length"] = []string{"0"}
	pw.decision.Detail = DetailClientGone
	pw.decide()
	pw.q.sendStatus(h, &rfc9111.CacheStatus{Forward: pw.q.decision.Forward, Detail: pw.q.decision.Reason()})
	pw.ResponseWriter.WriteHeader(statusClientGone)
}

// goOn returns when a request that outlives its client has its header or has had its time, or when
// another one needs its place.
func (pw *passWriter) goOn(answered <-chan struct{}, of holder) {
	select {
	case <-answered: // as nearly always
		return
	default:
	}
	o := &pw.q.cache().outliving
	if !o.take(of, maxOutliving) {
		return
	}
	defer o.give(of)
	needed := make(chan struct{})
	pw.q.route.Budget.Unattended(&pw.visit.place, time.Now().Add(outliveGrace), func() bool {
		close(needed)
		return true
	})
	timer := time.NewTimer(outliveTime)
	defer timer.Stop()
	select {
	case <-answered:
	case <-needed:
	case <-timer.C:
	}
}

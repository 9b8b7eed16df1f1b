package httpcache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
)

// mode is where the body of a fetch goes.
type mode uint8

const (
	modeUndecided mode = iota // no header yet
	modeShared                // into the flight, for all its requests
	modePassed                // to the leader's client, straight through
	modeDiscarded             // nowhere
)

// fetchWriter is the http.ResponseWriter of a fetch. It belongs to the goroutine of the fetch.
type fetchWriter struct {
	fetch     *Fetch
	header    http.Header
	mode      mode
	status    int
	reason    rfc9111.Reason // why it is not stored
	headerAt  time.Time
	declared  int64 // Content-Length, -1 for none
	written   int64
	skip      int64           // bytes of the body before the slice
	flushed   bool            // before the first byte
	postponed *postponed      // a decision at the first byte, not at the header
	shared    *sharedResponse // in modeShared, if the body is from the origin
	out       *passWriter     // in modePassed
}

// init makes w the writer of one call of the handlers.
func (w *fetchWriter) init(x *Fetch) {
	w.fetch, w.header, w.declared = x, lend(x.seed), -1
}

// Header returns the fetch's own header map, or the client's once the response goes there.
func (w *fetchWriter) Header() http.Header {
	if w.out != nil {
		return w.out.Header()
	}
	return w.header
}

// statusUnwritten stands for the status of an answer of which the handlers have written nothing, as
// a proxy does where a 101 comes that was not asked for. net/http makes an empty 200 of that, and
// its client gets that here. But no origin has said that the resource is empty, so it is judged as
// what is not final: it is for its client alone, and says nothing of the origin.
const statusUnwritten = http.StatusContinue

// sent is the status that a client gets for one that an answer is judged by.
func sent(status int) int {
	if status == statusUnwritten {
		return http.StatusOK
	}
	return status
}

// WriteHeader takes the response header, which decides everything.
func (w *fetchWriter) WriteHeader(status int) {
	switch {
	case w.out != nil:
		w.out.WriteHeader(status)
		return
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		w.inform(status)
		return
	case w.status != 0:
		return
	}
	w.takeHeader(status)
}

// takeHeader takes the header with the status by which it is judged. That is statusUnwritten from
// finish, and from an observer whose passWriter is unwritten, and else what handlers have written.
// sent makes of it what a client gets.
func (w *fetchWriter) takeHeader(status int) {
	w.status, w.headerAt = status, time.Now()
	if status != http.StatusNoContent && status != http.StatusNotModified {
		w.declared = declaredLength(w.header)
	}
	w.fetch.origin.HeaderWritten()
	if w.fetch.cancelled() {
		return
	}
	w.fetch.visit.answered(status, w.header, lengthToCome(status, w.declared))
	if w.fetch.isSliceFetch() {
		w.fetch.takeSlice(status, w.header)
		return
	}
	if w.fetch.takePart(status, w.header) {
		return
	}
	v, exchange, freshness := w.fetch.verdict(w.status, w.header)
	if freshness != nil {
		w.reason = freshness.Reason
	}
	w.fetch.carryOut(v, &exchange, freshness)
}

// inform passes a 1xx on at once, to the leader's client if it waits (RFC 9110 15.2). It is never
// stored. The fetch does not wait until it is written, because that client may read nothing.
func (w *fetchWriter) inform(status int) {
	if status < http.StatusContinue {
		// As net/http does, which would do so on the leader's goroutine.
		panic(fmt.Sprintf("invalid WriteHeader code %d", status))
	}
	if w.fetch.isSliceFetch() {
		return // the client has its header, or will get one that is made of the stored one
	}
	header := w.header.Clone()
	w.fetch.route.stripTags(header)
	w.fetch.flight.Inform(func(lent any) { lent.(leader).inform(status, header) })
}

// postponed is a decision that waits for the first byte of the body, or for its clean end without
// one.
type postponed struct {
	decide func()
	// As it was at WriteHeader: what handlers add to their map later are trailers.
	header http.Header
}

func (w *fetchWriter) postpone(decide func()) {
	w.postponed = &postponed{decide, w.header.Clone()}
}

// decidePostponed makes the postponed decision, once.
func (w *fetchWriter) decidePostponed() {
	if p := w.postponed; p != nil && p.decide != nil {
		decide := p.decide
		p.decide = nil
		decide()
	}
}

// passToLeader makes the response go straight to the leader's client from now on.
func (w *fetchWriter) passToLeader(to leader, reason rfc9111.Reason) {
	w.mode = modePassed
	header := w.header
	if w.postponed != nil {
		header = w.postponed.header
	}
	w.out = to.passResponse(w.fetch, header, reason)
	w.out.received = w.headerAt
	if w.untyped() {
		leaveUntyped(w.out.Header())
	}
	w.out.WriteHeader(sent(w.status))
}

// untyped reports whether the client is to get no Content-Type. net/http guesses one from the first
// bytes, unless the header goes out before them or has nil in its place. Without a cache the header
// goes out with the first flush. Here it waits for the first byte (RFC 9110 8.3).
func (w *fetchWriter) untyped() bool {
	values, present := w.header["Content-Type"]
	return len(values) == 0 && (w.flushed || present)
}

func (w *fetchWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.fetch.visit.received(int64(len(p)))
	w.decidePostponed()
	n, err := w.pass(p)
	if err != nil {
		w.fetch.visit.cutShort()
	}
	return n, err
}

// pass passes bytes of the body on to those who wait for them.
func (w *fetchWriter) pass(p []byte) (int, error) {
	switch w.mode {
	case modePassed:
		return w.out.Write(p)
	case modeShared:
		if w.shared == nil {
			return len(p), nil // a 304 has no body, and a failure's is not sent
		}
		if w.written == 0 && w.untyped() {
			w.shared.untyped.Store(true) // before any reader gets the byte that it waits for
		}
		w.written += int64(len(p))
		w.keepWhole()
		w.fetch.tellGrowth(w.written)
		if w.declared >= 0 && w.written > w.declared {
			return 0, errOverlong
		}
		return w.writeBehind(p)
	case modeUndecided:
		if w.fetch.asksOnceMore() {
			return 0, errNotShareable
		}
		return len(p), nil
	case modeDiscarded:
	}
	return 0, errNotShareable
}

// keepWhole has what has come whole be stored, also when its last client has left.
func (w *fetchWriter) keepWhole() {
	if w.fetch.forced && w.written == w.declared && w.shared.storable() {
		w.fetch.flight.Keep(true)
	}
}

// writeBehind writes to the flight what does not stand before the slice.
func (w *fetchWriter) writeBehind(p []byte) (int, error) {
	left := min(w.skip, int64(len(p)))
	w.skip -= left
	if left == int64(len(p)) {
		return len(p), nil
	}
	n, err := w.fetch.flight.Write(p[left:])
	return int(left) + n, err
}

// ReadFrom implements io.ReaderFrom: an embedded one would go past Write.
func (w *fetchWriter) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.out != nil {
		n, err := w.out.ReadFrom(r)
		if n > 0 {
			w.fetch.visit.received(n)
		}
		if err != nil {
			w.fetch.visit.cutShort()
		}
		return n, err
	}
	return copyThrough(w, r)
}

// FlushError implements what http.ResponseController looks for. Readers of a flight see every byte
// at once anyway. A postponed decision goes on waiting for the first byte: proxies flush a header
// even if the body then breaks off.
func (w *fetchWriter) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.out != nil {
		return w.out.FlushError()
	}
	w.flushed = w.flushed || w.written == 0
	return nil
}

// Flush implements http.Flusher, for handlers that ask for it by type.
func (w *fetchWriter) Flush() { _ = w.FlushError() }

// Unwrap returns the client's writer for http.ResponseController, once there is one.
func (w *fetchWriter) Unwrap() http.ResponseWriter {
	if w.out != nil {
		return w.out
	}
	return nil
}

// finish ends the flight with what the handlers returned.
func (w *fetchWriter) finish(err error) {
	if err == nil && w.status == 0 && !w.fetch.foreign304 {
		w.takeHeader(statusUnwritten)
	}
	if err == nil {
		w.decidePostponed()
	}
	flight := w.fetch.flight
	switch w.mode {
	case modeUndecided:
		if err == nil {
			err = errForeign304
		}
		w.failed(err)
	case modeShared:
		w.finishShared(err)
	case modePassed:
		if err != nil {
			w.out.finish()
			flight.Fail(err)
			return
		}
		// Handlers that called Header early still write to the fetch's own map.
		setTrailers(w.out.Header(), w.trailer())
		w.out.finish()
		flight.Finish(nil)
	case modeDiscarded: // the flight has failed already
	}
}

func (w *fetchWriter) finishShared(err error) {
	x := w.fetch
	if w.shared == nil { // the answer came from the store
		x.flight.Finish(nil)
		return
	}
	switch {
	case w.declared < 0 || w.written == w.declared:
	case w.written > w.declared && !errors.Is(err, errOverlong): // whatever the handlers made of it
		err = errors.Join(errOverlong, err)
	case err == nil:
		err = errIncomplete
	}
	if err != nil {
		if x.isUnread() {
			x.keepFromOthers()
		} else {
			x.noteBroken()
			x.backOff()
			x.tellFailure(http.StatusBadGateway, rfc9111.NoAnswer)
		}
		x.countNotStored(rfc9111.ReasonIncomplete)
		x.notStored()
		x.flight.Fail(err)
		return
	}
	x.cameWhole()
	trailer := w.trailer()
	rfc9111.CleanTrailer(w.header, trailer)
	x.flight.Finish(trailer)
	if !w.shared.storable() {
		return
	}
	if reason := x.route.Policy.TrailerReason(trailer); reason != rfc9111.Storable {
		x.countNotStored(reason)
	} else {
		x.store(w.shared, trailer)
	}
	x.notStored()
}

// failed ends a fetch that has no response. It counts as a response that says the origin failed,
// except for handlers that return their 4xx as an error (as for a missing file).
func (w *fetchWriter) failed(err error) {
	x := w.fetch
	if x.cancelled() {
		return
	}
	if refusalOf(err) != nil { // the origin was not asked, so it says nothing of the response
		w.mode = modeDiscarded
		x.flight.Fail(err)
		return
	}
	status, failure := statusOf(err), failureOf(err)
	if x.isSliceFetch() {
		x.takeNoSlice(status, failure, nil, err)
		return
	}
	if w.status != 0 { // the answer broke off
		failure = rfc9111.NoAnswer
	}
	x.backOff()
	x.tellFailure(status, failure)
	x.noteFailure(failure)
	x.cache.unstoredReasons.noteError(x.key, status)
	x.trace.failed(status, err)
	switch {
	case x.staleStandsIn(failure):
		x.share(x.staleOnError(status, failure), 0)
		x.flight.Finish(nil)
		return
	case status < http.StatusInternalServerError:
		x.updateHitForMiss(status, &rfc9111.Freshness{Reason: rfc9111.ReasonStatus, ResponseTime: time.Now()})
		x.removeGone(status, x.begun)
		x.flight.Release()
		x.flight.TakeOver()
	case x.flight.Attempt() == 1:
		x.flight.Reject()
		x.flight.TakeOver()
	}
	x.flight.Fail(err)
}

// failureOf returns the status with which a fetch failed whose handlers returned err, or
// [rfc9111.NoAnswer]: for a panic, and where a proxy found no upstream or had no answer.
func failureOf(err error) int {
	if _, panicked := errors.AsType[*coalesce.PanicError](err); panicked {
		return rfc9111.NoAnswer
	}
	return failureBy(statusOf(err))
}

// failureBy returns the failure that a status tells of, where it is not known whether the origin
// has answered with it or a proxy has given it to a fetch without an answer.
func failureBy(status int) int {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return rfc9111.NoAnswer
	default:
		return status
	}
}

// trailer collects the fields that handlers set behind the header: announced ones, and those with
// net/http's prefix.
func (w *fetchWriter) trailer() http.Header {
	var trailer http.Header
	add := func(name string, values []string) {
		if len(values) == 0 || isUntouched(w.fetch.seed, name, values) {
			return // fields of outer handlers belong to their client
		}
		if trailer == nil {
			trailer = make(http.Header)
		}
		name = http.CanonicalHeaderKey(strings.TrimPrefix(name, http.TrailerPrefix))
		trailer[name] = append(trailer[name], values...)
	}
	for name := range fieldNames(w.header["Trailer"]) {
		if _, again := trailer[name]; !again { // a name that is announced twice counts once
			add(name, w.header[name])
		}
	}
	for name, values := range w.header {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			add(name, values)
		}
	}
	return trailer
}

// copyThrough copies r to w by its Write, although it may have a ReadFrom.
func copyThrough(w io.Writer, r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, r, *buf)
}

var copyBuffers = sync.Pool{New: func() any {
	buf := make([]byte, 32<<10)
	return &buf
}}

// Interface guards.
var (
	_ http.ResponseWriter = (*fetchWriter)(nil)
	_ http.Flusher        = (*fetchWriter)(nil)
	_ io.ReaderFrom       = (*fetchWriter)(nil)
)

package httpcache

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// passWriter passes a response straight through to one client. At the header it removes the fields
// that clients do not get and adds the cache's member of Cache-Status. Flush, hijack and trailers
// are the real writer's. That holds for a 101 too: the handlers have the connection for what
// follows it, which is another protocol's, but its header is HTTP's.
type passWriter struct {
	http.ResponseWriter
	q         *Request
	visit     visit // of a request that no fetch was begun for
	decision  Decision
	fwdStatus int // the response's status, if Cache-Status tells it

	// received is when the response arrived. It is set where the client's own conditionals did not
	// reach the origin, so a whole 200 still has to be judged by them.
	received time.Time
	// invalidation is what the request invalidates if it succeeds, nil for safe methods.
	invalidation *invalidation
	lasting      *lasting // set by outlive

	// Set by willRecord.
	records       bool
	ownQuery      bool     // the origin is asked with a query that is not the key's, see hasOwnQuery
	session       []string // that the request came within
	hitForMissKey store.Key
	fields        uint64           // fieldsSum of the request as it came, where record may need it
	removeGone    func(status int) // see goneOnPass

	observed    *observed // of a route that observes; decision is then what would have been
	wroteHeader bool
	unwritten   bool // the header is not the handlers', which have written nothing
	room        statusRoom
	hijacked    bool // the handlers have the connection
	bodiless    bool // the origin's body is not part of this answer
	toHead      bool // the server drops the body
	flushEach   bool // RFC 10036, X-Accel-Buffering
}

func newPassWriter(q *Request, d Decision) *passWriter {
	pw := &passWriter{
		ResponseWriter: q.w, q: q, decision: d, observed: q.observed(), toHead: q.r.Method == http.MethodHead,
	}
	q.room = &pw.room
	q.trace.passed()
	return pw
}

// WriteHeader passes the header on.
func (pw *passWriter) WriteHeader(status int) {
	if pw.wroteHeader {
		return
	}
	h := pw.Header()
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		if pw.observed == nil {
			pw.q.route.stripTags(h)
		}
		pw.q.sendInformational(pw.ResponseWriter, status)
		return
	}
	pw.wroteHeader = true
	declared := declaredLength(h)
	pw.visit.answered(status, h, pw.lengthToCome(status, declared))
	if pw.records {
		pw.record(pw.judged(status), h, declared)
	}
	if pw.removeGone != nil {
		pw.removeGone(status)
	}
	if pw.invalidation != nil {
		pw.invalidation.carryOut(status, h)
	}
	if pw.seeThrough() && status != http.StatusSwitchingProtocols {
		pw.writeGone(h)
		return
	}
	if pw.observed != nil {
		pw.writeObserved(status, h)
		return
	}
	pw.flushEach = rfc9111.Incremental(h) || h.Get("X-Accel-Buffering") == "no"
	pw.q.route.stripTags(h)
	if pw.decision.Forward == rfc9111.ForwardStale {
		pw.fwdStatus = status
	}
	pw.decide()
	if !pw.received.IsZero() && pw.q.notModified(status, h, pw.received) {
		pw.bodiless = true
		pw.fwdStatus = status
		overwriteWithNotModified(h)
		status = http.StatusNotModified
	}
	pw.q.sendStatus(h, &rfc9111.CacheStatus{Forward: pw.decision.Forward, FwdStatus: pw.fwdStatus, Detail: pw.decision.Reason()})
	pw.ResponseWriter.WriteHeader(status)
}

// judged is the status by which an answer is judged whose client gets this one. To a HEAD handlers
// may answer by a header alone.
func (pw *passWriter) judged(status int) int {
	if pw.unwritten && !pw.toHead {
		return statusUnwritten
	}
	return status
}

// lengthToCome is that of the origin's body.
func (pw *passWriter) lengthToCome(status int, declared int64) int64 {
	if pw.toHead {
		return 0
	}
	return lengthToCome(status, declared)
}

func (pw *passWriter) Write(p []byte) (int, error) {
	if !pw.wroteHeader {
		pw.WriteHeader(http.StatusOK)
	}
	pw.visit.received(int64(len(p)))
	if pw.bodiless {
		return len(p), nil
	}
	n, err := pw.ResponseWriter.Write(p)
	pw.count(int64(n))
	if err != nil {
		pw.visit.cutShort()
	}
	if pw.observed != nil {
		pw.observed.wrote(p[:n], err)
	}
	if err == nil && pw.flushEach {
		err = pw.FlushError()
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom with the real writer's unless each write needs work here.
func (pw *passWriter) ReadFrom(r io.Reader) (int64, error) {
	if !pw.wroteHeader {
		pw.WriteHeader(http.StatusOK)
	}
	if pw.bodiless || pw.flushEach || pw.observed.reads() {
		return copyThrough(pw, r)
	}
	n, err := io.Copy(pw.ResponseWriter, r)
	if n > 0 {
		pw.visit.received(n)
	}
	if err != nil {
		pw.visit.cutShort()
	}
	pw.count(n)
	return n, err
}

// count counts bytes of the body that the client is sent.
func (pw *passWriter) count(n int64) {
	if !pw.toHead {
		pw.q.sent += n
	}
}

// FlushError implements what http.ResponseController looks for.
func (pw *passWriter) FlushError() error {
	if !pw.wroteHeader {
		pw.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(pw.ResponseWriter).Flush()
}

// Unwrap returns the client's writer, for http.ResponseController.
func (pw *passWriter) Unwrap() http.ResponseWriter { return pw.ResponseWriter }

// Push implements http.Pusher with the real writer's.
func (pw *passWriter) Push(target string, options *http.PushOptions) error {
	if pusher, ok := pw.ResponseWriter.(http.Pusher); ok {
		return pusher.Push(target, options)
	}
	return http.ErrNotSupported
}

// Flush implements http.Flusher, for handlers that ask for it by type.
func (pw *passWriter) Flush() { _ = pw.FlushError() }

// Hijack implements http.Hijacker with the real writer's. What the handlers then write to the
// connection is theirs.
func (pw *passWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(pw.ResponseWriter).Hijack()
	if err == nil && !pw.wroteHeader {
		pw.decide()
	}
	if pw.hijacked = err == nil; pw.hijacked {
		pw.visit.received(0)
	}
	return conn, rw, err
}

// finish removes tags from the trailers, which are what the handlers have left in the header map.
func (pw *passWriter) finish() {
	if pw.observed != nil {
		return
	}
	h := pw.Header()
	pw.q.route.stripTags(h)
	for name := range h {
		if bare, marked := strings.CutPrefix(name, http.TrailerPrefix); marked && pw.q.route.Tags.strips(http.CanonicalHeaderKey(bare)) {
			delete(h, name)
		}
	}
}

// inform implements leader.
func (q *Request) inform(status int, header http.Header) {
	own := q.w.Header().Clone()
	replaceHeader(q.w.Header(), header)
	q.sendInformational(q.w, status)
	replaceHeader(q.w.Header(), own)
}

// sendInformational sends a 1xx. The header map changes afterwards, and where the client resets its
// stream HTTP/2 still reads it, which may end the process. net/http copies a map that it must leave
// Content-Length out of, as no 1xx has one (RFC 9110 8.6).
func (q *Request) sendInformational(w http.ResponseWriter, status int) {
	const name = "Content-Length"
	if h := w.Header(); q.r.ProtoMajor == 2 && len(h[name]) == 0 {
		h[name] = []string{"0"}
		defer delete(h, name)
	}
	w.WriteHeader(status)
}

// passResponse implements leader.
func (q *Request) passResponse(x *Fetch, header http.Header, reason rfc9111.Reason) *passWriter {
	x.expose(q.origin)
	replaceHeader(q.w.Header(), header)
	out := newPassWriter(q, Decision{Outcome: OutcomeMiss, Forward: q.forward, NotStored: reason})
	out.invalidation = q.invalidation() // RFC 9111 4.4 for a POST that may not be stored
	return out
}

// bypass passes the request to the origin and the response to the client. Nothing is stored, and no
// request waits for it.
func (q *Request) bypass(why Bypass) error {
	q.prepareToPass()
	out := newPassWriter(q, Decision{Outcome: OutcomeBypass, Bypass: why, Forward: rfc9111.ForwardBypass})
	if out.invalidation = q.invalidation(); out.invalidation != nil {
		q.cache().acquire() // its store is purged when it has succeeded
		defer q.cache().release()
	}
	if why == BypassCoalesceWait {
		out.willRecord()
	}
	return q.pass(out)
}

// passUncached passes the client's own request to the origin and the response straight to the
// client. It is not stored, and no request waits for it. If the answer could have been stored, the
// next request fetches for all.
func (q *Request) passUncached(forward rfc9111.Forward, reason rfc9111.Reason) error {
	q.prepareToPass()
	q.rewind()
	out := newPassWriter(q, Decision{Outcome: OutcomeMiss, Forward: forward, NotStored: reason})
	out.invalidation = q.invalidation()
	out.willRecord()
	return q.pass(out)
}

// prepareToPass makes the client's own request the one that the origin gets.
func (q *Request) prepareToPass() {
	if q.observed() != nil {
		q.observed().restore(q.r)
		return
	}
	rfc9111.AppendCDNLoop(q.r.Header, loopToken)
}

// willRecord makes record run at the header. It notes what the request is before handlers rewrite
// it in place.
func (pw *passWriter) willRecord() {
	q := pw.q
	pw.records, pw.hitForMissKey = true, q.hitForMissKey()
	pw.session = q.r.Header[rfc9111.SessionField]
	if pw.ownQuery = q.hasOwnQuery(); !pw.ownQuery {
		pw.removeGone = q.goneOnPass()
	}
	if q.cache().shareable.lately(pw.hitForMissKey, q.now) || q.cache().knowsFields(pw.hitForMissKey, q.now) {
		pw.fields = q.fieldsSum()
	}
}

// fieldsSum is fieldsSum of the request, 0 where nothing could be remembered by it when it came:
// the handlers have its header.
func (pw *passWriter) fieldsSum() uint64 { return pw.fields }

// record notes for the next requests whether a response that is passed on could have been stored. A
// response to HEAD is not noted: the one to GET may differ. Nor is one to a query of its own.
func (pw *passWriter) record(status int, header http.Header, declared int64) {
	q := pw.q
	ex := pw.exchange(status, header)
	passed := q.route.judgePassed(&ex, declared)
	q.trace.judged(q.route, &ex, &passed)
	shared := &passed
	// A 304 and a 206 are about a 200 that other requests get.
	if status == http.StatusNotModified || status == http.StatusPartialContent {
		ex.Status = http.StatusOK
		whole := q.route.judgePassed(&ex, completeLength(header))
		if shared = &whole; pw.observed != nil {
			passed = whole // without the client's conditionals the 200 would have come
		}
	}
	if q.r.Method != http.MethodHead && !pw.ownQuery {
		q.cache().updateHitForMiss(pw.hitForMissKey, pw.fieldsSum, status, shared)
	}
	if passed.Reason != rfc9111.Storable && pw.decision.Outcome != OutcomeBypass {
		q.countNotStored(passed.Reason, status, ex.ResponseTime)
		pw.decision.NotStored = passed.Reason
	}
}

// exchange returns the response that is passed on in the form in which a fetch would judge it.
func (pw *passWriter) exchange(status int, header http.Header) rfc9111.Exchange {
	q := pw.q
	ex := rfc9111.Exchange{
		Method: q.keyed.method, Status: status, Header: header, RequestTime: pw.visit.place.Begun(), ResponseTime: time.Now(),
		Authorized: q.authorized, UnkeyedCookie: q.unkeyedCookie, RequestNoStore: q.directives.NoStore,
		BeginsSession: q.route.beginsSession(header, pw.session),
	}
	if len(header["Vary"]) > 0 {
		names, _ := rfc9111.VaryNames(header)
		ex.VaryUnseen = !q.seesAll(names) || !q.seesAll(rfc9111.VaryConditions(header))
	}
	if q.route.Policy.DeceptionGuard { // no other rule needs the URL
		ex.URL = q.URL()
	}
	return ex
}

// completeLength is the length in Content-Range, -1 where it is not given (RFC 9110 14.4).
func completeLength(h http.Header) int64 {
	_, complete, _ := strings.Cut(h.Get("Content-Range"), "/")
	n, err := strconv.ParseInt(complete, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// maxWaitingBody is the largest body that is read before its request waits for a place.
const maxWaitingBody = 16 << 10

// enter gets a place for the request that is passed on. Over HTTP/1.1 the server does not learn
// that a client has left before it has read the body. So a small one is read before the request
// waits, or requests of clients that have left would keep others from the queue. Chunks may take as
// long as they like, and who waits to be asked for the body (Expect) is not, for a place that there
// may not be.
func (q *Request) enter(out *passWriter) error {
	r, ctx := q.r, q.r.Context()
	if r.ProtoMajor == 1 && r.ContentLength > 0 && r.ContentLength <= maxWaitingBody && len(r.Header["Expect"]) == 0 && q.mustWait() {
		readAhead(r, maxWaitingBody)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return out.visit.enter(ctx, q, FetchPass, origin.ClassWaiting)
}

// mustWait reports whether a request that comes to the origin now waits for a place.
func (q *Request) mustWait() bool {
	why := q.route.Budget.Standing(time.Now(), 0)
	return why == origin.Busy || why == origin.Paused
}

// pass asks the origin on the client's own goroutine, when it has a place for the request.
func (q *Request) pass(out *passWriter) error {
	if q.observed() != nil {
		out.visit.attend(q.r.Context(), q.route)
	} else if err := q.enter(out); err != nil {
		if refusal := refusalOf(err); refusal != nil {
			return q.respondRefused(refusal, out.decision.Outcome)
		}
		return q.respondGone() // while it waited
	}
	err := q.askOrigin(out)
	out.finish()
	if !out.wroteHeader && !out.hijacked {
		out.endUnwritten(err)
	}
	return err
}

// endUnwritten ends an answer of which the handlers have written nothing.
func (pw *passWriter) endUnwritten(err error) {
	if err == nil {
		pw.writeUnwritten()
		return
	}
	if pw.removeGone != nil {
		pw.removeGone(statusOf(err))
	}
	if pw.decision.Reason() == "" {
		pw.decision.Detail = DetailError
	}
	pw.q.trace.failed(statusOf(err), err)
	pw.decide()
}

// writeUnwritten writes the header that net/http sends for handlers that have written none.
func (pw *passWriter) writeUnwritten() {
	pw.unwritten = true
	pw.WriteHeader(sent(statusUnwritten))
}

// decide records how the request is answered. On a route that observes that is not what the
// decision says, which would have been.
func (pw *passWriter) decide() {
	if pw.observed != nil {
		pw.q.decide(pw.decision.observed())
		return
	}
	pw.q.decide(pw.decision)
}

// askOrigin has the origin answer the client's own request.
func (q *Request) askOrigin(out *passWriter) (err error) {
	err = errPanic // unless the handlers return
	defer func() {
		out.visit.leave(q, err, out.Header())
		if out.observed != nil {
			out.endObserved(err)
		}
	}()
	out.visit.watch(q.r)
	out.outlive()
	defer out.handBack()
	err = q.origin.ServeHTTP(out, q.r)
	out.forgetUnanswered()
	return err
}

// Interface guards.
var (
	_ leader              = (*Request)(nil)
	_ http.ResponseWriter = (*passWriter)(nil)
	_ http.Flusher        = (*passWriter)(nil)
	_ http.Hijacker       = (*passWriter)(nil)
	_ io.ReaderFrom       = (*passWriter)(nil)
)

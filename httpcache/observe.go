package httpcache

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A route that observes (Rules.Observe) tells its story as any other, up to where a request would
// be answered. There the client's own request is passed to the origin, as without a cache: nothing
// of it is changed, it waits for no other request, and no budget holds it back. What would have
// been is in the passWriter's decision.
//
//	would have been    the answer of the origin is
//	───────────────    ───────────────────────────
//	hit, stale         compared with what is stored (compare.go), and kept for nothing, as the origin
//	                   would not have been asked
//	stale, refreshed   compared, and copied: it is the answer that the refresh would have brought
//	miss, revalidated  copied to a Fetch, which decides, stores and renews as ever
//	collapsed          neither: the copy is another request's
//	bypass             neither
//
// A copy is a Fetch with a flight that no request waits for. It reads along while the origin
// answers its client, so it costs the origin nothing and its body may be in memory only, within the
// same budget as a fetch's. Where there is no room it is given up. What is copied was not asked for
// by a fetch, and two things follow.
//
//   - A 304 or 206 to a client's own conditionals or Range is not the whole, nor is an answer to
//     HEAD. It is not stored. A 304 renews what is stored if it names that by its validator (RFC
//     9111 4.3.4). A 412 and a 416 are about the client's conditions, too.
//   - A fetch may ask in other words: without the parameters that the key leaves out, by the host's
//     canonical spelling. An answer to the client's words may repeat them, so it is stored with
//     flagObserved, and a route that serves does not use it. It removes nothing and leaves no hit
//     for miss. Everything else that is stored is what the same client's request would have filled
//     the cache with, so it is used after a reload that ends the observing.

// errNotWhole ends the copy of an answer that is not the whole.
var errNotWhole = errors.New("the answer is for the client's own conditions, and not the whole")

// observed is what there is to observe of one request. It is the request's Origin, by which the
// request knows that it is observed: a field for that would cost every hit.
type observed struct {
	Origin
	q    *Request
	sent asSent
	seed []field // the header as the outer handlers had filled it, for a comparison

	fetch  *Fetch // copies the answer; nil: nothing does
	member *coalesce.Member
	left   bool // member has

	stored     store.Result // would have been the answer; its Entry is nil if nothing would
	freshness  *rfc9111.Freshness
	comparison comparison

	broken error // why the client has not got all of the body
}

// asSent is what the cache reads in a form of its own, as the client has sent it.
type asSent struct {
	host string
	hop  [3][]string // of hopFields
}

var hopFields = [3]string{"Upgrade", "Connection", "Http2-Settings"}

func newObserved(q *Request) *observed {
	o := &observed{Origin: q.origin, q: q, sent: asSent{host: q.r.Host}}
	for i, name := range hopFields {
		o.sent.hop[i] = q.r.Header[name]
	}
	return o
}

// observed returns what there is to observe of the request, nil unless its route observes.
func (q *Request) observed() *observed {
	o, _ := q.origin.(*observed)
	return o
}

// restore makes a request what the client has sent.
func (o *observed) restore(r *http.Request) {
	r.Host = o.sent.host
	for i, name := range hopFields {
		if len(o.sent.hop[i]) > 0 {
			r.Header[name] = o.sent.hop[i]
		}
	}
}

// asksAsFetch reports whether a fetch would ask the origin by the same words as the request, but
// for conditionals and Range. It is asked before restore.
func (o *observed) asksAsFetch() bool {
	q := o.q
	if q.r.Host != o.sent.host {
		return false
	}
	for i, name := range hopFields {
		if !slices.Equal(q.r.Header[name], o.sent.hop[i]) {
			return false
		}
	}
	if q.route.Policy.IgnoreClientDirectives && len(q.r.Header["Cache-Control"])+len(q.r.Header["Pragma"]) > 0 {
		return false // a fetch leaves them out
	}
	return !q.hasOwnQuery()
}

// observe passes a request for which that decision would have been made.
func (q *Request) observe(d Decision) error {
	q.prepareToPass()
	q.rewind()
	return q.pass(newPassWriter(q, d))
}

// observeFetch passes a request that would have waited for the fetch of s.
func (q *Request) observeFetch(s membership) error {
	d := Decision{Outcome: OutcomeMiss, Forward: q.forward}
	if s.fetch == nil {
		s.member.Leave()
		d.Outcome = OutcomeCollapsed
	} else {
		q.observed().member = s.member
	}
	q.prepareToPass()
	q.rewind()
	out := newPassWriter(q, d)
	out.willRecord()
	if out.records = s.fetch == nil; !out.records {
		out.removeGone = nil // the fetch does
	}
	return q.pass(out)
}

// copy makes x the copy of the answer.
func (o *observed) copy(x *Fetch) {
	x.observes, o.fetch = true, x
	if !o.asksAsFetch() {
		x.flags |= flagObserved
	}
	// Handlers write to the client's own header map.
	x.writer.header = o.q.w.Header()
	noteLent(x.seed, x.writer.header)
}

// leave takes the request off the flight of its copy. A flight that is not shared would wait for
// its leader otherwise.
func (o *observed) leave() {
	if o.member != nil && !o.left {
		o.left = true
		o.member.Leave()
	}
}

// reads reports whether the bytes of the body are of interest.
func (o *observed) reads() bool {
	return o != nil && (o.comparison.hashes || o.fetch != nil && o.fetch.writer.mode == modeShared)
}

// writeObserved passes the header on when it has been copied and compared.
func (pw *passWriter) writeObserved(status int, h http.Header) {
	o := pw.observed
	if o.stored.Entry != nil && !pw.unwritten {
		o.compareHeader(status, h)
	}
	if o.fetch != nil {
		o.copyHeader(pw, pw.judged(status), h)
	}
	if pw.decision.Outcome == OutcomeCollapsed && pw.decision.NotStored != rfc9111.Storable {
		pw.decision.Outcome = OutcomeMiss // it would have been released
	}
	pw.decide()
	pw.q.sendStatus(h, &rfc9111.CacheStatus{Forward: rfc9111.ForwardBypass, Detail: BypassObserve.String()})
	pw.ResponseWriter.WriteHeader(status)
}

// copyHeader has the fetch decide, and puts into the decision what would have been by that.
func (o *observed) copyHeader(pw *passWriter, status int, h http.Header) {
	x := o.fetch
	o.leave()
	if status == http.StatusNotModified && o.renews(h) || o.isWhole(status) {
		x.writer.takeHeader(status)
		o.outcomeOf(&pw.decision)
		return
	}
	if !x.background {
		pw.record(status, h, declaredLength(h))
		if x.stale != nil && sameValidator(x.stale.Header, h) {
			pw.decision.Outcome = OutcomeRevalidated
		}
	}
	if x.invalidation != nil {
		x.invalidation.carryOut(status, h)
	}
	x.writer.mode = modeDiscarded
	x.flight.Fail(errNotWhole)
}

// isWhole reports whether an answer with this status is what a fetch may have got.
func (o *observed) isWhole(status int) bool {
	if o.q.r.Method == http.MethodHead {
		return false
	}
	switch status {
	case http.StatusNotModified, http.StatusPartialContent, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return false
	}
	return true
}

// renews reports whether a 304 to the client's conditionals is about what is stored: it has to say
// so, as the client may have asked about something else.
func (o *observed) renews(h http.Header) bool {
	x := o.fetch
	return x.validates() && len(h["Etag"])+len(h["Last-Modified"]) > 0 && rfc9111.Selects(x.stale.Header, h)
}

// sameValidator reports whether an answer has the validator of what is stored: a validation would
// have been answered with 304.
func sameValidator(stored, answer http.Header) bool {
	return len(answer["Etag"])+len(answer["Last-Modified"]) > 0 && rfc9111.HasValidator(stored) && rfc9111.Selects(stored, answer)
}

// outcomeOf puts the outcome of the fetch into d, unless the client would not have waited for it.
func (o *observed) outcomeOf(d *Decision) {
	x := o.fetch
	if x.background {
		return
	}
	d.NotStored = x.writer.reason
	shared, _ := x.flight.Shared().(*sharedResponse)
	switch {
	case shared == nil:
	case shared.source == fromValidation,
		shared.source == fromOrigin && x.validates() && shared.status == x.stale.Status && sameValidator(x.stale.Header, x.writer.header):
		d.Outcome = OutcomeRevalidated
	case shared.source == fromStaleOnError:
		d.Outcome, d.Detail = OutcomeStale, DetailSIE
	}
}

// wrote copies a part of the body that the client has got. err says why it has not got the rest of
// it.
func (o *observed) wrote(p []byte, err error) {
	if err != nil && o.broken == nil {
		o.broken = err
	}
	o.comparison.write(p)
	if x := o.fetch; x != nil && x.writer.mode != modeDiscarded {
		// A copy that finds no room is given up, and the client has its answer all the same.
		if _, err := x.writer.Write(p); err != nil && o.broken == nil && x.writer.mode == modeShared {
			x.writer.mode = modeDiscarded
			x.backOff()
			x.cache.metrics.NotStored(o.whyGivenUp(), x)
			x.notStored()
			x.flight.Fail(err)
		}
	}
}

// whyGivenUp returns why a copy takes no more of the body.
func (o *observed) whyGivenUp() rfc9111.Reason {
	switch o.fetch.flight.Overflow() {
	case coalesce.PastMax:
		return rfc9111.ReasonTooLarge
	case coalesce.NoRoom, coalesce.TooOld:
		return rfc9111.ReasonFull
	case coalesce.NoOverflow:
	}
	return rfc9111.ReasonIncomplete
}

// endObserved ends what was observed of an answer when the handlers have returned with err.
func (pw *passWriter) endObserved(err error) {
	o := pw.observed
	if err == nil && !pw.wroteHeader && !pw.hijacked {
		if o.fetch != nil && pw.q.r.Context().Err() != nil {
			o.fetch.invalidation = nil // as in forgetUnanswered
		}
		pw.writeUnwritten()
	}
	if err == nil {
		err = o.broken
	}
	if x := o.fetch; x != nil {
		o.leave()
		if pw.hijacked {
			x.writer.mode = modeDiscarded
			x.flight.Fail(errNotWhole)
		}
		o.finishCopy(err)
		if !pw.wroteHeader {
			o.outcomeOf(&pw.decision)
		}
		x.end()
	}
	o.finishComparison(pw, err)
}

// finishCopy ends the copy with what the handlers returned.
func (o *observed) finishCopy(err error) {
	if errors.Is(err, errPanic) {
		err = coalesce.NewPanicError(err)
	}
	o.fetch.writer.finish(err)
}

// ownRequest is the client's own request, as the OriginRequest of a fetch that copies its answer.
type ownRequest struct {
	fetch Fetch
	q     *Request
}

func (r *ownRequest) Fetch() *Fetch             { return &r.fetch }
func (r *ownRequest) Request(int) *http.Request { return r.q.r }
func (r *ownRequest) Retarget(int, *url.URL)    {}
func (r *ownRequest) Expand(text string) string { return r.q.origin.Expand(text) }
func (r *ownRequest) HeaderWritten()            {}
func (r *ownRequest) Expose(Origin, bool)       {}
func (r *ownRequest) Unexposed(Origin)          {}
func (r *ownRequest) Finish(Origin)             {}

// Do implements OriginRequest. The origin has the request already.
func (r *ownRequest) Do(int, http.ResponseWriter) error { return errNotWhole }

// Interface guard.
var _ OriginRequest = (*ownRequest)(nil)

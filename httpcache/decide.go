package httpcache

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// exchange returns the response in the form that rfc9111 judges.
func (x *Fetch) exchange(status int, header http.Header) rfc9111.Exchange {
	return rfc9111.Exchange{
		Method: x.method, URL: store.BareURL(x.url), Status: status, Header: header,
		RequestTime: x.begun, ResponseTime: x.writer.headerAt,
		Authorized: x.authorized, UnkeyedCookie: x.unkeyedCookie, RequestNoStore: x.noStore,
		HadSetCookie: x.hadSetCookie || len(header["Set-Cookie"]) > 0, VaryUnseen: !x.seesAll(header),
		BeginsSession: x.route.beginsSession(header, linesOf(x.clientHeader, rfc9111.SessionField)),
	}
}

// verdict says how a flight goes on after its response header.
type verdict uint8

const (
	// verdictShare: all requests stream from the body. It is stored when whole, if it may be.
	verdictShare verdict = iota
	// verdictConfirm: a 304 to the fetch's validation. The stored response is the answer.
	verdictConfirm
	// verdictRefetch: a 304 about a response that is not stored. The origin is asked without a
	// validation.
	verdictRefetch
	// verdictStale: the origin failed, and the stored response stands in.
	verdictStale
	// verdictFail: the origin failed. The leader gets the failure, the others another fetch.
	verdictFail
	// verdictRelease: the response is for the leader. The others fetch for themselves.
	verdictRelease
	// verdictPostpone: verdictFail or verdictRelease, when the first byte has come.
	verdictPostpone
)

// facts are what a verdict depends on.
type facts struct {
	status       int
	validated    bool // the fetch validates the stored response
	speaksOfOurs bool // the response is about the stored one (RFC 9111 4.3.4)
	reason       rfc9111.Reason
	forFollowers bool // those who wait may have the response, although it is not stored
	standsIn     bool // the status is a failure for which the stored response is served to the leader
	standsInElse bool // it is to clients without the leader's directives
	mayBreakOff  bool // the body may still break off before its first byte
	standsInThen bool // the stored response would be served to the leader
}

// decide returns the verdict.
func decide(f facts) verdict {
	switch {
	case f.validated && f.status == http.StatusNotModified && !f.speaksOfOurs:
		return verdictRefetch
	case f.validated && f.status == http.StatusNotModified:
		return verdictConfirm
	case f.standsIn: // even if the failure may be stored: clients prefer the stale page
		return verdictStale
	case f.standsInElse: // the leader wants nothing stale, so it gets the failure
		return verdictFail
	case f.reason == rfc9111.Storable, f.forFollowers:
		return verdictShare
	case f.mayBreakOff && f.standsInThen:
		return verdictPostpone
	}
	return decideUnshared(f.status)
}

// decideUnshared is the verdict on a response that is not for all requests.
func decideUnshared(status int) verdict {
	if status >= http.StatusInternalServerError {
		return verdictFail
	}
	return verdictRelease
}

// verdict returns the verdict on the response with this header, and what it depends on.
func (x *Fetch) verdict(status int, header http.Header) (verdict, rfc9111.Exchange, *rfc9111.Freshness) {
	ex := x.exchange(status, header)
	f := facts{status: status, validated: x.validates()}
	if f.validated && status == http.StatusNotModified {
		f.speaksOfOurs = rfc9111.Selects(x.stale.Header, header) && !store.IsDamaged(x.stale.Body)
		return decide(f), ex, nil
	}
	freshness := x.route.judge(&ex, x.writer.declared)
	if freshness.Reason == rfc9111.Storable && rfc9111.SpeaksOfRequest(status) && x.keepsPage(status, header) {
		freshness.Reason = rfc9111.ReasonStatus
	}
	x.trace.judged(x.route, &ex, &freshness)
	f.reason, f.forFollowers = freshness.Reason, freshness.UsableByFollowers()
	f.standsIn, f.standsInElse = x.staleStandsIn(status), x.staleStandsInElse(status)
	f.standsInThen = x.staleStandsIn(rfc9111.NoAnswer)
	// A body that breaks off before its first byte is a failure, for which a stale response stands
	// in. So the leader's client gets no header before that byte.
	f.mayBreakOff = x.writer.declared != 0 && bodyAllowed(status) && status >= http.StatusOK && !rfc9111.IsEventStream(header)
	return decide(f), ex, &freshness
}

// beginsSession reports whether a response with this header gives its client a session that is not
// the one in the key of its request, which came within the session asked. Servers repeat the
// session of the request in each response.
func (rt *Route) beginsSession(header http.Header, asked []string) bool {
	given := header[rfc9111.SessionField]
	return len(given) > 0 && (!slices.Contains(rt.Key.Headers, rfc9111.SessionField) || !slices.Equal(given, asked))
}

// carryOut carries out the verdict.
func (x *Fetch) carryOut(v verdict, ex *rfc9111.Exchange, freshness *rfc9111.Freshness) {
	switch v {
	case verdictRefetch:
		x.foreign304 = true
	case verdictConfirm:
		x.confirm(ex)
	case verdictStale:
		x.backOff()
		x.tellRemote(v, ex.Status, freshness)
		x.share(x.staleOnError(ex.Status, ex.Status), 0)
	case verdictShare:
		if freshness.Reason != rfc9111.Storable {
			x.backOff()
			x.countNotStored(freshness.Reason)
			x.removeGone(ex.Status, x.begun)
		}
		if x.farPart && ex.Status == http.StatusOK {
			x.releaseUnanswered()
			return
		}
		x.shareFetched(ex, freshness)
		x.tellRemote(v, ex.Status, freshness)
	case verdictPostpone:
		status := ex.Status
		x.writer.postpone(func() { x.carryOutUnshared(decideUnshared(status), status, freshness) })
	case verdictFail, verdictRelease:
		x.carryOutUnshared(v, ex.Status, freshness)
	}
}

// carryOutUnshared carries out a verdict on a response that is not for all requests.
func (x *Fetch) carryOutUnshared(v verdict, status int, freshness *rfc9111.Freshness) {
	x.tellRemote(v, status, freshness)
	if v == verdictFail {
		x.cache.unstoredReasons.note(&x.presented, freshness.Reason, status, time.Now())
		x.fail(status, x.writer.header.Get("Retry-After"))
		return
	}
	x.release(freshness)
}

// judge says whether a response may be stored, with a body of length (-1 if unknown), and how long
// it is fresh. A fetched response and one that is passed on are judged alike. If only one of the
// two judged a slow answer too old, requests would wait for each other in vain, for ever.
func (rt *Route) judge(ex *rfc9111.Exchange, length int64) rfc9111.Freshness {
	f := rt.Policy.Freshness(ex)
	rt.refuseTooLarge(&f, length)
	return f
}

// judgePassed is judge for a response that is passed on. How long it would be fresh does not count
// if it is forbidden to store it.
func (rt *Route) judgePassed(ex *rfc9111.Exchange, length int64) rfc9111.Freshness {
	f := rt.Policy.Judge(ex)
	rt.refuseTooLarge(&f, length)
	return f
}

func (rt *Route) refuseTooLarge(f *rfc9111.Freshness, length int64) {
	if f.Reason == rfc9111.Storable && length > rt.largestBody() {
		f.Reason = rfc9111.ReasonTooLarge
	}
}

// shareFetched shares a response that may be stored, or is for the requests that wait.
func (x *Fetch) shareFetched(ex *rfc9111.Exchange, freshness *rfc9111.Freshness) {
	shared := x.newShared(ex, freshness)
	x.noteVariance(ex.Header)
	shared.key, shared.search = x.key, x.keyed.variance
	x.updateHitForMiss(ex.Status, freshness)
	if x.writer.declared >= 0 {
		x.flight.Expect(x.writer.declared)
	}
	x.writer.shared, shared.ahead = shared, x.headAhead(shared)
	x.awaitStore(ex.Status, ex.Header)
	storable := shared.storable()
	if !storable {
		x.notStored()
	}
	switch {
	case x.observes: // to spill may take as long as a disk does, and its client waits for the copy
	case storable:
		x.flight.SpillTo(x)
	default:
		x.flight.SpillPartsTo(x)
	}
	x.share(shared, x.route.MaxBody)
	if !storable { // no request joins for this answer any more
		x.endTicket()
	}
}

// newShared returns a response that may be stored, or is for the requests that wait.
func (x *Fetch) newShared(ex *rfc9111.Exchange, freshness *rfc9111.Freshness) *sharedResponse {
	// What handlers write into their map after this are trailers. A copy is shared and stored.
	own := withoutTrailers(changes(x.seed, ex.Header, x.route.decisive))
	shared := &x.response
	*shared = sharedResponse{
		source: fromOrigin, route: x.route, status: ex.Status, exchange: *ex, freshness: freshness,
		header: x.storable(own, freshness), added: addedNames(own), variant: x.variant(ex.Header),
		seed: x.seed, own: x.route.withoutTags(own),
		length: x.writer.declared, over: x.over,
		tags: x.tags(ex.Header),
	}
	shared.exchange.Header = nil
	return shared
}

// share gives shared to all requests that wait. If the response is worth storing, the fetch goes on
// after they have left, unless it is forced.
func (x *Fetch) share(shared *sharedResponse, limit int64) {
	x.writer.mode = modeShared
	x.flight.Keep(shared.source != fromOrigin || shared.storable() && !x.forced)
	x.flight.Share(shared, limit)
	if shared.source == fromOrigin && x.letGo != nil {
		x.letGo() // no request is answered from it any more
	}
}

// storable returns the header as it is stored.
func (x *Fetch) storable(changed []field, freshness *rfc9111.Freshness) http.Header {
	header := x.provided(changed)
	x.route.Policy.MakeStorable(header, freshness)
	return header
}

// provided returns the response's header: the fields that the origin changed, and of the others
// those that decide about storing it.
func (x *Fetch) provided(changed []field) http.Header {
	header := x.route.provided(x.seed, changed)
	// RFC 9110 6.6.1. A handler may have put nil there, to keep net/http from adding one.
	if len(header["Date"]) == 0 {
		header["Date"] = []string{x.writer.headerAt.UTC().Format(http.TimeFormat)}
	}
	return header
}

// provided returns the response's header without a Date of the cache's own.
func (rt *Route) provided(seed, changed []field) http.Header {
	header := make(http.Header, len(changed)+1) // and Date
	for _, f := range seed {
		if slices.Contains(rt.decisive, f.name) {
			header[f.name] = f.values
		}
	}
	for _, f := range changed {
		header[f.name] = f.values
	}
	return header
}

// declaredLength returns Content-Length, -1 if there is none or it cannot be read.
func declaredLength(h http.Header) int64 {
	lines := h["Content-Length"]
	if len(lines) == 0 { // an error to say so would cost an allocation
		return -1
	}
	n, err := strconv.ParseInt(rfc9111.TrimOWS(lines[0]), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// lengthToCome is how long the body of an answer will be whose header declares a length: none
// comes with a status that has none.
func lengthToCome(status int, declared int64) int64 {
	if !bodyAllowed(status) {
		return 0
	}
	return declared
}

// The rest is about a fetch whose response is not for all requests: it was cancelled, the origin
// failed, or the response is for one client.

// cancelled ends a fetch that was cancelled before its header: no request waits for it any more, or
// it took too long. What handlers make of that (a proxy may say 499) is not an answer of the
// origin's and says nothing about it.
func (x *Fetch) cancelled() bool {
	cause := context.Cause(x.flight.Context())
	if cause == nil {
		return false
	}
	x.backOff()
	if x.remote != nil {
		x.remote.Failed(http.StatusGatewayTimeout, false, "")
	}
	x.writer.mode = modeDiscarded
	x.flight.Fail(fail(http.StatusGatewayTimeout, cause))
	return true
}

// staleStandsIn reports whether the stored response is the answer where the origin fails with this
// status, or [rfc9111.NoAnswer] (RFC 5861 4).
func (x *Fetch) staleStandsIn(status int) bool {
	return x.stale != nil && !x.lacking && !store.IsDamaged(x.stale.Body) &&
		x.usableOnError(x.freshness, time.Now(), validityOf(x.severity), status)
}

// staleStandsInElse reports whether the stored response may stand in for a failure to clients whose
// requests lack the leader's directives (no-cache). A failure that may be stored then does not
// replace it.
func (x *Fetch) staleStandsInElse(status int) bool {
	return x.stale != nil &&
		x.freshness.UsableOnError(rfc9111.RequestDirectives{}, time.Now(), validityOf(x.severity), status)
}

// keepsPage reports whether an error with this header would replace, or by another Vary hide, a
// page or redirect that may still be served to clients without the leader's directives. Such an
// error is not stored: any client can have its own request refused. For 500, 502, 503 and 504 it
// counts whether the page may be served after that status. Any other error is taken for no answer,
// as what may be served after that may be served after it.
func (x *Fetch) keepsPage(status int, header http.Header) bool {
	failure := rfc9111.NoAnswer
	if rfc9111.IsServerFailure(status) {
		failure = status
	}
	if x.staleStandsInElse(failure) && isPage(x.stale) {
		return true
	}
	if x.cache.store.Absent(x.key) {
		return false
	}
	variant := x.variant(header)
	for found := range x.cache.storedVariants(x.key, func(v *store.Variant) bool { return overlap(&variant, v) }) {
		freshness := x.route.evaluateFor(found.Entry, false)
		validity := validityOf(found.Severity)
		if isPage(found.Entry) && freshness.UsableOnError(rfc9111.RequestDirectives{}, time.Now(), validity, failure) {
			return true
		}
	}
	return false
}

func isPage(e *store.Entry) bool {
	return e.Status < http.StatusBadRequest && !store.IsDamaged(e.Body)
}

// fail takes a response that says the origin failed, if no stored one stands in for it.
func (x *Fetch) fail(status int, retryAfter string) {
	x.backOff()
	x.noteFailure(status)
	if x.flight.Attempt() > 1 {
		x.writer.mode = modeDiscarded
		x.flight.Fail(&originError{status: status, retryAfter: retryAfter})
		return
	}
	x.flight.Reject()
	x.takeOver(rfc9111.ReasonStatus)
}

// noteFailure leaves the status, or [rfc9111.NoAnswer], for the requests that wait: it decides
// whether they may have what is stored.
func (x *Fetch) noteFailure(status int) { x.tag().failure.Store(int32(status)) }

// staleOnError offers the stored response in place of a failure with this status. Its clients are
// told of originStatus, which a fetch without an answer has too.
func (x *Fetch) staleOnError(originStatus, status int) *sharedResponse {
	return &sharedResponse{
		source: fromStaleOnError, entry: x.stale, freshness: x.freshness, variant: x.stale.Variant, was: x.stale, severity: x.severity,
		originStatus: originStatus, failure: status, key: x.stale.Key, search: x.route.evaluated(x.stale).search,
	}
}

// release lets all but the leader go: the response is for one client at most.
func (x *Fetch) release(freshness *rfc9111.Freshness) {
	reason := freshness.Reason
	x.countNotStored(reason)
	x.backOff()
	x.updateHitForMiss(x.writer.status, freshness)
	x.removeGone(x.writer.status, x.begun)
	x.flight.Release()
	if x.wantsPart && x.writer.status == http.StatusOK {
		// The client asked for a part, the fetch for the whole. The client has to ask for itself.
		x.writer.mode = modeDiscarded
		x.flight.Fail(errNotShareable)
		return
	}
	x.takeOver(reason)
}

// takeOver makes the fetch write straight to its leader's client from now on.
func (x *Fetch) takeOver(reason rfc9111.Reason) {
	lent, ok := x.flight.TakeOver()
	if !ok {
		if x.invalidation != nil { // its client has left, and will not be passed the response
			x.invalidation.carryOut(sent(x.writer.status), x.writer.header)
		}
		x.writer.mode = modeDiscarded
		x.flight.Fail(errNotShareable)
		return
	}
	x.writer.passToLeader(lent.(leader), reason)
}

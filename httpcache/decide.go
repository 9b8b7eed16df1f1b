package httpcache

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// exchange is the response with what decides about storing it.
func (x *Fetch) exchange(status int, header http.Header) rfc9111.Exchange {
	return rfc9111.Exchange{
		Method: x.method, URL: store.BareURL(x.url), Status: status, Header: header,
		RequestTime: x.begun, ResponseTime: x.writer.headerAt,
		Authorized: x.authorized, UnkeyedCookie: x.unkeyedCookie, RequestNoStore: x.noStore,
		HadSetCookie: len(header["Set-Cookie"]) > 0, VaryUnseen: !x.seesAll(header),
	}
}

// verdict is what becomes of a flight by its response header.
type verdict uint8

const (
	// verdictShare: everybody streams from the body; where it may be stored it is, when whole.
	verdictShare verdict = iota
	// verdictConfirm: a 304 to our own question; what is stored is the answer.
	verdictConfirm
	// verdictRefetch: a 304 that speaks of nothing of ours; the origin is asked without a question.
	verdictRefetch
	// verdictStale: the origin failed, and what is stored stands in.
	verdictStale
	// verdictFail: the origin failed. The leader gets that, and the others one more fetch.
	verdictFail
	// verdictRelease: the response is the leader's; the others ask for themselves.
	verdictRelease
	// verdictPostpone: as verdictFail or verdictRelease, when the first byte has come.
	verdictPostpone
)

// facts are what a verdict rests on.
type facts struct {
	status       int
	validated    bool // the origin was asked whether what is stored still holds
	speaksOfOurs bool // the response speaks of what is stored (RFC 9111 4.3.4)
	reason       rfc9111.Reason
	followers    bool // those who wait may have it, although it is not stored
	standsIn     bool // what is stored may be served instead of a failure
	isKept       bool // it may be, to others than the leader
	mayBreakOff  bool // the body may still break off before its first byte
}

// decide returns the verdict.
func decide(f facts) verdict {
	failed := rfc9111.OriginFailed(f.status)
	switch {
	case f.validated && f.status == http.StatusNotModified && !f.speaksOfOurs:
		return verdictRefetch
	case f.validated && f.status == http.StatusNotModified:
		return verdictConfirm
	case failed && f.standsIn: // even if it may be stored: what it would replace is what visitors came for
		return verdictStale
	case failed && f.isKept: // its client would have no stale answer, and gets the failure
		return verdictFail
	case f.reason == rfc9111.Storable, f.followers:
		return verdictShare
	case f.mayBreakOff && f.standsIn:
		return verdictPostpone
	}
	return decideUnshared(f.status)
}

// decideUnshared is the verdict on a response that is not for all.
func decideUnshared(status int) verdict {
	if status >= http.StatusInternalServerError {
		return verdictFail
	}
	return verdictRelease
}

// judge returns the verdict on the response with this header, with what it rests on.
func (x *Fetch) judge(status int, header http.Header) (verdict, rfc9111.Exchange, *rfc9111.Freshness) {
	ex := x.exchange(status, header)
	f := facts{status: status, validated: x.validates()}
	if f.validated && status == http.StatusNotModified {
		f.speaksOfOurs = rfc9111.Selects(x.stale.Header, header) && !store.IsDamaged(x.stale.Body)
		return decide(f), ex, nil
	}
	freshness := x.route.judge(&ex, x.writer.declared)
	f.reason, f.followers = freshness.Reason, freshness.UsableByFollowers()
	f.standsIn, f.isKept = x.staleStandsIn(), x.staleIsKept()
	// What breaks off before its first byte is a failure, which a stale response stands in for. So
	// its leader's client gets no header before that byte.
	f.mayBreakOff = x.writer.declared != 0 && bodyAllowed(status) && status >= http.StatusOK && !rfc9111.IsEventStream(header)
	return decide(f), ex, &freshness
}

// carryOut does what the verdict says.
func (x *Fetch) carryOut(v verdict, ex *rfc9111.Exchange, freshness *rfc9111.Freshness) {
	switch v {
	case verdictRefetch:
		x.foreign304 = true
	case verdictConfirm:
		x.confirm(ex)
	case verdictStale:
		x.backOff()
		x.share(x.staleOnError(ex.Status), 0)
	case verdictShare:
		if freshness.Reason != rfc9111.Storable {
			x.backOff()
			x.cache.metrics.NotStored(freshness.Reason)
		}
		x.shareFetched(ex, freshness)
	case verdictPostpone:
		status := ex.Status
		x.writer.postpone(func() { x.carryOutUnshared(decideUnshared(status), status, freshness) })
	case verdictFail, verdictRelease:
		x.carryOutUnshared(v, ex.Status, freshness)
	}
}

// carryOutUnshared does what a verdict on a response says that is not for all.
func (x *Fetch) carryOutUnshared(v verdict, status int, freshness *rfc9111.Freshness) {
	if v == verdictFail {
		x.fail(status, x.writer.header.Get("Retry-After"))
		return
	}
	x.release(freshness)
}

// judge says whether a response may be stored, with a body of length (-1 if that is not known), and
// how long it is fresh. It judges what a fetch brings and what is passed on alike: were a slow
// answer too old by one and not by the other, requests would wait for each other in vain for ever.
func (rt *Route) judge(x *rfc9111.Exchange, length int64) rfc9111.Freshness {
	f := rt.Policy.Freshness(x)
	if f.Reason == rfc9111.Storable && length > rt.largestBody() {
		f.Reason = rfc9111.ReasonTooLarge
	}
	return f
}

// shareFetched shares a response that may be stored, or is for those who wait alone.
func (x *Fetch) shareFetched(ex *rfc9111.Exchange, freshness *rfc9111.Freshness) {
	// What the inner handlers go on to write into their map are trailers. What is shared and stored is a copy.
	own := withoutTrailers(changes(x.seed, ex.Header, x.route.decisive))
	hd := &x.response
	*hd = sharedResponse{
		source: fromOrigin, route: x.route, status: ex.Status, exchange: *ex, freshness: freshness,
		header: x.storable(own, freshness), variant: x.variant(ex.Header),
		seed: x.seed, own: x.route.withoutTags(own),
		length: x.writer.declared, over: x.over,
		tags: x.tags(ex.Header),
	}
	hd.exchange.Header = nil
	x.noteVariance(ex.Header)
	hd.key, hd.search = x.key, x.keyed.variance
	x.cache.updateHitForMiss(x.hitForMissKey, ex.Status, freshness)
	if x.writer.declared >= 0 {
		x.flight.Expect(x.writer.declared)
	}
	x.writer.shared = hd
	if hd.kept() {
		x.flight.SpillTo(x)
	}
	x.share(hd, x.route.MaxBody)
	if !hd.kept() { // nobody joins for this answer any more
		x.endTicket()
	}
}

// share hands hd to all who wait. The fetch goes on when they leave, but where it is for them
// alone: the response is worth storing.
func (x *Fetch) share(hd *sharedResponse, limit int64) {
	x.writer.mode = modeShared
	x.flight.Keep(hd.source != fromOrigin || hd.kept())
	x.flight.Share(hd, limit)
}

// storable is the header as it is stored.
func (x *Fetch) storable(changed []field, freshness *rfc9111.Freshness) http.Header {
	header := x.provided(changed)
	x.route.Policy.MakeStorable(header, freshness)
	return header
}

// provided is the response's header: what the inner handlers changed, and of what they left as it
// was that which decides about storing it.
func (x *Fetch) provided(changed []field) http.Header {
	header := make(http.Header, len(changed)+1) // and Date
	for _, f := range x.seed {
		if slices.Contains(x.route.decisive, f.name) {
			header[f.name] = f.values
		}
	}
	for _, f := range changed {
		header[f.name] = f.values
	}
	noteAdded(header, changed)
	if len(header["Date"]) == 0 { // RFC 9110 6.6.1; a handler may have put nil there, to keep net/http from adding one
		header["Date"] = []string{x.writer.headerAt.UTC().Format(http.TimeFormat)}
	}
	return header
}

// declaredLength is Content-Length, -1 where there is none or it cannot be read.
func declaredLength(h http.Header) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Content-Length")), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// What becomes of a fetch whose response is not for all: it was cancelled, the origin failed, or
// what came is for one client.

// cancelled ends a fetch that was cancelled before its header: nobody waited for it any more, or it
// took too long. What the inner handlers make of that (reverse_proxy says 499) is no answer of the
// origin's and says nothing about it.
func (x *Fetch) cancelled() bool {
	cause := context.Cause(x.flight.Context())
	if cause == nil {
		return false
	}
	x.backOff()
	x.writer.mode = modeDiscarded
	x.flight.Fail(fail(http.StatusGatewayTimeout, cause))
	return true
}

// staleStandsIn reports whether a failure of the origin is answered with what is stored
// (RFC 5861 4).
func (x *Fetch) staleStandsIn() bool {
	return x.stale != nil && !store.IsDamaged(x.stale.Body) && x.freshness.UsableOnError(x.directives, time.Now(), x.soft)
}

// staleIsKept reports whether what is stored may stand in for a failure to others, who do not ask as
// the client of this fetch does (no-cache). It is not lost then to a failure that may be stored.
func (x *Fetch) staleIsKept() bool {
	return x.stale != nil && x.freshness.UsableOnError(rfc9111.RequestDirectives{}, time.Now(), x.soft)
}

// fail takes an answer that says the origin failed, where nothing stored stands in for it.
func (x *Fetch) fail(status int, retryAfter string) {
	x.backOff()
	if x.flight.Attempt() > 1 {
		x.writer.mode = modeDiscarded
		x.flight.Fail(&originError{status: status, retryAfter: retryAfter})
		return
	}
	x.flight.Reject()
	x.takeOver(rfc9111.ReasonStatus)
}

// backOff puts the next background refresh off. Each way to end without a stored response has to
// come by here before the flight can no longer be joined: until then a refresh is one that joins
// it.
func (x *Fetch) backOff() {
	if x.renews {
		x.cache.refreshBackoff.note(x.hitForMissKey)
	}
}

// staleOnError offers the stored response in place of a failure.
func (x *Fetch) staleOnError(status int) *sharedResponse {
	return &sharedResponse{
		source: fromStaleOnError, entry: x.stale, freshness: x.freshness, variant: x.stale.Variant, was: x.stale, soft: x.soft,
		origin: status, key: x.stale.Key, search: rfc9111.ParseNoVarySearch(x.stale.Header),
	}
}

// release lets everybody but the leader go: what came is for one client at most.
func (x *Fetch) release(freshness *rfc9111.Freshness) {
	reason := freshness.Reason
	x.cache.metrics.NotStored(reason)
	x.backOff()
	x.cache.updateHitForMiss(x.hitForMissKey, x.writer.status, freshness)
	x.removeGone(x.writer.status)
	x.flight.Release()
	if x.wantsPart && x.writer.status == http.StatusOK {
		// The client asked for a part, the fetch for the whole. It has to ask for itself.
		x.writer.mode = modeDiscarded
		x.flight.Fail(errNotShareable)
		return
	}
	x.takeOver(reason)
}

// removeGone removes what is stored where the origin says to anybody that the resource is gone.
// What it says to a user or to a cookie, and whatever else may not be stored, is no word about the
// copy that is for everybody.
func (x *Fetch) removeGone(status int) {
	if x.stale == nil || !rfc9111.Gone(status) {
		return
	}
	selectedBy := x.stale.Variant.Names
	if x.authorized && !slices.Contains(selectedBy, "Authorization") || x.unkeyedCookie && !slices.Contains(selectedBy, "Cookie") {
		return
	}
	x.cache.removals.note(x.stale.Key) // first, so that what is stored at this moment has heard of it
	x.cache.store.Remove(x.stale)
}

// removalsKeep is how long a removal is remembered, and at most twice as long: it has to outlast the
// fetches that had begun before.
const removalsKeep = 10 * time.Minute

func newRemovals() *recentKeys { return newRecentKeys(hitForMissKeys, removalsKeep, 0) }

// takeOver lets the fetch write to its leader's client, straight through from here on.
func (x *Fetch) takeOver(reason rfc9111.Reason) {
	lent, ok := x.flight.TakeOver()
	if !ok {
		x.writer.mode = modeDiscarded
		x.flight.Fail(errNotShareable)
		return
	}
	x.writer.passToLeader(lent.(leader), reason)
}

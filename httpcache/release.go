package httpcache

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

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
	x.cache.store.Remove(x.stale)
}

// takeOver lets the fetch write to its leader's client, straight through from here on.
func (x *Fetch) takeOver(reason rfc9111.Reason) {
	lent, ok := x.flight.TakeOver()
	if !ok {
		x.writer.mode = modeDiscarded
		x.flight.Fail(errNotShareable)
		return
	}
	x.writer.passToLeader(lent.(*Request), reason)
}

package httpcache

import (
	"math/rand/v2"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// drawing returns a number in (0, 1], for what is decided at random.
func drawing() float64 { return 1 - rand.Float64() } //nolint:gosec // nothing secret follows from it

// dueEarly reports whether this hit is the one that has the response fetched anew before its
// lifetime ends. Each hit draws for itself: see rfc9111.EarlyRefresh.
func (q *Request) dueEarly() bool {
	if q.route.RefreshEarly == 0 {
		return false
	}
	remaining := q.freshness.EarlyRemaining(q.now)
	return remaining > 0 &&
		rfc9111.EarlyRefresh(q.route.RefreshEarly, q.found.Entry.FetchTime, remaining, q.cache().draw()) &&
		q.mayRefreshEarly()
}

// refreshIfDue has the response fetched anew, if this hit is the one that does.
func (q *Request) refreshIfDue() {
	if q.dueEarly() {
		q.countDropped(q.refreshInBackground(q.flightKey(), true))
	}
}

// mayRefreshEarly reports whether the request is one on whose behalf what is fresh may be fetched.
// A stale response needs a fetch. This one has time until another request comes, so nothing is sent
// to the origin that may change something there, nor a visitor's credentials for an answer that
// could not be stored.
func (q *Request) mayRefreshEarly() bool {
	return !q.unsafe() && q.sharing() != sharingHitForMiss && (!q.personal() || q.wouldBeStored())
}

// wouldBeStored reports whether the stored response could have been stored, and for as long, had
// this request fetched it.
func (q *Request) wouldBeStored() bool {
	ex := exchangeOf(q.found.Entry)
	ex.Authorized, ex.UnkeyedCookie = q.authorized, q.unkeyedCookie
	freshness := q.route.Policy.Freshness(&ex)
	return freshness.Reason == rfc9111.Storable && freshness.Source == q.freshness.Source
}

// refreshEarly makes x the refresh of a response that is still fresh.
func (x *Fetch) refreshEarly() { x.freshUntil = x.begun.Add(x.freshness.TTL(x.begun)) }

// early reports whether the fetch is such a refresh.
func (x *Fetch) early() bool { return !x.freshUntil.IsZero() }

// gainsNothing reports whether an early refresh has brought a response that is fresh for hardly
// longer than the one before: by less than the fetch took. So it is where the origin names the time
// at which its pages end, or is a cache itself. To ask again until then would be in vain.
func (x *Fetch) gainsNothing(freshness *rfc9111.Freshness, fetchTime time.Duration) bool {
	now := time.Now()
	return x.early() && freshness.TTL(now) < x.freshUntil.Sub(now)+fetchTime
}

// isNoRenewal reports whether another machine's response is of no use to an early refresh: it is as
// old as the one here, or will be refreshed itself soon.
func (x *Fetch) isNoRenewal(freshness *rfc9111.Freshness) bool {
	return x.early() && freshness.EarlyRemaining(time.Now()) > 0
}

// fetchTimeWeight is the part that the last fetch of a response has in its average, as 1/weight. A
// response is fetched once in a lifetime, so the average has to follow within a few fetches.
const fetchTimeWeight = 4

// averageFetchTime is the moving average of how long the origin takes for a response, now that it
// has answered once more: from the call of the handlers to now, without the wait for a place at the
// origin.
func (x *Fetch) averageFetchTime() time.Duration {
	took := max(x.took(), 1)
	if x.usually == 0 {
		return took
	}
	return max(x.usually+(took-x.usually)/fetchTimeWeight, 1)
}

// took is how long the origin has taken. A body that is copied on its way to a client takes as long
// as that client does, so then the header is all that counts.
func (x *Fetch) took() time.Duration {
	if x.observes {
		return x.writer.headerAt.Sub(x.begun)
	}
	return time.Since(x.begun)
}

// fetchTime is the FetchTime of a response that has come whole. One from another machine has that
// machine's.
func (x *Fetch) fetchTime(shared *sharedResponse) time.Duration {
	if shared.elsewhere {
		return shared.was.FetchTime
	}
	return x.averageFetchTime()
}

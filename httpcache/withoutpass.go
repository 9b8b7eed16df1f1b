package httpcache

import (
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
)

// A cache that gets its purges from other machines may have missed some. It may answer from what it
// has stored only while it holds a pass (Options.Pass): somebody then vouches that it knows every
// purge that has been answered. A request for which there is none goes by these rules:
//
//   - A stored response answers it when the origin has confirmed it by a 304, and not before.
//   - No stale response answers it: not while it is refreshed, not for a client that accepts one,
//     not when the origin fails.
//   - It waits for no fetch that began before the request did. That fetch may have been answered
//     before a purge which the request must see.
//   - Other machines are not asked.
//
// The pass is read once, after the request has begun and before anything is looked up. Read after
// the look-up, it could be a new one that says nothing of what was found. What is fetched is stored
// as ever: its fetch began later than all purges that have been answered.

// readPass sets mustValidate. Without an Options.Pass it never is.
func (q *Request) readPass() {
	q.mustValidate = q.cache().pass != nil && !q.cache().pass()
}

// validated returns how a stored response may be used that would be used so by a request with a
// pass.
func (q *Request) validated(use rfc9111.Use, forward rfc9111.Forward) (rfc9111.Use, rfc9111.Forward) {
	if !q.mustValidate || use == rfc9111.UseValidate || use == rfc9111.UseNever {
		return use, forward
	}
	q.withheld = DetailNoPass
	return rfc9111.UseValidate, rfc9111.ForwardStale
}

// began reports whether the fetch of a flight began after a request that must be answered with
// nothing older than itself.
func (q *Request) began(f *coalesce.Flight) bool {
	if !q.mustValidate || !f.Tag().(*flightTag).begun.Before(q.arrivedAt()) {
		return true
	}
	q.withheld = DetailNoPass
	return false
}

// usableOnError reports whether a stored response may be the answer after the origin failed with
// this status, or [rfc9111.NoAnswer] (RFC 5861 4).
func (p *presented) usableOnError(f *rfc9111.Freshness, now time.Time, validity rfc9111.Validity, status int) bool {
	return !p.mustValidate && f.UsableOnError(p.directives, now, validity, status)
}

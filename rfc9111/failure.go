package rfc9111

import (
	"net/http"
	"time"
)

// NoAnswer stands in place of a status for a fetch that ended without an answer: no connection, a
// time-out, an answer that broke off before its first byte.
const NoAnswer = 0

// rfcFailures are the statuses that RFC 5861 4 counts as errors.
var rfcFailures = failuresOf([]StatusClass{
	http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
})

// DefaultFailures are the statuses for which [Policy.StaleIfError] holds unless the operator names
// others: those of RFC 5861 4, and 429, by which an origin asks to be left alone.
var DefaultFailures = []StatusClass{
	http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
	http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

var defaultFailures = failuresOf(DefaultFailures)

// failures is a set of statuses from 400 to 599. As a value it keeps nothing of a configuration
// alive.
type failures [(600 - 400 + 63) / 64]uint64

func failuresOf(classes []StatusClass) (set failures) {
	for _, c := range classes {
		if !c.IsClass() {
			set.add(int(c))
			continue
		}
		for status := int(c) * 100; status < int(c+1)*100; status++ {
			set.add(status)
		}
	}
	return set
}

func (s *failures) add(status int) {
	if n := status - 400; n >= 0 && n < 200 {
		s[n/64] |= 1 << (n % 64)
	}
}

// has reports whether a status is one of them. [NoAnswer] always is.
func (s *failures) has(status int) bool {
	if status == NoAnswer {
		return true
	}
	n := status - 400
	return n >= 0 && n < 200 && s[n/64]&(1<<(n%64)) != 0
}

// IsServerFailure reports whether a status, or [NoAnswer], is an error by RFC 5861 4: 500, 502, 503
// and 504.
func IsServerFailure(status int) bool { return rfcFailures.has(status) }

// operatorFailures are the statuses for which the operator's window holds.
func (p *Policy) operatorFailures() failures {
	if p.Failures == nil {
		return defaultFailures
	}
	return failuresOf(p.Failures)
}

// OriginFailed reports whether a status, or [NoAnswer], says that the origin as a whole fails, and
// not only that it has no such page. 429 and 503 ask for less to do in any case; of the others of
// [DefaultFailures] the operator may have said that they are none.
func (p *Policy) OriginFailed(status int) bool {
	switch {
	case status == NoAnswer, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return true
	case !defaultFailures.has(status):
		return false
	}
	set := p.operatorFailures()
	return set.has(status)
}

// UsableOnError reports whether the stored response may be served after the origin failed with this
// status, or [NoAnswer] (RFC 5861 4). It may where one of these says so:
//
//	it is fresh             for the statuses of any of the windows below
//	its own stale-if-error  for 500, 502, 503 and 504
//	the request's           for the same
//	the operator's          for those that the operator names, unless the response has one
//	stale-while-revalidate  for [DefaultFailures]: a refresh that fails changes nothing (RFC 5861 3)
//
// It never may where must-revalidate, proxy-revalidate or no-cache stand, where it is invalid, the
// request says no-cache, or it is such a failure itself: an older failure is no better than a new
// one.
func (f *Freshness) UsableOnError(d RequestDirectives, now time.Time, validity Validity, status int) bool {
	if f.Reason != Storable || f.NoCache || f.failed || d.NoCache || validity == Invalid {
		return false
	}
	staleness := f.Age(now) - f.Lifetime
	if staleness < 0 && validity == Valid {
		return defaultFailures.has(status) || f.failures.has(status)
	}
	if f.MustRevalidate || !f.kept(now) {
		return false
	}
	var window time.Duration
	if f.failures.has(status) {
		window = f.StaleIfError
	}
	if defaultFailures.has(status) {
		window = max(window, f.StaleWhileRevalidate)
	}
	if rfcFailures.has(status) && d.HasStaleIfError && !f.SharedOnly {
		window = max(window, d.StaleIfError)
	}
	return window > 0 && staleness <= window
}

package rfc9111

import (
	"net/http"
	"time"
)

// Freshness is all that depends neither on the request nor on the moment. It is computed once per
// stored response and policy; its methods are then cheap, allocate nothing and are safe for
// concurrent use.
type Freshness struct {
	// Lifetime is the freshness lifetime (RFC 9111 4.2.1), 0 if there is none.
	Lifetime time.Duration
	// InitialAge is corrected_initial_age (RFC 9111 4.2.3).
	InitialAge time.Duration
	// ResponseDelay is the part of InitialAge that may have passed before the response was made:
	// what the origin took to answer.
	ResponseDelay time.Duration
	// StaleWhileRevalidate and StaleIfError are the windows of RFC 5861 after the end of the
	// lifetime; 0 where MustRevalidate or NoCache forbid them.
	StaleWhileRevalidate, StaleIfError time.Duration
	// Keep is how long it stays stored past its lifetime and these windows; 0 where no request
	// could use it then.
	Keep time.Duration
	// ResponseTime is when the response arrived.
	ResponseTime time.Time
	// NoCache: it must be validated before each use (RFC 9111 5.2.2.4).
	NoCache bool
	// MustRevalidate: once stale it must not be used unvalidated, by must-revalidate or
	// proxy-revalidate (RFC 9111 5.2.2.2, 5.2.2.8).
	MustRevalidate bool
	// SharedOnly: the lifetime is s-maxage, which binds clients like proxy-revalidate (RFC 9111
	// 5.2.2.10); see the package documentation.
	SharedOnly bool
	// Immutable: while it is fresh, a client's max-age does not have the origin asked (RFC 8246).
	Immutable bool
	// Source says where the lifetime comes from.
	Source LifetimeSource
	// Reason is what [Policy.Storable] says, so that admission is checked again at look-up.
	Reason Reason

	failures failures // the statuses for which StaleIfError holds
	failed   bool     // it is the answer of an origin that failed

	privateFields, noCacheFields []string // for MakeStorable
}

// LifetimeSource says where a lifetime comes from.
type LifetimeSource uint8

// The sources, the operator's beside those of the RFC.
const (
	// SourceNone: nothing gives a lifetime.
	SourceNone LifetimeSource = iota
	// SourceSMaxAge: s-maxage of the response.
	SourceSMaxAge
	// SourceMaxAge: max-age of the response.
	SourceMaxAge
	// SourceExpires: Expires of the response.
	SourceExpires
	// SourceTTL: the operator's ttl, where the response states none.
	SourceTTL
	// SourceForceTTL: the operator's force_ttl, whatever the response states.
	SourceForceTTL
	// SourceHeuristic: a tenth of the age of Last-Modified (RFC 9111 4.2.2).
	SourceHeuristic
)

// Assumed reports whether the lifetime is one that the origin has not stated.
func (s LifetimeSource) Assumed() bool {
	return s == SourceTTL || s == SourceForceTTL || s == SourceHeuristic
}

// String returns the source as one word.
func (s LifetimeSource) String() string {
	switch s {
	case SourceNone:
		return "none"
	case SourceSMaxAge:
		return "s-maxage"
	case SourceMaxAge:
		return "max-age"
	case SourceExpires:
		return "expires"
	case SourceTTL:
		return "ttl"
	case SourceForceTTL:
		return "force-ttl"
	case SourceHeuristic:
		return "heuristic"
	}
	return "unknown"
}

// Freshness computes the freshness of x, which need not be storable.
func (p *Policy) Freshness(x *Exchange) Freshness {
	s := p.statement(x.Header)
	return p.judged(x, &s, p.reasonForbidden(x, &s))
}

// Judge is Freshness for who has received x and asks whether to store it. Where something forbids
// that, how long it would be fresh is not computed: there is the Reason, and ResponseTime.
func (p *Policy) Judge(x *Exchange) Freshness {
	s := p.statement(x.Header)
	if reason := p.reasonForbidden(x, &s); reason != Storable {
		return Freshness{Reason: reason, ResponseTime: x.ResponseTime}
	}
	return p.judged(x, &s, Storable)
}

// judged is the Freshness of what is forbidden to be stored for that reason, or is not.
func (p *Policy) judged(x *Exchange, s *statement, forbidden Reason) Freshness {
	f := p.freshness(x, s)
	if f.Reason = forbidden; f.Reason == Storable {
		f.Reason = p.reasonUseless(x, s, &f)
	}
	f.privateFields, f.noCacheFields = s.privateFields, s.noCacheFields
	return f
}

// freshness computes all but the Reason.
func (p *Policy) freshness(x *Exchange, s *statement) Freshness {
	arrived := arrivalAgeOf(x)
	f := Freshness{
		InitialAge:     arrived.initial(),
		ResponseDelay:  arrived.responseDelay,
		ResponseTime:   x.ResponseTime,
		NoCache:        s.noCache,
		MustRevalidate: s.mustRevalidate || s.proxyRevalidate,
		SharedOnly:     s.sMaxAge.given,
		Immutable:      s.immutable,
	}
	f.Lifetime, f.Source = p.lifetime(x, s)
	if f.Source == SourceForceTTL {
		f.NoCache, f.MustRevalidate, f.SharedOnly = false, false, false
	}
	if p.MaxTTL > 0 {
		f.Lifetime = min(f.Lifetime, p.MaxTTL)
	}
	if f.Source == SourceTTL || f.Source == SourceForceTTL {
		// The operator speaks of the time it stays here. Behind another cache a response arrives
		// with an age, and would else arrive stale.
		f.Lifetime = clamp(f.Lifetime + f.InitialAge)
	}
	p.staleWindows(&f, x, s)
	f.Keep = p.keep(x, &f)
	return f
}

// staleWindows is RFC 5861: what the response says, else what the operator says, else nothing;
// forbidden as RFC 9111 4.2.4 lists, which an operator cannot lift. The operator's windows do not
// apply to a POST, as the operator's lifetimes do not.
func (p *Policy) staleWindows(f *Freshness, x *Exchange, s *statement) {
	f.failures = p.operatorFailures()
	f.failed = rfcFailures.has(x.Status) || p.StaleIfError > 0 && f.failures.has(x.Status)
	if f.NoCache || f.MustRevalidate {
		return
	}
	if !p.Unsafe(x.Method) {
		f.StaleWhileRevalidate, f.StaleIfError = clamp(p.StaleWhileRevalidate), clamp(p.StaleIfError)
	}
	if s.staleWhileRevalidate.given {
		f.StaleWhileRevalidate = s.staleWhileRevalidate.value
	}
	if s.staleIfError.given {
		f.StaleIfError, f.failures = s.staleIfError.value, rfcFailures
	}
}

// DefaultKeep is how long a response stays stored past its lifetime and its stale windows unless
// the operator says otherwise.
const DefaultKeep = time.Hour

// Unlimited is for ever where a policy asks for a duration, and so is any longer time.
const Unlimited = maxDelta

// keep is how long the response stays stored when it may no longer be used by itself. Until then it
// can be validated, a client may accept it stale, or the operator widen a window. Where it must be
// validated, only a validator makes it of use.
func (p *Policy) keep(x *Exchange, f *Freshness) time.Duration {
	keep := p.Keep
	if keep == 0 {
		keep = DefaultKeep
	}
	renewable := HasValidator(x.Header) && Validates(x.Method)
	if (f.NoCache || f.MustRevalidate) && !renewable {
		return 0
	}
	return clamp(keep)
}

// Assumes reports whether the operator gives any response a lifetime that its origin has not
// stated.
func (p *Policy) Assumes() bool { return len(p.TTL)+len(p.ForceTTL) > 0 || p.Heuristic }

// mayAssume is the one rule for lifetimes that the origin has not stated: ttl, force_ttl and
// heuristic. A response that was fetched by or is for one user (Authorization, a Cookie that is not
// in the key) needs the origin's own word. So does one to an unsafe method (RFC 9110 9.3.3). An
// event stream is no document that could be fresh, unless it answers what the body of the request
// asks for: then it ends.
func (p *Policy) mayAssume(x *Exchange) bool {
	return !x.Authorized && !x.UnkeyedCookie && !x.Personal && !p.Unsafe(x.Method) &&
		(x.Method != http.MethodGet || !IsEventStream(x.Header))
}

// Unsafe reports whether the method may change something at the origin: POST, without SafePost.
func (p *Policy) Unsafe(method string) bool { return method == http.MethodPost && !p.SafePost }

// lifetime is RFC 9111 4.2.1 with the operator's word before and after.
func (p *Policy) lifetime(x *Exchange, s *statement) (time.Duration, LifetimeSource) {
	if d, ok := p.operatorTTL(p.ForceTTL, x); ok {
		return d, SourceForceTTL
	}
	if d, source := p.explicitLifetime(x, s); source != SourceNone {
		return d, source
	}
	if s.noCache {
		return 0, SourceNone
	}
	if d, ok := p.operatorTTL(p.TTL, x); ok {
		return d, SourceTTL
	}
	if d, ok := p.heuristicLifetime(x, s); ok {
		return d, SourceHeuristic
	}
	return 0, SourceNone
}

// operatorTTL finds the row for the response.
func (p *Policy) operatorTTL(rows []StatusTTL, x *Exchange) (time.Duration, bool) {
	if len(rows) == 0 || !p.mayAssume(x) {
		return 0, false
	}
	for _, row := range rows {
		if row.matches(x.Status) {
			return clamp(row.Duration), true
		}
	}
	return 0, false
}

// explicitLifetime is RFC 9111 4.2.1, in its order, for a shared cache.
func (p *Policy) explicitLifetime(x *Exchange, s *statement) (time.Duration, LifetimeSource) {
	switch {
	case s.sMaxAge.given:
		return s.sMaxAge.value, SourceSMaxAge
	case s.maxAge.given:
		return s.maxAge.value, SourceMaxAge
	case s.targeted || p.Ignores("Expires"):
		return 0, SourceNone
	}
	lines := x.Header["Expires"]
	if len(lines) == 0 {
		return 0, SourceNone
	}
	// RFC 9111 5.3: an invalid date, "0" above all, is a time in the past.
	expires, ok := dateField(lines)
	if !ok {
		return 0, SourceExpires
	}
	date, ok := dateOf(x.Header)
	if !ok {
		date = x.ResponseTime
	}
	return clamp(expires.Sub(date)), SourceExpires
}

// maxHeuristic bounds heuristic freshness. RFC 9111 4.2.2 used to ask for a warning beyond a day; a
// day is what the field settled on.
const maxHeuristic = 24 * time.Hour

// heuristicLifetime is RFC 9111 4.2.2.
func (p *Policy) heuristicLifetime(x *Exchange, s *statement) (time.Duration, bool) {
	if !p.Heuristic || !p.mayAssume(x) || !s.public && !heuristicallyCacheable(x.Status) {
		return 0, false
	}
	modified, ok := dateField(x.Header["Last-Modified"])
	if !ok {
		return 0, false
	}
	date, ok := dateOf(x.Header)
	if !ok {
		date = x.ResponseTime
	}
	return min(clamp(date.Sub(modified))/10, maxHeuristic), true
}

// heuristicallyCacheable is RFC 9110 15.1, without 206.
func heuristicallyCacheable(status int) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent,
		http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusPermanentRedirect,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone,
		http.StatusRequestURITooLong, http.StatusNotImplemented:
		return true
	}
	return false
}

// TTL is what is left of the lifetime at now, negative when stale.
func (f *Freshness) TTL(now time.Time) time.Duration { return f.Lifetime - f.Age(now) }

// KeptFrom is the end of its lifetime and of its stale windows: from then on it is only kept, and
// goes before others when room is needed.
func (f *Freshness) KeptFrom() time.Time {
	return f.ResponseTime.Add(max(f.Lifetime-f.InitialAge+max(f.StaleWhileRevalidate, f.StaleIfError), 0))
}

// KeepUntil is when the entry is of no further use.
func (f *Freshness) KeepUntil() time.Time { return f.KeptFrom().Add(f.Keep) }

// kept reports whether it is still stored by today's policy. One that was stored under another is
// as if it were not.
func (f *Freshness) kept(now time.Time) bool { return now.Before(f.KeepUntil()) }

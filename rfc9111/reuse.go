package rfc9111

import (
	"net/http"
	"time"

	"github.com/pquerna/cachecontrol/cacheobject"
)

// RequestDirectives are the cache directives of a request (RFC 9111 5.2.1). The zero value is a
// request without any.
type RequestDirectives struct {
	// NoStore, NoCache and OnlyIfCached say that the directive is there.
	NoStore, NoCache, OnlyIfCached bool

	// HasMaxAge and the others say that the directive is there. Its time is below.
	HasMaxAge, HasMinFresh, HasMaxStale, HasStaleIfError bool

	// MaxAge, MinFresh, MaxStale and StaleIfError hold where Has… says so. max-stale without an
	// argument is the largest time there is.
	MaxAge, MinFresh, MaxStale, StaleIfError time.Duration
}

// ParseRequest reads Cache-Control of a request, and Pragma where there is no Cache-Control (RFC
// 9111 5.4). Invalid times are as if absent, but an invalid max-age is 0 and a no-store or no-cache
// holds whatever stands beside it. A field that is too long to be read is a no-store.
func ParseRequest(h http.Header) RequestDirectives {
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		if pragma := h["Pragma"]; len(pragma) > 0 {
			return RequestDirectives{NoCache: hasMember(pragma, "no-cache")}
		}
		return RequestDirectives{}
	}
	if longer(lines, maxField) {
		return RequestDirectives{NoStore: true}
	}
	var d RequestDirectives
	for element := range elements(lines) {
		d.add(element)
	}
	return d
}

func (d *RequestDirectives) add(element string) {
	name, _, ok := cutDirective(element)
	if !ok { // the parser would read directives out of it
		for word := range words(element) {
			d.addInvalid(word)
		}
		return
	}
	cd, err := cacheobject.ParseRequestCacheControl(element)
	if err != nil {
		d.addInvalid(name)
		return
	}
	d.NoStore = d.NoStore || cd.NoStore
	d.NoCache = d.NoCache || cd.NoCache
	d.OnlyIfCached = d.OnlyIfCached || cd.OnlyIfCached
	if cd.MaxAge >= 0 {
		d.lowerMaxAge(time.Duration(cd.MaxAge) * time.Second)
	}
	if cd.MinFresh >= 0 {
		d.HasMinFresh = true
		d.MinFresh = max(d.MinFresh, time.Duration(cd.MinFresh)*time.Second)
	}
	switch {
	case cd.MaxStaleSet:
		d.HasMaxStale, d.MaxStale = true, maxDelta
	case cd.MaxStale >= 0:
		d.HasMaxStale, d.MaxStale = true, time.Duration(cd.MaxStale)*time.Second
	}
	// The parser does not tell stale-if-error=0 from none; both mean nothing.
	if cd.StaleIfError > 0 {
		d.HasStaleIfError, d.StaleIfError = true, time.Duration(cd.StaleIfError)*time.Second
	}
}

func (d *RequestDirectives) addInvalid(name string) {
	switch ToLower(name) {
	case "no-store":
		d.NoStore = true
	case "no-cache":
		d.NoCache = true
	case "only-if-cached":
		d.OnlyIfCached = true
	case "max-age":
		d.lowerMaxAge(0)
	}
}

func (d *RequestDirectives) lowerMaxAge(n time.Duration) {
	if !d.HasMaxAge || n < d.MaxAge {
		d.HasMaxAge, d.MaxAge = true, n
	}
}

// Use says what may be done with a stored response.
type Use uint8

// The uses, from the one that costs nothing to none at all.
const (
	// UseFresh: it is served.
	UseFresh Use = iota
	// UseStale: it is served although stale, because the client accepts that (max-stale). Nothing
	// need be fetched.
	UseStale
	// UseRefresh: it is served stale and refreshed behind (stale-while-revalidate).
	UseRefresh
	// UseValidate: the origin is asked first; only-if-cached then means 504.
	UseValidate
	// UseNever: by today's policy it would not be stored, or not any more, so it is as if it were
	// not: no validation, no stale answer.
	UseNever
)

// String returns the use as one word.
func (u Use) String() string {
	switch u {
	case UseFresh:
		return "fresh"
	case UseStale:
		return "stale"
	case UseRefresh:
		return "refresh"
	case UseValidate:
		return "validate"
	case UseNever:
		return "never"
	}
	return "unknown"
}

// Forward says why a request goes on to the origin: the fwd parameter of Cache-Status (RFC 9211
// 2.2).
type Forward uint8

// The tokens of RFC 9211 2.2.
const (
	// ForwardNone: it does not.
	ForwardNone Forward = iota
	// ForwardBypass: the cache is configured not to handle it.
	ForwardBypass
	// ForwardMethod: the semantics of the method require it.
	ForwardMethod
	// ForwardURIMiss: nothing is stored for the URL.
	ForwardURIMiss
	// ForwardVaryMiss: the URL is known, the variant is not.
	ForwardVaryMiss
	// ForwardMiss: remembered as not shareable.
	ForwardMiss
	// ForwardRequest: what is stored is fresh, but the request demanded it.
	ForwardRequest
	// ForwardStale: what is stored is stale.
	ForwardStale
	// ForwardPartial: what is stored is a part of what was asked for.
	ForwardPartial
)

// String returns the token of RFC 9211, empty for [ForwardNone].
func (f Forward) String() string {
	switch f {
	case ForwardNone:
		return ""
	case ForwardBypass:
		return "bypass"
	case ForwardMethod:
		return "method"
	case ForwardURIMiss:
		return "uri-miss"
	case ForwardVaryMiss:
		return "vary-miss"
	case ForwardMiss:
		return "miss"
	case ForwardRequest:
		return "request"
	case ForwardStale:
		return "stale"
	case ForwardPartial:
		return "partial"
	}
	return "unknown"
}

// Validity is what an invalidation has left of a stored response (RFC 9111 4.4).
type Validity uint8

const (
	// Valid is what none has hit.
	Valid Validity = iota
	// Stale counts as stale, however fresh it is. Its windows still end when they would have.
	Stale
	// Invalid is "in need of mandatory validation". As after no-cache, there is no window.
	Invalid
)

// Use decides what may be done with the stored response for a request with the directives d (RFC
// 9111 4, 4.2.4, 5.2.1). Forward says why the origin must be asked, for [UseValidate] and
// [UseNever].
func (f *Freshness) Use(d RequestDirectives, now time.Time, validity Validity) (Use, Forward) {
	return f.use(d, now, validity).outcome()
}

// use returns the rule that decides.
func (f *Freshness) use(d RequestDirectives, now time.Time, validity Validity) useRule {
	if f.Reason != Storable {
		return ruleUnstorable
	}
	age := f.Age(now)
	staleness := age - f.Lifetime
	switch {
	case staleness >= 0 && !f.kept(now):
		return ruleNotKept
	case f.NoCache:
		return ruleNoCache
	case validity == Invalid:
		return ruleInvalid
	case validity == Stale || staleness >= 0:
		return f.useStale(d, age, staleness, validity)
	case d.NoCache:
		return ruleRequestNoCache
	case d.HasMaxAge && age > d.MaxAge && !f.Immutable:
		return ruleRequestMaxAge
	case d.HasMinFresh && -staleness < d.MinFresh:
		return ruleRequestMinFresh
	}
	return ruleFresh
}

// UseFor is [Freshness.Use] for a request that was received at received. A response that arrived
// later than that was made while the request was waiting: it answers all requests that waited,
// however short its lifetime. A lifetime is for requests that come afterwards, and so are the
// limits that a request sets to age. RFC 9111 4 lets one response answer the requests that were
// collapsed into one. This does not hold where each use asks for a validation of its own
// (no-cache).
func (f *Freshness) UseFor(d RequestDirectives, received, now time.Time, validity Validity) (Use, Forward) {
	return f.useFor(d, received, now, validity).outcome()
}

func (f *Freshness) useFor(d RequestDirectives, received, now time.Time, validity Validity) useRule {
	rule := f.use(d, now, validity)
	use, _ := rule.outcome()
	switch {
	case use != UseValidate && use != UseNever, validity != Valid, f.NoCache:
		return rule
	case f.Reason != Storable && !f.UsableByFollowers():
		return rule
	// The clock may have been set back.
	case f.ResponseTime.Before(received), f.ResponseTime.After(now):
		return rule
	}
	return ruleMadeMeanwhile
}

// UsableByFollowers reports whether a response that is not worth storing still answers all requests
// that wait for it: it states a lifetime and was fresh when it was made, but the origin took longer
// to answer than that lasts.
func (f *Freshness) UsableByFollowers() bool {
	return f.Reason == ReasonNoValidator && !f.NoCache && f.Lifetime > 0 && f.Lifetime > f.InitialAge-f.ResponseDelay
}

// useStale decides for a response that is not fresh (RFC 9111 4.2.4). A client that limits age or
// asks for a rest of freshness does not accept a stale response, unless it says max-stale
// (5.2.1.1).
func (f *Freshness) useStale(d RequestDirectives, age, staleness time.Duration, validity Validity) useRule {
	limited := d.HasMaxAge && (age > d.MaxAge || !d.HasMaxStale)
	switch {
	case f.MustRevalidate:
		return ruleMustRevalidate
	case d.NoCache, d.HasMinFresh, limited:
		return ruleNotStale
	case f.StaleWhileRevalidate > 0 && staleness < f.StaleWhileRevalidate:
		return ruleWhileRevalidate
	case d.HasMaxStale && staleness <= d.MaxStale && validity == Valid && !f.SharedOnly:
		return ruleMaxStale
	case validity == Stale:
		return rulePurgedSoftly
	}
	return ruleStale
}

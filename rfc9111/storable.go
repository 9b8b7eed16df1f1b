package rfc9111

import (
	"net/http"
	"strings"
)

// Storable says whether the response may be stored: [Storable], or the first reason against it,
// from what no header can change to what a header lacks.
//
// It depends on no moment, so it may be asked again at every look-up, of what is stored, under
// rules that became stricter meanwhile.
func (p *Policy) Storable(x *Exchange) Reason {
	s := p.statement(x.Header)
	if reason := p.reasonForbidden(x, &s); reason != Storable {
		return reason
	}
	f := p.freshness(x, &s)
	return p.reasonUseless(x, &s, &f)
}

// reasonForbidden is RFC 9111 3, clause by clause, up to the last item.
func (p *Policy) reasonForbidden(x *Exchange, s *statement) Reason {
	switch {
	case !methodUnderstood(x.Method):
		return ReasonMethod
	case x.Status == http.StatusPartialContent, x.Status == http.StatusNotModified:
		// Neither is the representation. Stored as it is, a 206 would be served as the whole (3.3),
		// a 304 as an empty one.
		return ReasonPartial
	case x.RequestNoStore && !p.IgnoreClientDirectives:
		// Before the status: that a client wants nothing stored says nothing of the next answer,
		// whatever its own one is.
		return ReasonRequestNoStore
	case !statusStorable(x.Status), s.mustUnderstand && !statusUnderstood(x.Status):
		return ReasonStatus
	case s.forbidsStoring(x.Status):
		return ReasonNoStore
	case s.private:
		return ReasonPrivate
	case x.Authorized && !s.shareable():
		return ReasonAuthorization
	// private="Set-Cookie" would allow to store the rest; the operator's word is about the
	// response.
	case p.SetCookie == SetCookieRefuse && x.setsCookie() && !p.Ignores("Set-Cookie"):
		return ReasonSetCookie
	case x.BeginsSession:
		return ReasonSession
	case p.varyStar(x):
		return ReasonVaryStar
	case !ValidFields(x.Header):
		return ReasonField
	case p.DeceptionGuard && !ExtensionAgrees(x.URL, x.Header):
		return ReasonContentType
	}
	return p.TrailerReason(x.Trailer)
}

// setsCookie reports whether the response has a Set-Cookie, or came with one.
func (x *Exchange) setsCookie() bool { return x.HadSetCookie || len(x.Header["Set-Cookie"]) > 0 }

// methodUnderstood is 3, first item. HEAD is not among them: its response has no body to store.
func methodUnderstood(method string) bool {
	switch method {
	case http.MethodGet, http.MethodPost, "QUERY":
		return true
	}
	return false
}

// statusStorable is 3, second item: the status is final. Six statuses are refused whatever they
// carry. They answer what a fetch never sends (A-IM, Range, Expect, Upgrade), or what is true of
// one client's request alone (Early-Data; a CDN-Loop, which it may have made up). So one client
// could have them stored for all others.
func statusStorable(status int) bool {
	switch status {
	case http.StatusIMUsed, http.StatusTooEarly, http.StatusLoopDetected,
		http.StatusRequestedRangeNotSatisfiable, http.StatusExpectationFailed, http.StatusUpgradeRequired:
		return false
	}
	return status >= 200 && status <= 599
}

// statusUnderstood is 5.2.2.3: the caching requirements of the registered statuses are known, and
// those of 206 and 304 are met by not storing them.
func statusUnderstood(status int) bool { return http.StatusText(status) != "" }

// forbidsStoring is 5.2.2.5, and 5.2.2.3: no-store beside must-understand is for caches that do not
// understand the status. In a field that is damaged, no-store is taken at its word.
func (s *statement) forbidsStoring(status int) bool {
	if s.mustUnderstand && !s.malformed && statusUnderstood(status) {
		return false
	}
	return s.noStore
}

// shareable is 3.5: what a response to an authorised request must say. Said in a field that is
// damaged it does not count.
func (s *statement) shareable() bool {
	if s.malformed {
		return false
	}
	return s.public || s.mustRevalidate || s.sMaxAge.given
}

// varyStar is 4.1: a stored response with Vary: * matches no request. Neither does one that the
// origin selected by what the cache has not seen.
func (p *Policy) varyStar(x *Exchange) bool {
	if len(x.Header["Vary"]) == 0 || p.Ignores("Vary") {
		return false
	}
	_, star := VaryNames(x.Header)
	return star || x.VaryUnseen
}

// reasonUseless is uselessBecause, and says ReasonCookie where the request's Cookie is the only
// reason: to a browser with a cookie of its own, ttl would otherwise seem to have no effect.
func (p *Policy) reasonUseless(x *Exchange, s *statement, f *Freshness) Reason {
	reason := uselessBecause(x, f)
	if reason == Storable || !x.UnkeyedCookie || !p.Assumes() {
		return reason
	}
	without := *x
	without.UnkeyedCookie = false
	fresh := p.freshness(&without, s)
	if uselessBecause(&without, &fresh) == Storable {
		return ReasonCookie
	}
	return reason
}

// uselessBecause is 3, last item, seen from the other end: a response is stored if it can be used
// without asking, at least for a moment or after a failure, or if asking can be answered with 304.
// That it is kept longer is no reason to store what arrives stale: that would be every page which
// says max-age=0, for the few requests that would take it so.
func uselessBecause(x *Exchange, f *Freshness) Reason {
	switch {
	case f.Source == SourceNone && !f.NoCache:
		return ReasonNoLifetime
	case f.Keep > 0 && HasValidator(x.Header) && Validates(x.Method):
		return Storable
	case f.NoCache:
		return ReasonNoValidator
	case f.Lifetime+max(f.StaleWhileRevalidate, f.StaleIfError) > f.InitialAge:
		return Storable
	}
	return ReasonNoValidator
}

// ValidFields reports whether every field of h can stand in a message (RFC 9110 5.1, 5.5).
// Upstreams over HTTP are held to that by their parser; a handler that writes what a client sent
// into a field is not, and what ends a line in one answer must not be kept for all others. A value
// of nil, which takes a field of an outer handler away, is valid.
func ValidFields(h http.Header) bool {
	for name, values := range h {
		if !validField(name, values) {
			return false
		}
	}
	return true
}

func validField(name string, values []string) bool {
	if !isToken(strings.TrimPrefix(name, http.TrailerPrefix)) {
		return false
	}
	for _, value := range values {
		if strings.IndexByte(value, '\n') >= 0 || strings.IndexByte(value, '\r') >= 0 || strings.IndexByte(value, 0) >= 0 {
			return false
		}
	}
	return true
}

// IsEventStream reports text/event-stream, whatever its parameters are. By GET such a response has
// no end.
func IsEventStream(h http.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return EqualFold(TrimOWS(mediaType), "text/event-stream")
}

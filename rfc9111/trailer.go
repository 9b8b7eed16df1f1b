package rfc9111

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Every rule for the fields of a header holds for those behind the body, and one more: what has to
// be known before the body is no trailer field.

// headerOnly are the fields that RFC 9110 6.5.1 keeps out of trailers: framing, routing, request
// modifiers, authentication, response controls, content format. Set-Cookie is one too, and is left
// to the rule for cookies. A session is given by the header alone, where it is judged.
var headerOnly = [...]string{
	"Content-Length", "Host",
	"Cache-Control", "Expect", "Max-Forwards", "Pragma", "Range",
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	"Authorization", "Www-Authenticate", "Cookie", SessionField,
	"Age", "Date", "Expires", "Location", "Retry-After", "Vary", "Warning", "No-Vary-Search",
	"Content-Encoding", "Content-Range", "Content-Type",
}

// CleanTrailer removes from a response's trailer fields, in place, what no client may get: fields
// that cannot stand in a trailer, hop-by-hop ones, and those that Connection of the header names.
func CleanTrailer(header, trailer http.Header) {
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(trailer, http.CanonicalHeaderKey(TrimOWS(name)))
		}
	}
	removeFields(trailer, hopByHop[:])
	removeFields(trailer, headerOnly[:])
}

// StorableTrailer returns what is stored of the trailer fields of a response with the given header,
// and sent to clients other than the one that it was made for. It leaves out what [CleanTrailer]
// removes, what private="…" and no-cache="…" name, Set-Cookie unless the policy is
// [SetCookieStore], and fields that cannot stand in a message. It is trailer itself where all of
// that may stay, else a new map.
func (p *Policy) StorableTrailer(header, trailer http.Header) http.Header {
	if len(trailer) == 0 {
		return nil
	}
	s := p.statement(header)
	refused := func(name string, values []string) bool {
		name = trailerName(name)
		return name == "Set-Cookie" && (p.SetCookie != SetCookieStore || p.Ignores(name)) ||
			slices.Contains(hopByHop[:], name) || slices.Contains(headerOnly[:], name) ||
			slices.Contains(s.privateFields, name) || slices.Contains(s.noCacheFields, name) ||
			!validField(name, values)
	}
	for name, values := range trailer {
		if refused(name, values) {
			kept := maps.Clone(trailer)
			maps.DeleteFunc(kept, refused)
			return kept
		}
	}
	return trailer
}

// TrailerReason says whether a response that [Policy.Storable] would have stored by its header may
// be, now that the fields behind its body are known.
func (p *Policy) TrailerReason(trailer http.Header) Reason {
	for name := range trailer {
		if trailerName(name) == "Set-Cookie" && p.SetCookie == SetCookieRefuse && !p.Ignores("Set-Cookie") {
			return ReasonSetCookie
		}
	}
	if !ValidFields(trailer) {
		return ReasonField
	}
	return Storable
}

// trailerName is the name of a trailer field, also where it is marked as one as net/http has it.
func trailerName(name string) string {
	return http.CanonicalHeaderKey(strings.TrimPrefix(name, http.TrailerPrefix))
}

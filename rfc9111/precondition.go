package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// Verdict is the outcome of a client's preconditions.
type Verdict uint8

// The verdicts.
const (
	// Pass: the response is sent.
	Pass Verdict = iota
	// NotModified: the client has it already, 304 is sent.
	NotModified
)

// String returns the verdict as one word.
func (v Verdict) String() string {
	switch v {
	case Pass:
		return "pass"
	case NotModified:
		return "not-modified"
	}
	return "unknown"
}

// Precondition evaluates the conditionals of a request on a stored response (RFC 9111 4.3.2) in the
// order of RFC 9110 13.2.2. If-Match and If-Unmodified-Since are for origin servers and are not
// evaluated by a cache; If-Range is part of [ParseRange]. Only what would else be a 2xx can be a
// 304 (RFC 9110 13.2.1). received is when the stored response arrived.
func Precondition(method string, reqHeader http.Header, status int, storedHeader http.Header, received time.Time) Verdict {
	if status < 200 || status > 299 {
		return Pass
	}
	switch method {
	case http.MethodGet, http.MethodHead, "QUERY":
	default:
		return Pass
	}
	if lines := reqHeader["If-None-Match"]; len(lines) > 0 {
		return verdict(noneMatchFails(lines, entityTag(storedHeader)))
	}
	if lines := reqHeader["If-Modified-Since"]; len(lines) > 0 {
		return verdict(notModifiedSince(lines, storedHeader, received))
	}
	return Pass
}

func verdict(notModified bool) Verdict {
	if notModified {
		return NotModified
	}
	return Pass
}

// noneMatchFails is RFC 9110 13.1.2: a listed tag matches weakly, or "*" finds that there is a
// response at all.
func noneMatchFails(lines []string, stored string) bool {
	for _, line := range lines {
		for rest := line; rest != ""; {
			var tag string
			tag, rest = cutEntityTag(rest)
			if tag == "*" || tag != "" && stored != "" && opaque(tag) == opaque(stored) {
				return true
			}
		}
	}
	return false
}

// cutEntityTag cuts the first entity tag off a list. Commas may stand inside the quotation marks,
// which know no escapes (RFC 9110 8.8.3). What is not quoted ends at the next comma, so that tags
// of sloppy servers compare as they stand.
func cutEntityTag(list string) (tag, rest string) {
	list = strings.TrimLeft(list, " \t,")
	start := 0
	if isWeak(list) {
		start = len("W/")
	}
	if start < len(list) && list[start] == '"' {
		if end := strings.IndexByte(list[start+1:], '"'); end >= 0 {
			end += start + 2
			return list[:end], list[end:]
		}
	}
	tag, rest, _ = strings.Cut(list, ",")
	return TrimOWS(tag), rest
}

// notModifiedSince is RFC 9110 13.1.3 as RFC 9111 4.3.2 extends it: a stored response without
// Last-Modified is as old as its Date, and without that as long as it is here. A date that is none
// is ignored.
func notModifiedSince(lines []string, stored http.Header, received time.Time) bool {
	since, ok := dateField(lines)
	if !ok {
		return false
	}
	modified, ok := dateField(stored["Last-Modified"])
	if !ok {
		modified, ok = dateOf(stored)
	}
	if !ok {
		modified = received.Truncate(time.Second) // as since is
	}
	return !modified.After(since)
}

// metadata are the representation fields that a 304 goes without. Cache-Control, Content-Location,
// Date, ETag, Expires and Vary it must have (RFC 9110 15.4.5), and fields that are no metadata
// (CORS, security policies) it may.
var metadata = [...]string{
	"Accept-Ranges", "Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language",
	"Content-Length", "Content-Md5", "Content-Range", "Content-Type", "Repr-Digest",
}

// NotModifiedHeader returns the header of a 304 for the stored response (RFC 9110 15.4.5), a new
// map. Last-Modified guides the client only where there is no entity tag.
func NotModifiedHeader(stored http.Header) http.Header {
	h := stored.Clone()
	if h == nil {
		h = make(http.Header)
	}
	removeFields(h, metadata[:])
	if len(h["Etag"]) > 0 {
		delete(h, "Last-Modified")
	}
	return h
}

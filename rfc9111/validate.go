package rfc9111

import (
	"net/http"
	"strings"
)

// HasValidator reports whether a response can be validated (RFC 9111 4.3.1): it has an entity tag
// or a date of last modification.
func HasValidator(h http.Header) bool {
	if entityTag(h) != "" {
		return true
	}
	_, ok := dateField(h["Last-Modified"])
	return ok
}

// Validates reports whether a request with the method can ask whether a stored response still
// holds. For a POST, If-None-Match decides whether it is carried out at all, and the answer is 412
// (RFC 9110 13.1.2).
func Validates(method string) bool { return method != http.MethodPost }

// entityTag returns the ETag, empty if there is none or more than one.
func entityTag(h http.Header) string {
	lines := h["Etag"]
	if len(lines) != 1 {
		return ""
	}
	return TrimOWS(lines[0])
}

// MakeConditional makes a fetch a conditional request for the stored response (RFC 9111 4.3.1): it
// removes the client's conditionals, and sets If-None-Match and If-Modified-Since from the stored
// validators.
func MakeConditional(fetch, stored http.Header) {
	ClearConditions(fetch)
	if tag := entityTag(stored); tag != "" {
		fetch["If-None-Match"] = []string{tag}
	}
	if _, ok := dateField(stored["Last-Modified"]); ok {
		fetch["If-Modified-Since"] = []string{TrimOWS(stored["Last-Modified"][0])}
	}
}

// conditions are the fields that make an answer one for its client only.
var conditions = [...]string{
	"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
	"If-Range", "Range", "Expect", "A-Im", "Im",
}

// ClearConditions removes the fields that would make the answer one for a single client:
// conditionals, Range, If-Range, Expect, and A-IM, which beside If-None-Match asks for a delta (RFC
// 3229 10.5.3). No fetch carries those of a client.
func ClearConditions(h http.Header) { removeFields(h, conditions[:]) }

// Selects reports whether a 304 to a fetch made by [MakeConditional] speaks of the stored response
// (RFC 9111 4.3.4). By the entity tag if the 304 has one, else by Last-Modified; a 304 with neither
// answers the one question that was asked.
func Selects(stored, notModified http.Header) bool {
	if len(notModified["Etag"]) > 0 {
		return selectsTag(stored, notModified)
	}
	if lines := notModified["Last-Modified"]; len(lines) > 0 {
		theirs, ok := dateField(lines)
		mine, has := dateField(stored["Last-Modified"])
		return ok && has && mine.Equal(theirs)
	}
	return true
}

// selectsTag reports whether an answer's entity tag is that of the stored response.
//
// RFC 9111 4.3.4 wants a strong tag to meet a strong one. Weakness is left aside: servers that
// compress on the fly (nginx) send W/"x" with the body and "x" with the 304, and the origin has
// just matched the two itself. Caddy's encode appends the coding to a strong tag, takes it off
// again on the way in, and leaves a 304 alone, so "x" also speaks of a stored "x-gzip".
func selectsTag(stored, answer http.Header) bool {
	mine, theirs := entityTag(stored), entityTag(answer)
	if mine == "" || theirs == "" {
		return false
	}
	return opaque(mine) == opaque(theirs) ||
		opaque(withoutCoding(mine, ContentCoding(stored))) == opaque(theirs)
}

// withoutCoding takes the suffix off an entity tag that encode gave it.
func withoutCoding(tag, coding string) string {
	if coding == "" || isWeak(tag) {
		return tag
	}
	if bare, ok := strings.CutSuffix(tag, "-"+coding+`"`); ok {
		return bare + `"`
	}
	return tag
}

func isWeak(tag string) bool { return strings.HasPrefix(tag, "W/") }

// opaque is an entity tag without its weakness (RFC 9110 8.8.3.2).
func opaque(tag string) string { return strings.TrimPrefix(tag, "W/") }

// SpeaksOfRequest reports whether a status may say nothing of the resource, as far as that can be
// told by it: any error other than those that say [Gone]. How a request is made can bring about a
// 501 or a 500 as well as a 400.
func SpeaksOfRequest(status int) bool { return status >= http.StatusBadRequest && !Gone(status) }

// Gone reports whether a status says that the resource exists no more, so that what is stored of it
// is removed too. Every other answer that may not be stored leaves what is stored as it is: RFC
// 9111 4.3.3 has it used for the request that it answers, and no more. It may be private, a
// redirect to a login, or due to an odd field of the request. Any client can make an origin give
// such an answer, and must not be able to take a response away from the others.
func Gone(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }

// FreshenByHead applies a 200 to HEAD to a stored response to GET (RFC 9111 4.3.5). ok is false if
// they differ in a validator or in Content-Length: then the stored response is out of date and must
// be considered stale. Otherwise merged is the updated header, as from a 304.
//
// httpcache does not call it: it asks about what is stale by GET, also for a HEAD.
func FreshenByHead(stored, head http.Header) (merged http.Header, ok bool) {
	if len(head["Etag"]) > 0 && !selectsTag(stored, head) {
		return nil, false
	}
	if lines := head["Last-Modified"]; len(lines) > 0 && !equalLines(stored["Last-Modified"], lines) {
		return nil, false
	}
	mine, theirs := stored["Content-Length"], head["Content-Length"]
	if len(mine) > 0 && len(theirs) > 0 && !equalLines(mine, theirs) {
		return nil, false
	}
	return Merge(stored, head), true
}

func equalLines(a, b []string) bool {
	return len(a) == 1 && len(b) == 1 && TrimOWS(a[0]) == TrimOWS(b[0])
}

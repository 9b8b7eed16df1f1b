package rfc9111

import (
	"net/http"
	"strings"
)

// hopByHop are the fields that RFC 9111 3.1 and RFC 9110 7.6.1 keep out of a store, beside those
// that Connection names. The last says of one client's request how often that has come: another
// Larder behind this one may have sent it.
var hopByHop = [...]string{
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection",
	"Larder-Repeats",
}

// SessionField names the session of an agent at a server of tools (Model Context Protocol). Who has
// its value has the session, as with a cookie.
const SessionField = "Mcp-Session-Id"

// indispensable reports whether a response cannot be stored without a field: it says who gets the
// body, for how long, or how to read it. Connection cannot take it away, as RFC 9110 7.6.1 forbids
// to name fields meant for all recipients.
func indispensable(name string) bool {
	switch name {
	case "Age", "Cache-Control", "Date", "Expires", "Pragma", "Vary", "No-Vary-Search",
		"Content-Encoding", "Content-Range", "Content-Type":
		return true
	}
	return strings.HasSuffix(name, "-Cache-Control") // RFC 9213
}

// StorableHeader returns what is stored of the header of x (RFC 9111 3.1), a new map with slices of
// its own. It goes without
//   - hop-by-hop fields and those Connection names,
//   - the fields named in private="…" (5.2.2.7) and in no-cache="…" (5.2.2.4): the latter may be
//     sent after validation only, and a stored response is mostly sent without,
//   - Set-Cookie under [SetCookieStrip] and where the policy ignores it,
//   - fields that are marked as trailers, as net/http has it: see [Policy.StorableTrailer].
//
// Age stays, as age is reckoned from it; the answer carries a new one.
func StorableHeader(x *Exchange, p *Policy) http.Header {
	h := x.Header.Clone()
	if h == nil {
		h = make(http.Header)
	}
	p.makeStorable(h, p.statement(x.Header))
	return h
}

// MakeStorable does in place what [StorableHeader] does to a copy; h has to be the caller's own. f
// is the freshness of the response under p.
func (p *Policy) MakeStorable(h http.Header, f *Freshness) {
	p.makeStorable(h, statement{directives: directives{privateFields: f.privateFields, noCacheFields: f.noCacheFields}})
}

func (p *Policy) makeStorable(h http.Header, s statement) {
	removeHopByHop(h)
	removeFields(h, s.privateFields)
	removeFields(h, s.noCacheFields)
	if p.SetCookie == SetCookieStrip || p.Ignores("Set-Cookie") {
		delete(h, "Set-Cookie")
	}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
}

func removeHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(TrimOWS(name))
			if !indispensable(name) {
				delete(h, name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

func removeFields(h http.Header, names []string) {
	for _, name := range names {
		delete(h, name)
	}
}

// describesBody are the fields a 304 or a HEAD does not update. RFC 9111 3.2 exempts Content-Length
// and allows to exempt what the stored body depends on: the body is kept, so what says how to read
// it is kept with it.
var describesBody = [...]string{
	"Content-Length", "Content-Encoding", "Content-Range", "Content-Md5", "Content-Digest", "Etag",
}

// Merge returns the stored header updated by that of a 304 (RFC 9111 3.2), a new map, for the
// client whose request has been validated. Every field of the 304 replaces the stored one, but for
// those that describe the body and hop-by-hop fields. Age and Date that the 304 does not have are
// removed, because they are those of an older response.
//
// A new Vary may select differently: the caller reads it again.
func Merge(stored, notModified http.Header) http.Header {
	merged := stored.Clone()
	if merged == nil {
		merged = make(http.Header)
	}
	delete(merged, "Age")
	delete(merged, "Date")
	update := notModified.Clone()
	removeHopByHop(update)
	removeFields(update, describesBody[:])
	for name, values := range update {
		// Without values it takes away what an outer handler has set, and no field of the
		// response's.
		if len(values) > 0 || len(merged[name]) == 0 {
			merged[name] = values
		}
	}
	return merged
}

// MergeStorable is [Merge] for the store and for all other clients. Fields that private="…" or
// no-cache="…" name, in the 304 or from before, are left out. A Set-Cookie is left out unless the
// policy is [SetCookieStore]: a 200 with one would not have been shared, or without it (RFC 9111
// 7.3).
func (p *Policy) MergeStorable(stored, notModified http.Header) http.Header {
	update := notModified
	if p.SetCookie != SetCookieStore {
		update = notModified.Clone()
		delete(update, "Set-Cookie")
	}
	merged := Merge(stored, update)
	p.makeStorable(merged, p.statement(merged))
	return merged
}

package httpcache

import "net/http"

// fieldSet says which of the fields that decide about a request it has. One pass over its header
// finds them all. A request has few of them, and to look each one up took a sixth of a hit's time.
type fieldSet uint16

const (
	hasUpgrade       fieldSet = 1 << iota // Upgrade or HTTP2-Settings
	hasConnection                         // Connection
	hasOverride                           // one of methodOverrides
	hasForwarded                          // one of forwardedFields
	hasLoop                               // CDN-Loop
	hasAuthorization                      // Authorization
	hasCookie                             // Cookie
	hasDirectives                         // Cache-Control or Pragma
	hasConditional                        // one of the conditionals that a cache evaluates
	hasRange                              // Range
	hasManyFields                         // more lines than maxFields
	acceptsEvents                         // Accept names text/event-stream; set with acceptRead
	acceptRead                            // see Request.wantsEvents
)

// fieldSetOf reads the set of a header.
func fieldSetOf(h http.Header) (set fieldSet) {
	n := 0
	for name, lines := range h {
		if n += len(lines); len(lines) > 0 {
			set |= kindOf(name)
		}
	}
	if n > maxFields {
		set |= hasManyFields
	}
	return set
}

// has reports whether one of the fields is there.
func (s fieldSet) has(one fieldSet) bool { return s&one != 0 }

// kindOf returns what a field decides about. It is a switch, because that is much quicker than a
// map. A test compares it with the lists of names.
func kindOf(name string) fieldSet {
	switch name {
	case "Upgrade", "Http2-Settings":
		return hasUpgrade
	case "Connection":
		return hasConnection
	case "X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url", "Last-Event-Id":
		return hasOverride
	case "Cf-Visitor", "Cloudfront-Forwarded-Proto", "Forwarded", "Front-End-Https", "X-Arr-Ssl",
		"X-Base-Path", "X-Context-Path", "X-Envoy-Original-Path", "X-Forwarded-Context",
		"X-Forwarded-Host", "X-Forwarded-Method", "X-Forwarded-Path", "X-Forwarded-Port",
		"X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme",
		"X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Uri", "X-Forwarded-Url", "X-Host",
		"X-Http-Host-Override", "X-Ingress-Path", "X-Ms-Original-Url", "X-Original-Host",
		"X-Original-Method", "X-Original-Proto", "X-Original-Scheme", "X-Original-Uri", "X-Proto",
		"X-Replaced-Path", "X-Request-Uri", "X-Scheme", "X-Script-Name", "X-Url-Scheme",
		"X-Waws-Unencoded-Url":
		return hasForwarded
	case "Cdn-Loop":
		return hasLoop
	case "Authorization":
		return hasAuthorization
	case "Cookie":
		return hasCookie
	case "Cache-Control", "Pragma":
		return hasDirectives
	case "If-None-Match", "If-Modified-Since":
		return hasConditional
	case "Range":
		return hasRange
	}
	return 0
}

// maxFields is how many field lines a request may have that goes through the cache. Origins read no
// more than a number of their own: Apache refuses what is beyond 100, and Node leaves out what is
// beyond a thousand, without a word. What is left out first is what a proxy adds. So 20 of the 100
// are for that, and browsers send about 20.
const maxFields = 80

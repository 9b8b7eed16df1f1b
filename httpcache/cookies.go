package httpcache

import (
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
)

// cookies yields the request's cookies in the order in which they were sent. A value is everything
// behind the name, "=" and white space included. It is not parsed: a part that a parser would drop
// may still reach the origin. Names have no white space around them, because origins read them so.
func cookies(h http.Header) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, line := range h["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				if pair = strings.TrimLeft(pair, " \t"); pair == "" {
					continue
				}
				name, _, _ := strings.Cut(pair, "=")
				if name = rfc9111.TrimOWS(name); !yield(name, pair[len(name):]) {
					return
				}
			}
		}
	}
}

// cookieValues lists the values of the wanted cookies, by name. A client may send any number of
// others; they are not kept.
func cookieValues(h http.Header, wanted []string) map[string][]string {
	jar := make(map[string][]string, len(wanted))
	for name, value := range cookies(h) {
		if slices.Contains(wanted, name) {
			jar[name] = append(jar[name], value)
		}
	}
	return jar
}

// oddCookies returns the lines of Cookie if origins may find other cookies in them than are found
// here, so that they count as they are:
//   - several lines, of which some join and some read the first;
//   - a name with bytes that some take for white space, as U+00A0, or for a quotation mark;
//   - a keyed name in another case, which some ignore;
//   - a name of which PHP makes that of a keyed one, see isSameToPHP;
//   - a keyed name behind a comma, where some begin another cookie;
//   - a value that begins with a quotation mark and does not end with the next one. To some a
//     semicolon behind it separates nothing.
//
// No browser sends such cookies, unless a site has set them so.
func (rules *KeyRules) oddCookies(h http.Header) []string {
	lines := h["Cookie"]
	if len(lines) > 1 {
		return lines
	}
	for name, value := range cookies(h) {
		if !isPlainName(name) || hasOpenQuote(value) {
			return lines
		}
		for _, keyed := range rules.Cookies {
			if name != keyed && isSameToPHP(name, keyed) || isBehindComma(value, keyed) {
				return lines
			}
		}
	}
	return nil
}

// isSameToPHP reports whether two names of cookies may be one to PHP, which reads a.b and a[b as
// a_b, and a[b] as an element of a. Older versions resolve escapes first. Case does not count, for
// other origins.
func isSameToPHP(name, keyed string) bool {
	for name != "" && keyed != "" {
		var a, b byte
		a, name = phpByte(name)
		b, keyed = phpByte(keyed)
		if a != b {
			return false
		}
	}
	return beginsIndex(name) && beginsIndex(keyed)
}

// beginsIndex reports whether what follows a name leaves it as it is.
func beginsIndex(rest string) bool {
	return rest == "" || rest[0] == '[' || len(rest) >= 3 && rfc9111.EqualFold(rest[:3], "%5b")
}

// phpByte is the first byte of a name as PHP reads it, in lower case, and what follows.
func phpByte(name string) (c byte, rest string) {
	if c, rest = name[0], name[1:]; c == '%' && len(rest) >= 2 {
		if raw, err := url.PathUnescape(name[:3]); err == nil {
			c, rest = raw[0], rest[2:]
		}
	}
	switch {
	case c == '.' || c == '[' || c == ' ' || c == '+':
		c = '_'
	case c >= 'A' && c <= 'Z':
		c += 'a' - 'A'
	}
	return c, rest
}

// isBehindComma reports whether a part of a value behind a comma is a cookie of this name.
func isBehindComma(value, name string) bool {
	_, rest, more := strings.Cut(value, ",")
	for more {
		var part string
		part, rest, more = strings.Cut(rest, ",")
		part, _, _ = strings.Cut(part, "=")
		if rfc9111.EqualFold(rfc9111.TrimOWS(part), name) {
			return true
		}
	}
	return false
}

// isPlainName reports whether a name is visible ASCII without quotation marks.
func isPlainName(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; c <= ' ' || c > '~' || c == '"' {
			return false
		}
	}
	return true
}

// hasOpenQuote reports whether a value, with its "=", is a quoted string that does not end with it.
func hasOpenQuote(value string) bool {
	text := rfc9111.TrimOWS(strings.TrimPrefix(rfc9111.TrimOWS(value), "="))
	if text == "" || text[0] != '"' {
		return false
	}
	return len(text) == 1 || text[len(text)-1] != '"' || strings.ContainsAny(text[1:len(text)-1], `"\`)
}

// hasUnkeyedCookie reports whether the request carries a cookie that is not part of the key.
func (rules *KeyRules) hasUnkeyedCookie(h http.Header) bool {
	if len(h["Cookie"]) == 0 || slices.Contains(rules.Headers, "Cookie") {
		return false
	}
	for name := range cookies(h) {
		if !slices.Contains(rules.Cookies, name) {
			return true
		}
	}
	return false
}

// unkeyedCookies returns the names of the request's cookies that are not part of the key, each once
// and at most maxCookieNames of them.
func (rules *KeyRules) unkeyedCookies(h http.Header) (names []string) {
	for name := range cookies(h) {
		if len(names) < maxCookieNames && !slices.Contains(rules.Cookies, name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

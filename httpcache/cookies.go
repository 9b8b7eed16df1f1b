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

// maxPlainCookies is how many cookies a line may have that every origin reads to the end. PHP reads
// a thousand, Go three thousand, Tomcat 200. Chrome keeps 180 of a domain, and few sites have 50.
const maxPlainCookies = 100

// oddCookies returns the lines of Cookie if origins may find other cookies in them than are found
// here, so that they count as they are. Origins read Cookie in many ways, so it is not said what is
// odd but what is not: one line of at most maxPlainCookies parts with a semicolon and a space
// between, in which each is as isPlainCookie says, and in which no part may be one of the keyed
// cookies under another name.
func (rules *KeyRules) oddCookies(h http.Header) []string {
	lines := h["Cookie"]
	if len(lines) == 0 {
		return nil
	}
	if len(lines) > 1 || strings.Count(lines[0], ";") >= maxPlainCookies {
		return lines
	}
	for rest := lines[0]; rest != ""; { // what is empty is behind the last semicolon
		part, after, _ := strings.Cut(rest, ";")
		rest = strings.TrimPrefix(after, " ")
		name, value, ok := strings.Cut(part, "=")
		if !ok || !isPlainCookie(name, value) || rules.hidesKeyedCookie(name, value) {
			return lines
		}
	}
	return nil
}

// isPlainCookie reports whether a cookie has a token for a name and, if any, visible ASCII without
// semicolon, backslash and quotation marks for a value, unless these stand around it (RFC 6265
// 4.1.1). A comma counts, as browsers send it; see hidesKeyedCookie. At anything else origins
// differ: to Python a space in a value ends the cookie, and a quotation mark all of them.
func isPlainCookie(name, value string) bool {
	if name == "" || name[0] == '$' { // which is of RFC 2965
		return false
	}
	for i := range len(name) {
		if !isCookieToken(name[i]) {
			return false
		}
	}
	if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return !isCookieAttribute(name)
}

// isCookieToken reports whether a byte may stand in a token (RFC 9110 5.6.2).
func isCookieToken(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) < 0
}

// isCookieAttribute reports whether a cookie has the name of an attribute of Set-Cookie. Python
// reads no cookie at all from a line that begins with one.
func isCookieAttribute(name string) bool {
	switch rfc9111.ToLower(name) {
	case "expires", "path", "comment", "domain", "max-age", "secure", "httponly", "version", "samesite", "partitioned":
		return true
	}
	return false
}

// hidesKeyedCookie reports whether a cookie may be one of the keyed to some origin and is not here:
// by a name that is read as the keyed one, or by what stands behind a comma in its value, where
// some begin another cookie.
func (rules *KeyRules) hidesKeyedCookie(name, value string) bool {
	for _, keyed := range rules.Cookies {
		if name != keyed && isReadAs(name, keyed) {
			return true
		}
		_, rest, more := strings.Cut(value, ",")
		for more {
			var part string
			part, rest, more = strings.Cut(rest, ",")
			for member := range strings.SplitSeq(part, "=") {
				if isReadAs(tokenAtEnd(member), keyed) {
					return true
				}
			}
		}
	}
	return false
}

// isReadAs reports whether an origin may read one name of a cookie as a keyed one. PHP reads a.b
// and a[b as a_b, a[b] as an element of a, and no space in front. Older versions, and Rack, resolve
// escapes first. Case does not count, for other origins.
func isReadAs(name, keyed string) bool {
	for strings.HasPrefix(name, "+") || strings.HasPrefix(name, "%20") {
		name = strings.TrimPrefix(strings.TrimPrefix(name, "+"), "%20")
	}
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

// beginsIndex reports whether what follows a name leaves it as it is: an index, or a NUL.
func beginsIndex(rest string) bool {
	return rest == "" || rest[0] == '[' || len(rest) >= 3 && (rfc9111.EqualFold(rest[:3], "%5b") || rest[:3] == "%00")
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

// tokenAtEnd is the token that a text ends with. ASP.NET skips what stands in front of it.
func tokenAtEnd(text string) string {
	i := len(text)
	for i > 0 && isCookieToken(text[i-1]) {
		i--
	}
	return text[i:]
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

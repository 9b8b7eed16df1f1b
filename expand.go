package larder

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/urlform"
)

// ExpandURL implements httpcache.Origin. Caddy has decoded most of the placeholders that are parts
// of the request's URL. In a URL they stand as the client sent them. Where that is not known, the
// bytes that would end the path or begin an escape are percent-encoded.
func (c *clientRequest) ExpandURL(text string) string {
	path, query, hasQuery := strings.Cut(text, "?")
	expanded := c.expandIn(path, endsPath)
	if hasQuery {
		expanded += "?" + c.expandIn(query, endsParam)
	}
	return expanded
}

// The bytes with a meaning of their own in a path, and in a parameter of a query.
const (
	endsPath  = "%?#"
	endsParam = "%#&+"
)

// expandIn expands the placeholders of a part of a URL in which the reserved bytes have a meaning.
func (c *clientRequest) expandIn(text, reserved string) string {
	replace := func(name string, value any) (any, error) {
		return c.inURL(name, caddy.ToString(value), reserved), nil
	}
	expanded, _ := c.repl.ReplaceFunc(text, replace) // its only error would be one of replace
	return expanded
}

// inURL returns the value of a placeholder as it stands in a URL. A value that is not part of the
// request's URL is taken as it is: a field such as Destination carries a URL.
func (c *clientRequest) inURL(name, value, reserved string) string {
	switch of, part, _ := strings.Cut(name, ".path"); of {
	case "http.request.uri":
		if sent, ok := sentPart(c.HTTP().URL, part, value); ok {
			return sent
		}
	case "http.request.orig_uri":
		if sent, ok := sentPart(clientURL(c.HTTP()), part, value); ok {
			return sent
		}
	}
	if param, ok := strings.CutPrefix(name, "http.request.uri.query."); ok && reserved == endsParam {
		if sent, ok := sentParam(c.HTTP().URL, param, value); ok {
			return sent
		}
	}
	switch {
	case strings.HasSuffix(name, "_escaped"):
		return value
	case strings.HasPrefix(name, "http.request.uri.path"), strings.HasPrefix(name, "http.request.orig_uri.path"),
		strings.HasPrefix(name, "http.request.uri.query."):
		return escape(value, reserved, false)
	case strings.HasPrefix(name, "http.regexp."): // of a decoded path, or of a field that may have escapes
		return escape(value, reserved, true)
	}
	return value
}

// sentPart returns the path of u as the client sent it, or the segment of it that a part such as
// ".1" names. It reports false if u is not the URL that Caddy decoded. In /a%2Fb/c Caddy counts
// three segments, the client two.
func sentPart(u *url.URL, part, decoded string) (string, bool) {
	sent := urlform.PathAsSent(u)
	if part == "" {
		return sent, decoded == u.Path
	}
	n, err := strconv.Atoi(strings.TrimPrefix(part, "."))
	if err != nil || n < 0 || segment(u.Path, n) != decoded {
		return "", false
	}
	return segment(sent, n), true
}

// sentParam returns the value of a parameter of u's query as the client sent it.
func sentParam(u *url.URL, name, decoded string) (string, bool) {
	for piece := range strings.SplitSeq(u.RawQuery, "&") {
		n, v, _ := strings.Cut(piece, "=")
		param, errName := url.QueryUnescape(n)
		value, errValue := url.QueryUnescape(v)
		if errName == nil && errValue == nil && param == name && value == decoded {
			return v, true
		}
	}
	return "", false
}

// segment returns the nth segment of a path as Caddy counts them, empty past the end.
func segment(path string, n int) string {
	all := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if n >= len(all) {
		return ""
	}
	return all[n]
}

// escape percent-encodes the bytes of reserved. If the text may have escapes, these stay.
func escape(text, reserved string, mayHaveEscapes bool) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if strings.IndexByte(reserved, c) < 0 || c == '%' && mayHaveEscapes && isEscape(text[i:]) {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// isEscape reports whether text begins with a percent-encoded byte.
func isEscape(text string) bool {
	if len(text) < 3 {
		return false
	}
	_, err := strconv.ParseUint(text[1:3], 16, 8)
	return err == nil
}

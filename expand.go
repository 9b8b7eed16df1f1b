package larder

import (
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/urlform"
)

// ExpandURL implements httpcache.Origin. Caddy has decoded most of the placeholders that are parts
// of the request's URL. In a URL they stand as the client sent them. Where that is not known, the
// bytes that would end the path or begin an escape are percent-encoded.
func (c *clientRequest) ExpandURL(text string) string {
	target, query, hasQuery := strings.Cut(text, "?")
	expanded := c.expandIn(target, endsPath)
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
	expanded, _ := c.replacer().ReplaceFunc(text, replace) // its only error would be one of replace
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
	if param, ok := strings.CutPrefix(name, "http.request.uri.query."); ok {
		if sent, ok := sentParam(c.HTTP().URL, param, value); ok {
			if reserved == endsPath { // there a plus is a plus, and no space
				sent = strings.NewReplacer("+", "%20", "?", "%3F").Replace(sent)
			}
			return sent
		}
	}
	switch {
	case strings.HasSuffix(name, "_escaped"):
		return value
	case strings.HasPrefix(name, "http.request.uri.path"), strings.HasPrefix(name, "http.request.orig_uri.path"),
		strings.HasPrefix(name, "http.request.uri.query."):
		return escape(value, reserved, false)
	case strings.HasPrefix(name, "http.regexp."):
		// Of a decoded path, or of a field that may have escapes.
		return escape(value, reserved, true)
	}
	return value
}

// sentPart returns the path of u as the client sent it, or what a part such as ".1" or ".file"
// names of it. It reports false if u is not the URL that Caddy decoded. In /a%2Fb/c Caddy counts
// three segments, the client two.
func sentPart(u *url.URL, part, decoded string) (string, bool) {
	sent := urlform.PathAsSent(u)
	if part == "" {
		return sent, decoded == u.Path
	}
	of := partOf(part)
	if of == nil || of(u.Path) != decoded {
		return "", false
	}
	return of(sent), true
}

// partOf returns how Caddy takes the part from a path, nil if it knows no such part.
func partOf(part string) func(urlPath string) string {
	switch part {
	case ".file":
		return func(p string) string { _, file := path.Split(p); return file }
	case ".dir":
		return func(p string) string { dir, _ := path.Split(p); return dir }
	case ".file.base":
		return func(p string) string { return strings.TrimSuffix(path.Base(p), path.Ext(p)) }
	case ".file.ext":
		return path.Ext
	}
	n, err := strconv.Atoi(strings.TrimPrefix(part, "."))
	if err != nil || n < 0 {
		return nil
	}
	return func(p string) string { return segment(p, n) }
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
func segment(urlPath string, n int) string {
	all := strings.Split(strings.TrimPrefix(urlPath, "/"), "/")
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

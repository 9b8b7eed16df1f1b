// Package urlform gives URLs the one form in which stored responses carry them, and by which
// purges, listings and invalidations name them. The URL of a request and the URL that a user writes
// both pass through here, so that what was stored can be named.
//
// The form is the URL as the client sent it, written in characters that a URL may have: raw bytes
// that a client should have percent-encoded are encoded, and escapes stay as they are. So %2F is
// not /, and /a/../b is not /b.
package urlform

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/rfc9111"
)

// Parse gives an absolute URL that a user writes the form in which entries carry theirs. It refuses
// what no stored response can have been asked for by; the error is a sentence without its subject.
func Parse(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return "", errors.New("is not an absolute URL; send one such as https://example.com/path?query")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("has a scheme that is not served; send http or https")
	case u.User != nil:
		return "", errors.New("has a user, which is no part of what is requested; send it without")
	case strings.Contains(text, "#"):
		return "", errors.New("has a fragment, which no client sends; send it without, or # as %23")
	case strings.Contains(text, " "):
		return "", errors.New("has a space; send it as %20")
	}
	authority, err := Authority(u.Scheme, u.Host)
	if err != nil {
		return "", fmt.Errorf("has no authority that can be asked: %w; send one such as example.com or example.com:8080", err)
	}
	return Absolute(u.Scheme, authority, u), nil
}

// Absolute is scheme://authority/path?query of u. Scheme and authority are parameters because a
// request's URL has none; authority is one of Authority's.
func Absolute(scheme, authority string, u *url.URL) string {
	return Join(scheme, authority, u, Query(u.RawQuery))
}

// Join is Absolute with another query, which is one of Query's.
func Join(scheme, authority string, u *url.URL, query string) string {
	var room [256]byte
	return string(Append(room[:0], scheme, authority, u, query))
}

// Append is Join at the end of b.
func Append(b []byte, scheme, authority string, u *url.URL, query string) []byte {
	path := rfc9111.EncodePath(PathAsSent(u))
	if path == "" {
		path = "/" // RFC 9110 4.2.3
	}
	b = append(append(b, scheme...), "://"...)
	b = append(append(b, authority...), path...)
	if query != "" || u.ForceQuery && u.RawQuery == "" {
		b = append(append(b, '?'), query...)
	}
	return b
}

// PathAsSent is the path as the client sent it, with its raw bytes. It holds for a URL that was
// parsed and not changed since. url.URL's EscapedPath would encode the whole path anew where a
// single byte of it is not allowed: /a%2F(ü becomes /a/%28%C3%BC.
func PathAsSent(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// Proxied is the form under which a proxy of net/http, Caddy's among them, asks for u if u was sent
// with raw bytes: it encodes the whole path anew. So /%70age(ü is /page%28%C3%BC to the origin, and
// to another cache in between. ok is false where that is no other form, and where u has nothing
// that can have been sent raw. u is in the form of an entry's URL.
func Proxied(u *url.URL) (proxied *url.URL, ok bool) {
	if !mayHaveBeenRaw(PathAsSent(u)) {
		return u, false
	}
	return encodedAnew(u)
}

// ProxiedPrefix is Proxied of the beginning of a URL. What can have been sent raw may stand behind
// it, which counts if it has no escape: one may be a slash (%2F), and the form names more then.
func ProxiedPrefix(u *url.URL) (proxied *url.URL, ok bool) {
	if path := PathAsSent(u); strings.Contains(path, "%") && !mayHaveBeenRaw(path) {
		return u, false
	}
	return encodedAnew(u)
}

func encodedAnew(u *url.URL) (anew *url.URL, differs bool) {
	c := *u
	c.RawPath = ""
	return &c, c.EscapedPath() != PathAsSent(u)
}

// mayHaveBeenRaw reports whether a path has an escape that EncodePath may have made of a raw byte.
func mayHaveBeenRaw(path string) bool {
	for rest := path; ; {
		i := strings.IndexByte(rest, '%')
		if i < 0 || i+3 > len(rest) {
			return false
		}
		escape := rest[i : i+3]
		if raw, err := url.PathUnescape(escape); err == nil && rfc9111.EncodePath(raw) == escape {
			return true
		}
		rest = rest[i+3:]
	}
}

// Query is a raw query, or a piece of one, in the form of an entry's URL.
func Query(raw string) string { return rfc9111.EncodeQuery(raw) }

// EscapeNonASCII percent-encodes what is not ASCII in the text of a URL.
func EscapeNonASCII(text string) string {
	return rfc9111.PercentEncode(text, func(c byte) bool { return c <= 0x7f })
}

// Authority is host and port in lower case, without the scheme's default port, without zeros in
// front of another port, and without trailing dots; an IPv6 address is as RFC 5952 writes it. An
// empty scheme has no default port. The error says why text is no authority; no URL can have such a
// one.
func Authority(scheme, text string) (string, error) {
	if inForm(scheme, text) {
		return text, nil
	}
	return toForm(scheme, text)
}

// toForm is Authority for any text.
func toForm(scheme, text string) (string, error) {
	host, port, err := splitAuthority(text)
	if err != nil {
		return "", err
	}
	port = strings.TrimLeft(port, "0")
	switch {
	case port == "" || isDefaultPort(scheme, port):
		return rfc9111.ToLower(host), nil
	case len(host)+len(":")+len(port) == len(text) && strings.HasPrefix(text, host):
		return rfc9111.ToLower(text), nil
	}
	return rfc9111.ToLower(host) + ":" + port, nil
}

// inForm reports whether text is an authority in this form already, as that of nearly every request
// is. One look at each byte tells. false leaves open whether it can be given the form.
func inForm(scheme, text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c == ':':
			return i > 0 && text[i-1] != '.' && portInForm(scheme, text[i+1:])
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return text != "" && text[len(text)-1] != '.'
}

func portInForm(scheme, port string) bool {
	const largest = "65535"
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	return port != "" && port[0] != '0' && (len(port) < len(largest) || len(port) == len(largest) && port <= largest) &&
		!isDefaultPort(scheme, port)
}

// splitAuthority returns the host, an IPv6 address in its form and brackets, and the port, or an
// empty one.
func splitAuthority(text string) (host, port string, err error) {
	if strings.HasPrefix(text, "[") {
		end := strings.IndexByte(text, ']') + 1
		if end == 0 {
			return "", "", errors.New("the address in brackets is not IPv6")
		}
		addr, err := netip.ParseAddr(text[1 : end-1])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", "", errors.New("the address in brackets is not IPv6")
		}
		rest := text[end:]
		if rest != "" && rest[0] != ':' {
			return "", "", errors.New("what follows the bracket is not a port")
		}
		port = strings.TrimPrefix(rest, ":")
		return "[" + addr.String() + "]", port, checkPort(port)
	}
	if strings.Contains(text, "/") {
		return "", "", errors.New("a scheme or a path is no part of one")
	}
	host, port, _ = strings.Cut(text, ":")
	host = strings.TrimRight(host, ".")
	if err := checkHostName(host); err != nil {
		return "", "", err
	}
	return host, port, checkPort(port)
}

func checkHostName(host string) error {
	if host == "" {
		return errors.New("the host is empty")
	}
	for _, r := range host {
		switch {
		case r > 0x7f:
			return errors.New("the host is not ASCII, write its xn-- form")
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
		default:
			return fmt.Errorf("%q cannot stand in a host", r)
		}
	}
	return nil
}

// checkPort accepts an empty port (example.com:), which RFC 3986 3.2.3 lets mean the default one.
func checkPort(text string) error {
	if text == "" {
		return nil
	}
	if port, err := strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
		return errors.New("the port is not a number from 1 to 65535")
	}
	return nil
}

func isDefaultPort(scheme, port string) bool {
	switch scheme {
	case "http":
		return port == "80"
	case "https":
		return port == "443"
	}
	return false
}

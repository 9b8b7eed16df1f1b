package purge

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// normalizeURL gives an absolute URL the form in which entries carry theirs:
// scheme and authority in lower case, without default port and trailing dot,
// path and query as a client sends them. An empty path becomes a slash, and
// what is not ASCII is percent-encoded, because every browser does both before
// it sends a request. Otherwise the path is url.URL's EscapedPath, which is
// also what a server makes of a request: %2F is not /, and /a/../b is not /b.
func normalizeURL(text string) (string, error) {
	parsed, err := url.Parse(encodeNonASCII(text))
	if err != nil || parsed.Host == "" {
		return "", fmt.Errorf("%s is not an absolute URL; send one such as https://example.com/path?query", quote(text))
	}
	if parsed.Scheme != "http" && parsed.Scheme != "https" {
		return "", fmt.Errorf("%s has a scheme that is not served; send http or https", quote(text))
	}
	if parsed.User != nil {
		return "", fmt.Errorf("%s has a user, which is no part of what is requested; send it without", quote(text))
	}
	if strings.Contains(text, "#") {
		return "", fmt.Errorf("%s has a fragment, which no client sends; send it without", quote(text))
	}
	if strings.Contains(text, " ") {
		return "", fmt.Errorf("%s has a space; send it as %%20", quote(text))
	}
	authority, err := normalizeAuthority(parsed.Scheme, parsed.Host)
	if err != nil {
		return "", err
	}
	normalized := parsed.Scheme + "://" + authority + cmp.Or(parsed.EscapedPath(), "/")
	if parsed.RawQuery != "" || parsed.ForceQuery {
		normalized += "?" + parsed.RawQuery
	}
	return normalized, nil
}

// normalizePrefix gives the beginning of a URL the form of normalizeURL. The
// authority of a prefix is always whole: http://example.com becomes
// http://example.com/ and so cannot match http://example.com.evil.test/.
func normalizePrefix(text string) (string, error) {
	return normalizeURL(text)
}

// normalizeHost gives an authority the form in which the URLs of entries carry
// theirs. Without a scheme, both default ports are dropped.
func normalizeHost(text string) (string, error) {
	return normalizeAuthority("", text)
}

// encodeNonASCII percent-encodes what is not ASCII and leaves the escapes that
// are there. Left to EscapedPath, /ü%2F would lose the difference of %2F to /.
func encodeNonASCII(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c > 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func normalizeAuthority(scheme, text string) (string, error) {
	host, port, err := splitAuthority(text)
	if err != nil {
		return "", fmt.Errorf("%s is not an authority: %w; send one such as example.com or example.com:8080", quote(text), err)
	}
	host = strings.ToLower(host)
	if port == "" || isDefaultPort(scheme, port) {
		return host, nil
	}
	return host + ":" + port, nil
}

// splitAuthority returns the host, an IPv6 address in its brackets, and the
// port, or an empty one.
func splitAuthority(text string) (host, port string, err error) {
	if strings.HasPrefix(text, "[") {
		literal, rest, closed := strings.Cut(text[1:], "]")
		addr, err := netip.ParseAddr(literal)
		if !closed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", "", errors.New("the address in brackets is not IPv6")
		}
		if rest != "" && rest[0] != ':' {
			return "", "", errors.New("what follows the bracket is not a port")
		}
		port, err = parsePort(strings.TrimPrefix(rest, ":"))
		return "[" + literal + "]", port, err
	}
	if strings.Contains(text, "/") {
		return "", "", errors.New("a scheme or a path is no part of one")
	}
	host, port, _ = strings.Cut(text, ":")
	host = strings.TrimRight(host, ".")
	if err := checkHostName(host); err != nil {
		return "", "", err
	}
	port, err = parsePort(port)
	return host, port, err
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

// parsePort accepts an empty port (example.com:), which RFC 3986, section 3.2.3
// lets mean the default one.
func parsePort(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", errors.New("the port is not a number from 1 to 65535")
	}
	return text, nil
}

func isDefaultPort(scheme, port string) bool {
	switch scheme {
	case "http":
		return port == "80"
	case "https":
		return port == "443"
	default:
		return port == "80" || port == "443"
	}
}

// quote shortens and quotes a caller's text for an error message.
func quote(text string) string {
	const limit = 120
	if len(text) > limit {
		return strconv.Quote(text[:limit]) + "…"
	}
	return strconv.Quote(text)
}

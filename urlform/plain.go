package urlform

import (
	"net/url"
	"strings"
)

// Plainer returns the plainer spellings of an absolute URL by which its origin may answer with the
// same: none if it is plain. The first is the normal form of RFC 3986 6.2.2, in which unreserved
// characters are not escaped (%41 is A), escapes are in upper case, and there are no dot segments.
// The second has single slashes in its path as well, as file servers and routers read it. A
// reserved character is not what its escape is: %2F stays. Keys tell all of these apart, see
// PathAsSent; what changes one of them may change the others.
func Plainer(absolute string) (spellings []string) {
	_, rest, found := strings.Cut(absolute, "://")
	at := strings.IndexByte(rest, '/')
	if !found || at < 0 || isPlain(rest[at:]) {
		return nil
	}
	origin := absolute[:len(absolute)-len(rest)+at]
	path, query, hasQuery := strings.Cut(rest[at:], "?")
	if hasQuery {
		query = "?" + normalEscapes(query)
	}
	path = normalEscapes(path)
	for _, path := range []string{withoutDots(path), withoutDots(singleSlashes(path))} {
		if s := origin + path + query; s != absolute && (len(spellings) == 0 || s != spellings[0]) {
			spellings = append(spellings, s)
		}
	}
	return spellings
}

// isPlain reports whether a path with its query has nothing that a plainer spelling lacks, as
// nearly all have.
func isPlain(target string) bool {
	return strings.IndexByte(target, '%') < 0 && !strings.Contains(target, "//") && !strings.Contains(target, "/.")
}

// normalEscapes is RFC 3986 6.2.2.1 and 6.2.2.2: unreserved characters stand for themselves, and
// escapes are in upper case.
func normalEscapes(text string) string {
	if strings.IndexByte(text, '%') < 0 {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			escape := text[i : i+3]
			if raw, err := url.PathUnescape(escape); err == nil {
				if isUnreserved(raw[0]) {
					b = append(b, raw[0])
				} else {
					b = append(b, '%', upperHex(escape[1]), upperHex(escape[2]))
				}
				i += len(escape) - 1
				continue
			}
		}
		b = append(b, text[i])
	}
	return string(b)
}

// upperHex is a hexadecimal digit in upper case.
func upperHex(c byte) byte {
	if c >= 'a' {
		c -= 'a' - 'A'
	}
	return c
}

// isUnreserved is RFC 3986 2.3.
func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// withoutDots is RFC 3986 5.2.4 for a path that begins with a slash.
func withoutDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	var kept []string
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			kept = append(kept, "")
		}
	}
	return "/" + strings.Join(kept, "/")
}

func singleSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

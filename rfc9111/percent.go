package rfc9111

import "strings"

// EncodePath percent-encodes what cannot stand in a path as it is (RFC 3986 3.3). Brackets stay,
// because servers and browsers leave them alone, and so do escapes.
func EncodePath(path string) string { return PercentEncode(path, standsInPath) }

// EncodeQuery percent-encodes what browsers encode in a query (URL Standard, query percent-encode
// set). Escapes stay as they are.
func EncodeQuery(query string) string { return PercentEncode(query, standsInQuery) }

// PercentEncode percent-encodes the bytes of text that allowed refuses (RFC 3986 2.1). It allocates
// only if there are any.
func PercentEncode(text string, allowed func(byte) bool) string {
	first := 0
	for first < len(text) && allowed(text[first]) {
		first++
	}
	if first == len(text) {
		return text
	}
	b := append(make([]byte, 0, len(text)+16), text[:first]...)
	for i := first; i < len(text); i++ {
		if c := text[i]; allowed(c) {
			b = append(b, c)
		} else {
			b = appendPercent(b, c)
		}
	}
	return string(b)
}

func appendPercent(b []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return append(b, '%', hex[c>>4], hex[c&15])
}

func standsInPath(c byte) bool {
	switch {
	case c <= ' ', c >= 0x7f:
		return false
	case strings.IndexByte("\"#<>?\\^`{|}", c) >= 0:
		return false
	}
	return true
}

func standsInQuery(c byte) bool {
	switch c {
	case '"', '#', '<', '>':
		return false
	}
	return c > ' ' && c < 0x7f
}

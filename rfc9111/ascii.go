package rfc9111

// What a field says is read as ASCII. The functions of package strings that know Unicode take more
// for white space than SP and HTAB (U+00A0, U+0085), and more for a letter in another case (KELVIN
// SIGN for k). An origin need not, so a cache that did would take two requests for one that the
// origin tells apart. TestFieldsAreReadAsASCII keeps them out.

// TrimOWS returns s without the white space around it that RFC 9110 5.6.3 allows: SP and HTAB.
func TrimOWS(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// EqualFold reports whether two strings are equal but for the case of ASCII letters.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// ToLower returns s with its ASCII letters in lower case.
func ToLower(s string) string {
	for i := 0; i < len(s); i++ {
		if lower(s[i]) == s[i] {
			continue
		}
		b := []byte(s)
		for ; i < len(b); i++ {
			b[i] = lower(b[i])
		}
		return string(b)
	}
	return s
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

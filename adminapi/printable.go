package adminapi

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// What is stored has been written by origins and clients, and what the admin API says of it is
// printed on terminals. These act on control characters: they move the cursor, name windows, write
// the clipboard. Other characters have no width or turn the direction of what follows. No command
// prints any of them: in what it prints for people one is told by its number, and in JSON it is an
// escape, which means the same to programs.

// isUnsafe reports whether a terminal acts on a character.
func isUnsafe(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// Printable returns a text as one line, with nothing in it that a terminal acts on.
func Printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if isUnsafe(r) {
			b.WriteString(numbered(r))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// numbered tells a character by its number, as Go writes it.
func numbered(r rune) string {
	switch {
	case r <= 0xff:
		return fmt.Sprintf(`\x%02x`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04x`, r)
	default:
		return fmt.Sprintf(`\U%08x`, r)
	}
}

// printableJSON returns a JSON text whose strings are [Printable] when they are decoded.
func printableJSON(text []byte) []byte {
	return rewriteUnsafe(text, func(out []byte, r rune) []byte { return append(append(out, '\\'), numbered(r)...) })
}

// escapedJSON returns a JSON text that means the same, with nothing in its strings that a terminal
// acts on.
func escapedJSON(text []byte) []byte {
	return rewriteUnsafe(text, appendEscape)
}

// appendEscape escapes a character as JSON does, which is in UTF-16.
func appendEscape(out []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Appendf(out, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

// rewriteUnsafe has write write the characters of a valid JSON text that a terminal acts on. These
// stand in strings. All others are copied.
func rewriteUnsafe(text []byte, write func(out []byte, r rune) []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := nextInJSON(text)
		if isUnsafe(r) || r == utf8.RuneError && size == 1 {
			out = write(out, r)
		} else {
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return out
}

// nextInJSON returns the character that a JSON text begins with, escaped or not, and how long it is
// there. White space between values is a space.
func nextInJSON(text []byte) (r rune, size int) {
	switch {
	case text[0] == '\\' && len(text) > 1:
		return unescaped(text)
	case text[0] < ' ':
		return ' ', 1
	}
	return utf8.DecodeRune(text)
}

func unescaped(text []byte) (r rune, size int) {
	if i := strings.IndexByte("bfnrt", text[1]); i >= 0 {
		return rune("\b\f\n\r\t"[i]), 2
	}
	if text[1] != 'u' || len(text) < 6 {
		return rune(text[1]), 2
	}
	r = hexadecimal(text[2:6])
	if utf16.IsSurrogate(r) && len(text) >= 12 && text[6] == '\\' && text[7] == 'u' {
		if pair := utf16.DecodeRune(r, hexadecimal(text[8:12])); pair != unicode.ReplacementChar {
			return pair, 12
		}
	}
	return r, 6
}

func hexadecimal(digits []byte) rune {
	n, err := strconv.ParseUint(string(digits), 16, 16)
	if err != nil {
		return unicode.ReplacementChar
	}
	return rune(n)
}

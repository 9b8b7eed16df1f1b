package rfc9111

import (
	"iter"
	"strings"
)

// This file reads fields that are lists. Whatever is in one, to read it takes a time that grows
// with its length and no faster: FuzzWork holds that for every field that is read.

// maxField is the length of the longest field that is read where each member of it costs more than
// to look at it. Servers take 8 KiB for all fields together.
const maxField = 8 << 10

// longer reports whether the lines of a field, joined by commas, are longer than n.
func longer(lines []string, n int) bool {
	n += len(",")
	for _, line := range lines {
		n -= len(line) + len(",")
	}
	return n < 0
}

// elements are the elements of a list field that are not empty, over all of its lines.
func elements(lines []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for rest := line; rest != ""; {
				var element string
				element, rest = cutElement(rest)
				if element != "" && !yield(element) {
					return
				}
			}
		}
	}
}

// cutElement cuts the first element off a comma-separated list, trimmed. A comma in a quoted string
// does not separate, if the string is the argument of a directive, is closed, and ends the element.
func cutElement(list string) (element, rest string) {
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == ',':
			return TrimOWS(list[:i]), list[i+1:]
		case list[i] == '=' && i+1 < len(list) && list[i+1] == '"':
			if end := closingQuote(list, i+1); end > 0 && endsElement(list[end+1:]) {
				i = end
			}
		}
	}
	return TrimOWS(list), ""
}

// closingQuote returns the index of the quotation mark that closes the one at open, or -1.
func closingQuote(s string, open int) int {
	for i := open + 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func endsElement(rest string) bool {
	rest = strings.TrimLeft(rest, " \t")
	return rest == "" || rest[0] == ','
}

// words are the tokens in what is no list and no directive.
func words(text string) iter.Seq[string] {
	return strings.FieldsFuncSeq(text, func(r rune) bool {
		return r >= 0x80 || !isTokenChar(byte(r))
	})
}

// quotedMembers are the members of one line of a list, split at the commas that stand in no quoted
// string. A quotation mark that nothing closes quotes nothing.
//
// After one that is not closed, no later one is closed either: each of those stands escaped in the
// reach of the first, so a search from it would see what the first search saw. That search is not
// made, because a line of such marks would cost its square.
func quotedMembers(line string) iter.Seq[string] {
	return func(yield func(string) bool) {
		start, closed := 0, true
		for i := 0; i < len(line); i++ {
			switch {
			case line[i] == ',':
				if !yield(line[start:i]) {
					return
				}
				start = i + 1
			case line[i] == '"' && closed:
				end := closingQuote(line, i)
				if closed = end > 0; closed {
					i = end
				}
			}
		}
		yield(line[start:])
	}
}

// hasMember reports whether a comma-separated field has the member, in any case.
func hasMember(lines []string, member string) bool {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if EqualFold(TrimOWS(part), member) {
				return true
			}
		}
	}
	return false
}

// isToken reports whether s is a token (RFC 9110 5.6.2).
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenChar(c byte) bool { return tokenChars[c] }

// tokenChars are the tchar of RFC 9110 5.6.2. It is a table because every byte of every name in a
// response's header is looked up.
var tokenChars = func() (is [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" {
		is[c] = true
	}
	return is
}()

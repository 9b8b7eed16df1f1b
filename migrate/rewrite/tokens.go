package rewrite

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// token is a token of Caddy's lexer, and where it stands in the file.
type token struct {
	caddyfile.Token
	start, end int  // the bytes of it, quotes and heredoc markers included
	first      bool // it begins a line, as Caddy counts lines
}

// opens reports whether the token is a brace that opens a block.
func (t token) opens() bool { return t.Text == "{" && !t.Quoted() }

// closes reports whether the token is a brace that closes a block.
func (t token) closes() bool { return t.Text == "}" && !t.Quoted() }

// empty reports whether the token is a block without lines, as {} was once read.
func (t token) empty() bool { return t.Text == "{}" && !t.Quoted() }

// tokenize reads a Caddyfile with Caddy's lexer, which says what the tokens are. Where they stand
// is found by spans, since the lexer does not tell. Both must find as many.
func tokenize(input []byte) ([]token, error) {
	if len(input) == 0 {
		return nil, nil
	}
	lexed, err := caddyfile.Tokenize(input, "Caddyfile")
	if err != nil {
		return nil, err
	}
	places := spans(input)
	if len(places) != len(lexed) {
		return nil, fmt.Errorf("%d tokens of Caddy's lexer stand at %d places", len(lexed), len(places))
	}
	tokens := make([]token, len(lexed))
	for i, t := range lexed {
		first := i == 0 || lexed[i-1].Line+lexed[i-1].NumLineBreaks() < t.Line
		tokens[i] = token{Token: t, start: places[i].start, end: places[i].end, first: first}
	}
	return tokens, nil
}

// span is a range of bytes.
type span struct{ start, end int }

// spans returns where the tokens of a Caddyfile stand that Caddy's lexer takes.
func spans(input []byte) (found []span) {
	at := len(input) - len(bytes.TrimPrefix(input, []byte("\uFEFF")))
	for {
		s, next := nextSpan(input, at)
		if next == 0 {
			return found
		}
		found, at = append(found, s), next
	}
}

// nextSpan finds the next token. White space and comments go before it. next is where to go on,
// which is behind a backslash that the token ends with; it is 0 where there is no token.
func nextSpan(input []byte, at int) (s span, next int) {
	escape, comment := -1, false // where a backslash stands that nothing has followed yet
	for at < len(input) {
		r, size := utf8.DecodeRune(input[at:])
		switch {
		case r == '\\' && escape < 0:
			escape = at
		case unicode.IsSpace(r):
			if r == '\n' {
				escape, comment = -1, false
			}
		case comment:
		case r == '#':
			comment = true
		case r == '"' || r == '`':
			s, next = quotedSpan(input, at, r, escape >= 0)
			return s.from(escape), next
		default:
			s, next = bareSpan(input, at, escape >= 0)
			return s.from(escape), next
		}
		at += size
	}
	return span{}, 0
}

// from has a span begin at the backslash in front of it, if there is one.
func (s span) from(escape int) span {
	if escape >= 0 {
		s.start = escape
	}
	return s
}

// quotedSpan ends at the closing quote. Only in double quotes a backslash escapes one.
func quotedSpan(input []byte, start int, quote rune, escaped bool) (s span, next int) {
	empty := true
	for at := start + 1; at < len(input); {
		r, size := utf8.DecodeRune(input[at:])
		at += size
		switch {
		case quote == '"' && escaped:
			escaped = false
		case quote == '"' && r == '\\':
			escaped = true
			continue
		case r == quote:
			return span{start, at}, at
		}
		empty = false
	}
	if empty { // a quote that ends the file
		return span{}, 0
	}
	return span{start, len(input)}, len(input)
}

// bareSpan ends before white space, or with a heredoc. The first rune may be escaped.
func bareSpan(input []byte, start int, escaped bool) (s span, next int) {
	at, end := start, start // end is where the last byte that counts ends
	runes, angles := 0, 0   // angles are the < with which the token begins
	literal := false        // one of them was escaped, so << begins no heredoc
	for at < len(input) {
		r, size := utf8.DecodeRune(input[at:])
		switch {
		case angles == 2 && !literal && r == '\n':
			return heredocSpan(input, start, at)
		case angles == 2 && !literal && r != ' ':
			if at += size; r != '\r' {
				end = at
			}
			continue
		case r == '\\' && !escaped:
			escaped = true
			at += size // what it escapes may be the end of the line, which is no part of the token
			continue
		case r == '\r':
			at += size
			continue
		case unicode.IsSpace(r):
			return span{start, end}, at
		}
		if escaped {
			if literal = literal || r == '<'; r != '<' {
				runes++ // the backslash
			}
			escaped = false
		}
		if r == '<' && runes == angles && angles < 2 {
			angles++
		}
		runes++
		at, end = at+size, at+size
	}
	return span{start, end}, len(input)
}

// heredocSpan ends with the first marker behind the line that begins the heredoc.
func heredocSpan(input []byte, start, newline int) (s span, next int) {
	marker := bytes.ReplaceAll(input[start:newline], []byte("\r"), nil)
	marker = bytes.TrimLeft(marker, `\<`)
	i := bytes.Index(input[newline+1:], marker)
	switch {
	case i >= 0 && len(marker) > 0:
		next = newline + 1 + i + len(marker)
	case newline+1 < len(input):
		next = len(input)
	}
	return span{start, next}, next
}

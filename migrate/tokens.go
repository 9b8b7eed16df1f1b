package migrate

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
		s, ok := nextSpan(input, at)
		if !ok {
			return found
		}
		found, at = append(found, s), s.end
	}
}

// nextSpan finds the next token. White space and comments go before it.
func nextSpan(input []byte, at int) (span, bool) {
	escaped, comment := false, false
	for at < len(input) {
		r, size := utf8.DecodeRune(input[at:])
		switch {
		case r == '\\' && !escaped:
			escaped = true
		case unicode.IsSpace(r):
			if r == '\n' {
				escaped, comment = false, false
			}
		case comment:
		case r == '#':
			comment = true
		case r == '"' || r == '`':
			return quotedSpan(input, at, r, escaped)
		default:
			return bareSpan(input, at, escaped)
		}
		at += size
	}
	return span{}, false
}

// quotedSpan ends at the closing quote. Only in double quotes a backslash escapes one.
func quotedSpan(input []byte, start int, quote rune, escaped bool) (span, bool) {
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
			return span{start, at}, true
		}
		empty = false
	}
	return span{start, len(input)}, !empty
}

// bareSpan ends before white space, or with a heredoc.
func bareSpan(input []byte, start int, escaped bool) (span, bool) {
	at, end := start, start // end is where the last byte that counts ends
	literal := false        // the first < was escaped, so << begins no heredoc
	runes, angles := 0, 0
	if escaped {
		if input[start] == '<' {
			literal = true
		} else {
			runes++ // the backslash is a part of the token
		}
		escaped = false
	}
	for at < len(input) {
		r, size := utf8.DecodeRune(input[at:])
		if angles == 2 && !literal && r != ' ' {
			if r == '\n' {
				return heredocSpan(input, start, at)
			}
			at += size
			if r != '\r' {
				end = at
			}
			continue
		}
		switch {
		case r == '\\' && !escaped:
			escaped = true
			at, end = at+size, at+size
			continue
		case r == '\r':
			at += size
			continue
		case unicode.IsSpace(r):
			return span{start, end}, true
		}
		if escaped {
			if literal = literal || r == '<'; r != '<' {
				runes++
			}
			escaped = false
		}
		if r == '<' && runes == angles && angles < 2 {
			angles++
		}
		runes++
		at, end = at+size, at+size
	}
	return span{start, end}, true
}

// heredocSpan ends with the first marker behind the line that begins the heredoc.
func heredocSpan(input []byte, start, newline int) (span, bool) {
	marker := bytes.ReplaceAll(input[start:newline], []byte("\r"), nil)
	marker = bytes.TrimLeft(marker, `\<`)
	i := bytes.Index(input[newline+1:], marker)
	if i < 0 || len(marker) == 0 {
		return span{start, len(input)}, len(input) > newline+1
	}
	return span{start, newline + 1 + i + len(marker)}, true
}

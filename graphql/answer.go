package graphql

import (
	"errors"
	"fmt"
	"io"
)

var (
	errNoObject     = errors.New("the answer is no JSON object")
	errAnswerJSON   = errors.New("the answer is no JSON")
	errErrors       = errors.New("the answer reports errors")
	errAnswerNested = fmt.Errorf("%w: it is nested too deep", errAnswerJSON)
)

// memberErrors is where an answer reports errors, unless it is null.
const memberErrors = "errors"

// maxAnswerDepth is how deep objects and arrays of an answer may stand in each other.
const maxAnswerDepth = 10_000

// CheckAnswer reads the body of an answer and returns an error if it is not the result of an
// operation, or reports errors: GraphQL reports them by a 200. It reads no further than it has to.
// Whatever the body is, it keeps 4 KiB of it, and one byte for each level of nesting.
func CheckAnswer(body io.Reader) error {
	s := answerScanner{in: body}
	if s.space() != '{' {
		return s.fail(errNoObject)
	}
	s.skip()
	if s.space() == '}' {
		return nil
	}
	for ; ; s.skip() {
		if s.space() != '"' {
			return s.fail(errAnswerJSON)
		}
		isErrors, err := s.text(memberErrors)
		if err != nil {
			return err
		}
		if s.space() != ':' {
			return s.fail(errAnswerJSON)
		}
		s.skip()
		if isErrors && s.space() != 'n' {
			return s.fail(errErrors)
		}
		if err := s.value(); err != nil {
			return err
		}
		switch s.space() {
		case '}':
			return nil
		case ',':
		default:
			return s.fail(errAnswerJSON)
		}
	}
}

// answerScanner reads JSON (RFC 8259) and keeps nothing of what it has read: jsontext has a string
// whole in memory before it says anything of it. UTF-8 is not looked at.
type answerScanner struct {
	in       io.Reader
	err      error // that of in, or io.EOF
	pos, end int   // what of the buffer is unread
	open     []byte
	buffer   [4 << 10]byte
}

// none is the byte that there is not any more.
const none rune = -1

// peek returns the next byte, or none.
func (s *answerScanner) peek() rune {
	if s.pos == s.end && !s.fill() {
		return none
	}
	return rune(s.buffer[s.pos])
}

// fill reads on when all of the buffer is read.
func (s *answerScanner) fill() bool {
	for tries := 0; s.err == nil && s.pos == s.end; tries++ {
		s.pos = 0
		s.end, s.err = s.in.Read(s.buffer[:])
		if s.end == 0 && s.err == nil && tries == 100 {
			s.err = io.ErrNoProgress
		}
	}
	return s.pos < s.end
}

// skip goes past the byte that peek has returned.
func (s *answerScanner) skip() { s.pos++ }

// take returns the next byte and goes past it.
func (s *answerScanner) take() rune {
	c := s.peek()
	if c != none {
		s.skip()
	}
	return c
}

// space goes past white space, and returns what follows as peek does.
func (s *answerScanner) space() rune {
	for {
		c := s.peek()
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.skip()
	}
}

// fail returns what is wrong with the answer: its reader, or what it says.
func (s *answerScanner) fail(with error) error {
	if s.pos == s.end && s.err != nil && !errors.Is(s.err, io.EOF) {
		return fmt.Errorf("%w: %w", with, s.err)
	}
	return with
}

// value goes past a value, after white space.
func (s *answerScanner) value() error {
	s.open = s.open[:0]
	for {
		whole, err := s.begin(s.space())
		for err == nil && whole && len(s.open) > 0 {
			whole, err = s.next()
		}
		if err != nil || whole {
			return err
		}
	}
}

// begin goes past a value that begins with c, or into it where it holds others. whole says that it
// has been all of it.
func (s *answerScanner) begin(c rune) (whole bool, err error) {
	switch c {
	case '"':
		_, err = s.text("")
		return true, err
	case 't':
		return true, s.literal("true")
	case 'f':
		return true, s.literal("false")
	case 'n':
		return true, s.literal("null")
	case '{', '[':
		s.skip()
		closing := byte(c) + 2 // as ASCII has them
		if s.open = append(s.open, closing); len(s.open) >= maxAnswerDepth {
			return false, errAnswerNested
		}
		if s.space() == rune(closing) {
			s.skip()
			s.open = s.open[:len(s.open)-1]
			return true, nil
		}
		return false, s.name()
	}
	return true, s.number()
}

// next goes on behind a value in another. whole says that the other one ends there.
func (s *answerScanner) next() (whole bool, err error) {
	last := len(s.open) - 1
	switch s.space() {
	case rune(s.open[last]):
		s.skip()
		s.open = s.open[:last]
		return true, nil
	case ',':
		s.skip()
		return false, s.name()
	}
	return false, s.fail(errAnswerJSON)
}

// name goes past the name of a member and its colon, where an object is open.
func (s *answerScanner) name() error {
	if s.open[len(s.open)-1] == ']' {
		return nil
	}
	if s.space() != '"' {
		return s.fail(errAnswerJSON)
	}
	if _, err := s.text(""); err != nil {
		return err
	}
	if s.space() != ':' {
		return s.fail(errAnswerJSON)
	}
	s.skip()
	return nil
}

// literal goes past a word.
func (s *answerScanner) literal(word string) error {
	for _, want := range word {
		if s.take() != want {
			return s.fail(errAnswerJSON)
		}
	}
	return nil
}

// number goes past a number.
func (s *answerScanner) number() error {
	if s.peek() == '-' {
		s.skip()
	}
	whole := s.peek() == '0'
	if whole {
		s.skip()
	}
	if !whole && !s.digits() {
		return s.fail(errAnswerJSON)
	}
	if s.peek() == '.' {
		if s.skip(); !s.digits() {
			return s.fail(errAnswerJSON)
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.skip()
		if c := s.peek(); c == '+' || c == '-' {
			s.skip()
		}
		if !s.digits() {
			return s.fail(errAnswerJSON)
		}
	}
	return nil
}

// digits goes past digits, and reports whether there was one.
func (s *answerScanner) digits() (some bool) {
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.skip()
		some = true
	}
	return some
}

// text goes past a string and reports whether it is word, which is ASCII.
func (s *answerScanner) text(word string) (is bool, err error) {
	s.skip()
	is = true
	for {
		s.plain(&word, &is)
		switch s.take() {
		case '"':
			return is && word == "", nil
		case '\\':
			r, ok := s.escape()
			if !ok {
				return false, s.fail(errAnswerJSON)
			}
			if is = is && word != "" && r == rune(word[0]); is {
				word = word[1:]
			}
		default:
			return false, s.fail(errAnswerJSON)
		}
	}
}

// plain goes past what of a string stands for itself, and takes the same off the front of word. is
// becomes false where that begins otherwise.
func (s *answerScanner) plain(word *string, is *bool) {
	for s.pos < s.end || s.fill() {
		unread := s.buffer[s.pos:s.end]
		n := 0
		for n < len(unread) && unread[n] != '"' && unread[n] != '\\' && unread[n] >= ' ' {
			n++
		}
		if *is = *is && n <= len(*word) && string(unread[:n]) == (*word)[:n]; *is {
			*word = (*word)[n:]
		}
		if s.pos += n; s.pos < s.end {
			return
		}
	}
}

// escape goes past what follows a backslash, and returns what it stands for.
func (s *answerScanner) escape() (r rune, ok bool) {
	switch c := s.take(); c {
	case '"', '\\', '/':
		return c, true
	case 'b', 'f', 'n', 'r', 't':
		return none, true // in no name that counts
	case 'u':
		for range 4 {
			digit, ok := hexDigit(s.take())
			if !ok {
				return none, false
			}
			r = r<<4 | digit
		}
		return r, true
	}
	return none, false
}

func hexDigit(c rune) (value rune, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

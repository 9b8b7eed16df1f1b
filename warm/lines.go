package warm

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxLineBytes is the longest line that is looked at: a line of Caddy's access log has all header
// fields of its request. The rest of a longer one is passed over.
const maxLineBytes = 1 << 20

// lines reads a file of any length line by line.
type lines struct {
	in      *bufio.Reader
	line    []byte // without its end; it is overwritten by the next one
	number  int
	tooLong bool // the line is longer than what is in line
	err     error
}

func newLines(r io.Reader) *lines { return &lines{in: bufio.NewReaderSize(r, 64<<10)} }

// next reads a line; false at the end, or at an error.
func (l *lines) next() bool {
	l.line, l.tooLong = l.line[:0], false
	for began := false; ; began = true {
		part, err := l.in.ReadSlice('\n')
		if room := maxLineBytes - len(l.line); len(part) > room {
			part, l.tooLong = part[:room], true
		}
		l.line = append(l.line, part...)
		switch {
		case err == nil:
			return l.whole()
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return (began || len(l.line) > 0) && l.whole()
		default:
			l.err = err
			return false
		}
	}
}

func (l *lines) whole() bool {
	l.number++
	l.line = bytes.TrimRight(l.line, "\r\n")
	return true
}

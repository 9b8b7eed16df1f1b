package warm

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// readList takes in a list: a URL a line. Empty lines and lines that begin with # are passed over.
// A path (/a) belongs to the one --site. name is the list's, for what is wrong in it.
func (p *plan) readList(name string, r io.Reader, of *sites) error {
	in, err := inClear(r)
	if err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	lines := newLines(in)
	for lines.next() {
		if text := strings.TrimSpace(string(bytes.TrimPrefix(lines.line, []byte("\xef\xbb\xbf")))); text != "" && text[0] != '#' {
			p.addListed(fmt.Sprintf("%s, line %d", name, lines.number), text, of)
		}
	}
	if lines.err != nil {
		return fmt.Errorf("reading %s: %w", name, lines.err)
	}
	return nil
}

func (p *plan) addListed(where, text string, of *sites) {
	if base := of.base(); base != "" && strings.HasPrefix(text, "/") {
		text = base + text
	}
	normal, err := normalize(text)
	if err != nil {
		p.failed.add(Failure{URL: shorten(text), Reason: err.Error() + " (" + where + ")"})
		return
	}
	p.add(normal)
}

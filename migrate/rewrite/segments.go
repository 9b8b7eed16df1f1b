package rewrite

import (
	"fmt"
	"strings"
)

// segment is a directive, an option or a site: a line, and the block that it opens.
type segment struct {
	from, to    int // its tokens
	open, close int // the braces of its block, both 0 where it has none
}

// argsEnd is behind the last argument.
func (s segment) argsEnd() int {
	if s.hasBlock() {
		return s.open
	}
	return s.to
}

func (s segment) hasBlock() bool { return s.open != 0 }

// document is a Caddyfile and its tokens.
type document struct {
	text   []byte
	tokens []token
}

// raw is what stands in the file for a token, with its quotes.
func (d *document) raw(i int) string { return string(d.text[d.tokens[i].start:d.tokens[i].end]) }

// source is what stands in the file for some tokens.
func (d *document) source(from, to int) string {
	if from >= to {
		return ""
	}
	return string(d.text[d.tokens[from].start:d.tokens[to-1].end])
}

// line is the number of the line on which a token begins.
func (d *document) line(i int) int {
	return 1 + strings.Count(string(d.text[:d.tokens[i].start]), "\n")
}

// segments splits the inside of a block.
func (d *document) segments(from, to int) (list []segment, err error) {
	for from < to {
		s, err := d.segment(from, to)
		if err != nil {
			return nil, err
		}
		list, from = append(list, s), s.to
	}
	return list, nil
}

// segment reads one segment of a block that ends at to.
func (d *document) segment(from, to int) (segment, error) {
	s := segment{from: from, to: from + 1}
	if t := d.tokens[from]; t.opens() || t.closes() {
		return s, fmt.Errorf("line %d: the brace %s stands where a word should", d.line(from), t.Text)
	}
	for s.to < to && !d.tokens[s.to].first {
		switch t := d.tokens[s.to]; {
		case t.closes():
			return s, fmt.Errorf("line %d: a brace closes no block", d.line(s.to))
		case !t.opens():
			s.to++
			continue
		}
		end, err := d.closing(s.to, to)
		if err != nil {
			return s, err
		}
		s.open, s.close, s.to = s.to, end, end+1
		if s.to < to && !d.tokens[s.to].first {
			return s, fmt.Errorf("line %d: %q stands behind a brace", d.line(s.to), d.tokens[s.to].Text)
		}
	}
	return s, nil
}

// closing finds the brace that closes the block which the token at open opens.
func (d *document) closing(open, to int) (int, error) {
	depth := 0
	for i := open; i < to; i++ {
		switch t := d.tokens[i]; {
		case t.opens():
			depth++
		case t.closes():
			if depth--; depth == 0 {
				return i, nil
			}
		}
	}
	return 0, fmt.Errorf("line %d: the block that begins here is not closed", d.line(open))
}

// blocks is a part of a Caddyfile, as Caddy's parser splits it.
type blocks struct {
	options  []span          // the inside of global options
	sites    []span          // the inside of sites and named routes
	snippets map[string]span // the inside of snippets, by name
	imports  map[string]int  // what is imported beside the sites, and the token that names it first
}

// split reads sites, snippets and global options, which stand at the top of a file.
func (d *document) split(from, to int) (blocks, error) {
	found := blocks{snippets: make(map[string]span), imports: make(map[string]int)}
	for at := from; at < to; {
		if d.tokens[at].Text == "import" {
			s, err := d.segment(at, to)
			if err != nil {
				return found, err
			}
			if s.from+1 < s.argsEnd() {
				name := d.tokens[s.from+1].Text
				if _, again := found.imports[name]; !again {
					found.imports[name] = s.from + 1
				}
			}
			at = s.to
			continue
		}
		open := d.addressesEnd(at, to)
		switch {
		case open == to: // addresses alone
			return found, nil
		case !d.tokens[open].opens(): // the one site of a file, without braces
			found.sites = append(found.sites, span{open, to})
			return found, nil
		}
		end, err := d.closing(open, to)
		if err != nil {
			return found, err
		}
		found.add(d, at, open, end)
		at = end + 1
	}
	return found, nil
}

// add files a block by what stands before it.
func (b *blocks) add(d *document, at, open, end int) {
	inside := span{open + 1, end}
	key := d.tokens[at].Text
	switch {
	case at == open:
		b.options = append(b.options, inside)
	case open == at+1 && strings.HasPrefix(key, "(") && strings.HasSuffix(key, ")"):
		b.snippets[strings.Trim(key, "()")] = inside
	default:
		b.sites = append(b.sites, inside)
	}
}

// addressesEnd finds what follows the addresses of a site: its brace, or the first directive.
func (d *document) addressesEnd(at, to int) int {
	for i := at; i < to; i++ {
		t := d.tokens[i]
		if t.opens() || i > at && t.first && !strings.HasSuffix(d.tokens[i-1].Text, ",") {
			return i
		}
	}
	return to
}

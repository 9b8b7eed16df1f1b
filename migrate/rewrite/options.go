package rewrite

import (
	"fmt"
	"slices"
	"strings"
)

// option is a line of a cache block, with its block.
type option struct {
	name string
	args []arg
	subs []option
	line int
}

// arg is an argument: what it says, and how it is written.
type arg struct{ text, raw string }

// text is the first argument, empty if there is none.
func (o option) text() string {
	if len(o.args) == 0 {
		return ""
	}
	return o.args[0].text
}

// sub finds a line of the block by its name. The last one counts, as in cache-handler.
func (o option) sub(name string) (found option, ok bool) {
	for _, s := range o.subs {
		if s.name == name {
			found, ok = s, true
		}
	}
	return found, ok
}

// title is the option on one line, as comments and notes name it. What a block holds is left out:
// it may be a password.
func (o option) title() string {
	words := []string{o.name}
	for _, a := range o.args {
		words = append(words, a.raw)
	}
	if len(o.subs) > 0 {
		words = append(words, "{ … }")
	}
	return oneLine(strings.Join(words, " "))
}

// oneLine makes a text fit into a comment.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)), " ")
}

// whole is the option on one line, with what its block holds. It is for options that are no
// secrets.
func (o option) whole() string {
	text := option{name: o.name, args: o.args}.title()
	if len(o.subs) == 0 {
		return text
	}
	subs := make([]string, len(o.subs))
	for i, sub := range o.subs {
		subs[i] = sub.whole()
	}
	return text + " { " + strings.Join(subs, "; ") + " }"
}

// optionsOf reads the block of a cache. Snippets of this file that it imports are read in place.
func (f *finder) optionsOf(s segment) ([]option, error) {
	if !s.hasBlock() {
		return nil, nil
	}
	return f.optionsIn(span{s.open + 1, s.close}, nil)
}

// optionsIn reads the lines of a block. importing are the snippets that are being read.
func (f *finder) optionsIn(s span, importing []string) (list []option, err error) {
	lines, err := f.segments(s.start, s.end)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		o := option{name: f.tokens[l.from].Text, line: f.line(l.from)}
		for i := l.from + 1; i < l.argsEnd(); i++ {
			if !f.tokens[i].empty() {
				o.args = append(o.args, arg{f.tokens[i].Text, f.raw(i)})
			}
		}
		if snippet, ok := f.snippets[o.text()]; o.name == "import" && len(o.args) == 1 && ok {
			if slices.Contains(importing, o.text()) {
				return nil, fmt.Errorf("line %d: the snippet %s imports itself", o.line, o.text())
			}
			inner, err := f.optionsIn(snippet, append(slices.Clone(importing), o.text()))
			if err != nil {
				return nil, err
			}
			list = append(list, inner...)
			continue
		}
		if l.hasBlock() {
			if o.subs, err = f.optionsIn(span{l.open + 1, l.close}, importing); err != nil {
				return nil, err
			}
		}
		list = append(list, o)
	}
	return list, nil
}

// comments returns the comments within a segment, for the rewritten block.
func (f *finder) comments(s segment) (list []string) {
	for i := s.from + 1; i < s.to; i++ {
		gap := string(f.text[f.tokens[i-1].end:f.tokens[i].start])
		for line := range strings.Lines(gap) {
			if at := strings.IndexByte(line, '#'); at >= 0 {
				list = append(list, strings.TrimRight(line[at:], "\r\n \t"))
			}
		}
	}
	return list
}

package migrate

import (
	"fmt"
	"slices"
	"strings"
)

// matcher is what stands behind larder, and the line that defines it, if one is needed.
type matcher struct{ text, definition string }

// matcher keeps the matcher of a directive. Where requests are excluded it becomes one of its own,
// which has what the old one says and the exclusion.
func (b *block) matcher(o occurrence, exclude arg) matcher {
	var args []int
	for i := o.from + 1; i < o.argsEnd(); i++ {
		if !b.tokens[i].empty() {
			args = append(args, i)
		}
	}
	kept := matcher{}
	if len(args) > 0 && isMatcher(b.tokens[args[0]]) {
		kept.text, args = b.raw(args[0]), args[1:]
	}
	for _, i := range args {
		b.missText(b.line(i), "cache "+oneLine(b.raw(i)), "larder takes a matcher and a block")
	}
	if exclude.text == "" {
		return kept
	}
	line := b.line(o.from)
	uri := "{http.request.orig_uri}"
	if o.nested {
		uri = "{http.request.uri}"
	}
	rule := "not vars_regexp " + uri + " " + exclude.raw
	lines, ok := b.meaning(o, kept.text)
	if !ok {
		b.missText(line, "regex exclude "+exclude.raw+" beside "+oneLine(kept.text), "add `"+rule+"` to the matcher, whose definition is not in this block")
		return kept
	}
	name := b.freshName()
	margin, indent := b.margins(o.segment)
	definition := name + " " + rule
	if len(lines) > 0 {
		definition = name + " {\n"
		for _, l := range append(lines, rule) {
			definition += margin + indent + l + "\n"
		}
		definition += margin + "}"
	}
	b.note(line, "regex exclude: becomes the matcher %s", name)
	return matcher{name, definition}
}

// isMatcher reports whether Caddy reads a token as a matcher, or as one that an import fills in.
func isMatcher(t token) bool {
	return t.Text == "*" || strings.HasPrefix(t.Text, "/") || strings.HasPrefix(t.Text, "@") || strings.HasPrefix(t.Text, "{")
}

// meaning returns the lines that a matcher stands for. It is false if they are not in the blocks
// around the directive.
func (b *block) meaning(o occurrence, text string) (lines []string, ok bool) {
	switch {
	case text == "" || text == "*":
		return nil, true
	case strings.HasPrefix(text, "/"):
		return []string{"path " + text}, true
	}
	for _, scope := range slices.Backward(o.scopes) {
		list, err := b.segments(scope.start, scope.end)
		if err != nil {
			return nil, false
		}
		for _, s := range list {
			if b.tokens[s.from].Text == text {
				return b.definition(s), true
			}
		}
	}
	return nil, false
}

// definition returns what stands in the definition of a named matcher, line by line.
func (b *block) definition(s segment) (lines []string) {
	if !s.hasBlock() {
		if s.to == s.from+2 && b.tokens[s.from+1].Quoted() { // an expression may stand alone
			return []string{"expression " + b.raw(s.from+1)}
		}
		return []string{b.source(s.from+1, s.to)}
	}
	list, err := b.segments(s.open+1, s.close)
	if err != nil {
		return nil
	}
	for _, l := range list {
		lines = append(lines, b.source(l.from, l.to))
	}
	return lines
}

// freshName is a name that no matcher of the file has.
func (r *rewriter) freshName() string {
	for {
		name := "@larder"
		if r.names++; r.names > 1 {
			name = fmt.Sprintf("@larder%d", r.names)
		}
		if !slices.ContainsFunc(r.tokens, func(t token) bool { return t.Text == name }) {
			return name
		}
	}
}

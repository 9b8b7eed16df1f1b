package rewrite

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
	text, rest := b.arguments(o)
	kept := matcher{text: text}
	for _, i := range rest {
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

// arguments returns the matcher of a directive, as it is written, and the tokens behind it.
func (r *rewriter) arguments(o occurrence) (matcher string, rest []int) {
	for i := o.from + 1; i < o.argsEnd(); i++ {
		if !r.tokens[i].empty() {
			rest = append(rest, i)
		}
	}
	if len(rest) > 0 && isMatcher(r.tokens[rest[0]]) {
		return r.raw(rest[0]), rest[1:]
	}
	return "", rest
}

// missTwice says that requests of a directive come to one further up as well, where that is
// certain. cache-handler has one key for both.
func (b *block) missTwice(o occurrence) {
	for _, other := range b.found {
		if other.from >= o.from {
			return
		}
		if other.use == asDirective && (b.passes(o, other) || b.passes(other, o)) {
			b.missText(b.line(o.from), fmt.Sprintf("cache beside the cache of line %d", b.line(other.from)),
				"a request that matches both comes to both, and in Larder each stores the response; have one matcher leave out what the other takes, or put each into a handle of its own")
			return
		}
	}
}

// passes reports whether each request that comes to one directive comes to another one as well: it
// stands in a block around the first, or in the same, and takes all requests or has the same
// matcher. What handle_errors answers comes to none outside of it.
func (r *rewriter) passes(one, another occurrence) bool {
	n := len(another.scopes)
	if n > len(one.scopes) || !slices.Equal(one.scopes[:n], another.scopes) ||
		slices.ContainsFunc(one.scopes[n:], func(s span) bool { return r.opener(s) == "handle_errors" }) {
		return false
	}
	text, _ := r.arguments(another)
	same, _ := r.arguments(one)
	return text == "" || text == "*" || text == same
}

// opener is the first word of the line that opens a block.
func (r *rewriter) opener(inside span) string {
	i := inside.start - 1
	for i > 0 && !r.tokens[i].first {
		i--
	}
	return r.tokens[i].Text
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

package rewrite

import (
	"errors"
	"fmt"
)

// errBroken says that a rewritten file would not read as the old one outside of `cache`. No input
// is known for which that is so.
var errBroken = errors.New("the rewritten file would not read as the old one beside `cache`; write it by hand")

// verify reads the result with Caddy's lexer: outside of what was replaced it must have the same
// tokens, on lines of their own where they were on such.
func (r *rewriter) verify() error {
	after, err := tokenize(r.result.Text)
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	at, old, shift := 0, 0, 0
	same := func(until int) bool {
		for ; old < until; old, at = old+1, at+1 {
			if at >= len(after) {
				return false
			}
			a, b := r.tokens[old], after[at]
			if a.Text != b.Text || a.Quoted() != b.Quoted() || a.first != b.first || b.start != a.start+shift {
				return false
			}
		}
		return true
	}
	for _, e := range r.result.edits {
		if !same(e.tokens.start) {
			return errBroken
		}
		shift += len(e.with) - (e.end - e.start)
		for at < len(after) && after[at].start < e.end+shift {
			at++
		}
		old = e.tokens.end
	}
	if !same(len(r.tokens)) || at != len(after) {
		return errBroken
	}
	return nil
}

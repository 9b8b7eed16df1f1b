package rewrite

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/larder-cache/larder/internal/golden"
)

// FuzzCaddyfile takes any text that Caddy's lexer takes. The result is an error, or a file that has
// the same tokens outside of what was rewritten, and in which nothing is left to rewrite.
func FuzzCaddyfile(f *testing.F) {
	for _, g := range golden.Read(f, "../../testdata/migrate") {
		f.Add(g.Input)
	}
	f.Add("a {\n\tcache <<END\n\tx\n\tEND\n}")
	f.Add("a {\n\tcache \"b\nc\" `d` {\n\t\tttl \\\n 5s # \\\n\t}\n}")
	f.Add("\uFEFF:80\ncache /a\\ b {\n}")
	f.Add("{ order cache first }")
	f.Add("a {\n\tcache\\\n}")
	f.Add("a {\n\tcache \\\\\n b\n}")
	f.Add("a {\n}\\,\\ \\ }# b\\\n }")
	f.Add("(a) {\n\tcache {\n\t\tttl 1s\n\t}\n}\nb {\n\tcache {\n\t\timport a\n\t}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		before, err := tokenize([]byte(text))
		if err != nil {
			if strings.Contains(err.Error(), "places") {
				t.Errorf("%v of %q", err, text)
			}
			return
		}
		result, err := Caddyfile([]byte(text))
		if errors.Is(err, errBroken) {
			t.Fatalf("%v: %q became\n%s", err, text, result.Text)
		}
		if err != nil {
			return
		}
		after, err := tokenize(result.Text)
		if err != nil {
			t.Fatalf("%v: %q became\n%s", err, text, result.Text)
		}
		if got, want := outside(after, result.edits, true), outside(before, result.edits, false); got != want {
			t.Errorf("outside of `cache` %q became %q", want, got)
		}
		if again, err := Caddyfile(result.Text); err != nil || again.Changed() {
			t.Errorf("not all was migrated (%v):\n%s", err, result.Text)
		}
	})
}

// outside renders the tokens that were not replaced, in the old file or in the new one.
func outside(tokens []token, edits []edit, written bool) string {
	var b strings.Builder
	for _, t := range tokens {
		shift, within := 0, false
		for _, e := range edits {
			start, end := e.start, e.end
			if written {
				start += shift
				end = start + len(e.with)
			}
			within = within || t.start >= start && t.start < end
			shift += len(e.with) - (e.end - e.start)
		}
		if !within {
			fmt.Fprintf(&b, "%t %t %q\n", t.first, t.Quoted(), t.Text)
		}
	}
	return b.String()
}

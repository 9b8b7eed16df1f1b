package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"

	"github.com/larder-cache/larder/caddyfile/caddyfiletest"
	"github.com/larder-cache/larder/internal/golden"
)

const goldens = "../testdata/migrate"

func TestMain(m *testing.M) {
	caddyfiletest.Register()
	httpcaddyfile.RegisterHandlerDirective("rate_limit_test", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(caddyfiletest.Handler), nil
	})
	os.Exit(m.Run())
}

// TestRewrite holds what becomes of each golden, and the notes, to the letter, and has Caddy adapt
// what is written.
func TestRewrite(t *testing.T) {
	for _, g := range golden.Read(t, goldens) {
		t.Run(g.Name, func(t *testing.T) {
			result, err := Rewrite([]byte(g.Input))
			if err != nil {
				t.Fatal(err)
			}
			var notes bytes.Buffer
			if err := result.tell(&notes, "Caddyfile"); err != nil {
				fmt.Fprintln(&notes, "Error:", err)
			}
			g.Expect(t, string(result.Text), notes.String())
			expectAdapts(t, string(result.Text))
			expectMigrated(t, result.Text)
		})
	}
}

// TestPage holds docs/migrating/cache-handler.md to what the command prints: the page has the file
// of a golden, what becomes of it, which is one of testdata/examples, and the notes.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../docs/migrating/cache-handler.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range golden.Read(t, goldens) {
		if g.Name != "page" {
			continue
		}
		for _, text := range []string{g.Input, "```caddyfile\n" + g.Want[0], g.Want[1]} {
			if !strings.Contains(string(page), text) {
				t.Errorf("the page has not\n%s", text)
			}
		}
		return
	}
	t.Error("no golden is called page")
}

// expectAdapts has Caddy adapt a file.
func expectAdapts(t *testing.T, text string) {
	t.Helper()
	adapter := caddyconfig.GetAdapter("caddyfile")
	if _, _, err := adapter.Adapt([]byte(text), map[string]any{"filename": "Caddyfile"}); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

// expectMigrated rewrites a file again: nothing of cache-handler may be left in it.
func expectMigrated(t *testing.T, text []byte) {
	t.Helper()
	again, err := Rewrite(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if again.Changed() {
		t.Errorf("not all was migrated:\n%s", text)
	}
}

// FuzzRewrite takes any text that Caddy's lexer takes. The result is an error, or a file that has
// the same tokens outside of what was rewritten, and in which nothing is left to rewrite.
func FuzzRewrite(f *testing.F) {
	for _, g := range golden.Read(f, goldens) {
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
		result, err := Rewrite([]byte(text))
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
		expectMigrated(t, result.Text)
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

package migrate

import (
	"bytes"
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
	"github.com/larder-cache/larder/migrate/rewrite"
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
			result, err := rewrite.Caddyfile([]byte(g.Input))
			if err != nil {
				t.Fatal(err)
			}
			var notes bytes.Buffer
			if err := tell(result, &notes, "Caddyfile"); err != nil {
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
	again, err := rewrite.Caddyfile(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if again.Changed() {
		t.Errorf("not all was migrated:\n%s", text)
	}
}

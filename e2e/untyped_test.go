package e2e

import (
	"io"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(untypedPage{})
	httpcaddyfile.RegisterHandlerDirective("test_page", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		return untypedPage{}, nil
	})
}

// untypedPage is a handler that answers without a Content-Type, in the way that the path names.
type untypedPage struct{}

func (untypedPage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.larder_test_page", New: func() caddy.Module { return untypedPage{} }}
}

func (untypedPage) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
	if r.URL.Path == "/nil" {
		w.Header()["Content-Type"] = nil
	}
	w.WriteHeader(http.StatusOK)
	if r.URL.Path == "/flushed" {
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.WriteString(w, "<html><p>a page</p>")
	return nil
}

// A client gets the Content-Type that it would get without Larder: none where the header went out
// before the body or where a handler has kept it away, and net/http's guess elsewhere.
func TestContentTypeThatNobodySent(t *testing.T) {
	s := setup{site: "route {\nlarder\ntest_page\n}", disk: t.TempDir()}
	in := start(t, s, nil)
	check := func(step, path, query, want string) {
		t.Helper()
		a := in.get(path + query)
		a.want(t, 200, "<html><p>a page</p>", "")
		if got := a.Header.Get("Content-Type"); got != want {
			t.Errorf("%s, %s: Content-Type %q, want %q (%s)", path, step, got, want, a.cacheStatus())
		}
	}
	pages := map[string]string{"/flushed": "", "/nil": "", "/guessed": "text/html; charset=utf-8"}
	for path, want := range pages {
		check("fetched", path, "?cc=max-age=60", want)
		check("a hit", path, "?cc=max-age=60", want)
		check("not stored", path, "?cc=no-store", want)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	in.load(s, nil)
	for path, want := range pages {
		check("a hit after a restart", path, "?cc=max-age=60", want)
	}
}

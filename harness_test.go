package larder

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/standard"
)

// newTestHandler returns a handler outside of any server, with a store in memory.
func newTestHandler(tb testing.TB) *Handler {
	tb.Helper()
	return newTestHandlerWith(tb, `{"disk":{"off":true}}`)
}

// newTestHandlerWith does so with a configuration of the app.
func newTestHandlerWith(tb testing.TB, app string) *Handler {
	tb.Helper()
	h := startTestHandler(tb, app)
	tb.Cleanup(func() {
		_ = h.app.Cleanup()
		awaitClosedCaches(tb)
	})
	return h
}

// startTestHandler does so, and leaves it to the test to clean up.
func startTestHandler(tb testing.TB, app string) *Handler {
	tb.Helper()
	ctx, err := caddy.ProvisionContext(&caddy.Config{
		Admin:   &caddy.AdminConfig{Disabled: true},
		AppsRaw: caddy.ModuleMap{moduleName: json.RawMessage(app)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	h := new(Handler)
	if err := h.Provision(ctx); err != nil {
		tb.Fatal(err)
	}
	if err := h.app.Start(); err != nil {
		tb.Fatal(err)
	}
	return h
}

// newTestRequest returns a request as a server prepares it, with header fields given as pairs.
func newTestRequest(w http.ResponseWriter, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com/some/path?and=query", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
}

// nullWriter takes a response at no cost.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}

// awaitClosedCaches waits until there are none. One outlives its configuration until its last
// request and fetch have ended, so that another test could find what the last one stored.
func awaitClosedCaches(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(2 * time.Minute); cachesInUse() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Errorf("%d caches outlive their configurations", cachesInUse())
			return
		}
	}
}

func cachesInUse() (n int) {
	pool.Range(func(_, _ any) bool { n++; return true })
	return n
}

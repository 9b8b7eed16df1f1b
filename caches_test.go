package larder

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/store"
)

// otherCaches are those of a node whose configuration has no query rules.
type otherCaches struct{ processCaches }

func (otherCaches) Complete(s store.Selectors) store.Selectors { return s }

// A purge of a URL by another node takes what this one has stored of it by query rules that the
// other has never heard of: those of today, which the other is yet to get, and those of before.
func TestAPurgeByANodeWithoutTheQueryRules(t *testing.T) {
	server := fleettest.NewServer()
	memoryServer.Store(server)
	h := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
	h = &Handler{HandlerConfig: cfg.HandlerConfig{Key: &cfg.KeyConfig{Query: &cfg.QueryConfig{Ignore: []string{"and"}}}}, app: h.app}
	if err := h.Provision(h.app.ctx); err != nil {
		t.Fatal(err)
	}
	awaitPass(t, h.app.node)
	other := fleet.New(fleet.Options{Engine: server.Clients(1)[0], Caches: otherCaches{}, Logger: slog.New(slog.DiscardHandler)})
	other.Start()
	defer func() {
		if err := other.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=600")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	for range 2 {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Fatal(err)
		}
		if got := w.header.Get("Cache-Status"); got != "Larder; fwd=uri-miss; stored" {
			t.Errorf("before and after the purge: %q", got)
		}
		purge := fleet.Purge{Selectors: store.Selectors{URLs: []string{"http://example.com/some/path?and=query"}}}
		if _, err := other.Purge(t.Context(), purge); err != nil {
			t.Fatal(err)
		}
	}
}

package larder

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/purge"
)

// A PURGE at a site of a fleet reaches its other nodes, as one by the admin API, and where it
// cannot, its sender hears of it.
func TestPurgeMethodInAFleet(t *testing.T) {
	server := fleettest.NewServer()
	memoryServer.Store(server)
	other := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory","fence":"1s"}}`)
	awaitPass(t, other.app.node)
	h := &Handler{HandlerConfig: cfg.HandlerConfig{PurgeMethod: &cfg.PurgeMethodConfig{Token: "hush"}}}
	if err := h.Provision(other.app.ctx); err != nil {
		t.Fatal(err)
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.Method == purge.MethodPurge {
			t.Error("the PURGE has passed")
		}
		w.Header().Set("Cache-Control", "max-age=600")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	ask := func(method string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := newTestRequest(w, "X-Purge-Token", "hush")
		r.Method = method
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		return w
	}
	ask(http.MethodGet)
	log := server.Clients(1)[0]
	_, before, err := log.Read(t.Context(), fleet.Place{}, 0, 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := ask(purge.MethodPurge)
	if want := `{"matched":1,"soft":false,"dry_run":false,"nodes":1,"fenced":[],"uncertain":[]}` + "\n"; w.Code != 200 || w.Body.String() != want {
		t.Errorf("answer %d %s, want %s", w.Code, w.Body, want)
	}
	if records, _, err := log.Read(t.Context(), fleet.Place{}, before.Tail, 1000, 0); err != nil || len(records) != 1 {
		t.Errorf("the log has %d purges more, %v", len(records), err)
	}
	server.SetFault(func(c fleettest.Call) fleettest.Fault {
		if c.Method == "Append" {
			return fleettest.Fault{Err: fleet.ErrReadOnly}
		}
		return fleettest.Fault{}
	})
	ask(http.MethodGet)
	w = ask(purge.MethodPurge)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "may not hold on every node; send it again") {
		t.Errorf("answer %d %s", w.Code, w.Body)
	}
	if w := ask(http.MethodGet); strings.Contains(w.Header().Get("Cache-Status"), "hit") {
		t.Error("the purge does not hold here")
	}
}

package larder

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// Where as many wait for one fetch as may, one more fetches for itself.
func TestCrowdedFlight(t *testing.T) {
	h := newBenchHandler(t)
	h.app.cache.flights = coalesce.NewGroup[store.Key](h.app.cache.store, coalesce.Limits{Waiters: 1})
	proceed := make(chan struct{})
	var calls atomic.Int64
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		if calls.Add(1) == 1 {
			<-proceed
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write([]byte("body"))
		return err
	})
	var clients sync.WaitGroup
	ask := func(w *httptest.ResponseRecorder) {
		if err := h.ServeHTTP(w, benchRequest(w), next); err != nil {
			t.Error(err)
		}
	}
	leader, follower, third := httptest.NewRecorder(), httptest.NewRecorder(), httptest.NewRecorder()
	clients.Go(func() { ask(leader) })
	for calls.Load() == 0 {
		runtime.Gosched()
	}
	f, p, ok := h.app.cache.flights.JoinRunning(h.keyOf(leader, next), nil)
	if !ok {
		t.Fatal("no fetch is under way")
	}
	p.Leave()
	clients.Go(func() { ask(follower) })
	for f.Waiting() == 0 {
		runtime.Gosched()
	}
	ask(third) // while the others wait
	close(proceed)
	clients.Wait()
	for _, tc := range []struct {
		name   string
		w      *httptest.ResponseRecorder
		status string
	}{
		{"leader", leader, "Larder; fwd=uri-miss; stored"},
		{"follower", follower, "Larder; fwd=uri-miss; fwd-status=200; collapsed"},
		{"third", third, "Larder; fwd=bypass; detail=coalesce-wait"},
	} {
		if got := tc.w.Header().Get("Cache-Status"); got != tc.status || tc.w.Body.String() != "body" {
			t.Errorf("%s: %q, %q, want %q", tc.name, got, tc.w.Body, tc.status)
		}
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

// keyOf is the flight's key of what benchRequest asks for.
func (h *Handler) keyOf(w http.ResponseWriter, next caddyhttp.Handler) store.Key {
	q := h.newRequest(w, benchRequest(w), next)
	q.classify()
	q.readKey()
	return q.flightKey()
}

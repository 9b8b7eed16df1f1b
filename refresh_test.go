package larder

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// After a background refresh that failed the origin has a pause, however many requests come.
func TestFailedRefreshRests(t *testing.T) {
	h := newBenchHandler(t)
	pantry := h.app.pantry
	now := time.Now()
	pantry.resting.now = func() time.Time { return now }
	var calls int
	var down bool
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		if down {
			return caddyhttp.Error(http.StatusBadGateway, http.ErrServerClosed)
		}
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Age", "100")
		_, err := w.Write([]byte("body"))
		return err
	})
	ask := func(want int, status string) {
		t.Helper()
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, benchRequest(w), next); err != nil {
			t.Fatal(err)
		}
		for pantry.flights.Len() > 0 {
			runtime.Gosched()
		}
		if got := w.header.Get("Cache-Status"); calls != want || !strings.HasPrefix(got, status) {
			t.Errorf("%d calls of the origin, Cache-Status %s; want %d, %s", calls, got, want, status)
		}
	}
	const stale = "Larder; hit; ttl=-"
	ask(1, "Larder; fwd=uri-miss; stored")
	ask(2, stale) // refreshed behind
	down = true
	ask(3, stale) // it fails
	for range 10 {
		ask(3, stale)
	}
	now = now.Add(2*refreshRest + 1)
	ask(4, stale) // fails again
	ask(4, stale)
	down = false
	ask(4, stale) // still at rest
	now = now.Add(2*refreshRest + 1)
	ask(5, stale) // good again
	ask(6, stale) // no pause after what went well
}

// A background refresh has no client that would hear of its panic. The fetch knows that before it runs.
func TestRefreshHasNoClientFromTheStart(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that the fetch is looked at before the request that began it goes on
	h := newBenchHandler(t)
	crew := &h.app.pantry.crew
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Age", "100")
		return nil
	})
	ask := func() {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, benchRequest(w), next); err != nil {
			t.Error(err)
		}
	}
	ask()
	mine := &hand{next: make(chan runner)}
	waits := func() bool {
		crew.mu.Lock()
		defer crew.mu.Unlock()
		return slices.Contains(crew.idle, mine)
	}
	crew.mu.Lock()
	crew.idle = append(crew.idle, mine)
	crew.mu.Unlock()
	go ask() // finds it stale
	for waits() {
		runtime.Gosched()
	}
	x := (<-mine.next).(*fetch)
	if !x.leaderLeft.Load() {
		t.Error("the fetch of a background refresh takes its leader for one that waits")
	}
	x.run()
}

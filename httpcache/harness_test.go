package httpcache

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// testHandler is a route outside of any server. Its rules may be changed until it is used.
type testHandler struct{ *Route }

// ServeHTTP answers r from the cache or from next.
func (h *testHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next handlerFunc) error {
	return h.serve(w, r, next)
}

// newRequest returns a request that has not been looked at.
func (h *testHandler) newRequest(w http.ResponseWriter, r *http.Request, next handlerFunc) *Request {
	p := &plainRequest{next: next}
	q := &p.Request
	q.route, q.w, q.r, q.origin, q.now = h.Route, w, r, p, time.Now()
	q.keyed.Identity = IdentityOf(r)
	return q
}

// newTestHandler returns a handler with the defaults of the directive and a store in memory.
func newTestHandler(tb testing.TB) *testHandler {
	tb.Helper()
	return newTestHandlerWith(tb, store.Config{}, store.Settings{Memory: 256 << 20})
}

// newTestHandlerWith does so with another store.
func newTestHandlerWith(tb testing.TB, config store.Config, settings store.Settings) *testHandler {
	tb.Helper()
	settings.MaxBody = 64 << 20
	s := store.New(config, settings)
	if err := s.Open(); err != nil {
		tb.Fatal(err)
	}
	c := New(Options{Store: s})
	tb.Cleanup(func() {
		for deadline := time.Now().Add(2 * time.Minute); c.Users() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				tb.Errorf("%d requests and fetches do not end", c.Users())
				break
			}
		}
		if n := s.Stats().InFlight.Fetches; n != 0 && c.Users() == 0 {
			tb.Errorf("%d bytes count for fetches, when all have ended", n)
		}
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &testHandler{c.NewRoute(Rules{}, nil)}
}

// newTestRequest returns a request as a server has it, with header fields given as pairs.
func newTestRequest(_ http.ResponseWriter, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com/some/path?and=query", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// storable answers with an empty body, which is fresh for a minute.
var storable = handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "max-age=60")
	w.WriteHeader(http.StatusOK)
	return nil
})

// counting returns next, and the number of its calls so far.
func counting(next handlerFunc) (counted handlerFunc, calls *int) {
	calls = new(int)
	return func(w http.ResponseWriter, r *http.Request) error {
		*calls++
		return next(w, r)
	}, calls
}

// ask has a handler answer a new test request.
func ask(tb testing.TB, h *testHandler, next handlerFunc) *httptest.ResponseRecorder {
	tb.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
		tb.Fatal(err)
	}
	return w
}

// nullWriter takes a response at no cost.
type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *nullWriter) WriteHeader(int)             {}

// fetchCount counts fetches that are over.
type fetchCount struct {
	noMetrics
	done atomic.Int64
}

// FetchDone implements Metrics.
func (c *fetchCount) FetchDone(FetchKind, FetchResult, time.Duration, Subject) { c.done.Add(1) }

package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// askWith has a handler answer a new test request that has these fields.
func askWith(tb testing.TB, h *testHandler, next handlerFunc, header ...string) *httptest.ResponseRecorder {
	tb.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, newTestRequest(w, header...), next); err != nil {
		tb.Fatal(err)
	}
	return w
}

// errorsFor gives errors a lifetime, as `ttl 1m 4xx 5xx` does.
func errorsFor(h *testHandler) {
	h.Policy.TTL = []rfc9111.StatusTTL{{Duration: time.Minute, Statuses: []rfc9111.StatusClass{4, 5}}}
}

// A fetch carries nothing by which its client would have the answer in pieces.
func TestFetchAsksForNoDelta(t *testing.T) {
	h := newTestHandler(t)
	askWith(t, h, func(w http.ResponseWriter, r *http.Request) error {
		for _, name := range []string{"A-IM", "IM"} {
			if got := r.Header.Get(name); got != "" {
				t.Errorf("the origin is sent %s: %s", name, got)
			}
		}
		return storable(w, r)
	}, "A-IM", "vcdiff", "IM", "vcdiff")
}

// Where a client's directives are ignored they are so by a cache of the origin's, too.
func TestIgnoredDirectivesDoNotReachTheOrigin(t *testing.T) {
	for _, ignored := range []bool{true, false} {
		h := newTestHandler(t)
		h.Policy.IgnoreClientDirectives = ignored
		errorsFor(h)
		next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			if strings.Contains(r.Header.Get("Cache-Control"), "max-stale") || r.Header.Get("Pragma") != "" {
				w.WriteHeader(http.StatusGatewayTimeout)
				return nil
			}
			w.WriteHeader(http.StatusOK)
			return nil
		})
		want := http.StatusOK
		if !ignored {
			want = http.StatusGatewayTimeout
		}
		w := askWith(t, h, next, "Cache-Control", "max-stale=5", "Pragma", "x")
		if w.Code != want {
			t.Errorf("ignored %v: status %d, want %d", ignored, w.Code, want)
		}
	}
}

// A client that has an origin refuse its request does not take a page away from the others, even
// where the refusal may be stored.
func TestRefusalLeavesThePage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		page   int
		header string // of the page, by its Cache-Control
		status int
		kept   bool
	}{
		{"fresh", 200, "max-age=600", 400, true},
		{"fresh, 431", 200, "max-age=600", 431, true},
		{"fresh, 501", 200, "max-age=600", 501, true},
		{"fresh, 505", 200, "max-age=600", 505, true},
		{"fresh, 599", 200, "max-age=600", 599, true},
		{"fresh redirect", 301, "max-age=600", 400, true},
		{"stale, with a window, 501", 200, "max-age=1, stale-while-revalidate=600", 501, true},
		{"stale, without, 501", 200, "max-age=1", 501, false},
		{"stale, with a window", 200, "max-age=1, stale-while-revalidate=600", 400, true},
		{"stale, without", 200, "max-age=1", 400, false},
		{"gone", 200, "max-age=600", 404, false},
		{"an error before", 403, "max-age=600", 400, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newTestHandler(t)
			errorsFor(h)
			next, calls := counting(func(w http.ResponseWriter, r *http.Request) error {
				if r.Header.Get("X-Odd") != "" {
					w.WriteHeader(tc.status)
					return nil
				}
				w.Header().Set("Cache-Control", tc.header)
				w.Header().Set("Etag", `"page"`)
				w.Header().Set("Age", "5")
				w.WriteHeader(tc.page)
				_, err := io.WriteString(w, "page")
				return err
			})
			askWith(t, h, next)
			if w := askWith(t, h, next, "X-Odd", "1", "Cache-Control", "no-cache"); w.Code != tc.status {
				t.Errorf("the client that asks gets %d, want %d", w.Code, tc.status)
			}
			w := askWith(t, h, next, "X-Odd", "1")
			if kept := w.Body.String() == "page"; kept != tc.kept {
				t.Errorf("the page is kept: %v, want %v (%d, %d calls)", kept, tc.kept, w.Code, *calls)
			}
		})
	}
}

// Nor does it by a refusal that varies by nothing, to a request that selects none of the pages.
func TestRefusalHidesNoVariant(t *testing.T) {
	for _, tc := range []struct {
		name, vary string
		status     int
	}{
		{"for all", "", 400},
		{"for its own", "Accept-Language", 400},
		{"501 for all", "", 501},
		{"500 for all", "", 500},
		{"500 for its own", "Accept-Language", 500},
	} {
		h := newTestHandler(t)
		errorsFor(h)
		next, calls := counting(func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("X-Odd") != "" {
				w.Header().Set("Vary", tc.vary)
				w.WriteHeader(tc.status)
				return nil
			}
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Vary", "Accept-Language")
			_, err := io.WriteString(w, "page")
			return err
		})
		askWith(t, h, next, "Accept-Language", "en")
		askWith(t, h, next, "Accept-Language", "xx", "X-Odd", "1")
		if w := askWith(t, h, next, "Accept-Language", "en"); w.Body.String() != "page" || *calls != 2 {
			t.Errorf("%s: %d %q after %d calls", tc.name, w.Code, w.Header().Get("Cache-Status"), *calls)
		}
		// A refusal for a variant of its own is stored.
		w := askWith(t, h, next, "Accept-Language", "xx")
		if stored := w.Code == tc.status; stored != (tc.vary != "") {
			t.Errorf("%s: the refusal is stored: %v", tc.name, stored)
		}
	}
}

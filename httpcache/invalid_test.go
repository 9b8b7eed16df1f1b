package httpcache

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/larder-cache/larder/store"
)

// What was made invalid is served after the origin's 304 only, and never in a window. The table has
// each way in which a stored response is used.
func TestInvalidIsConfirmed(t *testing.T) {
	const (
		confirmed = "fwd=stale; fwd-status=304; stored"
		replaced  = "fwd=stale; fwd-status=200; stored"
		failed    = "fwd=stale; fwd-status=503; detail=status"
	)
	for name, tc := range map[string]struct {
		stored, etag string // Cache-Control and Etag of the stored response
		request      string // Cache-Control of the request
		second       int    // status of the origin's second answer
		want, answer string // Cache-Status, and the answer
	}{
		"fresh, confirmed":                  {"max-age=60", `"v"`, "", 304, confirmed, "200 first"},
		"fresh, immutable":                  {"max-age=60, immutable", `"v"`, "", 304, confirmed, "200 first"},
		"fresh, replaced":                   {"max-age=60", `"v"`, "", 200, replaced, "200 second"},
		"fresh, no validator":               {"max-age=60", "", "", 200, replaced, "200 second"},
		"fresh, the origin fails":           {"max-age=60", `"v"`, "", 503, failed, "503 second"},
		"fresh, a window, the origin fails": {"max-age=60, stale-if-error=60", `"v"`, "", 503, failed, "503 second"},
		"fresh, only-if-cached":             {"max-age=60", `"v"`, "only-if-cached", 304, "", "504 Gateway Timeout\n"},
		"fresh, as the client accepts":      {"max-age=60", `"v"`, "max-stale", 304, confirmed, "200 first"},
		"stale while revalidating":          {"max-age=60, stale-while-revalidate=60", `"v"`, "", 304, confirmed, "200 first"},
		"a window, the origin fails":        {"max-age=60, stale-while-revalidate=60", `"v"`, "", 503, failed, "503 second"},
		"stale if error, says the client":   {"max-age=60", `"v"`, "stale-if-error=60", 503, failed, "503 second"},
	} {
		t.Run(name, func(t *testing.T) {
			var status atomic.Int64
			status.Store(http.StatusOK)
			s := newPassSite(t, func(call int64, w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", tc.stored)
				if tc.etag != "" {
					w.Header().Set("Etag", tc.etag)
				}
				if status.Load() == http.StatusServiceUnavailable {
					w.Header().Del("Cache-Control") // it may not be stored
				}
				w.WriteHeader(int(status.Load()))
				if status.Load() != http.StatusNotModified {
					_, _ = io.WriteString(w, map[bool]string{true: "first", false: "second"}[call == 1])
				}
			})
			s.get()
			invalid := PurgeOptions{PurgeOptions: store.PurgeOptions{Severity: store.Invalid}}
			for _, want := range []int{1, 0} {
				if n, err := s.cache.Purge(t.Context(), store.Selectors{All: true}, invalid); n != want || err != nil {
					t.Errorf("Purge = %d, %v; want %d", n, err, want)
				}
			}
			status.Store(int64(tc.second))
			if answer, got := s.get("Cache-Control", tc.request); bare(got) != tc.want || answer != tc.answer {
				t.Errorf("%q, %q; want %q, %q", bare(got), answer, tc.want, tc.answer)
			}
			if tc.second == http.StatusServiceUnavailable || tc.want == "" { // it still is, and still there
				status.Store(http.StatusNotModified)
				if answer, got := s.get(); bare(got) != confirmed || answer != "200 first" {
					t.Errorf("then: %q, %q; want %q", bare(got), answer, confirmed)
				}
			}
			calls := s.calls.Load()
			if _, got := s.get(); bare(got) != "hit" || s.calls.Load() != calls {
				t.Errorf("in the end: %q", bare(got))
			}
		})
	}
}

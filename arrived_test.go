package larder

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/larder-cache/larder/rfc9111"
)

// A flight may find, at its last look into the store, that the response has arrived there. Who has come aboard meanwhile and wants what the store may not
// give without asking is not given it.
func TestStoredAnswerOfAFlight(t *testing.T) {
	for _, tc := range []struct {
		name, directive string
		calls           int
		status          string
	}{
		{"any", "", 1, "Larder; hit; ttl=60"},
		{"no-cache", "no-cache", 2, "Larder; fwd=request"},
		{"max-age", "max-age=0", 2, "Larder; fwd=request"},
		{"only-if-cached", "only-if-cached, max-age=0", 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newBenchHandler(t)
			calls := 0
			next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				calls++
				w.Header().Set("Cache-Control", "max-age=60")
				return nil
			})
			ask := func(header ...string) (*request, *httptest.ResponseRecorder) {
				w := httptest.NewRecorder()
				r := benchRequest(w, header...)
				return h.newRequest(w, r, next), w
			}
			first, _ := ask()
			if err := h.ServeHTTP(first.w, first.r, next); err != nil {
				t.Fatal(err)
			}
			leader, _ := ask()
			leader.classify()
			leader.readKey()
			if use := leader.lookUp(); use != rfc9111.UseFresh {
				t.Fatalf("stored is what may be used as %v", use)
			}
			defer leader.found.Release()
			ticket, tag := leader.begin()
			defer ticket.End()
			f, p, _ := h.app.cache.flights.Join(tag.key, tag, nil)
			defer f.Settle()
			defer p.Leave()
			f.Share(&sharedResponse{source: fromStore, entry: leader.found.Entry, freshness: leader.freshness, variant: leader.found.Entry.Variant}, 0)
			f.Finish(nil)

			follower, w := ask("Cache-Control", tc.directive)
			if tc.directive == "" {
				follower.classify()
				follower.readKey()
				follower.now = time.Now()
				if _, err := follower.serveFrom(follower.join()); err != nil { // it has not found what arrived since
					t.Fatal(err)
				}
				if answered, err := follower.round(); !answered || err != nil {
					t.Fatal(answered, err)
				}
			} else if err := h.ServeHTTP(follower.w, follower.r, next); err != nil && tc.status != "" {
				t.Fatal(err)
			}
			if got := w.Header().Get("Cache-Status"); calls != tc.calls || got != tc.status {
				t.Errorf("%d calls of the origin, %q; want %d, %q", calls, got, tc.calls, tc.status)
			}
		})
	}
}

// A fetch that finds its response in the store does not run, and is no fetch in the metrics.
func TestFetchThatNeverRanIsNotTimed(t *testing.T) {
	h := newBenchHandler(t)
	calls := 0
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		w.Header().Set("Cache-Control", "max-age=60")
		return nil
	})
	before := fetchesRun(t)
	late := func() *request { // a request that has looked into the store before anything was there
		w := httptest.NewRecorder()
		q := h.newRequest(w, benchRequest(w), next)
		q.classify()
		q.readKey()
		q.lookUp()
		return q
	}
	first, second := late(), late()
	for _, q := range []*request{first, second} {
		if answered, err := q.fetch(); !answered || err != nil {
			t.Fatal(answered, err)
		}
	}
	if calls != 1 || second.outcome != OutcomeHit {
		t.Fatalf("%d calls of the origin, and the second is a %v", calls, second.outcome)
	}
	for h.app.cache.users.Load() > 0 { // until the fetch is over to the last
		runtime.Gosched()
	}
	if n := fetchesRun(t) - before; n != 1 {
		t.Errorf("the histogram grew by %d fetches, want 1", n)
	}
}

// fetchesRun is how many fetches the histogram counts.
func fetchesRun(t *testing.T) uint64 {
	t.Helper()
	var m dto.Metric
	if err := collectors.fetchDuration.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetHistogram().GetSampleCount()
}

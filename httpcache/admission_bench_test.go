package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/origin"
)

// visitor returns a function that asks for a page: one that is fresh, or one that is stale while
// the origin fails. The page has the fields given as pairs.
func visitor(tb testing.TB, failing bool, header ...string) (ask func()) {
	h := newTestHandler(tb)
	lifetime := "600"
	if failing {
		lifetime = "60"
	}
	w := &nullWriter{make(http.Header)}
	r := newTestRequest(w, "Accept-Encoding", "gzip, br", "User-Agent", "bench")
	fill := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		for name, value := range map[string]string{
			"Cache-Control": "max-age=" + lifetime + ", stale-if-error=86400", "Age": "100", "Etag": `"v1"`, "Content-Type": "text/plain",
			"Date": time.Now().UTC().Format(http.TimeFormat),
		} {
			w.Header().Set(name, value)
		}
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, err := io.WriteString(w, strings.Repeat("x", 1<<10))
		return err
	})
	if err := h.ServeHTTP(w, r, fill); err != nil {
		tb.Fatal(err)
	}
	status := "Larder; hit; ttl="
	if failing {
		h.Budget = origin.New("", origin.Limits{BackoffMin: 1}, nil)       // the answer just now is long ago
		failing := [2]origin.Place{{Page: 1, Kind: 1}, {Page: 2, Kind: 2}} // one would hold others back for a moment only
		for i := range failing {
			if err := h.Budget.Take(tb.Context(), &failing[i], origin.ClassStale); err != nil {
				tb.Fatal(err)
			}
		}
		for i := range failing {
			failing[i].Failed(time.Hour)
			failing[i].Done()
		}
		status = "Larder; hit; ttl=-"
	}
	return func() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, nil); err != nil {
			tb.Fatal(err)
		}
		if !strings.HasPrefix(w.header.Get("Cache-Status"), status) {
			tb.Fatalf("%q, want %q", w.header.Get("Cache-Status"), status)
		}
	}
}

// BenchmarkOutage measures what a visitor costs who gets the stale page while the origin fails,
// beside a hit.
func BenchmarkOutage(b *testing.B) {
	for name, ask := range map[string]func(testing.TB) func(){
		"hit":   func(tb testing.TB) func() { return visitor(tb, false) },
		"stale": func(tb testing.TB) func() { return visitor(tb, true) },
		"stale with Vary": func(tb testing.TB) func() {
			return visitor(tb, true, "Vary", "Accept-Encoding, User-Agent")
		},
		"within stale-while-revalidate with Vary": func(tb testing.TB) func() {
			return visitor(tb, true, "Vary", "Accept-Encoding, User-Agent",
				"Cache-Control", "max-age=60, stale-while-revalidate=86400, stale-if-error=86400")
		},
	} {
		b.Run(name, func(b *testing.B) {
			ask := ask(b)
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}

// A visitor who gets the stale page while the origin fails costs no more of the heap than a hit.
func TestOutageAllocations(t *testing.T) {
	hit, stale := testing.AllocsPerRun(500, visitor(t, false)), testing.AllocsPerRun(500, visitor(t, true))
	if t.Logf("%.0f, a hit %.0f", stale, hit); stale > hit {
		t.Errorf("%.0f allocations, a hit has %.0f", stale, hit)
	}
}

// The key of a request's flight takes five allocations where the URL has a Vary. It was made up to
// three times for each request that found something stale.
func TestKeyOfAFlightIsMadeOnce(t *testing.T) {
	hit := testing.AllocsPerRun(500, visitor(t, false))
	for _, window := range []string{"stale-if-error=86400", "stale-while-revalidate=86400, stale-if-error=86400"} {
		stale := testing.AllocsPerRun(500, visitor(t, true, "Vary", "Accept-Encoding, User-Agent", "Cache-Control", "max-age=60, "+window))
		if t.Logf("%.0f, a hit without Vary %.0f", stale, hit); stale >= hit+10 {
			t.Errorf("%s: %.0f allocations, a hit without Vary has %.0f", window, stale, hit)
		}
	}
}

// BenchmarkMissWithin measures a miss of an origin with limits beside one of an origin without.
func BenchmarkMissWithin(b *testing.B) {
	for name, limits := range map[string]origin.Limits{
		"no limits": {},
		"limits":    {MaxConcurrent: 100, Rate: origin.Rate{Count: 1 << 30, Per: time.Second}, Queue: 100, Wait: time.Second},
	} {
		b.Run(name, func(b *testing.B) {
			h := newTestHandler(b)
			h.Budget = origin.New("", limits, nil)
			w, n := &nullWriter{make(http.Header)}, 0
			b.ReportAllocs()
			for b.Loop() {
				n++
				clear(w.header)
				r := httptest.NewRequest(http.MethodGet, "http://example.com/"+strconv.Itoa(n), nil)
				if err := h.ServeHTTP(w, r, storable); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package larder

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/fleet/fleettest"
)

// BenchmarkHit measures what a hit costs in Larder alone: no server, no socket, and few hits that
// are looked at for the rankings, as where there are many.
func BenchmarkHit(b *testing.B) {
	for name, size := range map[string]int{"1KiB": 1 << 10, "16KiB": 16 << 10, "100KiB": 100 << 10} {
		b.Run(name, func(b *testing.B) {
			serve := benchmarkedHit(b, size)
			rankings.sampleRarely(time.Now())
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

// benchmarkedHit stores a response of this size. What it returns answers a request by it.
func benchmarkedHit(b *testing.B, size int) (serve func()) {
	h := newTestHandler(b)
	body := strings.Repeat("x", size)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"v1"`)
		_, err := w.Write([]byte(body))
		return err
	})
	fill := &nullWriter{make(http.Header)}
	if err := h.ServeHTTP(fill, newTestRequest(fill), next); err != nil {
		b.Fatal(err)
	}
	w := &nullWriter{make(http.Header)}
	r := newTestRequest(w, "Accept-Encoding", "gzip, br", "User-Agent", "bench")
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	unused := *repl
	serve = func() {
		clear(w.header)
		*repl = unused // each request has a new one
		if err := h.ServeHTTP(w, r, nil); err != nil {
			b.Fatal(err)
		}
	}
	if serve(); !strings.HasPrefix(w.header.Get("Cache-Status"), "Larder; hit") {
		b.Fatalf("no hit: %v", w.header)
	}
	return serve
}

// TestHitAllocations bounds what a hit adds to the heap: the number is the same on every machine,
// so a test can hold it. What Caddy makes for a request is not counted, but what Larder has it make
// is, as entries in a new replacer's map are.
func TestHitAllocations(t *testing.T) {
	t.Run("alone", func(t *testing.T) { expectCheapHit(t, newTestHandler(t)) })
	t.Run("in a fleet", func(t *testing.T) {
		memoryServer.Store(fleettest.NewServer())
		h := newTestHandlerWith(t, `{"disk":{"off":true},"shared":{"engine":"memory"}}`)
		awaitPass(t, h.app.node)
		expectCheapHit(t, h)
	})
}

func expectCheapHit(t *testing.T, h *Handler) {
	const mostAllocs, mostBytes = 6, 1 << 10
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		for name, value := range map[string]string{
			"Cache-Control": "max-age=3600", "Content-Type": "text/plain", "Etag": `"v1"`, "Date": time.Now().UTC().Format(http.TimeFormat),
			"Last-Modified": time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), "Vary": "Accept-Encoding", "Via": "1.1 Caddy",
			"Age": "200", // more than two digits, which have no allocation
		} {
			w.Header().Set(name, value)
		}
		_, err := w.Write(make([]byte, 1<<10))
		return err
	})
	w := &nullWriter{make(http.Header)}
	raw := httptest.NewRequest(http.MethodGet, "http://example.com:8080/some/path?and=query", nil)
	raw.Header.Set("Accept-Encoding", "gzip, br")
	server := new(caddyhttp.Server)
	serve := func(handler caddyhttp.MiddlewareHandler) {
		clear(w.header)
		r := caddyhttp.PrepareRequest(raw, caddy.NewReplacer(), w, server)
		if handler == nil {
			return
		}
		if err := handler.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
	}
	serve(h)
	baseAllocs, baseBytes := heapUse(func() { serve(nil) })
	allocs, bytes := heapUse(func() { serve(h) })
	if !strings.HasPrefix(w.header.Get("Cache-Status"), "Larder; hit") {
		t.Fatalf("no hit: %v", w.header)
	}
	allocs, bytes = allocs-baseAllocs, bytes-baseBytes
	t.Logf("%.0f allocations, %d bytes", allocs, bytes)
	if raceDetector {
		bytes = 0 // it takes room of its own in each
	}
	if allocs > mostAllocs || bytes >= mostBytes {
		t.Errorf("a hit makes %.0f allocations of %d bytes, want at most %d and less than %d", allocs, bytes, mostAllocs, mostBytes)
	}
}

// heapUse returns the allocations and bytes that one call of f makes.
func heapUse(f func()) (allocs float64, bytes uint64) {
	const runs = 1000
	allocs = testing.AllocsPerRun(runs, f)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return allocs, (after.TotalAlloc - before.TotalAlloc) / runs
}

package larder

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/stats"
)

// A rig serves requests of one kind with a handler outside of any server, or without it: what the
// same request costs either way is what Larder costs.
type rig struct {
	tb     testing.TB
	h      *Handler
	server *caddyhttp.Server
	raw    *http.Request
	w      *nullWriter
	next   caddyhttp.HandlerFunc
	n      int // requests so far
}

// newRig returns a rig whose origin answers with a Cache-Control and a body of 1 KiB.
func newRig(tb testing.TB, method, cacheControl string) *rig {
	body := make([]byte, 1<<10)
	own := http.Header{
		"Cache-Control": {cacheControl}, "Content-Type": {"text/plain"}, "Etag": {`"v1"`}, "Content-Length": {"1024"},
		"Date": {"Sat, 21 Nov 2026 08:00:00 GMT"}, "Via": {"1.1 Caddy"},
	}
	raw := httptest.NewRequest(method, "http://example.com:8080/some/path", nil)
	raw.URL.Scheme, raw.URL.Host = "", "" // as a server has what is no absolute-form
	raw.Header = http.Header{"Accept-Encoding": {"gzip, br"}, "User-Agent": {"bench"}, "Accept": {"*/*"}}
	return &rig{
		tb: tb, h: newTestHandler(tb), server: new(caddyhttp.Server), raw: raw,
		w: &nullWriter{make(http.Header)},
		next: func(w http.ResponseWriter, _ *http.Request) error {
			maps.Copy(w.Header(), own)
			_, err := w.Write(body)
			return err
		},
	}
}

// serve sends one request, to a URL of its own where distinct, past Larder where not through it.
func (b *rig) serve(through, distinct bool) {
	b.n++
	b.raw.URL.RawQuery = "n=1000000"
	if distinct {
		b.raw.URL.RawQuery = "n=" + strconv.Itoa(1_000_000+b.n)
	}
	clear(b.w.header)
	b.w.header["Server"] = []string{"Caddy"}
	r := caddyhttp.PrepareRequest(b.raw, caddy.NewReplacer(), b.w, b.server)
	r.Header = b.raw.Header.Clone() // handlers add to it
	var err error
	if through {
		err = b.h.ServeHTTP(b.w, r, b.next)
	} else {
		err = b.next(b.w, r)
	}
	if err != nil {
		b.tb.Fatal(err)
	}
}

// passages are the ways past the store that have a price of their own.
var passages = []struct {
	name, method, cacheControl string
	distinct                   bool
	status                     string // that Cache-Status begins with
}{
	{"miss", http.MethodGet, "max-age=3600", true, "Larder; fwd=uri-miss; stored"},
	{"no-store", http.MethodGet, "no-store", false, "Larder; fwd=miss"},
	{"bypass", http.MethodOptions, "max-age=3600", false, "Larder; fwd=bypass; detail=method"},
	{"post", http.MethodPost, "max-age=3600", false, "Larder; fwd=bypass; detail=method"},
}

// BenchmarkPassage measures requests that reach the origin: no server, no socket, no proxy, and few
// that are looked at for the rankings. "past" is the same without Larder.
func BenchmarkPassage(b *testing.B) {
	for _, p := range passages {
		for name, through := range map[string]bool{"through": true, "past": false} {
			b.Run(p.name+"/"+name, func(b *testing.B) {
				g := newRig(b, p.method, p.cacheControl)
				g.serve(through, p.distinct)
				rankings.sampleRarely(time.Now())
				b.ReportAllocs()
				for b.Loop() {
					g.serve(through, p.distinct)
				}
				if got := g.w.header.Get("Cache-Status"); through && !strings.HasPrefix(got, p.status) {
					b.Fatalf("Cache-Status: %s, want %s", got, p.status)
				}
			})
		}
	}
}

// TestPassageAllocations bounds what Larder adds to the heap where the origin is asked. Numbers are
// the same on every machine, so a test can hold them. Eight of a POST's are for the context that
// outlives its client, and one is its URL at servers that have gone. What is looked at for the
// rankings costs up to seven more. That is 128 requests a second at most, so it is left out here.
func TestPassageAllocations(t *testing.T) {
	most := map[string]float64{"miss": 52, "no-store": 6, "bypass": 5, "post": 17}
	if raceDetector {
		most["miss"] += 2 // a build with the detector makes 54 where one without makes 52
	}
	for _, p := range passages {
		t.Run(p.name, func(t *testing.T) {
			g := newRig(t, p.method, p.cacheControl)
			g.serve(true, p.distinct)
			rankings.sampleRarely(time.Now())
			past, pastBytes := heapUse(func() { g.serve(false, p.distinct) })
			through, throughBytes := heapUse(func() { g.serve(true, p.distinct) })
			if got := g.w.header.Get("Cache-Status"); !strings.HasPrefix(got, p.status) {
				t.Fatalf("Cache-Status: %s, want %s", got, p.status)
			}
			t.Logf("%.0f allocations, %d bytes", through-past, throughBytes-pastBytes)
			if through-past > most[p.name] {
				t.Errorf("%.0f allocations more than without Larder, want at most %.0f", through-past, most[p.name])
			}
		})
	}
}

// sampleRarely has one of 65,536 events looked at for the next second, as where there are as many.
func (t *trafficRankings) sampleRarely(now time.Time) {
	for _, s := range []*stats.Sampler{t.hits, t.others, t.fetches, t.notStored} {
		for range 16 * sampledPerSecond {
			s.Drawn(now)
		}
	}
}

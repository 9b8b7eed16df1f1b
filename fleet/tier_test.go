package fleet_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// inBubble runs a test of a site in a bubble, whose time passes at once.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t)
		t.Cleanup(func() { time.Sleep(2 * time.Minute) }) // the goroutines of fetches go home
	})
}

// What one node has fetched, the others have: the body whatever its length, the header, the age. It
// comes home, so the next request asks nobody.
func TestMissOnOneHitOnTheOther(t *testing.T) {
	for _, length := range []int{0, 10, 64 << 10, 64<<10 + 1, 1 << 20, 4 << 20} {
		inBubble(t, func(t *testing.T) {
			text := strings.Repeat("x", length)
			s := newSite(t, 2, page(text), func(c *fleet.TierConfig, _ *httpcache.Rules) { c.Secret = "secret" })
			if got := s.nodes[0].get("/"); got.cache != "fwd=uri-miss; stored" {
				t.Fatal(got)
			}
			s.nodes[0].awaitIdle()
			time.Sleep(10 * time.Second)
			for n, ops := range []int{1, 1} {
				got := s.nodes[1].get("/")
				if got.body != text || got.cache != "hit" || got.header.Get("Age") != "10" || s.calls.Load() != 1 {
					t.Errorf("request %d: %v, %v, %d calls", n, got, got.header, s.calls.Load())
				}
				if hits := s.nodes[1].metrics.of("get hit"); hits != ops {
					t.Errorf("request %d: %d look-ups, want %d", n, hits, ops)
				}
			}
		})
	}
}

// A purge holds on every node: for what is stored there, and for what is in the shared tier.
func TestPurgeReachesTheSharedTier(t *testing.T) {
	for name, sel := range map[string]store.Selectors{
		"tag": {Tags: []string{"page"}}, "URL": {URLs: []string{"http://example.com/"}}, "all": {All: true},
	} {
		inBubble(t, func(t *testing.T) {
			s := newSite(t, 2, page("old"), nil)
			s.nodes[0].get("/")
			s.nodes[0].awaitIdle()
			time.Sleep(2 * time.Second) // until then those who find nothing look again
			s.purge(sel, store.Hard)
			now := page("new")
			s.origin.Store(&now)
			if got := s.nodes[1].get("/"); got.body != "new" || s.calls.Load() != 2 {
				t.Errorf("%s: %v", name, got)
			}
			s.nodes[1].awaitIdle()
			s.want(s.nodes[0].get("/"), "200 new hit", 2)
			if n := s.nodes[1].metrics.of("remove done"); n != 1 {
				t.Errorf("%s: the record was removed %d times", name, n)
			}
		})
	}
}

// A fetch that began before a purge is stored after it, and is masked.
func TestFetchOfBeforeThePurge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		proceed := make(chan struct{})
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			<-proceed
			page("old")(w, r)
		}, nil)
		var clients sync.WaitGroup
		clients.Go(func() { s.nodes[0].get("/") })
		synctest.Wait()
		// The purge reaches the other node only, as if this one were late.
		s.log.masks.Add(1, store.Selectors{Tags: []string{"page"}}, store.Hard)
		close(proceed)
		clients.Wait()
		s.nodes[0].awaitIdle()
		now := page("new")
		s.origin.Store(&now)
		s.want(s.nodes[1].get("/"), "200 new fwd=uri-miss; stored", 2)
	})
}

// Without a pass nobody asks the shared tier. What it has of another epoch is not used, and stays.
func TestNoPassOrAnotherEpoch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, page("text"), nil)
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		time.Sleep(2 * time.Second)
		s.log.noPass.Store(true)
		s.want(s.nodes[1].get("/"), "200 text fwd=uri-miss; stored", 2)
		s.nodes[1].forget()
		s.log.noPass.Store(false)
		epoch := "another"
		s.log.epoch.Store(&epoch)
		s.want(s.nodes[1].get("/"), "200 text fwd=uri-miss; stored", 3)
		if s.nodes[1].metrics.of("get refused") != 1 || s.nodes[1].metrics.of("remove done") != 0 {
			t.Errorf("%v", s.nodes[1].metrics.count)
		}
	})
}

// Variants: each request gets what was stored for its values, and a request with others fetches.
func TestVariants(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "X-Lang")
			page("in "+r.Header.Get("X-Lang"))(w, r)
		}, nil)
		for _, lang := range []string{"de", "en", "fr"} {
			s.nodes[0].get("/", "X-Lang", lang)
		}
		s.nodes[0].awaitIdle()
		for _, lang := range []string{"en", "fr", "de"} {
			s.want(s.nodes[1].get("/", "X-Lang", lang), "200 in "+lang+" hit", 3)
		}
		s.want(s.nodes[1].get("/", "X-Lang", "nl"), "200 in nl fwd=vary-miss; stored", 4)
	})
}

// A variant whose values are long is this node's alone, so that an index of such variants does not
// make each look-up a long one. Nothing of it is uploaded, and who waits for it is told so at its
// header.
func TestLongVariant(t *testing.T) {
	for length, shared := range map[int]bool{900: true, 2 << 10: false} {
		inBubble(t, func(t *testing.T) {
			text := strings.Repeat("x", 1<<20)
			s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Vary", "X-Lang")
				w.Header().Set("Cache-Control", "max-age=60")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(5 * time.Second)
				_, _ = io.WriteString(w, text)
			}, nil)
			lang := strings.Repeat("y", length)
			begun := time.Now()
			var clients sync.WaitGroup
			for _, nd := range s.nodes {
				clients.Go(func() {
					if got := nd.get("/", "X-Lang", lang); got.body != text {
						t.Errorf("%d: %v", length, got)
					}
					nd.awaitIdle()
				})
			}
			clients.Wait()
			if took := time.Since(begun); took > 6*time.Second {
				t.Errorf("%d: one has waited for the other's body: %v", length, took)
			}
			fetches, skipped := int64(2), uint64(2)
			if shared {
				fetches, skipped = 1, 0
			}
			got := s.nodes[0].tier.Stats().Skipped + s.nodes[1].tier.Stats().Skipped
			if s.calls.Load() != fetches || got != skipped || (len(s.puts) > 0) != shared || (len(s.chunks) > 0) != shared {
				t.Errorf("%d: %d fetches, %d skipped, %d records, %d bodies", length, s.calls.Load(), got, len(s.puts), len(s.chunks))
			}
			for _, nd := range s.nodes {
				if got := nd.get("/", "X-Lang", lang); got.body != text || got.cache != "hit" {
					t.Errorf("%d: then %v", length, got)
				}
			}
		})
	}
}

// A response that a 304 has renewed is renewed in the tier: with its chunks while those live, and
// with new ones where one is lost.
func TestRenewal(t *testing.T) {
	for _, lost := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			text := strings.Repeat("x", 1<<20)
			s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Etag", `"v"`)
				w.Header().Set("Cache-Control", "max-age=60")
				if r.Header.Get("If-None-Match") != "" {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				_, _ = io.WriteString(w, text)
			}, nil)
			s.nodes[0].get("/")
			s.nodes[0].awaitIdle()
			time.Sleep(61 * time.Second)
			puts := 0
			var mu sync.Mutex
			s.server.SetFault(func(c fleettest.Call) fleettest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if c.Method == "PutChunk" {
					puts++
				}
				return fleettest.Fault{}
			})
			if lost {
				s.server.Flush()
			}
			if got := s.nodes[0].get("/"); got.cache != "fwd=stale; fwd-status=304; stored" {
				t.Fatal(got)
			}
			s.nodes[0].awaitIdle()
			mu.Lock()
			if want := map[bool]int{false: 0, true: 4}[lost]; puts != want {
				t.Errorf("lost %t: %d chunks are uploaded again, want %d", lost, puts, want)
			}
			mu.Unlock()
			if got := s.nodes[1].get("/"); got.body != text || got.cache != "hit" {
				t.Errorf("lost %t: %v", lost, got)
			}
		})
	}
}

// A body longer than what is read whole arrives while it is sent, comes home, and is not uploaded
// again. Its followers get the same.
func TestLongBody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		text := strings.Repeat("0123456789abcdef", 5<<16)
		s := newSite(t, 2, page(text), func(c *fleet.TierConfig, _ *httpcache.Rules) { c.MaxBody = 32 << 20 })
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		time.Sleep(5 * time.Second)
		s.server.SetFault(func(c fleettest.Call) fleettest.Fault { return fleettest.Fault{Delay: 10 * time.Millisecond} })
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				if got := s.nodes[1].get("/"); got.body != text || got.cache != "hit" || got.header.Get("Age") != "5" {
					t.Errorf("%v, %q", got, got.header)
				}
			})
		}
		clients.Wait()
		s.nodes[1].awaitIdle()
		s.want(s.nodes[1].get("/"), fmt.Sprintf("200 %s…%d hit", text[:20], len(text)), 1)
		if m := s.nodes[1].metrics; m.of("get hit") != 1 || m.of("put done") != 0 {
			t.Errorf("%v", m.count)
		}
	})
}

// What was purged softly, or as invalid, is validated, by whoever is asked for it first.
func TestSoftPurge(t *testing.T) {
	for _, tc := range []struct {
		severity store.Severity
		changed  bool
	}{{store.Soft, false}, {store.Soft, true}, {store.Invalid, false}, {store.Invalid, true}} {
		inBubble(t, func(t *testing.T) {
			tag := atomic.Pointer[string]{}
			old, now := `"old"`, `"new"`
			tag.Store(&old)
			s := newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Etag", *tag.Load())
				if r.Header.Get("If-None-Match") == *tag.Load() {
					w.Header().Set("Cache-Control", "max-age=60")
					w.WriteHeader(http.StatusNotModified)
					return
				}
				page(*tag.Load())(w, r)
			}, nil)
			s.nodes[0].get("/")
			s.nodes[0].awaitIdle()
			time.Sleep(2 * time.Second)
			s.purge(store.Selectors{Tags: []string{"page"}}, tc.severity)
			want := "200 " + old + " fwd=stale; fwd-status=304; stored"
			if tc.changed {
				tag.Store(&now)
				want = "200 " + now + " fwd=uri-miss; stored"
			}
			s.want(s.nodes[1].get("/"), want, 2)
			s.nodes[1].awaitIdle()
			s.want(s.nodes[2].get("/"), "200 "+*tag.Load()+" hit", 2)
			s.want(s.nodes[0].get("/"), "200 "+*tag.Load()+" hit", 2)
		})
	}
}

// newStaleSite is a site whose first node has a response in the tier that is stale by now, and may
// stand in for a failure.
func newStaleSite(t *testing.T, nodes int) *site {
	s := newSite(t, nodes, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"v"`)
		w.Header().Set("Cache-Control", "max-age=10, stale-if-error=600")
		_, _ = io.WriteString(w, "text")
	}, nil)
	s.nodes[0].get("/")
	s.nodes[0].awaitIdle()
	time.Sleep(20 * time.Second)
	return s
}

// A 404 removes what is stored in the tier, too: it stands in for no failure.
func TestGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStaleSite(t, 3)
		for i, status := range []int{404, 503} {
			fails := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) })
			s.origin.Store(&fails)
			if got := s.nodes[i+1].get("/"); got.status != status {
				t.Errorf("%v, want %d", got, status)
			}
			s.nodes[i+1].awaitIdle()
		}
		if n := s.nodes[1].metrics.of("remove done"); n != 1 {
			t.Errorf("%v", s.nodes[1].metrics.count)
		}
	})
}

// The origin fails, and a stale response of another node stands in where it may.
func TestStaleOfAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStaleSite(t, 2)
		down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusServiceUnavailable) })
		s.origin.Store(&down)
		s.want(s.nodes[1].get("/"), "200 text hit; detail=sie", 2)
	})
}

// A 304 that is about another response than the one it was asked about is no answer: the origin is
// asked again.
func TestForeign304(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				w.Header().Set("Etag", `"other"`)
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("Etag", `"v"`)
			page("text")(w, r)
		}, nil)
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		time.Sleep(61 * time.Second)
		s.want(s.nodes[1].get("/"), "200 text fwd=uri-miss; stored", 3)
	})
}

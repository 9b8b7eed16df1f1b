package fleet_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/httpcache"
)

// A part that is lost before the first byte makes it a miss, one that is lost later breaks the
// connection. It never makes a short answer that looks whole.
func TestLostChunk(t *testing.T) {
	for _, length := range []int{1 << 20, 5 << 20} {
		for lost := 1; lost <= 3; lost++ {
			inBubble(t, func(t *testing.T) {
				text := strings.Repeat("x", length)
				s := newSite(t, 2, page(text), func(c *fleet.TierConfig, _ *httpcache.Rules) { c.MaxBody = 32 << 20 })
				s.nodes[0].get("/")
				s.nodes[0].awaitIdle()
				time.Sleep(2 * time.Second)
				var reads atomic.Int64
				s.server.SetFault(func(c fleettest.Call) fleettest.Fault {
					if c.Method == "Chunks" && reads.Add(1) == int64(lost) {
						return fleettest.Fault{Err: fleettest.ErrLost}
					}
					return fleettest.Fault{}
				})
				got := s.nodes[1].get("/")
				switch {
				case lost == 1 && (got.body != text || got.cache != "fwd=uri-miss; stored"):
					t.Errorf("%d bytes, read %d: %v", length, lost, got)
				case lost > 1 && length > 4<<20 && (!got.broken || len(got.body) >= length):
					t.Errorf("%d bytes, read %d: %v", length, lost, got)
				}
				if got = s.nodes[1].get("/"); got.body != text {
					t.Errorf("afterwards: %v", got)
				}
			})
		}
	}
}

// A chunk that is another's, or of another length, is lost. What is fetched then takes its place.
func TestDamagedChunk(t *testing.T) {
	for name, chunk := range map[string][]byte{
		"other bytes": []byte(strings.Repeat("y", 256<<10)), "longer": []byte(strings.Repeat("x", 300<<10)), "empty": {},
	} {
		inBubble(t, func(t *testing.T) {
			text := strings.Repeat("x", 1<<20)
			s := newSite(t, 3, page(text), nil)
			s.nodes[0].get("/")
			s.nodes[0].awaitIdle()
			if err := s.server.Clients(1)[0].PutChunk(t.Context(), s.chunks[0], 2, chunk, time.Hour); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			for i, want := range []string{"fwd=uri-miss; stored", "hit"} {
				if got := s.nodes[i+1].get("/"); got.body != text || got.cache != want {
					t.Errorf("%s, node %d: %v", name, i+1, got)
				}
				s.nodes[i+1].awaitIdle()
			}
		})
	}
}

// A chunk that is known to be gone before the first byte makes it a miss, wherever it is. One that
// is lost or damaged in mid-stream breaks that answer off, and no other: the record goes with it.
func TestLostLaterChunk(t *testing.T) {
	other := []byte(strings.Repeat("y", 256<<10))
	for name, tc := range map[string]struct {
		chunk  []byte
		lives  time.Duration
		broken bool
	}{
		"gone":                  {other, time.Nanosecond, false},
		"gone while it is sent": {[]byte(strings.Repeat("x", 256<<10)), 35 * time.Millisecond, true},
		"other bytes":           {other, time.Hour, true},
		"empty":                 {nil, time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				text := strings.Repeat("x", 5<<20)
				s := newSite(t, 3, page(text), func(c *fleet.TierConfig, _ *httpcache.Rules) { c.MaxBody = 32 << 20 })
				s.nodes[0].get("/")
				s.nodes[0].awaitIdle()
				time.Sleep(2 * time.Second)
				s.server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Delay: 10 * time.Millisecond} })
				if err := s.server.Clients(1)[0].PutChunk(t.Context(), s.chunks[0], 17, tc.chunk, tc.lives); err != nil {
					t.Fatal(err)
				}
				if tc.broken {
					if got := s.nodes[1].get("/"); !got.broken || len(got.body) >= len(text) {
						t.Errorf("%v is not broken off", got)
					}
					s.nodes[1].awaitIdle()
				}
				for i, want := range []string{"fwd=uri-miss; stored", "hit"} {
					if got := s.nodes[i+1].get("/"); got.broken || got.body != text || got.cache != want {
						t.Errorf("node %d: %v, want %s", i+1, got, want)
					}
					s.nodes[i+1].awaitIdle()
				}
				if n := s.nodes[1].metrics.of("remove done"); n != 1 {
					t.Errorf("the record was removed %d times", n)
				}
			})
		})
	}
}

// Whatever stands in the tier, nobody gets what was not fetched for his request: records that are
// damaged, moved to another key, or not sealed with the secret are none.
func TestHostileRecords(t *testing.T) {
	type put func(place int, record, row []byte) // in the place of one that a node has put
	for name, spoil := range map[string]func(put put, record, row []byte){
		"damaged": func(put put, record, row []byte) {
			record[len(record)/2] ^= 1
			put(0, record, row)
		},
		"cut short":        func(put put, record, row []byte) { put(0, record[:len(record)-1], row) },
		"empty":            func(put put, _, row []byte) { put(0, nil, row) },
		"text":             func(put put, _, row []byte) { put(0, []byte("HTTP/1.1 200 OK\r\n\r\nhello"), row) },
		"a bad row":        func(put put, record, _ []byte) { put(0, record, []byte{0xff, 0xff, 0xff}) },
		"an empty row":     func(put put, record, _ []byte) { put(0, record, nil) },
		"long":             func(put put, record, row []byte) { put(0, append(record, make([]byte, 3<<20)...), row) },
		"of another":       func(put put, record, row []byte) { put(1, record, row) },
		"another's secret": func(put put, _, _ []byte) {},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) { page("of "+r.URL.Path)(w, r) },
					func(c *fleet.TierConfig, _ *httpcache.Rules) {
						if c.Secret = "secret"; name == "another's secret" {
							c.Secret = c.Node
						}
					})
				for _, path := range []string{"/", "/other"} {
					s.nodes[0].get(path)
					s.nodes[0].awaitIdle()
				}
				puts := s.puts
				spoil(func(place int, record, row []byte) {
					p := puts[place]
					if err := s.server.Clients(1)[0].PutRecord(t.Context(), p.key, p.variant, record, row, time.Hour); err != nil {
						t.Error(err)
					}
				}, puts[0].record, puts[0].row)
				time.Sleep(2 * time.Second)
				for _, path := range []string{"/other", "/"} {
					if got := s.nodes[1].get(path); got.body != "of "+path {
						t.Errorf("%s: %v", path, got)
					}
				}
				s.nodes[1].awaitIdle()
				if m := s.nodes[1].metrics; m.of("get refused") == 0 && name != "a bad row" && name != "an empty row" {
					t.Errorf("nothing is refused: %v", m.count)
				}
			})
		})
	}
}

// Nodes that meet whatever can go wrong with calls to the server fail no request, and give nobody
// another's response. Then the server is well again, and so are they.
func TestRandomFaults(t *testing.T) {
	for range 8 {
		seed := rand.Uint64()
		inBubble(t, func(t *testing.T) {
			rng, mu := rand.New(rand.NewPCG(seed, 0)), sync.Mutex{}
			chance := func(n int) bool {
				mu.Lock()
				defer mu.Unlock()
				return rng.IntN(n) == 0
			}
			s := newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(50 * time.Millisecond)
				w.Header().Set("Vary", "X-Lang")
				w.Header().Set("Cache-Control", "max-age=5")
				text := r.URL.Path + r.Header.Get("X-Lang")
				if strings.HasPrefix(r.URL.Path, "/long") {
					text = strings.Repeat(text, 100<<10/len(text))
				}
				_, _ = io.WriteString(w, text)
			}, nil)
			s.server.SetFault(func(fleettest.Call) (f fleettest.Fault) {
				switch {
				case chance(20):
					f.Err = fleettest.ErrLost
				case chance(20):
					f.ReplyErr = fleettest.ErrLost
				case chance(20):
					f.Delay = 300 * time.Millisecond
				case chance(20):
					f.ReplyDelay = 300 * time.Millisecond
				}
				return f
			})
			var clients sync.WaitGroup
			for i, nd := range s.nodes {
				for range 5 {
					clients.Go(func() {
						for n := range 20 {
							path, lang := fmt.Sprintf("/%d", (n+i)%3), fmt.Sprint(n%2)
							if n%5 == 0 {
								path = "/long"
							}
							if got := nd.get(path, "X-Lang", lang); got.status != 200 || !strings.HasPrefix(got.body, path+lang) {
								t.Errorf("seed %d: %s in %s is %v", seed, path, lang, got)
							}
							time.Sleep(700 * time.Millisecond)
						}
					})
				}
			}
			clients.Wait()
			s.server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
			time.Sleep(20 * time.Second)
			s.nodes[0].get("/last")
			s.nodes[0].awaitIdle()
			if got := s.nodes[1].get("/last"); got.cache != "hit" {
				t.Errorf("seed %d: %v, %v, %v", seed, got, s.nodes[0].metrics.count, s.nodes[1].metrics.count)
			}
		})
	}
}

// A server that is dead, slow or without memory fails no request. After a few look-ups nobody waits
// for it, and it comes back by itself. A timer may be a millisecond late, and the timeout has that
// in it.
func TestTierDown(t *testing.T) {
	for name, tc := range map[string]struct {
		fault fleettest.Fault
		open  bool
	}{
		"dead":       {fleettest.Fault{Err: fleettest.ErrLost}, true},
		"black hole": {fleettest.Fault{Delay: time.Hour}, true},
		"slow":       {fleettest.Fault{ReplyDelay: 150 * time.Millisecond}, true},
		"no memory":  {fleettest.Fault{Err: fleet.ErrReadOnly}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t, 1, page("text"), nil)
				s.server.SetFault(func(fleettest.Call) fleettest.Fault { return tc.fault })
				for i := range 20 {
					begun := time.Now()
					got := s.nodes[0].get(fmt.Sprintf("/%d", i))
					if took := time.Since(begun); got.status != 200 || took > 99*time.Millisecond || i > 8 && took > 0 {
						t.Errorf("request %d: %v after %v", i, got, took)
					}
					s.nodes[0].awaitIdle()
				}
				if stats := s.nodes[0].tier.Stats(); (stats.Breaker != fleet.BreakerClosed) != tc.open {
					t.Errorf("%+v", stats)
				}
				s.server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
				time.Sleep(10 * time.Second)
				before := s.nodes[0].metrics.of("put done")
				s.nodes[0].get("/last")
				s.nodes[0].awaitIdle()
				if n := s.nodes[0].metrics.of("put done"); n != before+1 || s.nodes[0].tier.Stats().Breaker != fleet.BreakerClosed {
					t.Errorf("it does not come back: %v", s.nodes[0].metrics.count)
				}
			})
		})
	}
}

// Nodes whose clocks disagree agree about what is expired: times in the tier are the server's. In a
// bubble all clocks are one, so the second node's is set ahead by waiting.
func TestSkewedClocks(t *testing.T) {
	for name, tc := range map[string]struct {
		ahead [2]time.Duration // the server's clock, of each node's
		wait  time.Duration
		want  string
	}{
		"behind, fresh":          {[2]time.Duration{time.Hour, 0}, time.Hour + 50*time.Second, "hit"},
		"behind, expired":        {[2]time.Duration{time.Hour, 0}, time.Hour + 70*time.Second, "fwd=uri-miss; stored"},
		"ahead, expired":         {[2]time.Duration{-time.Hour, 0}, 10 * time.Second, "fwd=uri-miss; stored"},
		"the other behind":       {[2]time.Duration{0, time.Hour}, 10 * time.Second, "fwd=uri-miss; stored"},
		"both ahead by the same": {[2]time.Duration{-time.Hour, -time.Hour}, 50 * time.Second, "hit"},
	} {
		inBubble(t, func(t *testing.T) {
			s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
				if ahead := tc.ahead[0]; ahead > 0 { // by the server's clock, which is right; a node that is ahead would store nothing
					w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				}
				page("text")(w, r)
			}, nil)
			s.nodes[0].log.ahead, s.nodes[1].log.ahead = tc.ahead[0], tc.ahead[1]
			s.nodes[0].get("/")
			s.nodes[0].awaitIdle()
			p := s.puts[0] // for longer than its entry lives
			if err := s.server.Clients(1)[0].PutRecord(t.Context(), p.key, p.variant, p.record, p.row, 24*time.Hour); err != nil {
				t.Fatal(err)
			}
			time.Sleep(tc.wait)
			got := s.nodes[1].get("/")
			if got.cache != tc.want || tc.want == "hit" && got.header.Get("Age") != "50" {
				t.Errorf("%s: %v, age %s", name, got, got.header.Get("Age"))
			}
		})
	}
}

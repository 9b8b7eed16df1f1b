package fleet_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
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

// Many requests on many nodes for one cold URL are one fetch, whether messages arrive or not.
func TestOneFetchForAll(t *testing.T) {
	for name, fault := range map[string]func(fleettest.Call) fleettest.Fault{
		"as it should be": func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} },
		"no messages": func(c fleettest.Call) fleettest.Fault {
			if c.Method == "Listen" {
				return fleettest.Fault{Err: fleettest.ErrLost}
			}
			return fleettest.Fault{}
		},
		"a slow server": func(c fleettest.Call) fleettest.Fault {
			return fleettest.Fault{Delay: time.Duration(7*c.Client+3) * time.Millisecond, ReplyDelay: time.Duration(5*c.Client+1) * time.Millisecond}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(4 * time.Second) // longer than a lease
					page("text")(w, r)
				}, nil)
				s.server.SetFault(fault)
				begun := time.Now()
				s.ask(50, func(got answer) bool { return got.body == "text" })
				if took := time.Since(begun); s.calls.Load() != 1 || took > 4*time.Second+200*time.Millisecond {
					t.Errorf("%d fetches, %v", s.calls.Load(), took)
				}
			})
		})
	}
}

// ask has each node asked n times at once.
func (s *site) ask(n int, ok func(answer) bool) {
	s.t.Helper()
	var clients sync.WaitGroup
	for i, nd := range s.nodes {
		for range n {
			clients.Go(func() {
				if got := nd.get("/"); !ok(got) {
					s.t.Errorf("node %d: %v", i, got)
				}
			})
		}
	}
	clients.Wait()
}

// What may not be shared is told at the header, and remembered: nobody waits for its end, and those
// who come later do not wait at all.
func TestNotShareable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 3, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Second)
			_, _ = io.WriteString(w, "mine")
		}, nil)
		begun := time.Now()
		s.ask(1, func(got answer) bool { return got.body == "mine" })
		if took := time.Since(begun); s.calls.Load() != 3 || took > 12*time.Second+100*time.Millisecond {
			t.Errorf("%d fetches, %v", s.calls.Load(), took)
		}
		if n := s.nodes[0].metrics.of("lease alone") + s.nodes[1].metrics.of("lease alone") + s.nodes[2].metrics.of("lease alone"); n != 2 {
			t.Errorf("%d fetches were alone", n)
		}
	})
}

// A response that is too long for the tier keeps nobody waiting past its header, or past the byte
// that is too many.
func TestTooLongToShare(t *testing.T) {
	for _, declared := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Second)
				w.Header().Set("Cache-Control", "max-age=60")
				if declared {
					w.Header().Set("Content-Length", "2000")
				}
				_, _ = w.Write(make([]byte, 1001))
				time.Sleep(5 * time.Second)
				_, _ = w.Write(make([]byte, 999))
			}, func(c *fleet.TierConfig, _ *httpcache.Rules) { c.MaxBody = 1000 })
			begun := time.Now()
			s.ask(1, func(got answer) bool { return len(got.body) == 2000 })
			if took := time.Since(begun); s.calls.Load() != 2 || took > 7*time.Second+100*time.Millisecond {
				t.Errorf("declared %t: %d fetches, %v", declared, s.calls.Load(), took)
			}
		})
	}
}

// One that waits for a variant that is not its own fetches for itself as soon as it knows.
func TestOtherValuesOfVary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			w.Header().Set("Vary", "X-Lang")
			w.Header().Set("Cache-Control", "max-age=60")
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Second)
			_, _ = io.WriteString(w, "in "+r.Header.Get("X-Lang"))
		}, nil)
		begun := time.Now()
		var clients sync.WaitGroup
		for i, lang := range []string{"de", "en"} {
			clients.Go(func() {
				if got := s.nodes[i].get("/", "X-Lang", lang); got.body != "in "+lang {
					t.Error(got)
				}
			})
		}
		clients.Wait()
		if took := time.Since(begun); s.calls.Load() != 2 || took > 12*time.Second+100*time.Millisecond {
			t.Errorf("%d fetches, %v", s.calls.Load(), took)
		}
	})
}

// A failure is followed by one more fetch for all nodes, and then its status is the answer of all
// for a second.
func TestFailures(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 3, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			w.Header().Set("Retry-After", "9")
			http.Error(w, "down", http.StatusServiceUnavailable)
		}, nil)
		s.ask(20, func(got answer) bool { return got.status == 503 && got.header.Get("Retry-After") == "9" })
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

// The second attempt may succeed: then all have its response but the client of the first.
func TestSecondAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var s *site
		s = newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			if s.calls.Load() == 1 {
				http.Error(w, "down", http.StatusServiceUnavailable)
				return
			}
			page("text")(w, r)
		}, nil)
		var mu sync.Mutex
		status := map[int]int{}
		s.ask(20, func(got answer) bool {
			mu.Lock()
			defer mu.Unlock()
			status[got.status]++
			return true
		})
		if s.calls.Load() != 2 || status[503] != 1 || status[200] != 59 {
			t.Errorf("%d fetches, answers %v", s.calls.Load(), status)
		}
	})
}

// A holder that dies costs the others three seconds.
func TestHolderDies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dead := make(chan struct{})
		var s *site
		s = newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
			if s.calls.Load() == 1 {
				<-dead
			}
			page("text")(w, r)
		}, nil)
		var clients sync.WaitGroup
		clients.Go(func() { s.nodes[0].get("/") })
		synctest.Wait()
		s.server.SetFault(func(c fleettest.Call) fleettest.Fault {
			if c.Client == 0 {
				return fleettest.Fault{Err: fleettest.ErrLost}
			}
			return fleettest.Fault{}
		})
		begun := time.Now()
		for _, nd := range s.nodes[1:] {
			clients.Go(func() {
				got := nd.get("/")
				if took := time.Since(begun); got.body != "text" || took > 3*time.Second+200*time.Millisecond {
					t.Errorf("%v after %v", got, took)
				}
			})
		}
		time.Sleep(5 * time.Second)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches", n)
		}
		// Back in life it does not store what it has: another has the lease, and its word, by now.
		s.server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{} })
		close(dead)
		clients.Wait()
		s.nodes[0].awaitIdle()
		if m := s.nodes[0].metrics; m.of("put done") != 0 {
			t.Errorf("it stores: %v", m.count)
		}
	})
}

// Waiting spends what the route lets a request wait.
func TestWaitIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(8 * time.Second)
			page("text")(w, r)
		}, func(_ *fleet.TierConfig, r *httpcache.Rules) { r.Wait = 2 * time.Second })
		begun := time.Now()
		s.ask(1, func(got answer) bool { return got.body == "text" })
		if took := time.Since(begun); s.calls.Load() != 2 || took > 10*time.Second+100*time.Millisecond {
			t.Errorf("%d fetches, %v", s.calls.Load(), took)
		}
	})
}

// With the store off there are leases, and nothing to be had: those who wait go on at the header.
func TestStoreOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, page("text"), func(c *fleet.TierConfig, _ *httpcache.Rules) { c.StoreOff = true })
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		s.want(s.nodes[1].get("/"), "200 text fwd=uri-miss; stored", 2)
		if m := s.nodes[0].metrics; m.of("lease taken") != 1 || m.of("put done") != 0 {
			t.Errorf("%v", m.count)
		}
	})
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

// A server that is dead, slow or without memory fails no request. After a few look-ups nobody waits
// for it, and it comes back by itself.
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
					if took := time.Since(begun); got.status != 200 || took > 200*time.Millisecond || i > 6 && took > 0 {
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

// Nodes whose clocks disagree agree about what is expired: times in the tier are the server's.
func TestSkewedClocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, page("text"), nil)
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		// For the second node the server is an hour behind: its own clock is an hour ahead.
		s.log.ahead = -time.Hour
		time.Sleep(50 * time.Second)
		got := s.nodes[1].get("/")
		if got.cache == "hit" && got.header.Get("Age") < "50" {
			t.Errorf("%v, age %s", got, got.header.Get("Age"))
		}
	})
}

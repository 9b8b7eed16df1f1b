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
// who have waited.
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

// A failure is the answer of those who waited for it. It is not that of one who comes later,
// whatever the request was that brought it about.
func TestFailureOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Odd") != "" {
				http.Error(w, "odd", http.StatusInternalServerError)
				return
			}
			page("text")(w, r)
		}, nil)
		for range 3 {
			for _, nd := range s.nodes {
				if got := nd.get("/", "X-Odd", "1"); got.body != "odd\n" {
					t.Error(got)
				}
				synctest.Wait() // the others have heard of it
			}
		}
		s.want(s.nodes[1].get("/"), "200 text fwd=uri-miss; stored", 7)
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

// A node that is closed goes on without the tier, and those who wait for it need not.
func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			page("text")(w, r)
		}, nil)
		begun := time.Now()
		var clients sync.WaitGroup
		for i, nd := range s.nodes {
			clients.Go(func() {
				if got := nd.get("/"); got.body != "text" {
					t.Errorf("node %d: %v", i, got)
				}
			})
			synctest.Wait()
		}
		time.Sleep(time.Second)
		s.nodes[0].tier.Close()
		clients.Wait()
		if took := time.Since(begun); s.calls.Load() != 2 || took > 6*time.Second+100*time.Millisecond {
			t.Errorf("%d fetches, %v", s.calls.Load(), took)
		}
		if got := s.nodes[0].get("/later"); got.body != "text" {
			t.Error(got)
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

// A lease whose taker has not heard that he has it is given back, so that the next one need not
// wait for its end.
func TestLostReply(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, page("text"), nil)
		var takes atomic.Int64
		s.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
			if c.Method == "Take" && takes.Add(1) == 1 {
				f.ReplyErr = fleettest.ErrLost
			}
			if c.Method == "PutRecord" {
				f.Err = fleettest.ErrLost
			}
			return f
		})
		s.nodes[0].get("/")
		begun := time.Now()
		if got := s.nodes[1].get("/"); got.body != "text" || time.Since(begun) > 200*time.Millisecond {
			t.Errorf("%v after %v", got, time.Since(begun))
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

// A 404 removes what is stored in the tier, too: it stands in for no failure.
func TestGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 3, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"v"`)
			w.Header().Set("Cache-Control", "max-age=10, stale-if-error=600")
			_, _ = io.WriteString(w, "text")
		}, nil)
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		time.Sleep(20 * time.Second)
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

// The time that a fetch has waited for another node's is none of its response's age.
func TestAgeAfterWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var s *site
		s = newSite(t, 2, func(w http.ResponseWriter, r *http.Request) {
			if s.calls.Load() == 1 {
				time.Sleep(5 * time.Second)
				w.Header().Set("Cache-Control", "private")
				return
			}
			w.Header().Set("Cache-Control", "max-age=2")
			_, _ = io.WriteString(w, "text")
		}, nil)
		var clients sync.WaitGroup
		clients.Go(func() { s.nodes[0].get("/") })
		synctest.Wait()
		s.want(s.nodes[1].get("/"), "200 text fwd=uri-miss; stored", 2)
		s.want(s.nodes[1].get("/"), "200 text hit", 2)
		clients.Wait()
	})
}

// The origin fails, and a stale response of another node stands in where it may.
func TestStaleOfAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 2, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"v"`)
			w.Header().Set("Cache-Control", "max-age=10, stale-if-error=600")
			_, _ = io.WriteString(w, "text")
		}, nil)
		s.nodes[0].get("/")
		s.nodes[0].awaitIdle()
		time.Sleep(20 * time.Second)
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
					if took := time.Since(begun); got.status != 200 || took > 100*time.Millisecond || i > 8 && took > 0 {
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

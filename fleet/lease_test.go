package fleet_test

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/rfc9111"
)

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

// What is stale stands in for an answer that other nodes have got by the same rules as for one that
// a node has got itself: where the operator has not named its status, it is passed on.
func TestFailuresThatAreAnswers(t *testing.T) {
	for status, want := range map[int]int{502: 502, 503: 200} {
		inBubble(t, func(t *testing.T) {
			var failing atomic.Bool
			s := newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
				if failing.Load() {
					time.Sleep(time.Second)
					http.Error(w, "down", status)
					return
				}
				page("text")(w, r)
			}, func(_ *fleet.TierConfig, rules *httpcache.Rules) {
				rules.Policy.StaleIfError, rules.Policy.Failures = time.Hour, []rfc9111.StatusClass{503}
			})
			for _, nd := range s.nodes {
				nd.get("/")
				nd.awaitIdle()
			}
			time.Sleep(10 * time.Minute)
			failing.Store(true)
			s.ask(20, func(got answer) bool { return got.status == want })
			if n := s.nodes[0].metrics.of("lease failed") + s.nodes[1].metrics.of("lease failed") + s.nodes[2].metrics.of("lease failed"); n == 0 {
				t.Errorf("%d: no node has waited for the failures of others", status)
			}
		})
	}
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

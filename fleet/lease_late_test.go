package fleet_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/fleet/fleettest"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// coalesceWait is what the nodes of these tests wait for a fetch, their default.
const coalesceWait = httpcache.DefaultWait

// slowForOne is an origin of pages that are fresh for two seconds. What a request with X-Slow gets
// stands still for a hundred, before its header or in its body. It counts all others.
type slowForOne struct {
	*site
	asked atomic.Int64
}

func newSlowForOne(t *testing.T, n int, header ...string) *slowForOne {
	o := new(slowForOne)
	o.site = newSite(t, n, o.answer(header...), nil)
	return o
}

func (o *slowForOne) answer(header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Slow") == "" {
			o.asked.Add(1)
		}
		stands := func(where string) {
			if r.Header.Get("X-Slow") == where {
				select {
				case <-time.After(100 * time.Second):
				case <-r.Context().Done():
				}
			}
		}
		stands("header")
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "te")
		_ = http.NewResponseController(w).Flush()
		stands("body")
		_, _ = io.WriteString(w, "xt")
	}
}

// wave has three ordinary clients ask each of some nodes at once, and returns how long the longest
// has waited and how often the origin was asked for others.
func (o *slowForOne) wave(nodes ...int) (longest time.Duration, asked int64) {
	o.t.Helper()
	var clients sync.WaitGroup
	var mu sync.Mutex
	begun, before := time.Now(), o.asked.Load()
	for _, i := range nodes {
		for range 3 {
			clients.Go(func() {
				got := o.nodes[i].get("/")
				mu.Lock()
				defer mu.Unlock()
				if longest = max(longest, time.Since(begun)); got.body != "text" {
					o.t.Errorf("node %d: %v", i, got)
				}
			})
		}
	}
	clients.Wait()
	return longest, o.asked.Load() - before
}

// moment is about how long something may take beside what is waited for.
const moment = 100 * time.Millisecond

// TestSlowFetchOfAnotherNodeIsWaitedForOnce: one request, for which the origin stood still, held
// the lease of a page for as long as it lived. Each request of the other nodes that found the page
// expired waited as long as `coalesce wait` says for it, or a second longer.
func TestSlowFetchOfAnotherNodeIsWaitedForOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		header []string
		where  string
		silent bool // messages are lost
	}{
		"before its header": {header: []string{"Cache-Control", "max-age=2"}, where: "header"},
		"in its body":       {header: []string{"Cache-Control", "max-age=2"}, where: "body"},
		"a validator":       {header: []string{"Cache-Control", "max-age=2", "Etag", `"1"`}, where: "header"},
		"no messages":       {header: []string{"Cache-Control", "max-age=2"}, where: "header", silent: true},
	} {
		for _, nodes := range [][]int{{1, 2}, {0, 1, 2}} {
			if tc.where == "body" && nodes[0] == 0 {
				continue // who has a part of its body stays
			}
			t.Run(fmt.Sprint(name, nodes), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					o := newSlowForOne(t, 3, tc.header...)
					o.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
						if tc.silent && c.Method == "Listen" {
							f.Err = fleettest.ErrLost
						}
						return f
					})
					begun := time.Now()
					go o.nodes[0].get("/", "X-Slow", tc.where)
					time.Sleep(300 * time.Millisecond)
					if longest, _ := o.wave(nodes...); longest > coalesceWait {
						t.Errorf("the first to come wait for %v", longest)
					}
					for time.Since(begun) < 90*time.Second {
						time.Sleep(3 * time.Second)
						if longest, asked := o.wave(nodes...); longest > moment || asked != 1 {
							t.Errorf("after %v they wait for %v, and ask %d times", time.Since(begun), longest, asked)
						}
					}
				})
			})
		}
	}
}

// TestSlowClientAtAnotherNodeIsWaitedForOnce: a client that asks most often leads each fetch of its
// node, and so has the lease whenever the page has expired.
func TestSlowClientAtAnotherNodeIsWaitedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := newSlowForOne(t, 3, "Cache-Control", "max-age=2")
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			for ctx.Err() == nil {
				go o.nodes[0].get("/", "X-Slow", "header")
				time.Sleep(47 * time.Millisecond)
			}
		}()
		time.Sleep(time.Millisecond)
		begun := time.Now()
		for time.Since(begun) < time.Minute {
			early := time.Since(begun) < coalesceWait // each node learns it once
			longest, asked := o.wave(1, 2)
			// Each of the two nodes makes one fetch, and one more with those who give it up.
			if !early && longest > time.Second || longest > coalesceWait+moment || asked > 4 {
				t.Errorf("after %v they wait for %v, and ask %d times", time.Since(begun), longest, asked)
			}
			time.Sleep(3 * time.Second)
		}
	})
}

// TestSlowFetchOfAnotherNodeDelaysNoRefresh: nor is a stale page refreshed later for it.
func TestSlowFetchOfAnotherNodeDelaysNoRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := newSlowForOne(t, 2, "Cache-Control", "max-age=2, stale-while-revalidate=600")
		o.wave(0, 1)
		time.Sleep(3 * time.Second)
		go o.nodes[0].get("/", "X-Slow", "header") // is answered, and has the page refreshed
		time.Sleep(300 * time.Millisecond)
		begun := time.Now()
		for time.Since(begun) < 90*time.Second {
			before := o.asked.Load()
			if got := o.nodes[1].get("/"); got.body != "text" {
				t.Error(got)
			}
			time.Sleep(4 * time.Second)
			if o.asked.Load() == before && time.Since(begun) > coalesceWait+5*time.Second {
				t.Errorf("after %v it is not refreshed", time.Since(begun))
			}
		}
	})
}

// TestWaitOfAllFetches: who had waited a second for a fetch of its node, and then begun another,
// waited as long as `coalesce wait` says for another node's.
func TestWaitOfAllFetches(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := newSlowForOne(t, 2, "Cache-Control", "max-age=2")
		begun := time.Now()
		for time.Since(begun) < 2*time.Minute {
			for i := range o.nodes { // each leads the fetch of its node, and one of them has the lease
				go o.nodes[i].get("/", "X-Slow", "header")
			}
			time.Sleep(300 * time.Millisecond)
			if longest, _ := o.wave(0, 1); longest > coalesceWait {
				t.Errorf("after %v they wait for %v", time.Since(begun), longest)
			}
			time.Sleep(3 * time.Second)
		}
	})
}

// TestLeaseIsHeldForAWhile: a lease was renewed for as long as its fetch lived. A fetch that takes
// longer than others wait leaves it to them. What it brings in the end they have, unless they have
// something newer.
func TestLeaseIsHeldForAWhile(t *testing.T) {
	for name, tc := range map[string]struct {
		between bool // another node fetches meanwhile
		want    string
		calls   int64
	}{
		"nothing newer": {false, "text 1", 1},
		"a newer one":   {true, "text 2", 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var s *site
				s = newSite(t, 3, func(w http.ResponseWriter, _ *http.Request) {
					n := s.calls.Load()
					if n == 1 {
						time.Sleep(coalesceWait + 5*time.Second)
					}
					page(fmt.Sprint("text ", n))(w, nil)
				}, nil)
				var first sync.WaitGroup
				first.Go(func() { s.nodes[0].get("/") })
				time.Sleep(coalesceWait + time.Second)
				if begun := time.Now(); tc.between {
					if got := s.nodes[1].get("/"); got.body != tc.want || time.Since(begun) > moment {
						t.Errorf("%v after %v", got, time.Since(begun))
					}
				}
				first.Wait()
				s.nodes[0].awaitIdle()
				if got := s.nodes[2].get("/"); got.body != tc.want || s.calls.Load() != tc.calls {
					t.Errorf("%v after %d calls of the origin, want %s after %d", got, s.calls.Load(), tc.want, tc.calls)
				}
			})
		})
	}
}

// TestOthersAskTogetherForWhatIsLate: those who wait when a lease is let go are one fetch again.
// Those who had come with its holder did not: they had begun to wait before it was taken, gave up a
// moment before it was let go, and asked the origin each for himself.
func TestOthersAskTogetherForWhatIsLate(t *testing.T) {
	for _, later := range []time.Duration{time.Millisecond, 2 * time.Second} {
		inBubble(t, func(t *testing.T) {
			o := newSlowForOne(t, 10, "Cache-Control", "max-age=2")
			o.server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Delay: 2 * time.Millisecond} })
			go o.nodes[0].get("/", "X-Slow", "header")
			time.Sleep(later)
			if longest, asked := o.wave(1, 2, 3, 4, 5, 6, 7, 8, 9); longest > leaseLasts-later+moment || asked != 1 {
				t.Errorf("%v later they wait for %v, and ask %d times", later, longest, asked)
			}
		})
	}
}

// TestWhatIsLate: a holder whose fetch stood in a queue, or two of which the first failed, counted
// as slow for those who had waited for them.
func TestWhatIsLate(t *testing.T) {
	key := store.Key{1}
	wait := func(t *testing.T, f *fleet.Fetch, wait time.Duration) (again, late bool) {
		again, late, _, _, _ = f.Await(t.Context(), key, time.Now().Add(wait), coalesceWait, false, func(*store.Variant) bool { return true })
		return again, late
	}
	for name, tc := range map[string]struct {
		queued time.Duration // of the fetch that has the lease
		waits  time.Duration // when it does again
		fails  time.Duration // when it does, and another begins
		wait   time.Duration
		again  bool
		late   bool
	}{
		"the origin is slow":      {wait: coalesceWait, late: true},
		"a wait that was cut":     {wait: coalesceWait / 2, again: true},
		"a queue":                 {queued: time.Hour, wait: coalesceWait},
		"a queue for a long time": {queued: 6 * time.Second, wait: coalesceWait},
		"a queue after another":   {waits: time.Second, wait: coalesceWait},
		"a queue after a while":   {waits: 6 * time.Second, wait: coalesceWait, late: true},
		"a failure":               {fails: 6 * time.Second, wait: coalesceWait, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t, 3, page("text"), nil)
				s.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
					if c.Client == 2 && c.Method == "Take" { // others come first
						f.Delay = 10 * time.Millisecond
					}
					return f
				})
				fetches := make([]*fleet.Fetch, 3)
				for i, nd := range s.nodes {
					fetches[i] = nd.tier.Begin()
					defer fetches[i].End()
				}
				wait(t, fetches[0], coalesceWait)
				time.AfterFunc(tc.queued, fetches[0].Asks)
				if tc.waits > 0 {
					time.AfterFunc(tc.waits, fetches[0].Waits)
				}
				if tc.fails > 0 {
					go wait(t, fetches[1], coalesceWait)
					time.AfterFunc(tc.fails, func() { fetches[0].Failed(http.StatusBadGateway, true, "") })
				}
				if again, late := wait(t, fetches[2], tc.wait); again != tc.again || late != tc.late {
					t.Errorf("again %t, late %t, want %t, %t", again, late, tc.again, tc.late)
				}
			})
		})
	}
}

// TestWhatComesLateIsLookedFor: what is stored by one who has let others go on wakes none of them.
// Those whose wait was over asked the origin, though it was there by then.
func TestWhatComesLateIsLookedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var s *site
		s = newSite(t, 3, func(w http.ResponseWriter, _ *http.Request) {
			n := s.calls.Load()
			time.Sleep([]time.Duration{0, leaseLasts + 500*time.Millisecond, time.Minute, time.Second}[n])
			page(fmt.Sprint("text ", n))(w, nil)
		}, nil)
		s.server.SetFault(func(fleettest.Call) fleettest.Fault { return fleettest.Fault{Delay: 2 * time.Millisecond} })
		var clients sync.WaitGroup
		var first atomic.Int64
		for i := range s.nodes {
			clients.Go(func() {
				if got := s.nodes[i].get("/"); got.body == "text 1" {
					first.Add(1)
				}
			})
			time.Sleep(time.Millisecond)
		}
		clients.Wait()
		if first.Load() != 2 || s.calls.Load() != 2 {
			t.Errorf("%d have what came first, after %d calls of the origin; want 2 after 2", first.Load(), s.calls.Load())
		}
	})
}

// alwaysTooLate is an engine whose lease is free for who looks, and is not given to who takes it.
type alwaysTooLate struct{ fleet.Engine }

func (alwaysTooLate) Take(context.Context, string, string, string, []byte, time.Duration) (fleet.Lease, error) {
	time.Sleep(50 * time.Millisecond)
	return fleet.Lease{}, nil
}

// TestLeaseIsNotAskedForEndlessly: a fetch that saw one lease end after the other, and had none of
// them, went on for longer than it waits.
func TestLeaseIsNotAskedForEndlessly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 0, page("text"), nil)
		s.add(0, alwaysTooLate{s.server.Clients(1)[0]}, nil)
		begun := time.Now()
		if got := s.nodes[0].get("/"); got.body != "text" || time.Since(begun) > coalesceWait+2*moment {
			t.Errorf("%v after %v", got, time.Since(begun))
		}
	})
}

// TestFreeLeaseIsTakenWhenTheWaitIsOver: where a fetch had failed, those whose wait was over read
// its message, and none of them took the lease that was free.
func TestFreeLeaseIsTakenWhenTheWaitIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, 5, page("text"), nil)
		key, all := store.Key{1}, func(*store.Variant) bool { return true }
		failed := s.nodes[0].tier.Begin()
		failed.Await(t.Context(), key, time.Now().Add(coalesceWait), coalesceWait, false, all)
		failed.Failed(http.StatusBadGateway, true, "")
		time.Sleep(50 * time.Millisecond) // the message stands for a second
		f := s.nodes[1].tier.Begin()
		f.Await(t.Context(), key, time.Now().Add(-time.Millisecond), coalesceWait, false, all)
		if l, err := s.server.Clients(1)[0].Look(t.Context(), hex.EncodeToString(key[:])); err != nil || !l.Held {
			t.Errorf("the lease is %+v, %v", l, err)
		}
		f.End()
		failed.End()
	})
}

// TestSlowUploadIsNoSlowOrigin: a lease that was let go because its response took long to upload
// counted as one of a slow origin: for two minutes those who had waited for it asked for
// themselves.
func TestSlowUploadIsNoSlowOrigin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		text := strings.Repeat("x", 3<<20)
		s := newSite(t, 3, page(text), nil)
		s.server.SetFault(func(c fleettest.Call) (f fleettest.Fault) {
			if c.Client == 0 && c.Method == "PutChunk" {
				f.Delay = 900 * time.Millisecond
			}
			return f
		})
		go s.nodes[0].get("/")
		time.Sleep(10 * time.Millisecond)
		s.nodes[1].get("/") // waits until the lease is let go
		s.server.SetFault(func(fleettest.Call) (f fleettest.Fault) { return f })
		time.Sleep(70 * time.Second) // the page has expired
		before := s.calls.Load()
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			page(text)(w, r)
		})
		s.origin.Store(&slow)
		go s.nodes[2].get("/")
		time.Sleep(100 * time.Millisecond)
		s.nodes[1].get("/")
		if n := s.calls.Load() - before; n != 1 {
			t.Errorf("the origin was asked %d times, want once", n)
		}
	})
}

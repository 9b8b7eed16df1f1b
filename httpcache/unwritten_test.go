package httpcache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// unless has the handlers write nothing where a request has X-Odd, and else answer by page.
func unless(page handlerFunc) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Header.Get("X-Odd") != "" {
			w.Header().Set("Cache-Control", "max-age=600")
			return nil
		}
		return page(w, r)
	}
}

// An origin answers with a 101 that was not asked for. A proxy then writes nothing, of which the
// server makes an empty 200. That was stored for all clients, where a rule gave it a lifetime.
func TestUnwrittenAnswerIsNotStored(t *testing.T) {
	for name, answer := range map[string]handlerFunc{
		"nothing":               func(http.ResponseWriter, *http.Request) error { return nil },
		"nothing but a header":  unless(nil),
		"nothing but early 1xx": func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(http.StatusEarlyHints); return nil },
		"101": func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusSwitchingProtocols)
			return nil
		},
	} {
		for kind, status := range map[string][3]string{
			"serves":   {"Larder; fwd=uri-miss", "Larder; fwd=miss", "Larder; fwd=miss"},
			"observes": {onlyObserves, onlyObserves, onlyObserves},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := newConfirming(t, answer)
					operatorTTL(c.h.Route)
					c.h.Observe = kind == "observes"
					for _, want := range status {
						if got := c.ask("X-Odd", "1"); got != want {
							t.Errorf("%q, want %q", got, want)
						}
						synctest.Wait()
					}
					if items, _, err := c.h.cache.store.List(store.Filter{}, 1, ""); err != nil || len(items) > 0 {
						t.Errorf("%v are stored (%v)", items, err)
					}
				})
			})
		}
	}
}

const onlyObserves = "Larder; fwd=bypass; detail=observe"

// What the client of an unwritten answer gets is what it would get without a cache.
func TestClientOfAnUnwrittenAnswer(t *testing.T) {
	site := newSite(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Set", "1") })
	for range 2 {
		for _, header := range [][]string{nil, {"Range", "bytes=0-5"}, {"If-None-Match", "*"}, {"If-Modified-Since", "Mon, 01 Jan 2024 00:00:00 GMT"}} {
			response, body := site.do(http.MethodGet, header...)
			if response.StatusCode != http.StatusOK || body != "" || response.ContentLength != 0 || response.Header.Get("X-Set") != "1" {
				t.Errorf("%q: %d %q %v", header, response.StatusCode, body, response.Header)
			}
		}
	}
}

// It replaces and renews nothing that is stored, and others go on with that.
func TestUnwrittenAnswerLeavesThePage(t *testing.T) {
	for name, tc := range map[string]struct {
		lifetime string
		odd      []string
		got, now string
	}{
		"a reload":          {"max-age=60", []string{"Cache-Control", "no-cache"}, "Larder; fwd=request", "Larder; hit; ttl=58"},
		"waited for":        {"max-age=1", nil, "Larder; fwd=stale; fwd-status=200", "Larder; fwd=stale; fwd-status=304; stored"},
		"in the background": {"max-age=1, stale-while-revalidate=60", nil, "Larder; hit; ttl=-1; detail=swr", "Larder; hit; ttl=-1; detail=swr"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newConfirming(t, unless(func(w http.ResponseWriter, r *http.Request) error {
					w.Header().Set("Cache-Control", tc.lifetime)
					w.Header().Set("Etag", `"v1"`)
					if r.Header.Get("If-None-Match") != "" {
						w.WriteHeader(http.StatusNotModified)
						return nil
					}
					_, err := io.WriteString(w, "page")
					return err
				}))
				operatorTTL(c.h.Route)
				c.ask()
				time.Sleep(2 * time.Second)
				if got := strings.TrimSuffix(c.ask(append(tc.odd, "X-Odd", "1")...), "; detail=status"); got != tc.got {
					t.Errorf("the odd one: %q, want %q", got, tc.got)
				}
				synctest.Wait()
				if got := c.ask(); got != tc.now {
					t.Errorf("the next: %q, want %q", got, tc.now)
				}
			})
		})
	}
}

// Those who wait for a fetch of which nothing is written ask for themselves, and those who come
// later do not wait.
func TestNoneWaitsForUnwrittenAnswers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 5
		b := newBudgeted(t, origin.Limits{}, func(http.ResponseWriter, *http.Request) error {
			time.Sleep(time.Second)
			return nil
		})
		operatorTTL(b.h.Route)
		together := func() (longest time.Duration) {
			var clients sync.WaitGroup
			var mu sync.Mutex
			for range n {
				clients.Go(func() {
					a := b.send(t.Context(), http.MethodGet, "/")
					mu.Lock()
					defer mu.Unlock()
					if longest = max(longest, a.took); a.status() != http.StatusOK || a.Body.Len() > 0 {
						t.Errorf("%d %q", a.status(), a.Body)
					}
				})
			}
			clients.Wait()
			return longest
		}
		if took := together(); took > 2*time.Second || b.calls.Load() != n {
			t.Errorf("%v and %d calls for the first %d", took, b.calls.Load(), n)
		}
		if took := together(); took > time.Second || b.calls.Load() != 2*n {
			t.Errorf("%v and %d calls with the next %d", took, b.calls.Load(), n)
		}
	})
}

// wantOneCall has clients come together, who are to wait for one fetch.
func wantOneCall(t *testing.T, b *budgeted, clients int) {
	t.Helper()
	before := b.calls.Load()
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { b.send(t.Context(), http.MethodGet, "/") })
	}
	all.Wait()
	if calls := b.calls.Load() - before; calls != 1 {
		t.Errorf("%d calls for %d who came together", calls, clients)
	}
}

// A field of one client's may be why nothing was written: others go on to wait for one fetch.
func TestUnwrittenAnswerIsRememberedOfItsFields(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{}, func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(time.Second)
			return unless(storable)(w, r)
		})
		b.get("/")
		b.get("/", "X-Odd", "1", "Cache-Control", "no-cache")
		b.h.purgeAll(t)
		b.get("/", "X-Odd", "1")
		wantOneCall(t, b, 5)
		b.h.purgeAll(t)
		var clients sync.WaitGroup
		for range 2 {
			clients.Go(func() {
				if a := b.send(t.Context(), http.MethodGet, "/", "X-Odd", "1"); a.took != time.Second {
					t.Errorf("one with the fields waits %v", a.took)
				}
			})
		}
		clients.Wait()
	})
}

// A client that wants nothing stored had what it got remembered, of a page that has expired: others
// then asked the origin each for itself.
func TestUnwrittenAnswerToNoStoreIsNotRemembered(t *testing.T) {
	for name, odd := range map[string]handlerFunc{"nothing": unless(nil), "101": says(http.StatusSwitchingProtocols)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				b := newBudgeted(t, origin.Limits{}, page("max-age=600"))
				ordinary := b.next
				b.next = func(w http.ResponseWriter, r *http.Request) error {
					if r.Header.Get("X-Odd") != "" {
						return odd(w, r)
					}
					time.Sleep(time.Second)
					return ordinary(w, r)
				}
				b.get("/")
				time.Sleep(605 * time.Second)
				if got := b.get("/", "X-Odd", "1", "Cache-Control", "no-store").status(); got >= http.StatusBadRequest {
					t.Errorf("status %d", got)
				}
				wantOneCall(t, b, 20)
			})
		})
	}
}

// To a HEAD that is passed on a handler may answer by a header alone. That was counted as not
// stored for its status.
func TestHeadOfAHeaderAlone(t *testing.T) {
	h, l := newLedger(t)
	r := newTestRequest(nil)
	r.Method = http.MethodHead
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, unless(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Cache-Status"); got != "Larder; fwd=uri-miss" {
		t.Errorf("%q", got)
	}
	for _, line := range l.take(h) {
		if strings.HasPrefix(line, "not stored") {
			t.Error(line)
		}
	}
}

// It does not end an outage.
func TestUnwrittenAnswerInAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{}, page("stale-if-error=6000"))
		b.get("/")
		b.next = says(http.StatusServiceUnavailable)
		time.Sleep(time.Second)
		b.get("/")
		b.next = unless(b.next)
		time.Sleep(time.Second)
		for _, header := range [][]string{{"X-Odd", "1"}, {"X-Odd", "1", "Cache-Control", "no-cache"}, {"X-Odd", "1", "Cache-Control", "no-store"}} {
			b.get("/", header...)
			if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Failing {
				t.Errorf("after %q: %s", header, got)
			}
		}
	})
}

// An answer for many of which nothing is written is none for any of them, and ends no outage.
func TestUnwrittenAnswerForMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		s.many = func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", shopLifetime)
			return nil
		}
		s.single = says(http.StatusServiceUnavailable)
		h.Budget = origin.New("api", origin.Limits{}, nil)
		for _, ids := range [][]string{{"1"}, {"7", "8"}} {
			askFor(h, s, ids...)
			time.Sleep(time.Second)
			if got := h.Budget.Standing(time.Now(), 0); got != origin.Failing {
				t.Errorf("after %q: %s", ids, got)
			}
		}
		s.single = nil
		for i, reply := range askFor(h, s, "7", "8") {
			if want := fmt.Sprintf("200 %s [Larder; fwd=uri-miss; stored]", product([]string{"7", "8"}[i])); reply.String() != want {
				t.Errorf("%s, want %s", reply, want)
			}
		}
	})
}

// What is stored is not compared with what has not been written.
func TestUnwrittenAnswerIsNotCompared(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, seen := newObserving(t, Rules{})
		for _, step := range []observing{
			{answer: answer200("one", "Cache-Control", minute), would: OutcomeMiss},
			{answer: unless(nil), header: []string{"X-Odd", "1"}, would: OutcomeHit},
		} {
			step.run(t, h, seen)
		}
	})
}

// TestUnwrittenAnswerIsExplained tells why an empty 200 is not stored, afterwards and at once.
func TestUnwrittenAnswerIsExplained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newTestHandler(t)
		h.Policy.TTL = []rfc9111.StatusTTL{{Duration: time.Minute}}
		p := &plainRequest{next: unless(nil)}
		trace := p.Explain()
		w := &nullWriter{http.Header{}}
		r := newTestRequest(nil, "X-Odd", "1")
		if err := h.Serve(&p.Request, w, r, new(IdentityOf(r)), p); err != nil {
			t.Fatal(err)
		}
		e := trace.Explanation()
		if want := "may it be stored? no: the handlers behind wrote no response"; !strings.Contains(e.answers(), want) {
			t.Errorf("no %q in\n%s", want, e.answers())
		}
		if want := "not stored: the handlers behind wrote no response"; !strings.Contains(e.Verdict, want) {
			t.Errorf("no %q in %q", want, e.Verdict)
		}
		if want := "what did the origin answer? nothing: the handlers behind wrote no response"; !strings.Contains(e.answers(), want) {
			t.Errorf("no %q in\n%s", want, e.answers())
		}
		if e := h.explain(t, newTestRequest(nil)); !strings.Contains(e.Verdict, "the handlers behind last wrote no response") {
			t.Errorf("verdict %q", e.Verdict)
		}
	})
}

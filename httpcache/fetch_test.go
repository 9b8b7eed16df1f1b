package httpcache

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// A fetch that is cancelled because its origin does not answer is a timeout for its client, and no
// word of the origin's: it does not make the key one whose responses are not shareable.
func TestCancelledFetchIsNotRemembered(t *testing.T) {
	for name, end := range map[string]func(w http.ResponseWriter, r *http.Request) error{
		"a status": func(w http.ResponseWriter, _ *http.Request) error { // as reverse_proxy
			w.WriteHeader(499)
			return nil
		},
		"an error": func(_ http.ResponseWriter, r *http.Request) error { return fail(499, r.Context().Err()) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandler(t)
			h.cache.flights = coalesce.NewGroup[store.Key](h.cache.store, coalesce.Limits{Life: time.Millisecond})
			hangs := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				<-r.Context().Done()
				return end(w, r)
			})
			w := httptest.NewRecorder()
			err := h.ServeHTTP(w, newTestRequest(w), hangs)
			if handlerErr, ok := errors.AsType[*Error](err); !ok || handlerErr.Status != http.StatusGatewayTimeout {
				t.Errorf("the client of a fetch that took too long has %d, %v; want an error with 504", w.Code, err)
			}
			h.cache.flights = coalesce.NewGroup[store.Key](h.cache.store, coalesce.Limits{})
			w = ask(t, h, storable)
			if got, want := w.Header().Get("Cache-Status"), "Larder; fwd=uri-miss; stored"; got != want {
				t.Errorf("the next request: %q, want %q", got, want)
			}
		})
	}
}

// stalling is an origin whose first answer stands still, before its header, before its first byte
// or in mid-body, until proceed is closed. The others come at once.
type stalling struct {
	t       *testing.T
	h       *testHandler
	where   string
	proceed chan struct{}
	calls   int
	clients sync.WaitGroup
}

const stalledBody = "the whole body"

func (s *stalling) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	s.calls++
	number := s.calls
	stand := func(where string) {
		if number > 1 || s.where != where {
			return
		}
		select {
		case <-s.proceed:
		case <-r.Context().Done():
		}
	}
	stand("header")
	w.Header().Set("Cache-Control", "max-age=600")
	w.Header().Set("Etag", `"v1"`)
	w.Header().Set("X-Number", []string{"none", "first", "second", "third"}[number])
	w.WriteHeader(http.StatusOK)
	stand("first byte")
	_, _ = w.Write([]byte(stalledBody[:5]))
	stand("mid-body")
	_, err := w.Write([]byte(stalledBody[5:]))
	return err
}

// ask sends a request, on a goroutine of its own.
func (s *stalling) ask(method string, header ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := newTestRequest(w, header...)
	r.Method = method
	s.clients.Go(func() {
		if err := s.h.ServeHTTP(w, r, handlerFunc(s.ServeHTTP)); err != nil {
			s.t.Error(err)
		}
	})
	synctest.Wait()
	return w
}

// want compares an answer that must have come by now.
func (s *stalling) want(who string, w *httptest.ResponseRecorder, status int, body, number, cacheStatus string) {
	s.t.Helper()
	if w.Code != status || w.Body.String() != body || w.Header().Get("X-Number") != number || !strings.HasPrefix(w.Header().Get("Cache-Status"), cacheStatus) {
		s.t.Errorf("%s: %d %q from the %s answer, %s; want %d %q, %s, %s",
			who, w.Code, w.Body, w.Header().Get("X-Number"), w.Header().Get("Cache-Status"), status, body, number, cacheStatus)
	}
}

func atStalledOrigin(t *testing.T, where string, test func(t *testing.T, s *stalling)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stalling{t: t, h: newTestHandler(t), where: where, proceed: make(chan struct{})}
		test(t, s)
		s.clients.Wait()
		time.Sleep(time.Minute) // the goroutines of fetches go home
	})
}

// A fetch that stands still does not block its URL: when it has for as long as a follower waits,
// the next request starts another. What comes of the first all the same does not take the place of
// what was asked for after it.
func TestStalledFetchIsNotJoined(t *testing.T) {
	for _, where := range []string{"header", "first byte", "mid-body"} {
		t.Run(where, func(t *testing.T) {
			atStalledOrigin(t, where, func(_ *testing.T, s *stalling) {
				leader := s.ask(http.MethodGet)
				time.Sleep(11 * time.Second)
				newcomer := s.ask(http.MethodGet)
				s.want("newcomer", newcomer, 200, stalledBody, "second", "Larder; fwd=uri-miss; stored")
				close(s.proceed)
				synctest.Wait()
				s.want("leader", leader, 200, stalledBody, "first", "Larder; fwd=uri-miss; stored")
				s.want("later", s.ask(http.MethodGet), 200, stalledBody, "second", "Larder; hit")
			})
		})
	}
}

// A follower that has had no byte of a fetch that stands still is not tied to it; one that has
// waits as its leader does.
func TestFollowersOfAStalledFetch(t *testing.T) {
	for where, number := range map[string]string{"first byte": "second", "mid-body": "first"} {
		t.Run(where, func(t *testing.T) {
			atStalledOrigin(t, where, func(_ *testing.T, s *stalling) {
				leader, follower := s.ask(http.MethodGet), s.ask(http.MethodGet)
				time.Sleep(11 * time.Second)
				synctest.Wait()
				if where == "first byte" {
					s.want("follower", follower, 200, stalledBody, number, "Larder; fwd=uri-miss")
				}
				close(s.proceed)
				synctest.Wait()
				s.want("leader", leader, 200, stalledBody, "first", "Larder; fwd=uri-miss; stored")
				s.want("follower", follower, 200, stalledBody, number, "Larder; fwd=uri-miss")
			})
		})
	}
}

// What needs no body is answered from the header of a fetch that stands still behind it.
func TestHeaderOfAStalledFetch(t *testing.T) {
	for _, where := range []string{"first byte", "mid-body"} {
		for name, after := range map[string]time.Duration{"at once": 0, "later": time.Minute} {
			t.Run(where+" "+name, func(t *testing.T) {
				atStalledOrigin(t, where, func(_ *testing.T, s *stalling) {
					leader := s.ask(http.MethodGet)
					time.Sleep(after)
					const collapsed = "Larder; fwd=uri-miss; fwd-status=200; collapsed"
					s.want("HEAD", s.ask(http.MethodHead), 200, "", "first", collapsed)
					s.want("conditional", s.ask(http.MethodGet, "If-None-Match", `"v1"`), 304, "", "first", collapsed)
					if s.calls != 1 {
						s.t.Errorf("%d calls of the origin", s.calls)
					}
					close(s.proceed)
					synctest.Wait()
					s.want("leader", leader, 200, stalledBody, "first", "Larder; fwd=uri-miss; stored")
				})
			})
		}
	}
}

// After a background refresh that failed the origin has a pause, however many requests come.
func TestFailedRefreshBacksOff(t *testing.T) { inBubble(t, testFailedRefreshBacksOff) }

func testFailedRefreshBacksOff(t *testing.T) {
	h := newTestHandler(t)
	var calls int
	var down bool
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		if down {
			return fail(http.StatusBadGateway, http.ErrServerClosed)
		}
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Age", "100")
		_, err := w.Write([]byte("body"))
		return err
	})
	ask := func(want int, status string) {
		t.Helper()
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.header.Get("Cache-Status"); calls != want || !strings.HasPrefix(got, status) {
			t.Errorf("%d calls of the origin, Cache-Status %s; want %d, %s", calls, got, want, status)
		}
	}
	const stale = "Larder; hit; ttl=-"
	ask(1, "Larder; fwd=uri-miss; stored")
	ask(2, stale) // refreshed behind
	down = true
	ask(3, stale) // it fails
	for range 10 {
		ask(3, stale)
	}
	time.Sleep(2*refreshPause + 1)
	ask(4, stale) // fails again
	ask(4, stale)
	down = false
	ask(4, stale) // still at rest
	time.Sleep(2*refreshPause + 1)
	ask(5, stale) // good again
	ask(6, stale) // no pause after what went well
}

// TestRefusedRefreshLeavesItToOthers: a client with a field that the origin refuses, and that comes
// first after each pause, does not keep the page from being refreshed by others.
func TestRefusedRefreshLeavesItToOthers(t *testing.T) { inBubble(t, testRefusedRefresh) }

func testRefusedRefresh(t *testing.T) {
	h := newTestHandler(t)
	var calls, refused int
	next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		calls++
		if r.Header.Get("Accept") == "" {
			refused++
			w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
			return nil
		}
		w.Header().Set("Cache-Control", "max-age=1, stale-while-revalidate=600")
		_, err := w.Write([]byte("body"))
		return err
	})
	ask := func(long string, wantCalls int) {
		t.Helper()
		r := newTestRequest(&nullWriter{make(http.Header)})
		switch r.Header = make(http.Header); long {
		case "bare":
		case "":
			r.Header.Set("Accept", "*/*")
		default:
			r.Header.Set("X-Long", long)
		}
		if err := h.ServeHTTP(&nullWriter{make(http.Header)}, r, next); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if calls != wantCalls {
			t.Fatalf("%d calls of the origin, want %d", calls, wantCalls)
		}
	}
	ask("", 1)
	time.Sleep(2 * time.Second)
	ask("a", 2) // refused
	ask("b", 2) // others have a turn of their own
	ask("", 2)
	time.Sleep(refreshTurn + 1)
	ask("a", 2) // the same again waits for the pause
	ask("b", 3)
	time.Sleep(refreshTurn + 1)
	ask("", 4) // refreshed
	time.Sleep(2 * time.Second)
	ask("", 5) // and nothing of it is left
	time.Sleep(2 * time.Second)
	ask("bare", 6) // that it has no field is refused
	time.Sleep(refreshTurn + 1)
	ask("bare", 6)
	ask("", 7)
	if refused != 3 {
		t.Errorf("%d were refused", refused)
	}
}

// A background refresh has no client that would hear of its panic. The fetch knows that before it
// runs.
func TestRefreshHasNoClientFromTheStart(t *testing.T) {
	// So that the fetch is looked at before the request that began it goes on.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	h := newTestHandler(t)
	workers := &h.cache.workers
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Age", "100")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	ask := func() {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Error(err)
		}
	}
	ask()
	mine := &worker{next: make(chan task)}
	waits := func() bool {
		workers.mu.Lock()
		defer workers.mu.Unlock()
		return slices.Contains(workers.idle, mine)
	}
	workers.mu.Lock()
	workers.idle = append(workers.idle, mine)
	workers.mu.Unlock()
	go ask() // finds it stale
	for waits() {
		runtime.Gosched()
	}
	x := (<-mine.next).(*Fetch)
	if !x.leaderGone.Load() {
		t.Error("the fetch of a background refresh takes its leader for one that waits")
	}
	x.run()
}

// A background refresh rests after any failure. Only those that said 5xx did: thirty requests in
// the window had thirty fetches of an origin that said 429.
func TestRefreshRestsAfterAnyFailure(t *testing.T) {
	says := func(status int) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(status)
			return nil
		}
	}
	writes := func(body string, header ...string) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			_, err := w.Write([]byte(body))
			return err
		}
	}
	var held *Cache // of each row
	for name, fails := range map[string]handlerFunc{
		"cancelled, as no client waits or it takes too long": func(http.ResponseWriter, *http.Request) error {
			held.flights.CancelAll(coalesce.ErrNoClientLeft)
			return fail(499, coalesce.ErrNoClientLeft)
		},
		"400": says(400), "408": says(408), "429": says(429), "500": says(500), "501": says(501), "503": says(503), "505": says(505),
		"no connection": func(http.ResponseWriter, *http.Request) error { return fail(502, http.ErrServerClosed) },
		"an error":      func(http.ResponseWriter, *http.Request) error { return http.ErrServerClosed },
		"an error that says 429": func(http.ResponseWriter, *http.Request) error {
			return fail(http.StatusTooManyRequests, http.ErrServerClosed)
		},
		"a panic":                  func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) },
		"a short body":             writes("short", "Cache-Control", "max-age=60", "Content-Length", "100"),
		"a long body":              writes("longer than said", "Cache-Control", "max-age=60", "Content-Length", "6"),
		"a body that is too large": writes(strings.Repeat("x", 1000), "Cache-Control", "max-age=60"),
		"a foreign 304, asked or not": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Etag", `"v0"`)
			w.WriteHeader(304)
			return nil
		},
		"a failure after a foreign 304": func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("If-None-Match") == "" {
				return http.ErrServerClosed
			}
			w.Header().Set("Etag", `"v0"`)
			w.WriteHeader(http.StatusNotModified)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				h := newTestHandler(t)
				h.MaxBody = 100
				held = h.cache
				var calls int
				next := writes("body", "Cache-Control", "max-age=60, stale-while-revalidate=600", "Age", "100", "Etag", `"v1"`)
				ask := func() {
					t.Helper()
					w := &nullWriter{make(http.Header)}
					err := h.ServeHTTP(w, newTestRequest(w), handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
						calls++
						return next(w, r)
					}))
					synctest.Wait()
					got := w.header.Get("Cache-Status")
					if stale := strings.HasSuffix(got, "; detail=swr") || strings.HasSuffix(got, "; detail=sie"); err != nil || calls > 1 && !stale {
						t.Fatalf("%v, %q", err, got)
					}
				}
				ask()
				next = fails
				ask()
				if calls == 1 {
					t.Fatal("it is not refreshed")
				}
				failed := calls
				for range 30 {
					ask()
				}
				if calls != failed {
					t.Errorf("%d calls of the origin while it rests", calls-failed)
				}
				time.Sleep(refreshPause)
				ask()
				if calls == failed {
					t.Error("it rests for too long")
				}
			})
		})
	}
}

// A request that says no-store is answered stale like any other, and begins no refresh: nothing
// that is fetched for it may be stored (RFC 9111
// 5.2.1.5). It asked the origin for a response that was thrown away, and a 304 to it was stored.
func TestNoStoreBeginsNoRefresh(t *testing.T) {
	calls := 0
	c := newConfirming(t, func(w http.ResponseWriter, _ *http.Request) error {
		calls++
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600")
		w.Header().Set("Age", "100")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	c.ask()
	for _, tc := range []struct {
		header []string
		calls  int
	}{{[]string{"Cache-Control", "no-store"}, 1}, {nil, 2}} {
		if got := c.ask(tc.header...); !strings.HasPrefix(got, "Larder; hit; ttl=-") {
			t.Errorf("%q: %q", tc.header, got)
		}
		for c.h.cache.flights.Len() > 0 {
			runtime.Gosched()
		}
		if calls != tc.calls {
			t.Errorf("%q: the origin was asked %d times, want %d", tc.header, calls, tc.calls)
		}
	}
}

// A 404 that was asked for later than what is stored, and came later, removes it, whatever was
// stored when its fetch began.
func TestGoneRemovesWhatWasStoredMeanwhile(t *testing.T) {
	h := newTestHandler(t)
	asked := make(chan chan int, 2)
	next := func(w http.ResponseWriter, r *http.Request) error {
		status := http.StatusOK
		if r.Header.Get("Cache-Control") != "" {
			answer := make(chan int)
			asked <- answer
			status = <-answer
		}
		if status == http.StatusOK {
			w.Header().Set("Cache-Control", "public, max-age=600")
		}
		w.WriteHeader(status)
		return nil
	}
	begin := func(header ...string) (origin chan int, done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, newTestRequest(w, append(header, "Cache-Control", "no-cache")...), next); err != nil {
				t.Error(err)
			}
		}()
		return <-asked, done
	}
	ask(t, h, next)
	earlier, stored := begin("Authorization", "x")
	later, gone := begin()
	earlier <- http.StatusOK
	<-stored
	later <- http.StatusNotFound
	<-gone
	if got := ask(t, h, next).Header().Get("Cache-Status"); strings.HasPrefix(got, "Larder; hit") {
		t.Errorf("after the 404: %q", got)
	}
}

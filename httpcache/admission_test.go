package httpcache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
)

// budgeted is a handler in front of an origin with limits, in a bubble.
type budgeted struct {
	*testing.T
	h     *testHandler
	next  handlerFunc
	calls atomic.Int64
	under atomic.Int64
	most  atomic.Int64 // at once
	from  string       // the address of the client, unless that does not matter
}

func newBudgeted(t *testing.T, limits origin.Limits, next handlerFunc) *budgeted {
	b := &budgeted{T: t, h: newTestHandler(t), next: next}
	b.h.Budget = origin.New("api", limits, nil)
	return b
}

// answered is the answer to a request.
type answered struct {
	*httptest.ResponseRecorder
	err  error
	took time.Duration
}

// status is the status that the client gets.
func (a *answered) status() int {
	if a.err != nil {
		return statusOf(a.err)
	}
	return a.Code
}

// cacheStatus is Cache-Status, with -N for how long what it tells of is stale.
func (a *answered) cacheStatus() string {
	return staleFor.ReplaceAllString(a.Header().Get("Cache-Status"), "ttl=-N")
}

var staleFor = regexp.MustCompile(`ttl=-\d+`)

// send sends a request, whose fields are given as pairs.
func (b *budgeted) send(ctx context.Context, method, url string, header ...string) *answered {
	r := httptest.NewRequest(method, "http://example.com"+url, nil).WithContext(ctx)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if b.from != "" {
		r.RemoteAddr = b.from
	}
	a, begun := &answered{ResponseRecorder: httptest.NewRecorder()}, time.Now()
	a.err = b.h.ServeHTTP(a.ResponseRecorder, r, func(w http.ResponseWriter, r *http.Request) error {
		b.calls.Add(1)
		b.most.Store(max(b.most.Load(), b.under.Add(1)))
		defer b.under.Add(-1)
		return b.next(w, r)
	})
	a.took = time.Since(begun)
	return a
}

// get asks for a URL and returns when the fetch is over. It asks a moment later than what went
// before: an answer is fresh for those who asked before it was made.
func (b *budgeted) get(url string, header ...string) *answered {
	time.Sleep(time.Millisecond)
	a := b.send(b.Context(), http.MethodGet, url, header...)
	synctest.Wait()
	return a
}

// begin asks for a URL and does not wait.
func (b *budgeted) begin(ctx context.Context, url string, header ...string) <-chan *answered {
	time.Sleep(time.Millisecond)
	done := make(chan *answered, 1)
	go func() { done <- b.send(ctx, http.MethodGet, url, header...) }()
	synctest.Wait()
	return done
}

func (b *budgeted) want(a *answered, status int, cacheStatus string, calls int64) {
	b.Helper()
	if a.status() != status || a.cacheStatus() != cacheStatus || b.calls.Load() != calls {
		b.Errorf("%d, %q after %d calls (%v); want %d, %q after %d",
			a.status(), a.cacheStatus(), b.calls.Load(), a.err, status, cacheStatus, calls)
	}
}

// page answers with a page that is stale when it arrives, and has a window.
func page(window string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60, "+window)
		w.Header().Set("Age", "61")
		w.Header().Set("Etag", `"v1"`)
		_, err := io.WriteString(w, "page")
		return err
	}
}

func says(status int, header ...string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		return nil
	}
}

func hangs(till <-chan struct{}) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case <-till:
			return storable(w, r)
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// Every way to the origin takes one place, and gives it back. A hit takes none.
func TestEveryWayToTheOriginTakesAPlace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1}, nil)
		takes := func(what string, next handlerFunc, want int64, ask func()) {
			t.Helper()
			before := b.calls.Load()
			b.next = func(w http.ResponseWriter, r *http.Request) error {
				if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Busy {
					t.Errorf("%s: %s while the origin answers", what, got)
				}
				return next(w, r)
			}
			ask()
			synctest.Wait()
			if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Admitted || b.calls.Load()-before != want {
				t.Errorf("%s: %s after %d calls, want %d", what, got, b.calls.Load()-before, want)
			}
		}
		get := func() { b.get("/") }
		takes("a miss", page("stale-while-revalidate=600"), 1, get)
		takes("a refresh", page("stale-if-error=600"), 1, get)
		takes("a validation", says(http.StatusNotModified, "Etag", `"v1"`, "Cache-Control", "max-age=60", "Age", "61"), 1, get)
		takes("a foreign 304", func(w http.ResponseWriter, r *http.Request) error {
			if r.Header.Get("If-None-Match") != "" {
				return says(http.StatusNotModified, "Etag", `"v0"`)(w, r)
			}
			return storable(w, r)
		}, 2, get)
		takes("a hit", storable, 0, get)
		takes("a pass", storable, 1, func() { b.send(t.Context(), http.MethodDelete, "/") })
		takes("what is not shareable", says(http.StatusOK, "Cache-Control", "no-store"), 1, func() { b.get("/own") })
		takes("a panic", func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, 1, func() {
			_ = guarded(func() error { return b.send(t.Context(), http.MethodDelete, "/").err })
		})
		takes("only-if-cached", storable, 0, func() { b.get("/none", "Cache-Control", "only-if-cached") })
	})
}

// While an origin fails, a request that may have the stale page has it at once. One request at a
// time asks again, at the pace of the back-off, and the first success ends it. Each of thirty
// requests asked.
func TestOutage(t *testing.T) {
	for name, down := range map[string]handlerFunc{
		"503":           says(http.StatusServiceUnavailable),
		"429":           says(http.StatusTooManyRequests),
		"no connection": func(http.ResponseWriter, *http.Request) error { return fail(502, http.ErrServerClosed) },
		"a time-out": func(http.ResponseWriter, *http.Request) error {
			time.Sleep(30 * time.Second)
			return fail(504, context.DeadlineExceeded)
		},
		"breaks off": func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusOK)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) { inBubble(t, func(t *testing.T) { testOutage(t, down) }) })
	}
}

func testOutage(t *testing.T, down handlerFunc) {
	b := newBudgeted(t, origin.Limits{}, page("stale-if-error=6000"))
	b.get("/a")
	b.get("/b")
	b.next = down
	time.Sleep(time.Second) // else it may be this one page that is broken
	_ = guarded(func() error { return b.get("/unknown").err })
	before := b.calls.Load()
	ask := func(n int, calls int64) {
		t.Helper()
		for i := range n {
			a := b.send(t.Context(), http.MethodGet, []string{"/a", "/b"}[i%2])
			if got := a.cacheStatus(); got != "Larder; hit; ttl=-N; detail=sie" || a.took > 0 {
				t.Errorf("%q after %v", got, a.took)
			}
			synctest.Wait()
		}
		if got := b.calls.Load() - before; got != calls {
			t.Errorf("%d calls of the origin, want %d", got, calls)
		}
	}
	time.Sleep(time.Second)
	ask(15, 1)
	time.Sleep(33 * time.Second) // a probe that times out has failed by then, and the back-off has passed
	ask(15, 2)
	b.next = page("stale-if-error=6000")
	time.Sleep(35 * time.Second)
	ask(1, 3)
	if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Admitted {
		t.Errorf("%s after a success", got)
	}
	b.get("/b")
	if b.calls.Load()-before != 4 {
		t.Error("not asked although it is well again")
	}
}

// What is no outage for a request: it demands the origin's answer, has nothing stale, or what is
// stale must be validated. Each asks.
func TestWhoAsksAFailingOrigin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{}, page("stale-if-error=600"))
		b.get("/page")
		b.next = page("stale-if-error=600, must-revalidate")
		b.get("/strict")
		b.next = says(http.StatusInternalServerError)
		time.Sleep(time.Second) // else it may be this one page that is broken
		b.want(b.get("/page"), 200, "Larder; hit; ttl=-N; detail=sie", 3)
		b.want(b.get("/none"), 500, "Larder; fwd=uri-miss", 4)
		b.want(b.get("/page", "Cache-Control", "no-cache"), 500, "Larder; fwd=stale; fwd-status=500", 5)
		b.want(b.get("/strict"), 500, "Larder; fwd=stale; fwd-status=500", 6)
		b.want(b.get("/page", "Cache-Control", "only-if-cached"), 504, "", 6)
		b.want(b.get("/page", "Cache-Control", "only-if-cached, max-stale=60"), 200, "Larder; hit; ttl=-N", 6)
		b.want(b.get("/page"), 200, "Larder; hit; ttl=-N; detail=sie", 6)
	})
}

// Where there is no place, a stale response is the answer at once, and else a place in the queue.
func TestBusyOrigin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 1, Wait: 5 * time.Second}, page("stale-if-error=600"))
		b.get("/page")
		b.next = page("stale-while-revalidate=600")
		b.get("/swr")
		b.next = page("must-revalidate")
		b.get("/strict")
		done := make(chan struct{})
		b.next = hangs(done)
		slow := b.begin(t.Context(), "/slow")
		const busy = "Larder; hit; ttl=-N; detail=origin-busy"
		b.want(b.get("/page"), 200, busy, 4)
		b.want(b.get("/swr"), 200, busy, 4)
		first := b.begin(t.Context(), "/strict")
		second := b.get("/other")
		b.want(second, 503, "Larder; detail=origin-busy", 4)
		if got := second.Header().Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After: %s", got)
		}
		b.want(b.send(t.Context(), http.MethodDelete, "/"), 503, "Larder; detail=origin-busy", 4)
		time.Sleep(5 * time.Second)
		a := <-first
		b.want(a, 503, "Larder; detail=origin-busy", 4)
		if a.took != 5*time.Second {
			t.Errorf("waited %v for a place, want 5s", a.took)
		}
		close(done)
		b.want(<-slow, 200, "Larder; fwd=uri-miss; stored", 4)
		b.want(b.get("/other"), 200, "Larder; fwd=uri-miss; stored", 5)
	})
}

// Retry-After pauses an origin that has limits. Who may have the stale page has it; who has none
// waits for the end if that comes soon enough, and is told when else.
func TestPausedOrigin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		limits := origin.Limits{MaxConcurrent: 10, Queue: 10, Wait: 10 * time.Second, Pauses: true}
		b := newBudgeted(t, limits, page("stale-if-error=600"))
		b.get("/page")
		b.next = says(http.StatusTooManyRequests, "Retry-After", "30")
		b.want(b.get("/none"), 429, "Larder; fwd=uri-miss", 2)
		for range 30 {
			b.want(b.get("/page"), 200, "Larder; hit; ttl=-N; detail=origin-busy", 2)
		}
		a := b.get("/none")
		b.want(a, 503, "Larder; detail=origin-busy", 2)
		if got := a.Header().Get("Retry-After"); got != "30" || a.took > 0 {
			t.Errorf("Retry-After: %s, after %v", got, a.took)
		}
		time.Sleep(21 * time.Second)
		b.next = storable
		a = b.get("/none")
		b.want(a, 200, "Larder; fwd=uri-miss; stored", 3)
		if a.took.Round(time.Second) != 9*time.Second {
			t.Errorf("waited %v for the end of the pause, want 9s", a.took)
		}
	})
}

// What an answer says of the origin, whether it is stored or passed on.
func TestWhatIsAFailure(t *testing.T) {
	breaks := func(status int, body string) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(status)
			if body != "" {
				_, _ = io.WriteString(w, body)
			}
			panic(http.ErrAbortHandler)
		}
	}
	for name, tc := range map[string]struct {
		next  handlerFunc
		fails bool
	}{
		"200":                       {says(200), false},
		"304":                       {says(304), false},
		"404":                       {says(404), false},
		"an error that says 404":    {func(http.ResponseWriter, *http.Request) error { return fail(404, nil) }, false},
		"429":                       {says(429), true},
		"an error that says 429":    {func(http.ResponseWriter, *http.Request) error { return fail(429, nil) }, true},
		"500":                       {says(500), true},
		"501":                       {says(501), false},
		"503":                       {says(503), true},
		"503 that breaks off":       {breaks(503, "no"), true},
		"502 in place of an answer": {func(http.ResponseWriter, *http.Request) error { return fail(502, nil) }, true},
		"broken off at once":        {breaks(200, ""), true},
		"broken off later":          {breaks(200, "some"), false},
		"aborted without a header":  {func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+" "+method, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					b := newBudgeted(t, origin.Limits{}, tc.next)
					_ = guarded(func() error { return b.send(t.Context(), method, "/").err })
					synctest.Wait()
					if got := b.h.Budget.Standing(time.Now(), 0) == origin.Failing; got != tc.fails {
						t.Errorf("failing: %v, want %v", got, tc.fails)
					}
				})
			})
		}
	}
}

// A client that leaves says nothing of the origin, whether it waits for it or for a place.
func TestClientThatLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 10, Wait: time.Minute}, hangs(nil))
		ctx, leave := context.WithCancel(t.Context())
		atOrigin := make(chan *answered, 1)
		go func() { atOrigin <- b.send(ctx, http.MethodDelete, "/") }()
		synctest.Wait()
		queued := make(chan *answered, 1)
		go func() { queued <- b.send(ctx, http.MethodDelete, "/") }()
		synctest.Wait()
		leave()
		<-atOrigin
		if a := <-queued; a.status() != statusClientGone || b.calls.Load() != 1 {
			t.Errorf("%d after %d calls", a.status(), b.calls.Load())
		}
		if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Admitted {
			t.Errorf("%s", got)
		}
	})
}

// A request that may change something reaches a failing origin, although its last answer may be
// used again.
func TestUnsafeRequestsAreSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{}, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=1, stale-if-error=600")
			w.Header().Set("Content-Location", "http://example.com/order")
			w.WriteHeader(http.StatusOK)
			return nil
		})
		b.h.Methods = []string{http.MethodGet, http.MethodPost}
		b.send(t.Context(), http.MethodPost, "/order")
		time.Sleep(2 * time.Second)
		b.next = says(http.StatusServiceUnavailable)
		b.get("/")
		before := b.calls.Load()
		b.send(t.Context(), http.MethodPost, "/order")
		if b.calls.Load() != before+1 {
			t.Error("the request was not sent")
		}
	})
}

// The words in the log and in {http.larder.reason} of what was refused.
func TestRefusalIsExplained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1}, nil)
		done := make(chan struct{})
		b.next = hangs(done)
		slow := b.begin(t.Context(), "/slow")
		q := b.h.newRequest(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://example.com/page", nil), b.next)
		q.readKey()
		_, err := q.round(q.lookUp())
		if q.decision.Outcome != OutcomeMiss || q.decision.Reason() != "origin-busy" {
			t.Errorf("%s, %s", q.decision.Outcome, q.decision.Reason())
		}
		if r, ok := errors.AsType[*origin.RefusedError](err); !ok || r.Why != origin.QueueFull || !strings.Contains(err.Error(), "api") {
			t.Errorf("%v", err)
		}
		close(done)
		<-slow
	})
}

// What has no body ends an outage at its header, what has one at its first byte: handlers may take
// their time after that.
func TestSuccessIsSeenAtOnce(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for name, answer := range map[string]func(w http.ResponseWriter){
			"no body":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
			"an empty one": func(w http.ResponseWriter) { w.Header().Set("Content-Length", "0"); w.WriteHeader(http.StatusOK) },
			"a byte":       func(w http.ResponseWriter) { _, _ = io.WriteString(w, "a") },
		} {
			t.Run(method+" "+name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					b := newBudgeted(t, origin.Limits{}, says(http.StatusBadGateway))
					b.get("/")
					if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Failing {
						t.Fatal(got)
					}
					done := make(chan struct{})
					b.next = func(w http.ResponseWriter, _ *http.Request) error {
						answer(w)
						<-done
						return nil
					}
					over := make(chan *answered, 1)
					go func() { over <- b.send(t.Context(), method, "/") }()
					synctest.Wait()
					if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Admitted {
						t.Errorf("%s after the answer has come", got)
					}
					close(done)
					<-over
				})
			})
		}
	}
}

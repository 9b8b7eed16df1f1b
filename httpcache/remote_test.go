package httpcache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// sharedMap is what test handlers have in common: a map of responses, and what they say of their
// fetches.
type sharedMap struct {
	mu       sync.Mutex
	entries  map[store.Key]*store.Entry
	asked    int
	asks     atomic.Int64 // how often it was told that the origin is asked
	waits    atomic.Int64 // how often that a fetch waits again
	said     []string
	purged   store.Severity
	body     func(store.Body) store.Body // what becomes of a body on its way
	during   func()                      // called within Get
	storable func()                      // called within Storable
	await    func(call int) (again bool, failed int)
	silent   bool // what has failed had no answer
	// holds says that another machine fetches, and for how long: Await waits for it.
	holds    time.Duration
	letsGo   bool            // that is because the origin is slow
	mostWait []time.Duration // how long each Await might have waited
}

// begin is Options.Remote.
func (m *sharedMap) begin() RemoteFetch { return &sharedMapFetch{sharedMap: m} }

func (m *sharedMap) say(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, fmt.Sprintf(format, args...))
}

// heard returns what has been said since the last time.
func (m *sharedMap) heard() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { m.said = nil }()
	return strings.Join(m.said, ", ")
}

// sharedMapFetch is one fetch's use of it.
type sharedMapFetch struct {
	*sharedMap
	awaits int // how often it has called await
}

func (m *sharedMapFetch) Get(_ context.Context, key store.Key, selects func(*store.Variant) int) store.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	if m.during != nil {
		m.during()
	}
	e := m.entries[key]
	if e == nil || selects(&e.Variant) == 0 {
		return store.Result{}
	}
	e = e.Clone()
	if m.body != nil {
		e.Body = m.body(e.Body)
	}
	return store.Result{Entry: e, Severity: m.purged}
}

func (m *sharedMapFetch) Await(
	_ context.Context, _ store.Key, until time.Time, lasts time.Duration, _ bool, _ func(*store.Variant) bool,
) (again, late bool, failed int, answered bool, retryAfter string) {
	wait := time.Until(until)
	m.mu.Lock()
	m.mostWait = append(m.mostWait, wait)
	m.mu.Unlock()
	if m.holds > 0 {
		time.Sleep(min(wait, m.holds))
		return false, m.letsGo && m.holds < wait || wait == lasts && m.holds >= wait, 0, false, ""
	}
	if m.await == nil {
		return false, false, 0, false, ""
	}
	m.awaits++
	again, failed = m.await(m.awaits)
	return again, false, failed, !m.silent, "7"
}

func (m *sharedMapFetch) Storable(_ *store.Variant, length int64) (limit int64) {
	if tell := m.storable; tell != nil {
		tell()
	}
	m.say("storable %d", length)
	return 10
}

func (m *sharedMapFetch) Asks()                 { m.asks.Add(1) }
func (m *sharedMapFetch) Waits()                { m.waits.Add(1) }
func (m *sharedMapFetch) Unshared(lasting bool) { m.say("unshared %t", lasting) }
func (m *sharedMapFetch) End()                  { m.say("end") }

func (m *sharedMapFetch) Failed(status int, answered bool, _ string) {
	m.say("failed %d answered=%t", status, answered)
}

func (m *sharedMapFetch) Remove(key store.Key, v *store.Variant, _ time.Time) {
	m.say("remove")
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil && e.Variant.Equal(v) {
		delete(m.entries, key)
	}
}

func (m *sharedMapFetch) Put(held store.Result, renews bool) {
	m.say("put renews=%t", renews)
	m.mu.Lock()
	defer m.mu.Unlock()
	e := held.Entry.Clone()
	var text []byte
	for off := int64(0); off < e.Body.Len(); {
		chunk, err := e.Body.Chunk(off)
		if err != nil {
			panic(err)
		}
		text, off = append(text, chunk...), off+int64(len(chunk))
	}
	e.Body = store.NewBody([][]byte{text})
	held.Release()
	m.entries[e.Key] = e
}

// machines returns handlers with a store each and one sharedMap.
func machines(t *testing.T) (one, two *testHandler, remote *sharedMap) {
	remote = &sharedMap{entries: make(map[store.Key]*store.Entry)}
	one, two = newTestHandler(t), newTestHandler(t)
	one.cache.remote, two.cache.remote = remote.begin, remote.begin
	return one, two, remote
}

func answeringVary(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Vary", "X-Lang")
	_, err := w.Write([]byte("in " + r.Header.Get("X-Lang")))
	return err
}

// What one machine has fetched the other answers with, and does not ask the origin.
func TestRemoteAnswersForTheOrigin(t *testing.T) {
	one, two, remote := machines(t)
	next, calls := counting(answeringVary)
	if w := ask(t, one, next); !strings.HasSuffix(w.Header().Get("Cache-Status"), "stored") {
		t.Fatalf("not stored: %q", w.Header())
	}
	w := ask(t, two, next)
	if got := w.Header().Get("Cache-Status"); *calls != 1 || w.Body.String() != "in " || !strings.HasPrefix(got, "Larder; hit") {
		t.Errorf("%d calls of the origin, %q, %q", *calls, w.Body, got)
	}
	asked := remote.asked
	if ask(t, two, next); remote.asked != asked {
		t.Error("a hit asks the other machines")
	}
}

// lostBody is a body of which a part is lost.
type lostBody struct{ store.Body }

func (lostBody) Chunk(int64) ([]byte, error) { return nil, errors.New("lost") }

// A response for others, one that is purged while it comes or has been, and one of which a part is
// lost are no answer. Nor is any for a client that wants the origin's, or on a route of its own.
func TestRemoteIsNoAnswer(t *testing.T) {
	for name, spoil := range map[string]func(two *testHandler, remote *sharedMap){
		"another variant": func(_ *testHandler, remote *sharedMap) {
			for _, e := range remote.entries {
				e.Variant.Values = []string{"de"}
			}
		},
		"purged": func(two *testHandler, remote *sharedMap) {
			remote.during = func() {
				_, _ = two.cache.Purge(context.Background(), store.Selectors{All: true}, PurgeOptions{})
			}
		},
		"purged softly": func(_ *testHandler, remote *sharedMap) { remote.purged = store.Soft },
		"a lost part": func(_ *testHandler, remote *sharedMap) {
			remote.body = func(b store.Body) store.Body { return lostBody{b} }
		},
		"a route apart":   func(two *testHandler, _ *sharedMap) { two.RemoteOff = true },
		"another lost it": func(_ *testHandler, remote *sharedMap) { clear(remote.entries) },
	} {
		t.Run(name, func(t *testing.T) {
			one, two, remote := machines(t)
			next, calls := counting(answeringVary)
			ask(t, one, next)
			spoil(two, remote)
			if w := ask(t, two, next); *calls != 2 || w.Body.String() != "in " {
				t.Errorf("%d calls of the origin, %q", *calls, w.Body)
			}
		})
	}
}

// What says something of requests with the same fields alone was told other machines as if it did
// of all: on each of them others then asked the origin for themselves.
func TestRemoteIsToldNothingOfFields(t *testing.T) {
	for name, odd := range map[string]handlerFunc{
		"nothing":  func(http.ResponseWriter, *http.Request) error { return nil },
		"401":      answering(401, ""),
		"an error": func(http.ResponseWriter, *http.Request) error { return &Error{Status: 403} },
	} {
		for shared, want := range map[bool]string{true: "unshared false, end", false: "unshared true, end"} {
			t.Run(fmt.Sprintf("%s, others share: %t", name, shared), func(t *testing.T) {
				one, _, remote := machines(t)
				send := func(next handlerFunc) string {
					w := &nullWriter{make(http.Header)}
					_ = one.ServeHTTP(w, newTestRequest(nil, "Cache-Control", "no-cache"), next)
					awaitIdle(t, one)
					return remote.heard()
				}
				if shared {
					send(storable)
				}
				if got := send(odd); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			})
		}
	}
}

// What other machines are told of a fetch, by the answer of the origin. A fetch that they are to
// wait for is told to be storable at its header, and offered before it ends.
func TestRemoteIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		answer handlerFunc
		want   string
	}{
		"storable":    {storable, "storable -1, put renews=false, end"},
		"private":     {answering(200, "private"), "unshared true, end"},
		"a bad query": {answering(400, ""), "unshared false, end"},
		"a failure":   {answering(503, ""), "failed 503 answered=true, end"},
		"an error":    {func(http.ResponseWriter, *http.Request) error { return errors.New("of a handler") }, "failed 500 answered=true, end"},
		"no answer":   {func(http.ResponseWriter, *http.Request) error { return &Error{Status: 502} }, "failed 502 answered=false, end"},
		"no file":     {func(http.ResponseWriter, *http.Request) error { return &Error{Status: 404} }, "unshared true, end"},
		"long": {func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			for range 3 {
				if _, err := w.Write(make([]byte, 6)); err != nil {
					return err
				}
			}
			return nil
		}, "storable -1, unshared false, put renews=false, end"},
		"broken off": {func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", "2")
			_, err := w.Write([]byte("1"))
			return errors.Join(err, errors.New("broken off"))
		}, "storable 2, failed 502 answered=false, end"},
	} {
		t.Run(name, func(t *testing.T) {
			one, _, remote := machines(t)
			w := new(nullWriter)
			w.header = make(http.Header)
			_ = guarded(func() error { return one.ServeHTTP(w, newTestRequest(nil), tc.answer) })
			awaitIdle(t, one)
			if got := remote.heard(); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// A response that was confirmed is offered as a renewal.
func TestRemoteIsToldOfARenewal(t *testing.T) {
	one, _, remote := machines(t)
	next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Etag", `"v"`)
		w.Header().Set("Cache-Control", "max-age=0")
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		w.WriteHeader(http.StatusOK)
		return nil
	})
	ask(t, one, next)
	awaitIdle(t, one)
	remote.heard()
	ask(t, one, next)
	awaitIdle(t, one)
	if got, want := remote.heard(), "put renews=true, end"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestRemoteIsToldThatTheFetchWaitsAgain: a fetch that asked a second time, as after a 304 for
// another response, stood in the queue of the origin meanwhile, and other machines held that wait
// to be the origin's.
func TestRemoteIsToldThatTheFetchWaitsAgain(t *testing.T) {
	one, _, remote := machines(t)
	next, calls := counting(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=0")
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Etag", `"another"`)
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		w.Header().Set("Etag", `"v"`)
		w.WriteHeader(http.StatusOK)
		return nil
	})
	ask(t, one, next)
	awaitIdle(t, one)
	asks := remote.asks.Load()
	ask(t, one, next)
	awaitIdle(t, one)
	if asked, waits := remote.asks.Load()-asks, remote.waits.Load(); *calls != 3 || asked != 2 || waits != 1 {
		t.Errorf("%d calls of the origin; told %d times that it is asked and %d times that the fetch waits, want 3, 2 and 1", *calls, asked, waits)
	}
}

// A fetch that has waited for another machine's looks again, as often as it is told to. When others
// have failed it answers with their status, and a stale response stands in for that.
func TestRemoteIsWaitedFor(t *testing.T) {
	_, two, remote := machines(t)
	one, _, _ := machines(t)
	one.cache.remote = remote.begin
	next, calls := counting(storable)
	remote.await = func(call int) (bool, int) {
		if call == 2 {
			remote.await = nil
			ask(t, one, next)
			awaitIdle(t, one)
		}
		return true, 0
	}
	if w := ask(t, two, next); *calls != 1 || !strings.HasPrefix(w.Header().Get("Cache-Status"), "Larder; hit") {
		t.Errorf("%d calls, %q", *calls, w.Header())
	}
}

func TestRemoteHasFailed(t *testing.T) {
	_, two, remote := machines(t)
	remote.await = func(int) (bool, int) { return false, 503 }
	next, calls := counting(storable)
	w := &nullWriter{header: make(http.Header)}
	err := two.ServeHTTP(w, newTestRequest(nil), next)
	var failure *Error
	if !errors.As(err, &failure) || failure.Status != 503 || *calls != 0 || !slices.Equal(w.header["Retry-After"], []string{"7"}) {
		t.Errorf("%v, %d calls, %q", err, *calls, w.header)
	}
}

// What is stale stands in for another machine's failure as it does for one of this machine's own:
// for the statuses that the operator names, and where there was no answer at all.
func TestRemoteHasFailedWithAStatus(t *testing.T) {
	for i, standsIn := range []bool{false, false, false, true, false, true, true, true, true, true} {
		status, silent := 500+i%5, i >= 5
		bubble(t, func(t *testing.T) {
			_, two, remote := machines(t)
			remote.silent = silent
			two = two.under(rfc9111.Policy{StaleIfError: time.Hour, Failures: []rfc9111.StatusClass{503}})
			next, _ := counting(storable)
			ask(t, two, next)
			time.Sleep(10 * time.Minute)
			remote.await = func(int) (bool, int) { return false, status }
			w := &nullWriter{header: make(http.Header)}
			err := two.ServeHTTP(w, newTestRequest(nil), next)
			var failure *Error
			if errors.As(err, &failure) && failure.Status != status || (err == nil) != standsIn {
				t.Errorf("%d, no answer %t: %v, %q", status, silent, err, w.header)
			}
		})
	}
}

// answering answers with a status and a Cache-Control.
func answering(status int, cacheControl string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		if cacheControl != "" {
			w.Header().Set("Cache-Control", cacheControl)
		}
		w.WriteHeader(status)
		return nil
	}
}

// awaitIdle waits until the fetches of a handler are over.
func awaitIdle(t *testing.T, h *testHandler) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); h.cache.Users() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests and fetches do not end", h.cache.Users())
		}
	}
}

// A 404 of another machine's outdates what was asked for before that, and nothing later.
func TestRemoteGone(t *testing.T) {
	answer := func(status int, lifetime, coding string) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", lifetime)
			w.Header().Set("Vary", "Accept-Encoding")
			w.Header().Set("Content-Encoding", coding)
			w.WriteHeader(status)
			_, err := w.Write([]byte(coding))
			return err
		}
	}
	for name, tc := range map[string]struct {
		later bool // the stored page was asked for after the 404
		want  string
	}{
		"an older page": {false, "none"},
		"a newer page":  {true, "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				one, two, _ := machines(t)
				ask := func(h *testHandler, answer handlerFunc, codings string) *httptest.ResponseRecorder {
					w := askWith(t, h, answer, "Accept-Encoding", codings)
					time.Sleep(2 * time.Second)
					return w
				}
				gone := func() { ask(one, answer(404, "max-age=60", "br"), "br, gzip") }
				if tc.later {
					gone()
				}
				two.RemoteOff = true
				ask(two, answer(200, "max-age=1, stale-while-revalidate=600", "gzip"), "gzip")
				if two.RemoteOff = false; !tc.later {
					gone()
				}
				none := answer(http.StatusTeapot, "no-store", "none")
				ask(two, none, "br, gzip") // is answered stale, and has the page refreshed
				if w := ask(two, none, "br, gzip"); w.Code != http.StatusNotFound {
					t.Errorf("%d %q (%s), want 404", w.Code, w.Body, w.Header().Get("Cache-Status"))
				}
				if w := ask(two, none, "gzip"); w.Body.String() != tc.want {
					t.Errorf("%d %q (%s), want %q", w.Code, w.Body, w.Header().Get("Cache-Status"), tc.want)
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

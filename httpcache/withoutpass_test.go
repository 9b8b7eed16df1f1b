package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// passSite is a net/http server whose cache holds a pass, or not.
type passSite struct {
	*httptest.Server
	t     *testing.T
	cache *Cache
	pass  atomic.Bool
	reads atomic.Int64 // of the pass
	calls atomic.Int64 // of the origin
}

// newPassSite starts one that holds a pass. The origin's answer is next's, which gets the number of
// the call.
func newPassSite(t *testing.T, next func(call int64, w http.ResponseWriter, r *http.Request)) *passSite {
	t.Helper()
	s := &passSite{t: t}
	s.pass.Store(true)
	h := newTestHandler(t)
	s.cache = h.cache
	s.cache.pass = func() bool {
		s.reads.Add(1)
		return s.pass.Load()
	}
	s.Server = httptest.NewServer(Middleware(s.cache.NewRoute(Rules{Status: StatusFull}, nil))(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { next(s.calls.Add(1), w, r) })))
	t.Cleanup(s.Close)
	return s
}

// get returns status and body of the answer to a GET, with header fields given as pairs.
func (s *passSite) get(header ...string) (answer, cacheStatus string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL+"/page", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := s.Client().Do(r)
	if err != nil {
		s.t.Error(err)
		return "", ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Error(err)
	}
	return strconv.Itoa(response.StatusCode) + " " + string(text), response.Header.Get("Cache-Status")
}

// bare is a Cache-Status without what differs from run to run.
func bare(cacheStatus string) string {
	return regexp.MustCompile(`; (ttl|key)=("[^"]*"|-?\d+)`).ReplaceAllString(strings.TrimPrefix(cacheStatus, "Larder; "), "")
}

// A request for which there is no pass is answered with what is stored only after the origin's 304.
// The table has each way in which a stored response is used, and what becomes of it.
func TestWithoutPass(t *testing.T) {
	const (
		confirmed = "fwd=stale; fwd-status=304; stored; detail=no-pass"
		replaced  = "fwd=stale; fwd-status=200; stored; detail=no-pass"
		failed    = "fwd=stale; fwd-status=503; detail=status"
		requested = "fwd=request; fwd-status=304; stored"
	)
	for name, tc := range map[string]struct {
		stored, etag string // Cache-Control and Etag of the stored response
		request      string // Cache-Control of the request
		second       int    // status of the origin's second answer
		with         string // Cache-Status with a pass
		without      string // and without one, with the answer
		answer       string
	}{
		"fresh, confirmed":                  {"max-age=60", `"v"`, "", 304, "hit", confirmed, "200 first"},
		"fresh, replaced":                   {"max-age=60", `"v"`, "", 200, "hit", replaced, "200 second"},
		"fresh, no validator":               {"max-age=60", "", "", 200, "hit", replaced, "200 second"},
		"fresh, the origin fails":           {"max-age=60", `"v"`, "", 503, "hit", failed, "503 second"},
		"fresh, a window, the origin fails": {"max-age=60, stale-if-error=60", `"v"`, "", 503, "hit", failed, "503 second"},
		"fresh, only-if-cached":             {"max-age=60", `"v"`, "only-if-cached", 304, "hit", "", "504 Gateway Timeout\n"},
		"stale while revalidating":          {"max-age=0, stale-while-revalidate=60", `"v"`, "", 304, "hit; detail=swr", confirmed, "200 first"},
		"stale, as the client accepts":      {"max-age=0", `"v"`, "max-stale=60", 304, "hit", confirmed, "200 first"},
		"stale if error":                    {"max-age=0, stale-if-error=60", `"v"`, "", 503, "hit; detail=sie", failed, "503 second"},
		"stale if error, says the client":   {"max-age=0", `"v"`, "stale-if-error=60", 503, "hit; detail=sie", failed, "503 second"},
		"asked for anyway":                  {"max-age=60", `"v"`, "no-cache", 304, requested, requested, "200 first"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pass := range []bool{true, false} {
				s := newPassSite(t, func(call int64, w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Cache-Control", tc.stored)
					if tc.etag != "" {
						w.Header().Set("Etag", tc.etag)
					}
					if call == 1 {
						_, _ = io.WriteString(w, "first")
						return
					}
					if tc.second == http.StatusServiceUnavailable {
						w.Header().Del("Cache-Control") // it may not be stored
					}
					w.WriteHeader(tc.second)
					if tc.second != http.StatusNotModified {
						_, _ = io.WriteString(w, "second")
					}
				})
				s.get()
				s.pass.Store(pass)
				answer, got := s.get("Cache-Control", tc.request)
				switch want := map[bool]string{true: tc.with, false: tc.without}[pass]; {
				case bare(got) != want:
					t.Errorf("pass %t: %q, want %q", pass, bare(got), want)
				case !pass && answer != tc.answer:
					t.Errorf("%q, want %q", answer, tc.answer)
				}
			}
		})
	}
}

// The pass is read once for each request, and before the look-up: a purge that comes while it is
// read counts.
func TestThePassIsReadBeforeTheLookUp(t *testing.T) {
	s := newPassSite(t, func(_ int64, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusOK)
	})
	s.get()
	pass := s.cache.pass
	s.cache.pass = func() bool {
		if _, err := s.cache.Purge(t.Context(), store.Selectors{All: true}, PurgeOptions{}); err != nil {
			t.Error(err)
		}
		return pass()
	}
	if _, got := s.get(); bare(got) != "fwd=uri-miss; stored" {
		t.Errorf("%q: what was purged before the pass was read is found", got)
	}
	if n := s.reads.Load(); n != 2 {
		t.Errorf("two requests read the pass %d times", n)
	}
}

// Without a pass nobody waits for a fetch that began before his request. One that began after it he
// may wait for, and those with a pass wait for any.
func TestWithoutPassNoFlightOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler(t)
		h.Status = StatusFull
		var pass atomic.Bool
		h.cache.pass = pass.Load
		proceed := make(chan struct{})
		var calls atomic.Int64
		site := Middleware(h.Route)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			call := calls.Add(1)
			<-proceed
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, strconv.FormatInt(call, 10))
		}))
		var clients sync.WaitGroup
		var answers [5]string
		for n, has := range []bool{true, false, false, true, true} {
			pass.Store(has)
			clients.Go(func() {
				w := httptest.NewRecorder()
				site.ServeHTTP(w, newTestRequest(w))
				answers[n] = w.Body.String() + ", " + bare(w.Header().Get("Cache-Status"))
			})
			synctest.Wait()
			time.Sleep(time.Millisecond) // the next one comes later
		}
		close(proceed)
		clients.Wait()
		time.Sleep(time.Minute) // the goroutines of fetches go home
		if want := [5]string{
			"1, fwd=uri-miss; stored", "2, fwd=uri-miss; stored; detail=no-pass", "3, fwd=uri-miss; stored; detail=no-pass",
			"3, fwd=uri-miss; fwd-status=200; collapsed", "3, fwd=uri-miss; fwd-status=200; collapsed",
		}; answers != want {
			t.Errorf("%q,\nwant %q", answers, want)
		}
	})
}

// One who has waited without a pass for a fetch that began after his request gets its response, but
// no stale one that stands in for it.
func TestWithoutPassFlightOfAfter(t *testing.T) {
	for status, want := range map[int]string{200: "200 new", 503: "503 Service Unavailable\n"} {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHandler(t)
			proceed, hold := make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			site := Middleware(h.Route)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=1, stale-if-error=60")
				if calls.Add(1) == 1 {
					_, _ = io.WriteString(w, "old")
					return
				}
				<-proceed
				if status == http.StatusServiceUnavailable {
					w.Header().Del("Cache-Control") // it may not be stored
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "new")
			}))
			get := func() string {
				w := httptest.NewRecorder()
				site.ServeHTTP(w, newTestRequest(w))
				return strconv.Itoa(w.Code) + " " + w.Body.String()
			}
			get()
			time.Sleep(10 * time.Second) // it is stale
			var early, late string
			var clients sync.WaitGroup
			h.cache.pass = func() bool { // the first request has none, and is held up
				<-hold
				return false
			}
			clients.Go(func() { early = get() })
			synctest.Wait()
			time.Sleep(time.Millisecond)
			h.cache.pass = nil
			clients.Go(func() { late = get() })
			synctest.Wait()
			close(hold)
			synctest.Wait()
			close(proceed)
			clients.Wait()
			time.Sleep(time.Minute) // the goroutines of fetches go home
			if n := calls.Load(); early != want || n != 2 {
				t.Errorf("%d: without a pass %q, want %q; the origin was asked %d times", status, early, want, n)
			}
			if status == 503 && late != "200 old" {
				t.Errorf("with a pass: %q", late)
			}
		})
	}
}

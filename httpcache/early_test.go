package httpcache

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// taking returns an origin that takes *took until its header, and as long again for the body. What
// it answers is fresh for age; a validation gets 304.
func taking(took *time.Duration, age string) handlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		time.Sleep(*took)
		w.Header().Set("Cache-Control", age)
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		w.WriteHeader(http.StatusOK)
		time.Sleep(*took)
		_, err := w.Write([]byte("page"))
		return err
	}
}

// fetchTimes returns the FetchTime of all that is stored.
func fetchTimes(t *testing.T, h *testHandler) (times []time.Duration) {
	t.Helper()
	items, _, err := h.cache.store.List(store.Filter{}, 10, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		times = append(times, item.FetchTime)
	}
	return times
}

// The average goes from each response of a URL to the one that takes its place, and a 304 counts as
// what it took.
func TestFetchTimeIsAMovingAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler(t)
		took := 100 * time.Millisecond
		for i, step := range []struct {
			took, want time.Duration
			header     []string
		}{
			{took: 100 * time.Millisecond, want: 200 * time.Millisecond},
			{took: 400 * time.Millisecond, want: 250 * time.Millisecond}, // a 304: its header is all
			{took: 50 * time.Millisecond, want: 200 * time.Millisecond},
			{took: time.Second, header: []string{"Cache-Control", "no-store"}}, // does not count
			{took: 40 * time.Millisecond, want: 160 * time.Millisecond},
		} {
			took = step.took
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, newTestRequest(w, step.header...), taking(&took, "max-age=60")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if step.header != nil {
				continue
			}
			if got := fetchTimes(t, h); len(got) != 1 || got[0] != step.want {
				t.Errorf("step %d: %v, want %v", i+1, got, step.want)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

// renewing is a site whose origin takes a while, with hits at will.
type renewing struct {
	t      *testing.T
	h      *testHandler
	next   handlerFunc
	calls  *atomic.Int32
	took   time.Duration
	header map[string]string
	status int
}

// newRenewing returns one with refresh_early 1, in which every draw is draw. Its page is stored.
func newRenewing(t *testing.T, draw float64) *renewing {
	s := &renewing{
		t: t, h: newTestHandler(t), calls: new(atomic.Int32), took: 200 * time.Millisecond, status: http.StatusOK,
		header: map[string]string{"Cache-Control": "max-age=60", "Etag": `"v1"`},
	}
	t.Cleanup(func() { time.Sleep(time.Minute) }) // until fetches and workers have ended
	s.h.RefreshEarly = 1
	s.h.cache.draw = func() float64 { return draw }
	s.next = func(w http.ResponseWriter, r *http.Request) error {
		s.calls.Add(1)
		time.Sleep(s.took)
		for name, value := range s.header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(s.status)
		return nil
	}
	return s
}

// ask sends a request and returns its Cache-Status.
func (s *renewing) ask(header ...string) string {
	s.t.Helper()
	w := httptest.NewRecorder()
	if err := s.h.ServeHTTP(w, newTestRequest(w, header...), s.next); err != nil {
		s.t.Error(err)
	}
	return w.Header().Get("Cache-Status")
}

// expect asks, and compares Cache-Status and how often the origin has been asked after all that.
func (s *renewing) expect(status string, calls int32, header ...string) {
	s.t.Helper()
	got := s.ask(header...)
	synctest.Wait()
	if n := s.calls.Load(); got != status || n != calls {
		s.t.Errorf("%q, origin asked %d times; want %q, %d", got, n, status, calls)
	}
}

// fiveDeltas is a draw for which it is time when five times a fetch's time remains: a second.
var fiveDeltas = math.Exp(-5)

// Hits are answered from what is fresh, and one of them has it fetched anew.
func TestRefreshEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, fiveDeltas)
		s.expect("Larder; fwd=uri-miss; stored", 1)
		// The lifetime has begun with the fetch, so 59.8 s remain.
		time.Sleep(58*time.Second + 700*time.Millisecond)
		s.expect("Larder; hit; ttl=2", 1)
		time.Sleep(150 * time.Millisecond)
		s.expect("Larder; hit; ttl=1", 2)
		time.Sleep(100 * time.Millisecond)
		s.expect("Larder; hit; ttl=1", 2) // it is under way
		time.Sleep(200 * time.Millisecond)
		s.expect("Larder; hit; ttl=60", 2)
	})
}

// Any number of hits at once are one refresh.
func TestRefreshEarlyOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, fiveDeltas)
		s.ask()
		time.Sleep(59 * time.Second)
		var hits sync.WaitGroup
		for range 1000 {
			hits.Go(func() {
				if got := s.ask(); got != "Larder; hit; ttl=1" {
					t.Error(got)
				}
			})
		}
		hits.Wait()
		synctest.Wait()
		if n := s.calls.Load(); n != 2 {
			t.Errorf("the origin was asked %d times", n)
		}
	})
}

// Who comes when the lifetime is over while a refresh is under way waits for that.
func TestEarlyRefreshIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, fiveDeltas)
		s.ask()
		time.Sleep(59*time.Second + 700*time.Millisecond) // 100 ms remain, a fetch takes 200
		s.expect("Larder; hit; ttl=1", 2)
		time.Sleep(150 * time.Millisecond)
		s.expect("Larder; fwd=stale; fwd-status=200; collapsed", 2)
	})
}

// After a refresh that failed there is a pause, and what is fresh stays.
func TestEarlyRefreshFails(t *testing.T) {
	for name, fail := range map[string]func(*renewing){
		"a failure":             func(s *renewing) { s.status = http.StatusServiceUnavailable },
		"what is not shareable": func(s *renewing) { s.header["Cache-Control"] = "no-store" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newRenewing(t, math.Exp(-20)) // four seconds remain
				s.ask()
				fail(s)
				time.Sleep(56 * time.Second)
				s.expect("Larder; hit; ttl=4", 2)
				time.Sleep(refreshPause) // the fetch takes 200 ms of it
				s.expect("Larder; hit; ttl=3", 2)
				s.header["Cache-Control"], s.status = "max-age=60", http.StatusOK
				time.Sleep(200 * time.Millisecond)
				if name == "a failure" {
					s.expect("Larder; hit; ttl=3", 3)
					time.Sleep(300 * time.Millisecond)
					s.expect("Larder; hit; ttl=60", 3)
					return
				}
				s.expect("Larder; hit; ttl=3", 2) // remembered, and the next miss asks
				time.Sleep(3 * time.Second)
				s.expect("Larder; fwd=stale; fwd-status=200; stored", 3)
			})
		})
	}
}

// Where the origin has no place for a refresh there is none, and what is fresh stays. The wait for
// a place is not part of the time that a fetch takes.
func TestEarlyRefreshIsWithinTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, math.Exp(-20)) // four seconds remain
		s.h.Budget = origin.New("api", origin.Limits{MaxConcurrent: 1, Queue: 1, Wait: time.Minute}, nil)
		var other origin.Place
		take := func() {
			if err := s.h.Budget.Take(t.Context(), &other, origin.ClassWaiting); err != nil {
				t.Fatal(err)
			}
		}
		take()
		time.AfterFunc(10*time.Second, other.Done)
		s.ask()
		if got := fetchTimes(t, s.h); len(got) != 1 || got[0] != s.took {
			t.Errorf("fetch times %v, want %v", got, s.took)
		}
		time.Sleep(56 * time.Second)
		take()
		s.expect("Larder; hit; ttl=4", 1)
		s.expect("Larder; hit; ttl=4", 1)
		other.Done()
		time.Sleep(refreshPause)
		s.expect("Larder; hit; ttl=3", 2)
	})
}

// Where the origin takes as long as its lifetimes, half of each is left alone.
func TestEarlyRefreshIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, 0x1p-53) // always, if ever
		s.header["Cache-Control"] = "max-age=2"
		began := time.Now()
		for time.Since(began) < 20*time.Second {
			s.ask()
			time.Sleep(10 * time.Millisecond)
		}
		// A stay of 1.8 s, half of it and a fetch to the next: 18 in 20 s. Without it are 10.
		if n := s.calls.Load(); n < 17 || n > 19 {
			t.Errorf("the origin was asked %d times", n)
		}
	})
}

// An origin that says when its pages end is not asked again and again before.
func TestEarlyRefreshGainsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, 0x1p-53)
		end := time.Now().Add(time.Minute)
		s.header["Expires"] = end.UTC().Format(http.TimeFormat)
		delete(s.header, "Cache-Control")
		s.ask()
		time.Sleep(time.Until(end) - time.Second)
		for time.Until(end) > 0 {
			s.ask()
			time.Sleep(time.Millisecond)
		}
		if n := s.calls.Load(); n != 2 {
			t.Errorf("the origin was asked %d times", n)
		}
	})
}

// On whose behalf there is a refresh before the end, and of what.
func TestWhoRefreshesEarly(t *testing.T) {
	for name, tc := range map[string]struct {
		rules    func(*Route)
		response string
		method   string
		header   []string
		want     bool
	}{
		"anybody":                        {want: true},
		"a HEAD":                         {method: http.MethodHead, want: true},
		"a part":                         {header: []string{"Range", "bytes=0-1"}, want: true},
		"who has the page":               {header: []string{"If-None-Match", `"v1"`}, want: true},
		"who takes what is stored":       {header: []string{"Cache-Control", "only-if-cached"}, want: true},
		"off":                            {rules: func(rt *Route) { rt.RefreshEarly = 0 }},
		"who wants nothing stored":       {header: []string{"Cache-Control", "no-store"}},
		"a visitor who is logged in":     {header: []string{"Authorization", "Basic eA=="}},
		"one, and the page is public":    {response: "public, max-age=60", header: []string{"Authorization", "Basic eA=="}, want: true},
		"a cookie, by the origin's word": {header: []string{"Cookie", "a=b"}, want: true},
		"a cookie that is in the key":    {rules: func(rt *Route) { rt.Key.Cookies = []string{"a"} }, header: []string{"Cookie", "a=b"}, want: true},
		"anybody by ttl":                 {rules: operatorTTL, response: "public", want: true},
		"without coalescing":             {rules: func(rt *Route) { rt.CoalesceOff = true }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newRenewing(t, fiveDeltas)
				if tc.response != "" {
					s.header["Cache-Control"] = tc.response
				}
				if tc.rules != nil {
					tc.rules(s.h.Route)
				}
				var cookie []string
				if len(s.h.Key.Cookies) > 0 {
					cookie = tc.header
				}
				s.ask(cookie...)
				time.Sleep(59*time.Second + 500*time.Millisecond)
				w := httptest.NewRecorder()
				r := newTestRequest(w, tc.header...)
				if tc.method != "" {
					r.Method = tc.method
				}
				if err := s.h.ServeHTTP(w, r, s.next); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := s.calls.Load(); (n == 2) != tc.want {
					t.Errorf("%q, the origin was asked %d times", w.Header().Get("Cache-Status"), n)
				}
			})
		})
	}
}

func operatorTTL(rt *Route) { rt.Policy.TTL = []rfc9111.StatusTTL{{Duration: time.Minute}} }

// A hit that was looked up before a refresh ended, and draws after, does not ask the origin.
func TestEarlyRefreshAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRenewing(t, fiveDeltas)
		s.ask()
		time.Sleep(59 * time.Second)
		w := httptest.NewRecorder()
		late := s.h.newRequest(w, newTestRequest(w), s.next)
		late.classify()
		late.readKey()
		if use := late.lookUp(); use != rfc9111.UseFresh {
			t.Fatal(use)
		}
		held := late.found
		s.expect("Larder; hit; ttl=1", 2)
		time.Sleep(time.Second)
		late.refreshInBackground(late.flightKey(), true)
		held.Release()
		s.expect("Larder; hit; ttl=59", 2)
	})
}

// What another machine has refreshed does for this one; what it has stored before does not.
func TestEarlyRefreshByAnotherMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, _ := machines(t)
		s := newRenewing(t, fiveDeltas)
		other := *s
		for h, site := range map[*testHandler]*renewing{one: s, two: &other} {
			h.RefreshEarly, h.cache.draw = 1, s.h.cache.draw
			site.h = h
		}
		s.expect("Larder; fwd=uri-miss; stored", 1)
		if got := other.ask(); got != "Larder; hit; ttl=60" {
			t.Error(got)
		}
		time.Sleep(59 * time.Second)
		s.expect("Larder; hit; ttl=1", 2) // what both have had is no refresh
		time.Sleep(400 * time.Millisecond)
		if got := other.ask(); got != "Larder; hit; ttl=1" {
			t.Error(got)
		}
		synctest.Wait()
		if got := other.ask(); got != "Larder; hit; ttl=60" {
			t.Error(got)
		}
		synctest.Wait()
		if n := s.calls.Load(); n != 2 {
			t.Errorf("the origin was asked %d times", n)
		}
	})
}

// hitsNearTheEnd returns what answers a request with a hit near the end of a long lifetime. With a
// beta each hit draws, and hardly any is chosen: one in 10^14.
func hitsNearTheEnd(tb testing.TB, beta float64) func() {
	h := newTestHandler(tb)
	ask(tb, h, storable)
	found := h.cache.store.Lookup(testKey(tb, h), func(*store.Variant) int { return 1 })
	defer found.Release()
	e := found.Entry.Clone()
	at := time.Now().Add(-50 * time.Minute)
	e.RequestTime, e.ResponseTime, e.KeepUntil, e.FetchTime = at, at, at.Add(time.Hour), 20*time.Second
	e.Header = http.Header{"Cache-Control": {"max-age=3600"}, "Date": {at.UTC().Format(http.TimeFormat)}}
	h.cache.store.Remove(found.Entry)
	if result := h.cache.store.Put(e, 1); result != store.Stored {
		tb.Fatal(result)
	}
	h.RefreshEarly = beta
	w := &nullWriter{make(http.Header)}
	r := newTestRequest(w)
	hit := func() {
		clear(w.header)
		if err := h.ServeHTTP(w, r, nil); err != nil {
			tb.Fatal(err)
		}
	}
	if hit(); !strings.HasPrefix(w.header.Get("Cache-Status"), "Larder; hit") {
		tb.Fatalf("no hit: %v", w.header)
	}
	return hit
}

func testKey(tb testing.TB, h *testHandler) store.Key {
	w := httptest.NewRecorder()
	q := h.newRequest(w, newTestRequest(w), nil)
	if why := q.classify(); why != NotBypassed {
		tb.Fatal(why)
	}
	q.readKey()
	return q.key
}

// A hit that draws makes nothing on the heap that another does not.
func TestEarlyRefreshAllocatesNothing(t *testing.T) {
	off := testing.AllocsPerRun(1000, hitsNearTheEnd(t, 0))
	if on := testing.AllocsPerRun(1000, hitsNearTheEnd(t, 1)); on != off {
		t.Errorf("%v allocations, %v without", on, off)
	}
}

func BenchmarkHitNearTheEnd(b *testing.B) {
	for name, beta := range map[string]float64{"refresh_early off": 0, "refresh_early 1": 1} {
		b.Run(name, func(b *testing.B) {
			hit := hitsNearTheEnd(b, beta)
			b.ReportAllocs()
			for b.Loop() {
				hit()
			}
		})
	}
}

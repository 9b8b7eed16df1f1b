package httpcache

import (
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Where as many wait for one fetch as may, one more fetches for itself.
func TestCrowdedFlight(t *testing.T) {
	h := newTestHandler(t)
	h.cache.flights = coalesce.NewGroup[store.Key](h.cache.store, coalesce.Limits{Waiters: 1})
	proceed := make(chan struct{})
	var calls atomic.Int64
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		if calls.Add(1) == 1 {
			<-proceed
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := w.Write([]byte("body"))
		return err
	})
	var clients sync.WaitGroup
	ask := func(w *httptest.ResponseRecorder) {
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Error(err)
		}
	}
	leader, follower, third := httptest.NewRecorder(), httptest.NewRecorder(), httptest.NewRecorder()
	clients.Go(func() { ask(leader) })
	for calls.Load() == 0 {
		runtime.Gosched()
	}
	f, p, ok := h.cache.flights.JoinRunning(h.keyOf(leader, next), nil)
	if !ok {
		t.Fatal("no fetch is under way")
	}
	p.Leave()
	clients.Go(func() { ask(follower) })
	for f.Waiting() == 0 {
		runtime.Gosched()
	}
	ask(third) // while the others wait
	close(proceed)
	clients.Wait()
	for _, tc := range []struct {
		name   string
		w      *httptest.ResponseRecorder
		status string
	}{
		{"leader", leader, "Larder; fwd=uri-miss; stored"},
		{"follower", follower, "Larder; fwd=uri-miss; fwd-status=200; collapsed"},
		{"third", third, "Larder; fwd=bypass; detail=coalesce-wait"},
	} {
		if got := tc.w.Header().Get("Cache-Status"); got != tc.status || tc.w.Body.String() != "body" {
			t.Errorf("%s: %q, %q, want %q", tc.name, got, tc.w.Body, tc.status)
		}
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

// keyOf is the flight's key of what newTestRequest asks for.
func (h *testHandler) keyOf(w http.ResponseWriter, next handlerFunc) store.Key {
	q := h.newRequest(w, newTestRequest(w), next)
	q.classify()
	q.readKey()
	return q.flightKey()
}

// A flight may find, at its last look into the store, that the response has arrived there. A
// request that has joined meanwhile and must not be answered from the store without asking is not.
func TestStoredAnswerOfAFlight(t *testing.T) {
	for _, tc := range []struct {
		name, directive string
		calls           int
		status          string
	}{
		{"any", "", 1, "Larder; hit; ttl=60"},
		{"no-cache", "no-cache", 2, "Larder; fwd=request"},
		{"max-age", "max-age=0", 2, "Larder; fwd=request"},
		{"only-if-cached", "only-if-cached, max-age=0", 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newTestHandler(t)
			next, calls := counting(storable)
			newAsked := func(header ...string) (*Request, *httptest.ResponseRecorder) {
				w := httptest.NewRecorder()
				r := newTestRequest(w, header...)
				return h.newRequest(w, r, next), w
			}
			first, _ := newAsked()
			if err := h.ServeHTTP(first.w, first.r, next); err != nil {
				t.Fatal(err)
			}
			leader, _ := newAsked()
			leader.classify()
			leader.readKey()
			if use := leader.lookUp(); use != rfc9111.UseFresh {
				t.Fatalf("stored is what may be used as %v", use)
			}
			defer leader.found.Release()
			ticket, tag := leader.begin(leader.flightKey())
			defer ticket.End()
			f, p, _ := h.cache.flights.Join(tag.key, tag, nil)
			defer f.Settle()
			defer p.Leave()
			f.Share(&sharedResponse{source: fromStore, entry: leader.found.Entry, freshness: leader.freshness, variant: leader.found.Entry.Variant}, 0)
			f.Finish(nil)

			follower, w := newAsked("Cache-Control", tc.directive)
			if tc.directive == "" {
				follower.classify()
				follower.readKey()
				follower.now = time.Now()
				if _, err := follower.serveFrom(follower.join(follower.flightKey())); err != nil {
					// It has not found what arrived since.
					t.Fatal(err)
				}
				if answered, err := follower.round(follower.lookUp()); !answered || err != nil {
					t.Fatal(answered, err)
				}
			} else if err := h.ServeHTTP(follower.w, follower.r, next); err != nil && tc.status != "" {
				t.Fatal(err)
			}
			if got := w.Header().Get("Cache-Status"); *calls != tc.calls || got != tc.status {
				t.Errorf("%d calls of the origin, %q; want %d, %q", *calls, got, tc.calls, tc.status)
			}
		})
	}
}

// A fetch that finds its response in the store does not run, and is no fetch in the metrics.
func TestFetchThatNeverRanIsNotTimed(t *testing.T) {
	h := newTestHandler(t)
	next, calls := counting(storable)
	metrics := new(fetchCount)
	h.cache.metrics = metrics
	late := func() *Request { // a request that has looked into the store before anything was there
		w := httptest.NewRecorder()
		q := h.newRequest(w, newTestRequest(w), next)
		q.classify()
		q.readKey()
		q.lookUp()
		return q
	}
	first, second := late(), late()
	for _, q := range []*Request{first, second} {
		if answered, err := q.follow(way{course: q.courseToOrigin(q.flightKey()), key: q.flightKey()}); !answered || err != nil {
			t.Fatal(answered, err)
		}
	}
	if *calls != 1 || second.decision.Outcome != OutcomeHit {
		t.Fatalf("%d calls of the origin, and the second is a %v", *calls, second.decision.Outcome)
	}
	for h.cache.users.Load() > 0 { // until the fetch is over to the last
		runtime.Gosched()
	}
	if n := metrics.done.Load(); n != 1 {
		t.Errorf("%d fetches are counted, want 1", n)
	}
}

// togetherly is an origin that counts how often it is asked, takes its time, and answers with a
// Cache-Control.
type togetherly struct {
	t       *testing.T
	h       *testHandler
	asked   atomic.Int64
	takes   time.Duration
	streams time.Duration // from the header to the end
	header  []string
}

// ServeHTTP implements handlerFunc.
func (o *togetherly) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	o.asked.Add(1)
	time.Sleep(o.takes)
	for i := 0; i < len(o.header); i += 2 {
		w.Header().Set(o.header[i], o.header[i+1])
	}
	if tag := w.Header().Get("Etag"); tag != "" && r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	_, _ = io.WriteString(w, "first ")
	time.Sleep(o.streams)
	_, err := io.WriteString(w, "last")
	return err
}

// ask sends n requests, one each interval, and returns how often Cache-Status was what, with the
// longest that one took.
func (o *togetherly) ask(n int, interval time.Duration, header ...string) (statuses map[string]int, longest time.Duration) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	statuses = make(map[string]int)
	for range n {
		clients.Go(func() {
			begun := time.Now()
			w := httptest.NewRecorder()
			if err := o.h.ServeHTTP(w, newTestRequest(w, header...), handlerFunc(o.ServeHTTP)); err != nil {
				o.t.Error(err)
			}
			if body := w.Body.String(); body != "first last" {
				o.t.Errorf("the body is %q", body)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[w.Header().Get("Cache-Status")]++
			longest = max(longest, time.Since(begun))
		})
		time.Sleep(interval)
	}
	clients.Wait()
	return statuses, longest
}

// inBubble runs f with a clock of its own, and lets goroutines that wait for another fetch go home.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(3 * workerIdle)
		f(t)
	})
}

// An origin that took longer to answer than its answer is fresh was asked by each of ten that came
// together, after they had waited for one.
func TestAskedTogetherAnsweredTogether(t *testing.T) {
	for name, header := range map[string][]string{
		"max-age":             {"Cache-Control", "max-age=1"},
		"s-maxage":            {"Cache-Control", "s-maxage=1, max-age=0"},
		"with a validator":    {"Cache-Control", "max-age=1", "Etag", `"v1"`},
		"must-revalidate":     {"Cache-Control", "max-age=1, must-revalidate"},
		"another cache's Age": {"Cache-Control", "max-age=6", "Age", "5"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandler(t)
			inBubble(t, func(t *testing.T) {
				o := &togetherly{t: t, h: h, takes: 1300 * time.Millisecond, header: header}
				for round := range 3 {
					statuses, longest := o.ask(10, 50*time.Millisecond)
					if asked := o.asked.Swap(0); asked != 1 {
						t.Errorf("round %d: the origin is asked %d times: %v", round, asked, statuses)
					}
					if longest > o.takes {
						t.Errorf("round %d: one waits for %v, longer than the origin takes: %v", round, longest, statuses)
					}
				}
			})
		})
	}
}

// Who comes after the header is no such request: what is stale for it is not its answer, and what
// it demands holds, also while the body is on its way. A flight's answer and a stored one are
// judged alike.
func TestAskedAfterTheHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		cacheControl string
		after        []string
		asked        int64
	}{
		"fresh":                  {"max-age=60", nil, 1},
		"stale by now":           {"max-age=1", nil, 2},
		"stale, may be shown":    {"max-age=1, stale-while-revalidate=60", nil, 1},
		"no-cache":               {"max-age=60", []string{"Cache-Control", "no-cache"}, 2},
		"max-age=0":              {"max-age=60", []string{"Cache-Control", "max-age=0"}, 2},
		"max-age, young enough":  {"max-age=60", []string{"Cache-Control", "max-age=30"}, 1},
		"min-fresh that is over": {"max-age=60", []string{"Cache-Control", "min-fresh=59"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandler(t)
			inBubble(t, func(t *testing.T) {
				o := &togetherly{t: t, h: h, streams: time.Minute, header: []string{"Cache-Control", tc.cacheControl}}
				go o.ask(1, 0)
				time.Sleep(5 * time.Second)
				statuses, _ := o.ask(1, 0, tc.after...)
				if asked := o.asked.Load(); asked != tc.asked {
					t.Errorf("the origin is asked %d times, want %d: %v", asked, tc.asked, statuses)
				}
				time.Sleep(o.streams)
			})
		})
	}
}

// What answers those who wait, and is not kept, says so; a reader that stays has all of it.
func TestAnswerOfThoseWhoWaitIsNotStored(t *testing.T) {
	h := newTestHandler(t)
	h.Status = StatusFull
	inBubble(t, func(t *testing.T) {
		o := &togetherly{t: t, h: h, takes: 2 * time.Second, streams: time.Minute, header: []string{"Cache-Control", "max-age=1"}}
		statuses, _ := o.ask(3, 0)
		const key = `; key="GET http://example.com/some/path?and=query"`
		if statuses["Larder; fwd=uri-miss"+key+"; detail=no-validator"] != 1 || statuses["Larder; fwd=uri-miss; fwd-status=200; collapsed"+key] != 2 {
			t.Errorf("Cache-Status: %v", statuses)
		}
		if stats := h.cache.store.Stats(); stats.Memory.Entries != 0 {
			t.Errorf("%d entries are stored", stats.Memory.Entries)
		}
	})
}

// All waits of a follower together are as long as `coalesce wait`: for a first fetch that fails,
// for the one that follows, for another variant's.
func TestPatienceOfAFollower(t *testing.T) {
	h := newTestHandler(t)
	h.Wait = (10 * time.Second)
	synctest.Test(t, func(t *testing.T) {
		q := newPatient(h)
		for _, tc := range []struct {
			passes, want time.Duration
		}{
			{0, 10 * time.Second},
			{4 * time.Second, 6 * time.Second},
			{5 * time.Second, time.Second},
			{5 * time.Second, 1},
		} {
			time.Sleep(tc.passes)
			if got := q.waitTimeout(membership{flight: new(coalesce.Flight)}); got != tc.want {
				t.Errorf("it waits for %v more, want %v", got, tc.want)
			}
		}
		if got := q.waitTimeout(membership{fetch: new(Fetch)}); got != 0 {
			t.Errorf("a leader waits for %v, want as long as it takes", got)
		}
	})
}

// Where the last answer was for one client only, no request waits long for a header that comes
// late, however long that was ago.
func TestNoPatienceWithWhatWasNotShareable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandler(t)
		q := newPatient(h)
		h.cache.hitForMiss.note(q.hitForMissKey(), q.now)
		h.cache.hitForMiss.passTime(hitForMissTTL + hitForMissKeep/2)
		if got := q.sharing(); got != sharingDoubtful {
			t.Errorf("sharing is %d, want doubtful", got)
		}
		if got := q.waitTimeout(membership{flight: new(coalesce.Flight)}); got != lateHeader {
			t.Errorf("it waits for %v, want %v", got, lateHeader)
		}
		h.Wait = (lateHeader / 2)
		if got := newPatient(h).waitTimeout(membership{flight: new(coalesce.Flight)}); got != lateHeader/2 {
			t.Errorf("with a shorter coalesce wait it waits for %v, want %v", got, lateHeader/2)
		}
	})
}

func newPatient(h *testHandler) *Request {
	w := &nullWriter{make(http.Header)}
	q := h.newRequest(w, newTestRequest(w), nil)
	q.classify()
	q.readKey()
	return q
}

// Those who wait for a fetch whose handlers abort it are told what that means, not how a Go program
// says it.
func TestFollowersOfAnAbortedFetch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newTestHandler(t)
		var clients sync.WaitGroup
		var told atomic.Int64
		for range 4 {
			clients.Go(func() {
				defer func() {
					if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // a panic's value
						t.Errorf("panic: %v", v)
					}
				}()
				w := httptest.NewRecorder()
				err := h.ServeHTTP(w, newTestRequest(w), func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Cache-Control", "max-age=60")
					time.Sleep(time.Second)
					panic(http.ErrAbortHandler)
				})
				if told.Add(1); err == nil || err.Error() != "HTTP 502: the origin's response broke off" {
					t.Errorf("a follower is told %v", err)
				}
			})
		}
		clients.Wait()
		if told.Load() == 0 {
			t.Error("none was a follower to the end")
		}
	})
}

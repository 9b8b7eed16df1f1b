package httpcache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowForOne is an origin that hangs for requests with a field, and answers all others at once.
// Its body says when it was made.
type slowForOne struct {
	h      *testHandler
	header []string
	hangs  time.Duration // for how long
	fails  int           // the status that they get, if it is set
	takes  time.Duration // for all others
	method string        // of requests, if it is not GET

	mu           sync.Mutex
	asked, under int
	most         int // that were under way at a time
	passed       int // fwd=bypass
	longest      time.Duration
	oldest       time.Duration
}

// ServeHTTP implements handlerFunc.
func (o *slowForOne) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	o.mu.Lock()
	o.asked++
	o.under++
	o.most = max(o.most, o.under)
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.under--
		o.mu.Unlock()
	}()
	takes := o.takes
	if r.Header.Get("X-Slow") != "" {
		takes = o.hangs
		if o.fails != 0 {
			w.WriteHeader(o.fails)
			return nil
		}
	}
	select {
	case <-r.Context().Done():
		return r.Context().Err()
	case <-time.After(takes):
	}
	for i := 0; i < len(o.header); i += 2 {
		w.Header().Set(o.header[i], o.header[i+1])
	}
	_, err := io.WriteString(w, time.Now().Format(time.RFC3339Nano))
	return err
}

func (o *slowForOne) request(w http.ResponseWriter, url string, header ...string) *http.Request {
	r := newTestRequest(w, header...)
	r.URL.RawQuery = url
	if o.method != "" {
		r.Method, r.Body, r.ContentLength = o.method, io.NopCloser(strings.NewReader("content")), int64(len("content"))
	}
	return r
}

// get asks as an ordinary client, and notes how long that takes.
func (o *slowForOne) get(t *testing.T, url string, header ...string) {
	t.Helper()
	begun, w := time.Now(), httptest.NewRecorder()
	r := o.request(w, url, header...)
	r.RemoteAddr = "203.0.113.9:1234"
	if err := o.h.ServeHTTP(w, r, o.ServeHTTP); err != nil {
		t.Error(err)
		return
	}
	made, err := time.Parse(time.RFC3339Nano, w.Body.String())
	if err != nil {
		t.Errorf("the answer is %q", w.Body)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if status := w.Header().Get("Cache-Status"); status == "Larder; fwd=bypass; detail=coalesce-wait" {
		o.passed++
	}
	o.longest = max(o.longest, time.Since(begun))
	o.oldest = max(o.oldest, time.Since(made))
}

// pester has a client for which the origin is slow ask again and again until the end of a time, and
// leave after stays.
func (o *slowForOne) pester(t *testing.T, url string, until time.Time, stays time.Duration) {
	for i := 0; time.Now().Before(until); i++ {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), stays)
			defer cancel()
			w := httptest.NewRecorder()
			r := o.request(w, url, "X-Slow", fmt.Sprint(i)).WithContext(ctx)
			_ = o.h.ServeHTTP(w, r, o.ServeHTTP)
		}()
		time.Sleep(47 * time.Millisecond)
	}
}

// visit has four ordinary clients ask again and again until the end of a time. How long they wait
// counts from since on.
func (o *slowForOne) visit(t *testing.T, url string, until, since time.Time) {
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for time.Now().Before(until) {
				o.get(t, url)
				o.mu.Lock()
				if time.Now().Before(since) {
					o.longest = 0
				}
				o.mu.Unlock()
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	clients.Wait()
}

// TestSlowClientIsNotWaitedForAgain: a client for which the origin hangs, and that asked 20 times a
// second and left, led one fetch of a page after the other. All others waited for each as long as
// `coalesce wait` says.
func TestSlowClientIsNotWaitedForAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		header []string
		method string
	}{
		"without a validator": {header: []string{"Cache-Control", "max-age=1"}},
		"with a validator":    {header: []string{"Cache-Control", "max-age=1", "Etag", `"1"`}},
		"no-cache":            {header: []string{"Cache-Control", "no-cache", "Etag", `"1"`}},
		"POST":                {[]string{"Cache-Control", "max-age=1", "Content-Location", "/some/path?a"}, http.MethodPost},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &slowForOne{h: contentRoute(t, BodyAsSent, func(r *Rules) { r.Policy.TTL = nil }), header: tt.header, method: tt.method, hangs: 40 * time.Second}
				var clients sync.WaitGroup
				begun := time.Now()
				clients.Go(func() { o.pester(t, "a", begun.Add(40*time.Second), 300*time.Millisecond) })
				time.Sleep(time.Millisecond)
				o.visit(t, "a", begun.Add(40*time.Second), begun.Add(11*time.Second)) // once
				clients.Wait()
				if most := lateHeader + lateHeader/4; o.longest > most {
					t.Errorf("after the first wait one waits for %v, want %v at most", o.longest, most)
				}
				if o.passed > 4 {
					t.Errorf("%d waited to the end", o.passed)
				}
				time.Sleep(o.hangs)
			})
		})
	}
}

// TestSlowClientThatStays: a client for which the origin hangs, and that asked 20 times a second
// and stayed, was the first of those who gave up its own fetch, and led the next. All others waited
// for that one as long as `coalesce wait` says, each time the page had expired.
func TestSlowClientThatStays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=1"}, hangs: 100 * time.Second}
		var clients sync.WaitGroup
		begun := time.Now()
		clients.Go(func() { o.pester(t, "a", begun.Add(60*time.Second), o.hangs) })
		time.Sleep(time.Millisecond)
		o.visit(t, "a", begun.Add(60*time.Second), begun.Add(21*time.Second)) // once for its first fetch, and once for that after it
		clients.Wait()
		if most := lateHeader + lateHeader/4; o.longest > most {
			t.Errorf("after the first waits one waits for %v, want %v at most", o.longest, most)
		}
		time.Sleep(o.hangs)
	})
}

// TestSlowRefreshIsNotWaitedForAgain: the same client kept a page from being refreshed in the
// background for as long as its fetch hung, and then led the next.
func TestSlowRefreshIsNotWaitedForAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=1, stale-while-revalidate=600"}, hangs: 40 * time.Second}
		o.get(t, "a")
		time.Sleep(2 * time.Second)
		begun := time.Now()
		go o.pester(t, "a", begun.Add(60*time.Second), 300*time.Millisecond)
		time.Sleep(time.Millisecond) // it is the first to find the page stale
		for time.Since(begun) < 60*time.Second {
			o.get(t, "a")
			if time.Since(begun) < 20*time.Second { // once, and a turn or two
				o.oldest = 0
			}
			time.Sleep(10 * time.Millisecond)
		}
		if o.oldest > 5*time.Second {
			t.Errorf("after the first wait the page is up to %v old", o.oldest)
		}
		time.Sleep(o.hangs)
	})
}

// TestSlowOriginIsAskedTogether: where a wait was in vain, and the origin is slow for all, those
// who wait share two fetches, and none asks alone.
func TestSlowOriginIsAskedTogether(t *testing.T) {
	for takes := 5 * time.Second; takes < 10*time.Second; takes += 500 * time.Millisecond {
		for name, over := range map[string]time.Duration{"at once": 0, "one after the other": 4 * time.Second} {
			t.Run(fmt.Sprintf("%v %s", takes, name), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=60"}, takes: takes}
					o.h.cache.lateFetches.note(newPatient(o.h).lateKeyOf("a"), time.Now())
					var clients sync.WaitGroup
					for range 200 {
						clients.Go(func() { o.get(t, "a") })
						time.Sleep(over / 200)
					}
					clients.Wait()
					if o.asked > 2 || o.passed > 0 || o.longest > max(o.h.Wait, lateHeader+takes) {
						t.Errorf("the origin is asked %d times, for one alone %d, the longest wait is %v", o.asked, o.passed, o.longest)
					}
				})
			})
		}
	}
}

// TestSlowOriginIsAskedOnceAnExpiry: a page that takes long for all is asked for twice an expiry,
// and once when the wait in vain is forgotten.
func TestSlowOriginIsAskedOnceAnExpiry(t *testing.T) {
	for _, takes := range []time.Duration{6 * time.Second, 8 * time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=60"}, takes: takes}
				var clients sync.WaitGroup
				key, begun, noted := newPatient(o.h).lateKeyOf("a"), time.Now(), false
				for time.Since(begun) < 10*time.Minute {
					if !noted && time.Since(begun) >= 70*time.Second {
						o.h.cache.lateFetches.note(key, time.Now())
						noted = true
					}
					clients.Go(func() { o.get(t, "a") })
					time.Sleep(51 * time.Millisecond) // so that none comes just when a fetch ends
				}
				clients.Wait()
				if most := 10 + 2; o.asked > most || o.passed > 0 || o.most > 2 || o.longest > o.h.Wait {
					t.Errorf("the origin is asked %d times, want %d; %d at a time, for one alone %d, the longest wait is %v",
						o.asked, most, o.most, o.passed, o.longest)
				}
			})
		})
	}
}

// TestSlowRefreshesAreTwo: a page that is served stale has two refreshes under way where the origin
// is slow for all.
func TestSlowRefreshesAreTwo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=1, stale-while-revalidate=600"}, takes: 100 * time.Millisecond}
		o.get(t, "a")
		o.takes = 50 * time.Second
		for begun := time.Now(); time.Since(begun) < 5*time.Minute; time.Sleep(20 * time.Millisecond) {
			o.get(t, "a")
		}
		if o.most != 2 || o.longest > time.Second {
			t.Errorf("%d refreshes are under way, want 2; the longest wait is %v", o.most, o.longest)
		}
		time.Sleep(o.takes)
	})
}

// TestNoRoundIsLostByGivingUp: who gives up early needs a round for the fetch after that, and one
// to look again. A request that had lost rounds otherwise was passed on alone.
func TestNoRoundIsLostByGivingUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		q := newPatient(newTestHandler(t))
		tag := &flightTag{key: q.flightKey(), begun: time.Now()}
		f, m := q.cache().flights.Solo(tag)
		defer f.Settle()
		defer m.Leave()
		q.cache().lateFetches.note(tag.key, time.Now())
		for left, want := range []time.Duration{q.route.Wait, q.route.Wait, lateHeader, lateHeader} {
			q.following, q.rounds = nil, uint8(left)
			if got := q.waitTimeout(membership{flight: f}); got != want {
				t.Errorf("with %d rounds left it waits for %v, want %v", left, got, want)
			}
		}
		if tag.followsLate = true; q.waitTimeout(membership{flight: f}) != q.route.Wait {
			t.Error("it gives up what has been begun by one who had given up")
		}
	})
}

// lateKeyOf is the key of flights of a request with that query.
func (q *Request) lateKeyOf(query string) (key [32]byte) {
	u := *q.r.URL
	u.RawQuery = query
	other := Request{route: q.route, r: q.r.Clone(context.Background()), presented: q.presented, hints: q.hints, fields: q.fields}
	other.r.URL = &u
	other.keyed.URL, other.keyed.inner = &u, &u
	other.readKey()
	return other.flightKey()
}

// TestSlowClientOfSlices: where it was a file in slices, the others waited for each slice as long.
func TestSlowClientOfSlices(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, f := newSlicing(t), newFilm(62, 1000)
		f.alter = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("X-Slow") == "" {
				return false
			}
			select {
			case <-r.Context().Done():
			case <-time.After(40 * time.Second):
			}
			panic(http.ErrAbortHandler)
		}
		f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
		var slow sync.WaitGroup
		for n, most := range []time.Duration{h.Wait, lateHeader, lateHeader} {
			asked := fmt.Sprintf("bytes=%d00-%d09", 2+n, 2+n)
			slow.Go(func() {
				w := httptest.NewRecorder()
				r := newTestRequest(w, "Range", asked, "X-Slow", "yes")
				r.RemoteAddr = "203.0.113.9:1234"
				_ = f.read(h, w, r)
			})
			time.Sleep(time.Millisecond)
			begun, w := time.Now(), httptest.NewRecorder()
			if broke := f.read(h, w, newTestRequest(w, "Range", asked)); broke || w.Code != http.StatusPartialContent {
				t.Errorf("%s: %d, broken off %t", asked, w.Code, broke)
			}
			if took := time.Since(begun); took > most {
				t.Errorf("%s takes %v, want %v at most", asked, took, most)
			}
		}
		slow.Wait()
	})
}

// TestFailingFieldLeavesRefreshesToOthers: a client with a field for which the origin fails had
// each probe, as it came first, and the back-off grew to a minute for all.
func TestFailingFieldLeavesRefreshesToOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=1, stale-while-revalidate=600"}, fails: http.StatusInternalServerError}
		o.get(t, "a")
		time.Sleep(2 * time.Second)
		begun := time.Now()
		go func() {
			for time.Since(begun) < time.Minute {
				w := httptest.NewRecorder()
				r := newTestRequest(w, "X-Slow", "fails")
				r.URL.RawQuery = "a"
				_ = o.h.ServeHTTP(w, r, o.ServeHTTP)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		time.Sleep(time.Millisecond)
		for time.Since(begun) < time.Minute {
			o.get(t, "a")
			if time.Since(begun) < 3*time.Second {
				o.oldest = 0 // it was not asked for before
			}
			time.Sleep(47 * time.Millisecond)
		}
		if o.oldest > 4*time.Second {
			t.Errorf("the page is up to %v old", o.oldest)
		}
	})
}

// TestHangingFieldLeavesRefreshesToOthers: two refreshes of a client with a field that the origin
// hangs for, and that came first each time, kept a page from being refreshed for as long as they
// hung. So did three and four of clients with other fields.
func TestHangingFieldLeavesRefreshesToOthers(t *testing.T) {
	for fields := 1; fields <= 3; fields++ {
		t.Run(fmt.Sprint(fields), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=1, stale-while-revalidate=600"}, hangs: 10 * time.Minute}
				o.get(t, "a")
				time.Sleep(2 * time.Second)
				begun, once := time.Now(), time.Duration(fields+1)*o.h.Wait+3*time.Second
				for i := 0; time.Since(begun) < 8*time.Minute; i++ {
					for field := range fields { // each time before the others
						w := httptest.NewRecorder()
						r := newTestRequest(w, "X-Slow", fmt.Sprint(field))
						r.URL.RawQuery = "a"
						if err := o.h.ServeHTTP(w, r, o.ServeHTTP); err != nil {
							t.Error(err)
						}
					}
					if o.get(t, "a"); time.Since(begun) < once {
						o.oldest = 0
					}
					time.Sleep(50 * time.Millisecond)
				}
				o.mu.Lock()
				if o.oldest > 3*time.Second || o.longest > time.Second {
					t.Errorf("after %v the page is up to %v old, the longest wait is %v", once, o.oldest, o.longest)
				}
				if most := maxLateRefreshes + maxBadFields; o.most > most {
					t.Errorf("%d refreshes are under way, want %d at most", o.most, most)
				}
				o.mu.Unlock()
				time.Sleep(o.hangs)
			})
		})
	}
}

// TestRefreshesOfASlowOriginAreBounded: where the origin hangs for all, the refreshes of a page are
// no more, whatever fields those have that ask for it.
func TestRefreshesOfASlowOriginAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &slowForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=1, stale-while-revalidate=600"}, hangs: 10 * time.Minute}
		o.get(t, "a")
		time.Sleep(2 * time.Second)
		for begun, i := time.Now(), 0; time.Since(begun) < 8*time.Minute; i++ {
			o.get(t, "a", "X-Slow", fmt.Sprint(i%50))
			time.Sleep(50 * time.Millisecond)
		}
		o.mu.Lock()
		if most := maxLateRefreshes + maxBadFields; o.most > most || o.asked > 60 {
			t.Errorf("%d refreshes are under way, want %d at most; there were %d", o.most, most, o.asked)
		}
		o.mu.Unlock()
		time.Sleep(o.hangs)
	})
}

package httpcache

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// confirming is a handler whose memory ages, and how it is asked.
type confirming struct {
	t    *testing.T
	h    *testHandler
	next handlerFunc
}

func newConfirming(t *testing.T, next handlerFunc) *confirming {
	return &confirming{t: t, h: newTestHandler(t), next: next}
}

// passTime makes all that is remembered older.
func (m *recentKeys) passTime(d time.Duration) { m.epoch = m.epoch.Add(-d) }

// ask sends a request and returns Cache-Status.
func (c *confirming) ask(header ...string) string {
	c.t.Helper()
	w := httptest.NewRecorder()
	if err := c.h.ServeHTTP(w, newTestRequest(w, header...), c.next); err != nil {
		c.t.Fatal(err)
	}
	return w.Header().Get("Cache-Status")
}

// What is not shareable was forgotten after 30 to 90 s although each answer that was passed on
// confirmed it.
func TestNotShareableIsRememberedWhileConfirmed(t *testing.T) {
	for name, tc := range map[string]struct {
		header []string
		answer handlerFunc
	}{
		"no-store": {nil, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusOK)
			return nil
		}},
		"304 to the client's conditional": {[]string{"If-None-Match", `"v1"`}, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "private, max-age=60")
			w.Header().Set("Etag", `"v1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return nil
			}
			w.WriteHeader(http.StatusOK)
			return nil
		}},
		"parts of what is too large": {[]string{"Range", "bytes=0-0"}, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", "999999999")
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Length", "1")
				w.Header().Set("Content-Range", "bytes 0-0/999999999")
				w.WriteHeader(http.StatusPartialContent)
				_, err := w.Write([]byte("x"))
				return err
			}
			w.WriteHeader(http.StatusOK)
			return http.ErrAbortHandler
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newConfirming(t, tc.answer)
			c.ask(tc.header...)
			for range 20 {
				c.h.cache.hitForMiss.passTime(hitForMissTTL - time.Second)
				if got := c.ask(tc.header...); got != "Larder; fwd=miss" {
					t.Fatalf("after %v: %q", hitForMissTTL, got)
				}
			}
			c.h.cache.hitForMiss.passTime(hitForMissTTL)
			if got := c.ask(tc.header...); !strings.HasPrefix(got, "Larder; fwd=uri-miss") {
				t.Errorf("unconfirmed it is still remembered: %q", got)
			}
		})
	}
}

// A part of what could be stored whole, or a 304 for it, ends the memory: renewed by them, nothing
// would ever be stored of a file that all clients read in parts.
func TestPartsOfWhatIsStorableEndHitForMiss(t *testing.T) {
	var known bool
	c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
		if !known {
			w.WriteHeader(http.StatusNotFound)
			return nil
		}
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", "bytes 0-0/4")
			w.WriteHeader(http.StatusPartialContent)
			_, err := w.Write([]byte("w"))
			return err
		}
		_, err := w.Write([]byte("whole"))
		return err
	})
	for i, want := range []string{
		"Larder; fwd=uri-miss", "Larder; fwd=miss", "Larder; fwd=miss", "Larder; fwd=uri-miss; stored", "Larder; hit; ttl=",
	} {
		known = i > 1
		if got := c.ask("Range", "bytes=0-0"); !strings.HasPrefix(got, want) {
			t.Errorf("request %d: %q, want %q", i, got, want)
		}
	}
}

// A header that comes late, where the last answer was for one client only, holds back one request
// and no more than a moment.
func TestLateHeaderOfWhatWasNotShareable(t *testing.T) {
	arrived, proceed := make(chan struct{}, 10), make(chan struct{})
	polled := false
	c := newConfirming(t, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		if polled {
			arrived <- struct{}{}
			<-proceed
		}
		w.WriteHeader(http.StatusOK)
		return nil
	})
	c.h.Wait = time.Hour
	c.ask()
	polled = true
	c.h.cache.hitForMiss.passTime(hitForMissTTL + 1)
	answers := make(chan string, 3)
	for n := range 3 { // one leads, one gives up waiting for it, one does not wait
		go func() { answers <- c.ask() }()
		select {
		case <-arrived:
		case <-t.Context().Done():
			t.Fatalf("request %d waits for another", n+1)
		}
	}
	close(proceed)
	got := map[string]int{}
	for range 3 {
		got[<-answers]++
	}
	if want := (map[string]int{"Larder; fwd=uri-miss": 1, "Larder; fwd=miss": 2}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// What answers an odd request, or a failure, says nothing about the next one's answer.
func TestAnswersToOddRequestsAreNotRemembered(t *testing.T) {
	for _, status := range []int{400, 405, 406, 408, 411, 412, 413, 414, 415, 416, 417, 421, 426, 428, 431, 500, 503} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=60")
				if r.Header.Get("X-Odd") != "" {
					w.Header().Set("Cache-Control", "no-store")
					w.WriteHeader(status)
					return nil
				}
				w.WriteHeader(http.StatusOK)
				return nil
			})
			c.ask("X-Odd", "1")
			if got := c.ask(); got != "Larder; fwd=uri-miss; stored" {
				t.Errorf("after a %d: %q", status, got)
			}
		})
	}
}

// An odd field that is answered `200 private` is not known for odd. What that costs ends with the
// first ordinary answer, and a fresh stored page is not touched by it.
func TestOddFieldOnAColdKeyHeals(t *testing.T) {
	c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("X-Odd") != "" {
			w.Header().Set("Cache-Control", "private")
		}
		w.WriteHeader(http.StatusOK)
		return nil
	})
	c.ask("X-Odd", "1")
	for i, want := range []string{"Larder; fwd=miss", "Larder; fwd=uri-miss; stored", "Larder; hit"} {
		if got := c.ask(); !strings.HasPrefix(got, want) {
			t.Errorf("ordinary request %d: %q, want %q", i+1, got, want)
		}
	}
	if got := c.ask("X-Odd", "1"); !strings.HasPrefix(got, "Larder; hit") {
		t.Errorf("the odd one where a page is stored: %q", got)
	}
}

// What an inner handler rewrites in place belongs to the request that the origin got. The answer is
// remembered for the kind of request that the client made: judged after the rewrite, an event
// stream's answer had ordinary requests fetch alone.
func TestRewrittenRequestIsRememberedAsItCame(t *testing.T) {
	const events = "text/event-stream"
	c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("Accept") == events {
			w.Header().Set("Cache-Control", "no-store")
		}
		r.Header.Del("Accept")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	c.ask("Accept", events)
	if got := c.ask(); got != "Larder; fwd=uri-miss; stored" {
		t.Errorf("after an event stream: %q", got)
	}
}

func TestWantsEvents(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "*/*": false, "text/html, text/event-stream-not": false, "application/json": false,
		"text/event-stream": true, "TEXT/Event-Stream; q=1": true, "application/json,text/event-stream": true,
	} {
		if got := wantsEvents(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("Accept: %s: %v, want %v", accept, got, want)
		}
	}
}

// On a cold key requests wait as long as `coalesce wait` has them. The answer of the first that
// gave up and asked for itself tells those who come after it, although the fetch that they all
// waited for still has no header: each waited as long before.
func TestAnswerOfARequestThatGaveUpWaitingIsRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hangs, proceed := make(chan struct{}), make(chan struct{})
		first := true
		c := newConfirming(t, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "no-store")
			if first {
				first = false
				close(hangs)
				<-proceed
			}
			w.WriteHeader(http.StatusOK)
			return nil
		})
		c.h.Wait = time.Millisecond
		leader := make(chan string, 1)
		go func() { leader <- c.ask() }()
		<-hangs
		if got := c.ask(); got != "Larder; fwd=bypass; detail=coalesce-wait" {
			t.Errorf("the second: %q", got)
		}
		c.h.Wait = time.Hour
		if got := c.ask(); got != "Larder; fwd=miss" {
			t.Errorf("the third: %q", got)
		}
		close(proceed)
		if got := <-leader; got != "Larder; fwd=uri-miss" {
			t.Errorf("the first: %q", got)
		}
	})
}

// TestStreamsByMethod: by GET each client has a stream of its own, by POST one answers all who ask
// for the same.
func TestStreamsByMethod(t *testing.T) {
	h := contentRoute(t, BodyJSON, safePost)
	for method, want := range map[string]course{http.MethodGet: courseEvents, http.MethodPost: courseJoin, "QUERY": courseJoin} {
		r := httptest.NewRequest(method, "http://example.com/", strings.NewReader(`{"a":1}`))
		if method == http.MethodGet {
			r = newTestRequest(nil)
		}
		r.Header.Set("Accept", "application/json, text/event-stream")
		q := h.newRequest(nil, r, storable)
		if why := q.classify(); why != NotBypassed {
			t.Fatal(why)
		}
		q.readKey()
		if got := q.courseToOrigin(q.flightKey()); got != want {
			t.Errorf("%s: course %v, want %v", method, got, want)
		}
	}
}

// TestRefusedFieldLeavesOthersOneFetch: a request that is refused for a field (401, 403) had all
// ordinary ones fetch alone, as long as it was repeated more often than they came. Now the first of
// them does.
func TestRefusedFieldLeavesOthersOneFetch(t *testing.T) {
	for name, status := range map[string]int{"401": 401, "402": 402, "403": 403, "451": 451, "101": 101} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
					w.Header().Set("Cache-Control", "max-age=1")
					if r.Header.Get("X-Odd") != "" {
						w.Header().Set("Cache-Control", "private, no-store")
						w.WriteHeader(status)
						return nil
					}
					w.WriteHeader(http.StatusOK)
					return nil
				})
				for i := range 5 {
					for n := range 3 { // more often than others come, and each time with another value
						c.ask("X-Odd", strconv.Itoa(10*i+n))
					}
					if i == 1 { // requests with the fields of one that was refused wait for none
						if got := c.ask("X-Odd", "12"); got != "Larder; fwd=miss" {
							t.Errorf("the same again: %q", got)
						}
					}
					want := "Larder; fwd=uri-miss; stored"
					switch {
					case i == 0:
						want = "Larder; fwd=miss"
					case i > 1:
						want = "Larder; fwd=stale; fwd-status=200; stored"
					}
					if got := c.ask(); got != want {
						t.Errorf("ordinary request %d: %q, want %q", i+1, got, want)
					}
					time.Sleep(2 * time.Second)
				}
			})
		})
	}
}

// TestHitForMissIsExplainedOfThoseItHoldsFor: of a refusal for a field it was said that the last
// response to the key could not be shared, also where that holds for the same fields alone.
func TestHitForMissIsExplainedOfThoseItHoldsFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=1")
			if r.Header.Get("X-Odd") != "" {
				w.Header().Set("Cache-Control", "no-store")
				w.WriteHeader(http.StatusForbidden)
				return nil
			}
			w.WriteHeader(http.StatusOK)
			return nil
		})
		want := func(answer string, header ...string) {
			t.Helper()
			e := c.h.explain(t, newTestRequest(httptest.NewRecorder(), header...))
			if got := e.answers(); !strings.Contains(got, "does it wait for another's fetch? "+answer) {
				t.Errorf("%s\nwant %s", got, answer)
			}
		}
		c.ask("X-Odd", "1")
		want("no: the last response to the key could not be shared", "X-Odd", "1")
		c.ask()
		time.Sleep(2 * time.Second)
		c.ask("X-Odd", "1")
		want("no: the last response to requests with these fields could not be shared", "X-Odd", "1")
		want("yes, ")
		c.h.cache.hitForMiss.passTime(hitForMissTTL)
		want("for 1s: a response to requests with these fields could not be shared a while ago", "X-Odd", "1")
	})
}

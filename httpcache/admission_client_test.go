package httpcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/origin"
)

// brokenBody is a request body that cannot be read, as where chunks are spelt wrong.
type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("malformed chunked encoding") }
func (brokenBody) Close() error             { return nil }

// A client whose body was no HTTP had every other client served stale pages: the proxy's 502 was
// taken for the origin's.
func TestBodyThatCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBudgeted(t, origin.Limits{}, func(_ http.ResponseWriter, r *http.Request) error {
			if _, err := io.ReadAll(r.Body); err != nil {
				return fail(http.StatusBadGateway, err)
			}
			return fail(http.StatusBadGateway, errors.New("no connection"))
		})
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			r := httptest.NewRequest(method, "http://example.com/", brokenBody{})
			if err := b.h.ServeHTTP(httptest.NewRecorder(), r, b.next); statusOf(err) != http.StatusBadGateway {
				t.Errorf("%s: %v", method, err)
			}
			if s := b.h.Budget.Standing(time.Now(), 0); s != origin.Admitted {
				t.Errorf("after a %s whose body cannot be read the origin is %s", method, s)
			}
		}
		b.send(t.Context(), http.MethodPost, "/")
		if s := b.h.Budget.Standing(time.Now(), 0); s != origin.Failing {
			t.Errorf("after a failure of its own the origin is %s", s)
		}
	})
}

// Fetches whose clients had left while they waited for a place went to the origin all the same, and
// before those whose clients were there.
func TestClientsThatLeaveTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		end := make(chan struct{})
		b := newBudgeted(t, origin.Limits{MaxConcurrent: 1, Queue: 100, Wait: time.Minute}, hangs(end))
		first := b.begin(t.Context(), "/first")
		ctx, leave := context.WithCancel(t.Context())
		var left []<-chan *answered
		for i := range 50 {
			left = append(left, b.begin(ctx, fmt.Sprintf("/left/%d", i)))
		}
		last := b.begin(t.Context(), "/last")
		leave()
		for _, done := range left {
			<-done
		}
		synctest.Wait()
		close(end)
		<-first
		<-last
		synctest.Wait()
		if n := b.calls.Load(); n != 2 {
			t.Errorf("%d requests at the origin, want those of the two clients that waited", n)
		}
	})
}

// A client with a field that makes a page fail has no other page served stale for longer than a
// back-off, however often it asks, and with whatever the origin tells it to wait.
func TestOneClientDoesNotMakeASiteStale(t *testing.T) {
	for name, failure := range map[string]handlerFunc{
		"500":                  says(http.StatusInternalServerError, "Cache-Control", "no-store"),
		"429 with Retry-After": says(http.StatusTooManyRequests, "Retry-After", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var served atomic.Int64
				b := newBudgeted(t, origin.Limits{}, func(w http.ResponseWriter, r *http.Request) error {
					if r.Header.Get("X-Odd") != "" {
						return failure(w, r)
					}
					served.Add(1)
					return page("stale-while-revalidate=86400")(w, r)
				})
				b.get("/a")
				b.get("/b")
				stopped := make(chan struct{})
				odd := b.every(stopped, 500*time.Millisecond, "/a", "X-Odd", "1")
				visitors := b.every(stopped, 250*time.Millisecond, "/b")
				time.Sleep(time.Minute)
				close(stopped)
				<-odd
				<-visitors
				// Each visitor's request would be a refresh: 240 in a minute. While the site counts
				// as failing there is none. Half of them, at the least, are.
				if served.Load() < 120 {
					t.Errorf("%d refreshes in a minute", served.Load())
				}
			})
		})
	}
}

// every asks for a URL until it is stopped.
func (b *budgeted) every(stopped <-chan struct{}, pause time.Duration, url string, header ...string) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stopped:
				return
			case <-time.After(pause):
				b.send(b.Context(), http.MethodGet, url, header...)
			}
		}
	}()
	return ended
}

// Refreshes that no client waits for are bounded, and an origin that answers none of them in time
// fails. The pages are served all the same.
func TestRefreshesOfAHangingOriginAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const pages = maxRefreshes + 50
		b := newBudgeted(t, origin.Limits{}, page("stale-while-revalidate=86400"))
		for i := range pages {
			b.get("/" + strconv.Itoa(i))
		}
		b.calls.Store(0)
		b.next = hangs(nil)
		const most = maxRefreshes / 4 * 3 // of one origin
		for i := range pages {
			b.from = fmt.Sprintf("192.0.%d.%d:1", i/200, i%200)
			b.want(b.get("/"+strconv.Itoa(i)), 200, "Larder; hit; ttl=-N; detail=swr", int64(min(i+1, most)))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := b.under.Load(); n != 0 {
			t.Errorf("%d refreshes are still under way", n)
		}
		if got := b.h.Budget.Standing(time.Now(), 0); got != origin.Failing {
			t.Errorf("%v after no answer to %d refreshes", got, most)
		}
		b.next = page("stale-while-revalidate=86400")
		b.get("/0")
		b.want(b.get("/1"), 200, "Larder; hit; ttl=-N; detail=swr", int64(most)+2)
	})
}

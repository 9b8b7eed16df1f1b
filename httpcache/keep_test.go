package httpcache

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// outage is an origin whose answers can be changed.
type outage struct {
	calls  atomic.Int64
	answer atomic.Pointer[handlerFunc]
}

func (o *outage) set(next handlerFunc) { o.answer.Store(&next) }

func (o *outage) serve(w http.ResponseWriter, r *http.Request) error {
	o.calls.Add(1)
	return (*o.answer.Load())(w, r)
}

// respondsWith is an origin's answer with a status, a Cache-Control and the status as its body.
func respondsWith(status int, cacheControl string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		if cacheControl != "" {
			w.Header().Set("Cache-Control", cacheControl)
		}
		w.WriteHeader(status)
		_, err := w.Write([]byte(strconv.Itoa(status)))
		return err
	}
}

// bubble runs a test by a clock of its own, until the goroutines of its fetches have gone home.
func bubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		test(t)
		time.Sleep(time.Minute)
	})
}

// result is how a handler answers a request: its status and Cache-Status.
func result(h *testHandler, next handlerFunc, header ...string) string {
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, newTestRequest(w, header...), next); err != nil {
		return "error " + strconv.Itoa(statusOf(err))
	}
	return strconv.Itoa(w.Code) + " " + w.Header().Get("Cache-Status")
}

// under returns a handler of the same cache with another policy, as a reload makes it.
func (h *testHandler) under(policy rfc9111.Policy) *testHandler {
	return &testHandler{h.cache.NewRoute(Rules{Policy: policy}, nil)}
}

// What has expired answers a client that accepts it, for as long as it is kept.
func TestKeptForMaxStale(t *testing.T) {
	for _, tc := range []struct {
		name, cacheControl string
		keep               time.Duration
		after              time.Duration
		want               string
	}{
		{"within the hour", "max-age=60", 0, 50 * time.Minute, "200 Larder; hit; ttl=-2940"},
		{"past it", "max-age=60", 0, 61 * time.Minute, "error 504"},
		{"three hours", "max-age=60", 3 * time.Hour, 3 * time.Hour, "200 Larder; hit; ttl=-10740"},
		{"for ever", "max-age=60", rfc9111.Unlimited, 4 * time.Hour, "200 Larder; hit; ttl=-14340"},
		{"nothing is kept", "max-age=60", -1, time.Minute, "error 504"},
		{"past its window", "max-age=60, stale-if-error=600", 0, time.Hour, "200 Larder; hit; ttl=-3540"},
		{"must-revalidate", "max-age=60, must-revalidate", 0, 2 * time.Minute, "error 504"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newTestHandler(t)
				h.Policy.Keep = tc.keep
				next, calls := counting(respondsWith(200, tc.cacheControl))
				if got := result(h, next); got != "200 Larder; fwd=uri-miss; stored" {
					t.Fatal(got)
				}
				time.Sleep(tc.after)
				if got := result(h, next, "Cache-Control", "only-if-cached"); got != "error 504" {
					t.Errorf("without max-stale: %s", got)
				}
				if got := result(h, next, "Cache-Control", "only-if-cached, max-stale"); got != tc.want {
					t.Errorf("%s, want %s", got, tc.want)
				}
				if *calls != 1 {
					t.Errorf("the origin was asked %d times", *calls)
				}
			})
		})
	}
}

// Rules that change hold for what is stored: during an outage a stale_if_error finds what has
// expired before it was switched on, and a shorter keep hides what is past it.
func TestRulesThatChangeHoldForWhatIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newTestHandler(t)
		origin := new(outage)
		origin.set(respondsWith(200, "max-age=60"))
		// A request that comes while the fetch before it still ends may join that, and hears of its
		// failure instead of the origin's answer.
		ask := func(h *testHandler) string {
			defer synctest.Wait()
			return result(h, origin.serve)
		}
		ask(h)
		time.Sleep(30 * time.Minute)
		origin.set(respondsWith(503, ""))
		if got := ask(h); got != "503 Larder; fwd=stale; fwd-status=503" {
			t.Errorf("without a window: %s", got)
		}
		on := h.under(rfc9111.Policy{StaleIfError: rfc9111.Unlimited})
		if got := ask(on); got != "200 Larder; hit; ttl=-1740; detail=sie" {
			t.Errorf("switched on: %s", got)
		}
		short := h.under(rfc9111.Policy{StaleIfError: time.Minute, Keep: time.Minute})
		if got := ask(short); got != "503 Larder; fwd=uri-miss" {
			t.Errorf("past a shorter keep: %s", got)
		}
	})
}

// The statuses that count as failure are those of the window that is in force.
func TestFailures(t *testing.T) {
	dial := func(http.ResponseWriter, *http.Request) error { return fail(502, errors.New("no connection")) }
	limited := func(http.ResponseWriter, *http.Request) error { return fail(429, errors.New("rate limit")) }
	cut := func(cacheControl string) handlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", cacheControl)
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(200)
			return errors.New("the connection was cut")
		}
	}
	const stale = "200 Larder; hit; ttl=-60; detail=sie"
	operator := rfc9111.Policy{StaleIfError: time.Hour}
	named := rfc9111.Policy{StaleIfError: time.Hour, Failures: []rfc9111.StatusClass{404, 503}}
	for _, tc := range []struct {
		name         string
		policy       rfc9111.Policy
		cacheControl string
		answer       handlerFunc
		want         string
	}{
		{"429", operator, "max-age=60", respondsWith(429, ""), stale},
		{"429 that may be stored", operator, "max-age=60", respondsWith(429, "max-age=60"), stale},
		{"429 as an error", operator, "max-age=60", limited, stale},
		{"500", operator, "max-age=60", respondsWith(500, ""), stale},
		{"501", operator, "max-age=60", respondsWith(501, ""), "501 Larder; fwd=stale; fwd-status=501"},
		{"no connection", operator, "max-age=60", dial, stale},
		{"breaks off before its first byte", operator, "max-age=60", cut("max-age=60"), stale},
		{"404 that is named", named, "max-age=60", respondsWith(404, ""), stale},
		{"500 that is not", named, "max-age=60", respondsWith(500, ""), "500 Larder; fwd=stale; fwd-status=500"},
		{"429 that is not", named, "max-age=60", respondsWith(429, ""), "429 Larder; fwd=stale; fwd-status=429"},
		{"no connection, and others are named", named, "max-age=60", dial, stale},
		{"cut, and others are named", named, "max-age=60", cut("max-age=60"), stale},
		{"cut, which may not be stored", named, "max-age=60", cut("private"), stale},
		{"429 and the response's window", operator, "max-age=60, stale-if-error=600", respondsWith(429, ""), "429 Larder; fwd=stale; fwd-status=429"},
		{"500 and the response's window", named, "max-age=60, stale-if-error=600", respondsWith(500, ""), stale},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newTestHandler(t).under(tc.policy)
				origin := new(outage)
				origin.set(respondsWith(200, tc.cacheControl))
				result(h, origin.serve)
				time.Sleep(2 * time.Minute)
				origin.set(tc.answer)
				if got := result(h, origin.serve); got != tc.want {
					t.Errorf("%s, want %s", got, tc.want)
				}
				origin.set(respondsWith(200, tc.cacheControl))
				time.Sleep(time.Minute) // the back-off is over
				result(h, origin.serve) // asks again, in the background if the origin is known to fail
				synctest.Wait()
				if got := result(h, origin.serve); got != "200 Larder; hit; ttl=60" {
					t.Errorf("when it is back: %s", got)
				}
			})
		})
	}
}

// Thirty requests at once ask an origin that answers 429 once, where a stale copy may be used.
func TestRequestsShareAFailure(t *testing.T) {
	for status, want := range map[int]string{429: "200", 503: "200", 500: "500"} {
		bubble(t, func(t *testing.T) {
			h := newTestHandler(t).under(rfc9111.Policy{
				StaleIfError: time.Hour, Failures: []rfc9111.StatusClass{429, 503},
			})
			origin := new(outage)
			origin.set(respondsWith(200, "max-age=60"))
			result(h, origin.serve)
			time.Sleep(2 * time.Minute)
			origin.set(func(w http.ResponseWriter, r *http.Request) error {
				time.Sleep(time.Second)
				return respondsWith(status, "")(w, r)
			})
			var got [30]string
			var clients sync.WaitGroup
			for i := range got {
				clients.Go(func() {
					// A follower of a second failure gets its status as an error.
					got[i] = result(h, origin.serve)
					if len(got[i]) > 3 && got[i][:5] == "error" {
						got[i] = got[i][6:]
					}
				})
			}
			clients.Wait()
			for i := range got {
				if got[i][:3] != want {
					t.Errorf("%d: %s", status, got[i])
				}
			}
			if asked := origin.calls.Load() - 1; want == "200" && asked != 1 || asked > 2 {
				t.Errorf("%d: the origin was asked %d times", status, asked)
			}
		})
	}
}

// A stored failure does not stand in for a newer one, which says more.
func TestStoredFailureIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newTestHandler(t).under(rfc9111.Policy{StaleIfError: time.Hour})
		for range 3 {
			if got := result(h, respondsWith(429, "max-age=60")); got[:3] != "429" {
				t.Fatal(got)
			}
			if got := result(h, respondsWith(200, "")); got != "429 Larder; hit; ttl=60" {
				t.Fatal(got)
			}
			time.Sleep(2 * time.Minute)
		}
	})
}

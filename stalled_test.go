package larder

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// stalling is an origin whose first answer stands still, before its header, before its first byte
// or in mid-body, until proceed is closed. The others come at once.
type stalling struct {
	t       *testing.T
	h       *Handler
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
	r := benchRequest(w, header...)
	r.Method = method
	s.clients.Go(func() {
		if err := s.h.ServeHTTP(w, r, caddyhttp.HandlerFunc(s.ServeHTTP)); err != nil {
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
		s := &stalling{t: t, h: newBenchHandler(t), where: where, proceed: make(chan struct{})}
		test(t, s)
		s.clients.Wait()
		time.Sleep(time.Minute) // the goroutines of fetches go home
	})
}

// One fetch that stands still takes the URL away from nobody who comes later: when it has for as
// long as a follower waits, the next one begins another. What comes of the first all the same does
// not take the place of what was asked for after it.
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

package httpcache

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// sessions is an origin that gives each request a session of its own.
type sessions struct {
	asked atomic.Int64
	takes time.Duration
}

func (o *sessions) begin(w http.ResponseWriter) {
	w.Header().Set(rfc9111.SessionField, fmt.Sprint("session-", o.asked.Add(1)))
}

// answer takes longer than what it answers is fresh.
func (o *sessions) answer(w http.ResponseWriter, r *http.Request) error {
	_, _ = io.Copy(io.Discard, r.Body)
	time.Sleep(o.takes)
	o.begin(w)
	w.Header().Set("Cache-Control", "max-age=1")
	_, err := io.WriteString(w, "body")
	return err
}

// wantApart checks that no two of the answers have the same session, and that each has one.
func wantApart(t *testing.T, answers []*httptest.ResponseRecorder) {
	t.Helper()
	seen := make(map[string]bool)
	for _, w := range answers {
		given := w.Header().Get(rfc9111.SessionField)
		if given == "" || seen[given] {
			t.Errorf("a client has the session %q, which another has, too: %s", given, w.Header().Get("Cache-Status"))
		}
		seen[given] = true
	}
}

// TestSessionsOfThoseWhoWait: a slow answer that is fresh for a moment is for all who wait, unless
// it begins a session.
func TestSessionsOfThoseWhoWait(t *testing.T) {
	initialize := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "http://example.com/mcp", strings.NewReader(`{"method":"initialize"}`))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	for name, request := range map[string]func() *http.Request{
		"GET":  func() *http.Request { return newTestRequest(nil) },
		"POST": initialize,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := contentRoute(t, BodyJSON, safePost, func(r *Rules) { r.Key.Headers = []string{rfc9111.SessionField} })
				o := &sessions{takes: 1600 * time.Millisecond}
				answers := make([]*httptest.ResponseRecorder, 3)
				var wait sync.WaitGroup
				for i := range answers {
					answers[i] = httptest.NewRecorder()
					wait.Go(func() {
						if err := h.ServeHTTP(answers[i], request(), o.answer); err != nil {
							t.Error(err)
						}
					})
				}
				wait.Wait()
				wantApart(t, answers)
			})
		})
	}
}

// TestSessionOfANotModified: it goes to the client whose request was validated, neither to those
// who wait nor into the store.
func TestSessionOfANotModified(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, o := newTestHandler(t), new(sessions)
		next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") == "" {
				_, err := io.WriteString(w, "body")
				return err
			}
			time.Sleep(time.Second)
			o.begin(w)
			w.WriteHeader(http.StatusNotModified)
			return nil
		})
		ask(t, h, next)
		time.Sleep(2 * time.Minute)
		answers := make([]*httptest.ResponseRecorder, 3)
		var wait sync.WaitGroup
		for i := range answers {
			wait.Go(func() { answers[i] = ask(t, h, next) })
		}
		wait.Wait()
		var given int
		for _, w := range append(answers, ask(t, h, next)) {
			given += len(w.Header()[rfc9111.SessionField])
			if w.Body.String() != "body" {
				t.Errorf("the body is %q", w.Body)
			}
		}
		if asked := o.asked.Load(); asked != 1 || given != 1 {
			t.Errorf("of %d sessions that began, clients were given %d", asked, given)
		}
	})
}

// TestSessionOfAFirstPart: the head of a file in slices is not stored if it begins a session, and
// each client has its own.
func TestSessionOfAFirstPart(t *testing.T) {
	h, f, o := newSlicing(t), newFilm(61, 1000), new(sessions)
	f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
		o.begin(w)
		return false
	}
	answers := make([]*httptest.ResponseRecorder, 3)
	for i := range answers {
		answers[i] = f.get(t, h, "Range", "bytes=110-119")
	}
	wantApart(t, answers)
	f.want(t, answers[2], 206, 110, 120, "Larder; fwd=miss")
}

// TestSessionsThatArePassed: what is passed on is judged as what is fetched, so that requests do
// not wait for each other in vain, again and again.
func TestSessionsThatArePassed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, o := newTestHandler(t), new(sessions)
		for i, want := range []string{"Larder; fwd=uri-miss", "Larder; fwd=miss", "Larder; fwd=miss"} {
			if got := ask(t, h, o.answer).Header().Get("Cache-Status"); got != want {
				t.Errorf("request %d: %s, want %s", i, got, want)
			}
		}
	})
}

// TestSessionThatIsKeyed: what comes within the session of the key is stored for it.
func TestSessionThatIsKeyed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newTestHandler(t)
		h.Key.Headers = []string{rfc9111.SessionField}
		next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set(rfc9111.SessionField, r.Header.Get(rfc9111.SessionField))
			w.WriteHeader(http.StatusOK)
			return nil
		})
		for _, want := range []string{"200 Larder; fwd=uri-miss; stored", "200 Larder; hit; ttl=60"} {
			for _, session := range []string{"a", "b"} {
				if got := result(h, next, rfc9111.SessionField, session); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
		}
	})
}

// TestSessionInATrailer: a session is given by the header, so a trailer with one reaches no other
// client.
func TestSessionInATrailer(t *testing.T) {
	h := newTestHandler(t)
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		_, err := io.WriteString(w, "body")
		w.Header()[http.TrailerPrefix+rfc9111.SessionField] = []string{"session"}
		w.Header()[http.TrailerPrefix+"X-Sum"] = []string{"42"}
		return err
	})
	ask(t, h, next)
	hit := ask(t, h, next).Header()
	if session, sum := hit.Get(rfc9111.SessionField), hit.Get("X-Sum"); session != "" || sum != "42" {
		t.Errorf("another client gets the session %q, and the sum %q: %v", session, sum, hit)
	}
}

// TestBatchThatBeginsASession: it is of no use, so each client asks alone and has its own.
func TestBatchThatBeginsASession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h, s := newShop(t, nil)
		s.many = func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set(rfc9111.SessionField, "session")
			return s.products(w, r)
		}
		for _, reply := range askFor(h, s, "7", "8") {
			if got := reply.Header()[rfc9111.SessionField]; len(got) > 0 || reply.err != nil {
				t.Errorf("%s has the session %q", reply, got)
			}
		}
		if asked := s.take(); len(asked) != 3 {
			t.Errorf("the origin was asked %q, want one for both and one for each", asked)
		}
	})
}

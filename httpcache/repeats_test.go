package httpcache

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// repeating is a site with `repeats`, and what its origin is asked.
type repeating struct {
	t     *testing.T
	h     *testHandler
	asked []*http.Request
	says  http.Header // what the origin answers with
}

func newRepeating(t *testing.T, rules RepeatRules, header ...string) *repeating {
	s := &repeating{t: t, h: newTestHandler(t), says: make(http.Header)}
	s.h.Repeats = rules
	for i := 0; i < len(header); i += 2 {
		s.says.Set(header[i], header[i+1])
	}
	return s
}

func (s *repeating) origin(w http.ResponseWriter, r *http.Request) error {
	s.asked = append(s.asked, r)
	maps.Copy(w.Header(), s.says)
	_, err := fmt.Fprint(w, len(s.asked))
	return err
}

// ask sends a request from an address. status is that of the answer, or of the error.
func (s *repeating) ask(address string, header ...string) (w *httptest.ResponseRecorder, status int) {
	s.t.Helper()
	w = httptest.NewRecorder()
	r := newTestRequest(w, header...)
	r.RemoteAddr = address
	err := s.h.ServeHTTP(w, r, s.origin)
	if err != nil {
		return w, statusOf(err)
	}
	return w, w.Code
}

const alice, bob = "192.0.2.1:1001", "192.0.2.2:1001"

// expectMarks asks as often as there are marks, and looks for them.
func (s *repeating) expectMarks(address string, marks ...string) {
	s.t.Helper()
	for i, want := range marks {
		if w, status := s.ask(address); w.Header().Get(RepeatsField) != want || status != http.StatusOK {
			s.t.Errorf("%s, request %d: %d, %s: %q, want %q", address, i+1, status, RepeatsField, w.Header().Get(RepeatsField), want)
		}
	}
}

// Past the number the client is told, whether its answer is stored or not. Others are told nothing,
// and the time is counted from the first request.
func TestRepeatsTellTheClient(t *testing.T) {
	for _, says := range []string{"max-age=600", "no-store", "max-age=0"} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newRepeating(t, RepeatRules{Count: 2, Within: time.Minute}, "Cache-Control", says, "Etag", `"v1"`)
				s.expectMarks(alice, "", "", "3", "4")
				s.expectMarks("192.0.2.1:2002", "5") // another connection of the same client
				s.expectMarks(bob, "", "", "3")
				time.Sleep(time.Minute)
				s.expectMarks(alice, "", "", "3")
				time.Sleep(time.Minute) // until workers have ended
			})
		})
	}
}

// The origin is told as well, by the request that is made for the client.
func TestRepeatsTellTheOrigin(t *testing.T) {
	for _, says := range []string{"no-store", "max-age=0", "no-cache"} {
		s := newRepeating(t, RepeatRules{Count: 2, Within: time.Minute}, "Cache-Control", says)
		for range 4 {
			s.ask(alice)
		}
		var told []string
		for _, r := range s.asked {
			told = append(told, r.Header.Get(RepeatsField))
		}
		if got := strings.Join(told, " "); got != "  3 4" {
			t.Errorf("%s: the origin was told %q", says, got)
		}
	}
}

// What a client says itself reaches no handler, whatever the route counts and whether the request
// goes through the cache or not.
func TestClientsOwnRepeatsAreTakenOut(t *testing.T) {
	for name, rules := range map[string]RepeatRules{"counted": {Count: 2, Within: time.Minute}, "not counted": {}} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
			s := newRepeating(t, rules, "Cache-Control", "max-age=60")
			r := newTestRequest(nil, RepeatsField, "99")
			r.Method = method
			if err := s.h.ServeHTTP(httptest.NewRecorder(), r, s.origin); err != nil {
				t.Fatal(err)
			}
			if got := s.asked[0].Header[RepeatsField]; got != nil {
				t.Errorf("%s, %s: the origin was told %q", name, method, got)
			}
		}
	}
}

// Who is refused is told when to come back, and may by then.
func TestRepeatsRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRepeating(t, RepeatRules{Count: 2, Within: time.Minute, Refuse: true}, "Cache-Control", "max-age=0")
		s.expectMarks(alice, "", "")
		for i, left := range []string{"60", "60", "30"} {
			time.Sleep(time.Duration(max(0, i-1)) * 30 * time.Second)
			w, status := s.ask(alice)
			if got := w.Header(); status != http.StatusTooManyRequests || got.Get("Retry-After") != left ||
				got.Get("Cache-Status") != "Larder; detail=repeats" || got.Get(RepeatsField) != strconv.Itoa(3+i) {
				t.Errorf("request %d: %d %v", 3+i, status, got)
			}
		}
		s.expectMarks(bob, "", "")
		if len(s.asked) != 4 {
			t.Errorf("the origin was asked %d times, want 4", len(s.asked))
		}
		time.Sleep(30 * time.Second)
		s.expectMarks(alice, "", "")
		time.Sleep(time.Minute)
	})
}

// A player that seeks asks for another part each time; HEAD is GET.
func TestWhatIsTheSame(t *testing.T) {
	s := newRepeating(t, RepeatRules{Count: 1, Within: time.Minute}, "Cache-Control", "max-age=60")
	for i, tt := range []struct{ field, value, want string }{
		{"Range", "bytes=0-1", ""},
		{"Range", "bytes=2-3", ""},
		{"Accept", "text/html", ""},
		{"Range", "bytes=0-1", "2"},
		{"If-None-Match", `"v1"`, "2"},
		{"Cache-Control", "no-cache", "3"},
	} {
		if w, _ := s.ask(alice, tt.field, tt.value); w.Header().Get(RepeatsField) != tt.want {
			t.Errorf("request %d: %q, want %q", i+1, w.Header().Get(RepeatsField), tt.want)
		}
	}
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	r.Method, r.RemoteAddr = http.MethodHead, alice
	if err := s.h.ServeHTTP(w, r, s.origin); err != nil || w.Header().Get(RepeatsField) != "4" {
		t.Errorf("HEAD: %q %v", w.Header().Get(RepeatsField), err)
	}
}

// The mark is about one client: those who wait with it for its fetch do not get it, and it is not
// stored, be it the origin's own word.
func TestRepeatsAreOfOneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRepeating(t, RepeatRules{Count: 1, Within: time.Hour})
		begin := make(chan struct{})
		next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			<-begin
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set(RepeatsField, "7") // as another Larder behind this one says
			w.WriteHeader(http.StatusOK)
			return nil
		})
		var all sync.WaitGroup
		ask := func(address, want string) {
			all.Go(func() {
				w := httptest.NewRecorder()
				r := newTestRequest(w)
				r.RemoteAddr = address
				if err := s.h.ServeHTTP(w, r, next); err != nil || w.Header().Get(RepeatsField) != want {
					t.Errorf("%s: %q, want %q; %v", address, w.Header().Get(RepeatsField), want, err)
				}
			})
			synctest.Wait()
		}
		s.h.cache.repeats.count(s.keyOf(alice), time.Now(), time.Hour)
		ask(alice, "2")
		ask(bob, "")
		close(begin)
		all.Wait()
		ask("192.0.2.3:1", "")
		all.Wait()
		time.Sleep(time.Minute)
	})
}

// keyOf is the key by which requests from an address are counted.
func (s *repeating) keyOf(address string) (key [32]byte) {
	w := httptest.NewRecorder()
	q := s.h.newRequest(w, newTestRequest(w), s.origin)
	q.r.RemoteAddr = address
	q.readKey()
	return q.repeatKey(q.client())
}

// An origin that answers by the mark says so, and its answer is for those who are marked alike.
func TestVaryOfRepeats(t *testing.T) {
	s := newRepeating(t, RepeatRules{Count: 1, Within: time.Minute}, "Cache-Control", "max-age=60", "Vary", RepeatsField)
	for i, want := range []string{"1", "2", "3"} {
		if w, _ := s.ask(alice); w.Body.String() != want {
			t.Errorf("request %d of a client that repeats itself: %q, want %q", i+1, w.Body, want)
		}
	}
	if w, _ := s.ask(bob); w.Body.String() != "1" {
		t.Errorf("another client gets %q", w.Body)
	}
}

// A route that observes counts, and changes no request and no answer.
func TestRepeatsOfARouteThatObserves(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		s := newRepeating(t, RepeatRules{Count: 1, Within: time.Minute, Refuse: refuse}, "Cache-Control", "max-age=60")
		s.h.Observe = true
		for range 3 {
			w, status := s.ask(alice)
			last := s.asked[len(s.asked)-1]
			if status != http.StatusOK || w.Header()[RepeatsField] != nil || last.Header[RepeatsField] != nil {
				t.Errorf("refuse %v: %d %v, and the origin was told %q", refuse, status, w.Header(), last.Header[RepeatsField])
			}
		}
		if times, _ := s.h.cache.repeats.wouldCount(s.keyOf(alice), time.Now(), time.Minute); times != 4 {
			t.Errorf("refuse %v: the next would be number %d, want 4", refuse, times)
		}
	}
}

// An explanation counts nothing.
func TestExplainCountsNoRepeats(t *testing.T) {
	s := newRepeating(t, RepeatRules{Count: 1, Within: time.Minute, Refuse: true}, "Cache-Control", "max-age=60")
	explain := func() Explanation {
		w := httptest.NewRecorder()
		r := newTestRequest(w)
		r.RemoteAddr = alice
		p := &plainRequest{next: s.origin}
		trace := p.ExplainOnly()
		if err := s.h.Serve(&p.Request, w, r, new(IdentityOf(r)), p); err != nil {
			t.Fatal(err)
		}
		return trace.Explanation()
	}
	s.ask(alice)
	for range 2 {
		if e := explain(); !strings.HasPrefix(e.Verdict, "Refused with 429") || !strings.Contains(e.Line(), "2 times, this one among them") {
			t.Errorf("%s", e.Line())
		}
	}
	if _, status := s.ask(alice); status != http.StatusTooManyRequests {
		t.Errorf("the second request: %d", status)
	}
}

// Where nothing names the client nothing is counted.
func TestRepeatsByNothing(t *testing.T) {
	s := newRepeating(t, RepeatRules{Count: 1, Within: time.Minute, Refuse: true}, "Cache-Control", "max-age=60")
	s.expectMarks("", "", "", "")
	s.expectMarks("@", "")
	if _, status := s.ask("@"); status != http.StatusTooManyRequests { // a socket has one client
		t.Errorf("%d", status)
	}
}

// What a hit costs on a route that counts, and on one that does not.
func BenchmarkRepeats(b *testing.B) {
	for name, rules := range map[string]RepeatRules{"off": {}, "on": {Count: MaxRepeats, Within: time.Hour}} {
		b.Run(name, func(b *testing.B) {
			h := newTestHandler(b)
			h.Repeats = rules
			w := &nullWriter{make(http.Header)}
			r := newTestRequest(w)
			serve := func() {
				clear(w.header)
				if err := h.ServeHTTP(w, r, storable); err != nil {
					b.Fatal(err)
				}
			}
			serve()
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

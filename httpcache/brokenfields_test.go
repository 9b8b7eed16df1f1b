package httpcache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/origin"
)

// breaksForOne is an origin whose body breaks off for requests with X-Bad, some time after its
// first bytes. All others get it whole.
type breaksForOne struct {
	h      *testHandler
	header []string
	after  time.Duration // it breaks off
	silent bool          // its handlers return as if it were whole
	body   string        // what is asked by POST, "" for a GET

	mu          sync.Mutex
	under, most int // requests that are under way
	asked       int
	broken      int
	longest     time.Duration
}

// ServeHTTP implements handlerFunc.
func (o *breaksForOne) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	o.count(1)
	defer o.count(-1)
	for i := 0; i < len(o.header); i += 2 {
		w.Header().Set(o.header[i], o.header[i+1])
	}
	time.Sleep(100 * time.Millisecond)
	if r.Header.Get("X-Bad") == "" {
		w.Header().Set("Content-Length", "5")
		_, err := io.WriteString(w, "whole")
		return err
	}
	w.Header().Set("Content-Length", "500")
	w.Header().Set("Etag", `"bad"`)
	_, _ = io.WriteString(w, "whole")
	select {
	case <-time.After(o.after):
	case <-r.Context().Done():
	}
	if o.silent {
		return nil
	}
	panic(http.ErrAbortHandler) // as a proxy does
}

func (o *breaksForOne) count(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked += max(n, 0)
	o.under += n
	o.most = max(o.most, o.under)
}

// get asks as an ordinary client, and returns the answer, nil if that breaks off.
func (o *breaksForOne) get(header ...string) (w *httptest.ResponseRecorder) {
	begun := time.Now()
	w = httptest.NewRecorder()
	err := guarded(func() error { return o.h.ServeHTTP(w, o.request(w, header...), o.ServeHTTP) })
	o.mu.Lock()
	defer o.mu.Unlock()
	o.longest = max(o.longest, time.Since(begun))
	if err != nil || w.Body.String() != "whole" || w.Code != http.StatusOK {
		o.broken++
		return nil
	}
	return w
}

func (o *breaksForOne) request(w http.ResponseWriter, header ...string) *http.Request {
	r := newTestRequest(w, header...)
	if o.body != "" {
		r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader(o.body)), int64(len(o.body))
	}
	return r
}

// forget forgets what has become of the answers so far.
func (o *breaksForOne) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken, o.longest = 0, 0
}

// attack has a client with the field ask for the whole of a time, again as soon as it has an
// answer.
func (o *breaksForOne) attack(until time.Time, field func(i int) string) {
	for i := 0; time.Now().Before(until); i++ {
		w := httptest.NewRecorder()
		_ = guarded(func() error { return o.h.ServeHTTP(w, o.request(w, "X-Bad", field(i)), o.ServeHTTP) })
		time.Sleep(5 * time.Millisecond)
	}
}

// besiege has ten ordinary clients ask beside the attack, and reports what became of those that
// began at a time after it had begun, or later.
func (o *breaksForOne) besiege(field func(i int) string, since time.Duration) {
	const lasts = 40 * time.Second
	begun := time.Now()
	var clients sync.WaitGroup
	clients.Go(func() { o.attack(begun.Add(lasts), field) })
	time.Sleep(10 * time.Millisecond)
	for i := range 10 {
		clients.Go(func() {
			for forgotten := false; time.Since(begun) < lasts; {
				if !forgotten && time.Since(begun) >= since {
					o.forget()
					forgotten = true
				}
				o.get("User-Agent", fmt.Sprint(i))
				time.Sleep(time.Duration(200+37*i) * time.Millisecond)
			}
		})
	}
	clients.Wait()
	time.Sleep(time.Minute) // until refreshes are over
}

func sameField(int) string    { return "1" }
func newField(i int) string   { return fmt.Sprint(i) }
func fiveFields(i int) string { return fmt.Sprint(i % 5) }

// TestFieldThatBreaksBodiesOffBreaksItsOwn: a client for whose field the origin breaks a body off
// after its first bytes led each fetch of the page, as it was the first to ask again. All others
// had their answers broken off, for as long as that went on.
func TestFieldThatBreaksBodiesOffBreaksItsOwn(t *testing.T) {
	for name, header := range map[string][]string{
		"without a validator": {"Cache-Control", "max-age=2"},
		"with a validator":    {"Cache-Control", "max-age=1", "Etag", `"1"`},
		"stale-if-error":      {"Cache-Control", "max-age=1, stale-if-error=600"},
	} {
		for fields, field := range map[string]func(int) string{"one field": sameField, "a new field each time": newField, "five": fiveFields} {
			for _, silent := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, silent %v", name, fields, silent), func(t *testing.T) {
					inBubble(t, func(t *testing.T) {
						o := &breaksForOne{h: newTestHandler(t), header: header, after: 2 * time.Second, silent: silent}
						o.get()
						time.Sleep(1500 * time.Millisecond)
						o.besiege(field, 5*time.Second)
						o.mu.Lock()
						defer o.mu.Unlock()
						if o.broken > 0 {
							t.Errorf("%d answers were broken off", o.broken)
						}
						if o.longest > 3*time.Second {
							t.Errorf("one has waited for %v", o.longest)
						}
					})
				})
			}
		}
	}
}

// TestFieldThatStallsBodiesStallsItsOwn: so did one for whose field a body stands still.
func TestFieldThatStallsBodiesStallsItsOwn(t *testing.T) {
	for fields, field := range map[string]func(int) string{"one field": sameField, "a new field each time": newField} {
		t.Run(fields, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &breaksForOne{h: newTestHandler(t), header: []string{"Cache-Control", "max-age=2"}, after: time.Hour}
				var attackers sync.WaitGroup
				begun := time.Now()
				for i := range 60 { // each leaves its answer open
					attackers.Go(func() {
						time.Sleep(time.Duration(i) * time.Second)
						w := httptest.NewRecorder()
						r := newTestRequest(w, "X-Bad", field(i))
						_ = guarded(func() error { return o.h.ServeHTTP(w, r, o.ServeHTTP) })
					})
				}
				time.Sleep(13 * time.Second)
				o.forget()
				for time.Since(begun) < time.Minute {
					o.get("User-Agent", "a browser")
					time.Sleep(300 * time.Millisecond)
				}
				o.mu.Lock()
				if o.broken > 0 || o.longest > o.h.Wait+time.Second {
					t.Errorf("%d answers were broken off, one has waited for %v", o.broken, o.longest)
				}
				o.mu.Unlock()
				o.h.cache.CancelFetches(errors.New("the end"))
				attackers.Wait()
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestOriginThatBreaksAllBodiesOff: an origin that breaks off for all is asked for a page by a few
// at a time, however many kinds of clients ask, and a stale response stands in for all but those
// who were reading.
func TestOriginThatBreaksAllBodiesOff(t *testing.T) {
	for name, header := range map[string]string{"nothing stored": "max-age=1", "stale-if-error": "max-age=1, stale-if-error=600"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &breaksForOne{h: newTestHandler(t), header: []string{"Cache-Control", header}, after: time.Second}
				o.get()
				time.Sleep(1500 * time.Millisecond)
				var clients sync.WaitGroup
				begun := time.Now()
				for i := range 200 {
					clients.Go(func() {
						for time.Since(begun) < 30*time.Second {
							if time.Since(begun) < 3*time.Second {
								o.forget()
							}
							o.get("X-Bad", fmt.Sprint(i))
							time.Sleep(time.Duration(100+i) * time.Millisecond)
						}
					})
				}
				clients.Wait()
				time.Sleep(time.Minute) // until refreshes are over
				o.mu.Lock()
				defer o.mu.Unlock()
				// Fields that get another place among the last leave a fetch behind at the former.
				if most := 2*(1+maxBadFields) + 2; o.most > most {
					t.Errorf("%d requests are under way at a time, want %d at most", o.most, most)
				}
				if name == "stale-if-error" && o.broken > 0 {
					t.Errorf("%d answers were broken off", o.broken)
				}
			})
		})
	}
}

// breaksSlicesOff answers requests with the field by so much of a slice of 100 bytes, and breaks
// off two seconds later.
func breaksSlicesOff(f *film, sent int) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Bad") == "" {
			time.Sleep(100 * time.Millisecond)
			return false
		}
		w.Header().Set("Content-Range", strings.Replace(r.Header.Get("Range"), "=", " ", 1)+"/2000")
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(f.content[:sent])
		time.Sleep(2 * time.Second)
		panic(http.ErrAbortHandler)
	}
}

// TestFieldThatBreaksSlicesOffBreaksItsOwn: of a file in slices it was each slice, of which others
// had a part and then two more that broke off.
func TestFieldThatBreaksSlicesOffBreaksItsOwn(t *testing.T) {
	for fields, field := range map[string]func(int) string{"one field": sameField, "a new field each time": newField} {
		t.Run(fields, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				h, f := newSlicing(t), newFilm(71, 2000)
				f.alter = breaksSlicesOff(f, 1)
				f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
				over := make(chan struct{})
				var attackers sync.WaitGroup
				for n := 2; n < 19; n++ { // of each slice
					attackers.Go(func() {
						for i := n; ; i += 100 {
							select {
							case <-over:
								return
							default:
							}
							w := httptest.NewRecorder()
							_ = f.read(h, w, newTestRequest(w, "Range", fmt.Sprintf("bytes=%d00-%d99", n, n), "X-Bad", field(i)))
							time.Sleep(5 * time.Millisecond)
						}
					})
				}
				time.Sleep(4*time.Second + 50*time.Millisecond) // one of each is under way
				for n := 2; n < 19; n++ {
					begun, w := time.Now(), httptest.NewRecorder()
					if broke := f.read(h, w, newTestRequest(w, "Range", fmt.Sprintf("bytes=%d00-%d99", n, n))); broke || w.Body.Len() != 100 {
						t.Errorf("slice %d: %d bytes, broken off %t", n, w.Body.Len(), broke)
					}
					if took := time.Since(begun); took > 7*time.Second {
						t.Errorf("slice %d takes %v", n, took)
					}
				}
				close(over)
				attackers.Wait()
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestFirstPartThatBreaksOffIsNotJoinedAgain: who was reading the first slice of a file when it
// broke off, as the fetch of another client, fetches the rest together with others. That was the
// same client's next fetch, and broke off again.
func TestFirstPartThatBreaksOffIsNotJoinedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, f := newSlicing(t), newFilm(72, 2000)
		f.alter = breaksSlicesOff(f, 50)
		var attacker sync.WaitGroup
		attacker.Go(func() {
			for range 3 {
				w := httptest.NewRecorder()
				_ = f.read(h, w, newTestRequest(w, "Range", "bytes=0-99", "X-Bad", "1"))
			}
		})
		time.Sleep(time.Second)
		w := httptest.NewRecorder()
		if broke := f.read(h, w, newTestRequest(w, "Range", "bytes=10-99")); broke || w.Body.String() != string(f.content[10:100]) {
			t.Errorf("%d bytes, broken off %t", w.Body.Len(), broke)
		}
		attacker.Wait()
		time.Sleep(time.Minute)
	})
}

// TestFieldThatBreaksPostsOffBreaksItsOwn: equal POSTs wait for one fetch, of which a header says
// that it is for all. None is tried for all again, and none breaks off with another but once.
func TestFieldThatBreaksPostsOffBreaksItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := newTestHandler(t)
		h.Methods = []string{http.MethodGet, http.MethodPost}
		o := &breaksForOne{h: h, header: []string{"Cache-Control", "max-age=2"}, after: 2 * time.Second, body: "a question"}
		o.besiege(sameField, 5*time.Second)
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.broken > 0 {
			t.Errorf("%d answers were broken off", o.broken)
		}
	})
}

// herdOrigin is an origin whose body breaks off for requests with X-Bad. It answers all others by
// good, which may take its time over it.
type herdOrigin struct {
	h       *testHandler
	control string // Cache-Control
	good    http.HandlerFunc

	mu                 sync.Mutex
	asked, under, most int
	failed             int // answers that were not a whole 200
}

// ServeHTTP implements handlerFunc.
func (o *herdOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	o.count(1)
	defer o.count(-1)
	w.Header().Set("Cache-Control", o.control)
	if r.Header.Get("X-Bad") == "" {
		o.good(w, r)
		return nil
	}
	w.Header().Set("Content-Length", "500")
	_, _ = io.WriteString(w, "whole")
	time.Sleep(100 * time.Millisecond)
	panic(http.ErrAbortHandler)
}

func (o *herdOrigin) count(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked += max(n, 0)
	o.under += n
	o.most = max(o.most, o.under)
}

// forget forgets how often it was asked so far, and returns that.
func (o *herdOrigin) forget() (asked, most, failed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	asked, most, failed = o.asked, o.most, o.failed
	o.asked, o.most, o.failed = 0, 0, 0
	return asked, most, failed
}

// get asks with the header.
func (o *herdOrigin) get(header ...string) { o.getFrom("192.0.2.1:1", header...) }

// getFrom is get for a client of an address.
func (o *herdOrigin) getFrom(addr string, header ...string) {
	w := httptest.NewRecorder()
	r := newTestRequest(w, header...)
	r.RemoteAddr = addr
	err := guarded(func() error { return o.h.ServeHTTP(w, r, o.ServeHTTP) })
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil || w.Code != http.StatusOK {
		o.failed++
	}
}

// herd has n clients with fields of their own ask one after the other, and waits until all is over.
func (o *herdOrigin) herd(n int, apart time.Duration) {
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			time.Sleep(time.Duration(i) * apart)
			o.get("User-Agent", fmt.Sprint(i))
		})
	}
	clients.Wait()
	time.Sleep(time.Minute)
}

// inPieces writes a body in pieces, each some time after the one before.
func inPieces(w http.ResponseWriter, n, size int, apart time.Duration) {
	for range n {
		_, _ = io.WriteString(w, strings.Repeat("x", size))
		_ = http.NewResponseController(w).Flush()
		time.Sleep(apart)
	}
}

// TestHerdOfAPageThatMayBreakOff: for two minutes after one body of a page had broken off, many who
// asked at once for one that comes slowly had a fetch each: a wait for the header counted against
// that for the body, a body in bursts counted as one that stands still, and one that is not kept
// had gone past the bytes that they were to begin with.
func TestHerdOfAPageThatMayBreakOff(t *testing.T) {
	for name, tc := range map[string]struct {
		good    http.HandlerFunc
		maxBody int64
		most    int
	}{
		"late header, steady body": {most: 1, good: func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(6 * time.Second)
			inPieces(w, 50, 1000, 100*time.Millisecond)
		}},
		"bursts": {most: 1, good: func(w http.ResponseWriter, _ *http.Request) {
			inPieces(w, 10, 40000, 2300*time.Millisecond)
		}},
		"not kept": {most: 10, maxBody: 100 << 10, good: func(w http.ResponseWriter, _ *http.Request) {
			inPieces(w, 300, 10000, 10*time.Millisecond)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				o := &herdOrigin{h: newTestHandler(t), control: "max-age=1", good: tc.good}
				if tc.maxBody > 0 {
					o.h.MaxBody = tc.maxBody
				}
				o.get("X-Bad", "1")
				time.Sleep(5 * time.Second)
				o.forget()
				o.herd(60, 10*time.Millisecond)
				asked, _, failed := o.forget()
				t.Logf("asked %d times", asked)
				if asked > tc.most || failed > 0 {
					t.Errorf("60 clients have it asked for %d times, want %d at most; %d answers failed", asked, tc.most, failed)
				}
			})
		})
	}
}

// TestPageThatPausesBreaksNothingOff: of a page that sends its head at once, and the rest after
// longer than others wait, each body counted as one that breaks off, with no attack at all. So each
// request asked for itself.
func TestPageThatPausesBreaksNothingOff(t *testing.T) {
	for _, pause := range []time.Duration{9 * time.Second, 15 * time.Second} {
		for _, agents := range []int{1, 300} {
			t.Run(fmt.Sprintf("%v, %d kinds of clients", pause, agents), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					o := &herdOrigin{h: newTestHandler(t), control: "max-age=1"}
					o.good = func(w http.ResponseWriter, _ *http.Request) {
						inPieces(w, 1, 6, pause)
						_, _ = io.WriteString(w, "rest")
					}
					var clients sync.WaitGroup
					for i := range 600 {
						clients.Go(func() {
							time.Sleep(time.Duration(i) * 200 * time.Millisecond)
							agent := i % agents
							o.getFrom(fmt.Sprintf("198.51.100.%d:1", agent%250), "User-Agent", fmt.Sprint(agent))
						})
					}
					clients.Wait()
					asked, most, failed := o.forget()
					t.Logf("asked %d times, %d at a time", asked, most)
					// What is begun for a page of a second is joined for as long.
					if asked > 140 || most > 35 || failed > 0 {
						t.Errorf("600 requests in two minutes: asked for %d times, %d at a time, %d failed", asked, most, failed)
					}
					time.Sleep(time.Minute)
				})
			})
		}
	}
}

// TestRefreshesAfterAnOriginWasSlowForAll: once it is well again, requests for whose fields a
// refresh was late share their refreshes with all others again, and do not have one each.
func TestRefreshesAfterAnOriginWasSlowForAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &herdOrigin{h: newTestHandler(t), control: "max-age=1, stale-while-revalidate=600"}
		var takes atomic.Int64
		o.good = func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Duration(takes.Load()))
			_, _ = io.WriteString(w, "whole")
		}
		ask := func(lasts time.Duration) {
			begun := time.Now()
			for i := 0; time.Since(begun) < lasts; i++ {
				o.get("User-Agent", fmt.Sprint(i%10))
				time.Sleep(50 * time.Millisecond)
			}
		}
		o.get()
		time.Sleep(2 * time.Second)
		takes.Store(int64(15 * time.Second))
		ask(time.Minute)
		takes.Store(int64(200 * time.Millisecond))
		ask(30 * time.Second)
		o.forget()
		ask(30 * time.Second)
		asked, most, failed := o.forget()
		t.Logf("asked %d times, %d at a time", asked, most)
		if asked > 35 || most > 2 || failed > 0 {
			t.Errorf("a page of a second: asked for %d times in 30 s, %d at a time; %d answers failed", asked, most, failed)
		}
		time.Sleep(time.Minute)
	})
}

// refusals counts what the origin was not asked for.
type refusals struct{ n atomic.Int64 }

// Waiting implements origin.Metrics.
func (m *refusals) Waiting(int) {}

// Refused implements origin.Metrics.
func (m *refusals) Refused(origin.Why) { m.n.Add(1) }

// TestStaleForAPageThatBreaksOffIsNoFailingOrigin: where a stale response stood in because a body
// of its page had broken off, the origin was explained and counted as failing.
func TestStaleForAPageThatBreaksOffIsNoFailingOrigin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &herdOrigin{h: newTestHandler(t), control: "max-age=1, stale-if-error=600"}
		counted := new(refusals)
		o.h.Budget = origin.New("api", origin.Limits{}, counted)
		o.good = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "whole") }
		o.get()
		time.Sleep(2 * time.Second)
		o.get("X-Bad", "1") // leads a fetch: its body breaks off
		got := o.h.explain(t, newTestRequest(httptest.NewRecorder())).Verdict
		if !strings.Contains(got, "bodies of this page have broken off lately") || strings.Contains(got, "failing") {
			t.Errorf("it is explained by %q", got)
		}
		w := httptest.NewRecorder()
		if err := o.h.ServeHTTP(w, newTestRequest(w), o.ServeHTTP); err != nil || w.Body.String() != "whole" {
			t.Errorf("%v, %q", err, w.Body)
		}
		if n := counted.n.Load(); n > 0 {
			t.Errorf("%d requests count as refused", n)
		}
		time.Sleep(time.Minute)
	})
}

package httpcache

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// observations collects what a route has observed.
type observations struct {
	noMetrics
	mu   sync.Mutex
	seen []*Observed
}

// Observed implements Metrics.
func (o *observations) Observed(found *Observed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, found)
}

// take returns what was observed since the last call.
func (o *observations) take() []*Observed {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := o.seen
	o.seen = nil
	return seen
}

// newObserving returns a handler that observes, by rules.
func newObserving(tb testing.TB, rules Rules) (*testHandler, *observations) {
	tb.Helper()
	h, seen := newTestHandler(tb), new(observations)
	h.cache.metrics = seen
	rules.Observe = true
	h.Route = h.cache.NewRoute(rules, nil)
	return h, seen
}

// observing is a request to a handler that observes and what came of it.
type observing struct {
	method, target string // default GET /
	header         []string
	answer         handlerFunc

	would    Outcome
	compared bool
	differs  string
	failed   bool
}

func (s *observing) run(t *testing.T, h *testHandler, seen *observations) *httptest.ResponseRecorder {
	t.Helper()
	method, target := s.method, s.target
	if method == "" {
		method = http.MethodGet
	}
	r := httptest.NewRequest(method, "http://example.com/"+target, nil)
	for i := 0; i < len(s.header); i += 2 {
		r.Header.Set(s.header[i], s.header[i+1])
	}
	asked := false
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, func(w http.ResponseWriter, r *http.Request) error {
		asked = true
		return s.answer(w, r)
	}); err != nil {
		t.Errorf("error: %v", err)
	}
	synctest.Wait()
	if !asked {
		t.Error("the origin was not asked")
	}
	if got, want := w.Header().Get("Cache-Status"), "Larder; fwd=bypass; detail=observe"; got != want {
		t.Errorf("Cache-Status: %q, want %q", got, want)
	}
	found := seen.take()
	if len(found) != 1 {
		t.Fatalf("%d observations of one request", len(found))
	}
	if got := found[0]; got.Would != s.would || got.Compared != s.compared || got.Differs != s.differs || got.Failed != s.failed {
		t.Errorf("would be %v, compared %v, differs %q; want %v, %v, %q",
			got.Would, got.Compared, got.Differs, s.would, s.compared, s.differs)
	}
	return w
}

// answer200 answers 200 with a body and header fields given as pairs.
func answer200(body string, header ...string) handlerFunc {
	return answerWith(http.StatusOK, body, header...)
}

func answerWith(code int, body string, header ...string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(code)
		if body == "" {
			return nil
		}
		_, err := io.WriteString(w, body)
		return err
	}
}

const minute = "max-age=60"

// Each row is a story of requests to one observing route, in order.
func TestObserve(t *testing.T) {
	cc := []string{"Cache-Control", minute}
	tagged := answer200("one", "Cache-Control", minute, "Etag", `"1"`)
	for name, story := range map[string]struct {
		rules Rules
		steps []observing
	}{
		"a miss is stored, and the same answer agrees": {steps: []observing{
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{answer: answer200("one", cc...), would: OutcomeHit, compared: true},
			{answer: answer200("one", cc...), would: OutcomeHit, compared: true},
		}},
		"what is stored stays what it was": {steps: []observing{
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{answer: answer200("two", cc...), would: OutcomeHit, compared: true, differs: DiffersBody},
			{answer: answer200("one", cc...), would: OutcomeHit, compared: true},
			{answer: answer200("longer", cc...), would: OutcomeHit, compared: true, differs: DiffersBody},
		}},
		"status and fields": {steps: []observing{
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{answer: answerWith(404, "one", cc...), would: OutcomeHit, compared: true, differs: DiffersStatus},
			{answer: answer200("one", "Cache-Control", minute, "X-Kind", "b"), would: OutcomeHit, compared: true, differs: "X-Kind"},
			{answer: answer200("one", "Cache-Control", minute, "Set-Cookie", "a=b", "Alpha", "x"), would: OutcomeHit, compared: true, differs: "Set-Cookie"},
			{answer: answer200("one"), would: OutcomeHit, compared: true, differs: "Cache-Control"},
			{answer: answer200("one", "Cache-Control", minute, "Age", "3", "Connection", "close"), would: OutcomeHit, compared: true},
		}},
		"a failure": {steps: []observing{
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{answer: answerWith(502, "down"), would: OutcomeHit, compared: true, differs: DiffersStatus, failed: true},
			{answer: answer200("one", cc...), would: OutcomeHit, compared: true},
		}},
		"Expires as the lifetime that it gives": {steps: []observing{
			{answer: answer200("one", "Date", "Sat, 01 Jan 2000 00:00:00 GMT", "Expires", "Sat, 01 Jan 2000 01:00:00 GMT", "Cache-Control", minute), would: OutcomeMiss},
			{answer: answer200("one", "Date", "Sat, 01 Jan 2000 00:00:30 GMT", "Expires", "Sat, 01 Jan 2000 01:00:30 GMT", "Cache-Control", minute), would: OutcomeHit, compared: true},
			{answer: answer200("one", "Date", "Sat, 01 Jan 2000 00:00:30 GMT", "Expires", "Sat, 01 Jan 2000 02:00:00 GMT", "Cache-Control", minute), would: OutcomeHit, compared: true, differs: "Expires"},
		}},
		"what may not be stored": {steps: []observing{
			{answer: answer200("one", "Cache-Control", "no-store"), would: OutcomeMiss},
			{answer: answer200("one", "Cache-Control", "no-store"), would: OutcomeMiss},
		}},
		"methods": {steps: []observing{
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{method: "HEAD", answer: answer200("", cc...), would: OutcomeHit, compared: true},
			{method: "HEAD", answer: answer200("", "Cache-Control", minute, "Content-Length", "7"), would: OutcomeHit, compared: true, differs: "Content-Length"},
			{method: "POST", answer: answer200("done"), would: OutcomeBypass},
			{answer: answer200("two", cc...), would: OutcomeMiss}, // the POST has invalidated it
			{method: "PUT", answer: answerWith(500, "no"), would: OutcomeBypass},
			{answer: answer200("two", cc...), would: OutcomeHit, compared: true},
		}},
		"a cold HEAD is not stored": {steps: []observing{
			{method: "HEAD", answer: answer200("", cc...), would: OutcomeMiss},
			{answer: answer200("one", cc...), would: OutcomeMiss},
		}},
		"a 304 to the client's own conditionals": {steps: []observing{
			{header: []string{"If-None-Match", `"1"`}, answer: answerWith(304, "", "Etag", `"1"`, "Cache-Control", minute), would: OutcomeMiss},
			{answer: tagged, would: OutcomeMiss},
			{header: []string{"If-None-Match", `"1"`}, answer: answerWith(304, "", "Etag", `"1"`), would: OutcomeHit, compared: true},
			{header: []string{"If-None-Match", `"2"`}, answer: answerWith(304, "", "Etag", `"2"`), would: OutcomeHit, compared: true, differs: "Etag"},
			{header: []string{"If-None-Match", `"2"`}, answer: answerWith(304, ""), would: OutcomeHit, compared: true, differs: DiffersStatus},
			{header: []string{"If-None-Match", `"1"`}, answer: answer200("two", "Cache-Control", minute, "Etag", `"2"`), would: OutcomeHit, compared: true, differs: DiffersBody},
		}},
		"parts": {steps: []observing{
			{header: []string{"Range", "bytes=0-0"}, answer: answerWith(206, "o", "Cache-Control", minute, "Content-Range", "bytes 0-0/3"), would: OutcomeMiss},
			{answer: tagged, would: OutcomeMiss},
			{header: []string{"Range", "bytes=1-"}, answer: answerWith(206, "ne", "Etag", `"1"`, "Cache-Control", minute, "Content-Range", "bytes 1-2/3"), would: OutcomeHit, compared: true},
			{header: []string{"Range", "bytes=1-"}, answer: answerWith(206, "NE", "Etag", `"1"`, "Cache-Control", minute, "Content-Range", "bytes 1-2/3"), would: OutcomeHit, compared: true, differs: DiffersBody},
			{header: []string{"Range", "bytes=1-"}, answer: answerWith(206, "ne", "Etag", `"1"`, "Cache-Control", minute, "Content-Range", "bytes 1-2/9"), would: OutcomeHit, compared: true, differs: DiffersBody},
			{header: []string{"Range", "bytes=7-"}, answer: answerWith(416, "", "Content-Range", "bytes */3"), would: OutcomeHit, compared: true},
			{header: []string{"Range", "bytes=1-"}, answer: answerWith(416, "", "Content-Range", "bytes */0"), would: OutcomeHit, compared: true, differs: DiffersStatus},
		}},
		"a 412 and a 416 are not stored": {steps: []observing{
			{header: []string{"If-Match", `"9"`}, answer: answerWith(412, "no", cc...), would: OutcomeMiss},
			{header: []string{"Range", "bytes=9-"}, answer: answerWith(416, "no", cc...), would: OutcomeMiss},
			{answer: answer200("one", cc...), would: OutcomeMiss},
		}},
		"a page by cookie": {steps: []observing{
			{answer: answer200("for all", cc...), would: OutcomeMiss},
			{header: []string{"Cookie", "session=a"}, answer: answer200("for a", cc...), would: OutcomeHit, compared: true, differs: DiffersBody},
		}},
		"client directives": {steps: []observing{
			{header: []string{"Cache-Control", "only-if-cached"}, answer: answer200("one", cc...), would: OutcomeMiss},
			{header: []string{"Cache-Control", "no-store"}, answer: answer200("one", cc...), would: OutcomeMiss},
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{header: []string{"Cache-Control", "no-cache"}, answer: answer200("two", cc...), would: OutcomeMiss},
			{answer: answer200("two", cc...), would: OutcomeHit, compared: true},
		}},
		"a missing page": {rules: Rules{Policy: rfc9111.Policy{}}, steps: []observing{
			{answer: answer200("one", cc...), would: OutcomeMiss},
			{header: []string{"Cache-Control", "no-cache"}, answer: answerWith(404, "gone"), would: OutcomeMiss},
			{answer: answer200("two", cc...), would: OutcomeMiss},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, seen := newObserving(t, story.rules)
				for i := range story.steps {
					t.Logf("step %d", i+1)
					story.steps[i].run(t, h, seen)
					time.Sleep(time.Second) // what is asked for later is older than the request
				}
			})
		})
	}
}

// What is stale would be validated, served while it is refreshed, or served where the origin fails.
func TestObserveStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := newObserving(t, Rules{})
		do := func(s observing) { t.Helper(); s.run(t, h, seen) }
		tagged := func(tag string) handlerFunc { return answer200(tag, "Cache-Control", minute, "Etag", `"`+tag+`"`) }
		do(observing{answer: tagged("1"), would: OutcomeMiss})
		time.Sleep(2 * time.Minute)
		do(observing{answer: tagged("1"), would: OutcomeRevalidated})
		do(observing{answer: tagged("1"), would: OutcomeHit, compared: true})
		time.Sleep(2 * time.Minute)
		do(observing{answer: tagged("2"), would: OutcomeMiss})
		time.Sleep(2 * time.Minute)
		client := []string{"If-None-Match", `"2"`}
		do(observing{header: client, answer: answerWith(304, "", "Etag", `"2"`, "Cache-Control", minute), would: OutcomeRevalidated})
		do(observing{answer: tagged("2"), would: OutcomeHit, compared: true})
		time.Sleep(2 * time.Minute)
		do(observing{header: []string{"If-None-Match", `"7"`}, answer: answerWith(304, "", "Etag", `"7"`), would: OutcomeMiss})
		do(observing{method: "HEAD", answer: answer200("", "Etag", `"2"`), would: OutcomeRevalidated})
		do(observing{answer: tagged("2"), would: OutcomeRevalidated})

		swr := answer200("swr", "Cache-Control", "max-age=60, stale-while-revalidate=600")
		do(observing{target: "swr", answer: swr, would: OutcomeMiss})
		time.Sleep(2 * time.Minute)
		other := answer200("later", "Cache-Control", "max-age=60, stale-while-revalidate=600")
		do(observing{target: "swr", answer: other, would: OutcomeStale, compared: true, differs: DiffersBody})
		do(observing{target: "swr", answer: other, would: OutcomeHit, compared: true})

		sie := answer200("sie", "Cache-Control", "max-age=60, stale-if-error=600")
		do(observing{target: "sie", answer: sie, would: OutcomeMiss})
		time.Sleep(2 * time.Minute)
		do(observing{target: "sie", answer: answerWith(503, "down"), would: OutcomeStale})
		do(observing{target: "sie", answer: sie, would: OutcomeStale, compared: true}) // the origin is failing
	})
}

// A second request at the same time is answered by the origin at once, and would have had the
// answer to the first.
func TestObserveCollapsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := newObserving(t, Rules{})
		release, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			s := observing{answer: answer200("one", "Cache-Control", minute)}
			answer := s.answer
			s.answer = func(w http.ResponseWriter, r *http.Request) error { <-release; return answer(w, r) }
			if err := h.ServeHTTP(httptest.NewRecorder(), newTestRequest(nil), s.answer); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		for _, c := range []struct {
			answer handlerFunc
			want   Outcome
		}{{answer200("one", "Cache-Control", minute), OutcomeCollapsed}, {answer200("one", "Cache-Control", "private"), OutcomeMiss}} {
			if err := h.ServeHTTP(httptest.NewRecorder(), newTestRequest(nil), c.answer); err != nil {
				t.Fatal(err)
			}
			if found := seen.take(); len(found) != 1 || found[0].Would != c.want {
				t.Errorf("want one %v, got %+v", c.want, found)
			}
		}
		close(release)
		<-done
		if found := seen.take(); len(found) != 1 || found[0].Would != OutcomeMiss {
			t.Errorf("the first: %+v", found)
		}
	})
}

// What a client gets is what the origin sends, to the byte, and the origin gets what the client
// sends.
func TestObserveChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := newObserving(t, Rules{Key: KeyRules{Query: QueryRules{Ignore: []string{"utm_*"}}}})
		for range 2 {
			r := httptest.NewRequest(http.MethodGet, "http://EXAMPLE.com/a?utm_source=x", nil)
			r.Header = http.Header{
				"Upgrade": {"h2c"}, "Connection": {"Upgrade, HTTP2-Settings"}, "Http2-Settings": {"AAAA"},
				"If-None-Match": {`"1"`}, "Range": {"bytes=0-1"}, "Cache-Control": {"max-age=0"},
			}
			sent := r.Header.Clone()
			w := httptest.NewRecorder()
			w.Header()["Server"] = []string{"front"}
			if err := h.ServeHTTP(w, r, func(w http.ResponseWriter, r *http.Request) error {
				if r.Host != "EXAMPLE.com" || r.URL.RawQuery != "utm_source=x" || fmt.Sprint(r.Header) != fmt.Sprint(sent) {
					t.Errorf("the origin got %s %s %v", r.Host, r.URL, r.Header)
				}
				w.Header().Set("Surrogate-Key", "a b")
				w.Header().Set("Cache-Control", minute)
				w.Header().Set("X-Accel-Buffering", "no")
				w.Header()["Trailer"] = []string{"X-End"}
				_, err := io.Copy(w, strings.NewReader("the page"))
				w.Header().Set("X-End", "yes")
				return err
			}); err != nil {
				t.Fatal(err)
			}
			got := w.Result()
			if got.Header.Get("Surrogate-Key") != "a b" || got.Header.Get("Server") != "front" || got.Header.Get("Age") != "" ||
				got.Trailer.Get("X-End") != "yes" || w.Body.String() != "the page" || w.Flushed {
				t.Errorf("the client got %v %q, flushed %v", got.Header, w.Body, w.Flushed)
			}
		}
	})
}

// What was stored while a route observed answers when it serves, unless a fetch would have asked
// otherwise.
func TestServeWhatWasObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := Rules{Key: KeyRules{Query: QueryRules{Ignore: []string{"utm_*"}}}}
		h, seen := newObserving(t, rules)
		serving := &testHandler{h.cache.NewRoute(rules, nil)}
		do := func(s observing) { t.Helper(); s.run(t, h, seen) }
		serve := func(path, want string) {
			t.Helper()
			w := httptest.NewRecorder()
			defer time.Sleep(time.Second) // for the goroutine of a fetch
			if err := serving.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://example.com/"+path, nil), answer200("fetched", "Cache-Control", minute)); err != nil {
				t.Fatal(err)
			}
			if got := w.Body.String(); got != want {
				t.Errorf("%q: %q, want %q", path, got, want)
			}
		}
		do(observing{target: "plain", answer: answer200("stored", "Cache-Control", minute), would: OutcomeMiss})
		serve("plain", "stored")
		do(observing{target: "camp?utm_source=evil", answer: answer200("evil", "Cache-Control", minute), would: OutcomeMiss})
		do(observing{target: "camp?utm_source=two", answer: answer200("two", "Cache-Control", minute), would: OutcomeHit, compared: true, differs: DiffersBody})
		serve("camp", "fetched")
		do(observing{target: "plain?utm_source=gone", header: []string{"Cache-Control", "no-cache"}, answer: answerWith(404, ""), would: OutcomeMiss})
		serve("plain", "stored") // the page without the parameter is not gone
		do(observing{target: "camp?utm_source=two", answer: answer200("fetched", "Cache-Control", minute), would: OutcomeHit, compared: true})
	})
}

// An answer that breaks off is neither stored nor compared.
func TestObserveBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := newObserving(t, Rules{})
		broken := errors.New("broken")
		for _, compared := range []bool{false, true} {
			for _, end := range []func() error{func() error { return broken }, func() error { panic(http.ErrAbortHandler) }} {
				err := guarded(func() error {
					return h.ServeHTTP(httptest.NewRecorder(), newTestRequest(nil), func(w http.ResponseWriter, _ *http.Request) error {
						w.Header().Set("Cache-Control", minute)
						_, _ = io.WriteString(w, "half")
						return end()
					})
				})
				if err == nil {
					t.Error("no error")
				}
				synctest.Wait()
				if found := seen.take(); len(found) != 1 || found[0].Compared || found[0].Would == OutcomeHit != compared {
					t.Errorf("%+v", found)
				}
			}
			if !compared {
				ask(t, h, answer200("whole", "Cache-Control", minute))
				seen.take()
			}
		}
	})
}

// A client that leaves has its copy end, and the store has nothing of it.
func TestObserveClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, seen := newObserving(t, Rules{})
		w := &failingWriter{header: make(http.Header)}
		_ = h.ServeHTTP(w, newTestRequest(nil), answer200("one", "Cache-Control", minute))
		synctest.Wait()
		seen.take()
		ask(t, h, answer200("two", "Cache-Control", minute))
		if found := seen.take(); found[0].Would != OutcomeMiss {
			t.Errorf("%+v", found[0])
		}
	})
}

// failingWriter is the writer of a client that has left.
type failingWriter struct{ header http.Header }

func (w *failingWriter) Header() http.Header       { return w.header }
func (w *failingWriter) Write([]byte) (int, error) { return 0, errors.New("the client has left") }
func (w *failingWriter) WriteHeader(int)           {}

// A body for which there is no room, or that is too large, reaches its client whole and is not
// stored.
func TestObserveLargeBodies(t *testing.T) {
	for name, setUp := range map[string]struct {
		rules    Rules
		settings store.Settings
	}{
		"past max_body":   {Rules{MaxBody: 1 << 20}, store.Settings{Memory: 256 << 20}},
		"past the memory": {Rules{}, store.Settings{Memory: 1 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandlerWith(t, store.Config{}, setUp.settings)
			seen := new(observations)
			h.cache.metrics = seen
			setUp.rules.Observe = true
			h.Route = h.cache.NewRoute(setUp.rules, nil)
			body := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
			for range 2 {
				w := ask(t, h, func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Cache-Control", minute)
					_, err := io.Copy(w, strings.NewReader(body))
					return err
				})
				if w.Body.String() != body {
					t.Error("the body is another one")
				}
				if found := seen.take(); len(found) != 1 || found[0].Would != OutcomeMiss {
					t.Errorf("%+v", found[0])
				}
			}
		})
	}
}

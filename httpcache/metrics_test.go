package httpcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
)

// ledger is a Metrics that writes down what it is told.
type ledger struct {
	mu    sync.Mutex
	lines []string
}

// Request implements Metrics.
func (l *ledger) Request(q *Request) { l.add("%s %d B of %s", q.Decision().Outcome, q.Sent(), q.URL()) }

// FetchDone implements Metrics.
func (l *ledger) FetchDone(kind FetchKind, result FetchResult, took time.Duration, of Subject) {
	if (took > 0) == (result == FetchRefused || kind == FetchPass) {
		l.add("took %s", took)
	}
	l.add("%s: %s of %s", kind, result, of.URL())
}

// NotStored implements Metrics.
func (l *ledger) NotStored(reason rfc9111.Reason, of Subject) {
	l.add("not stored: %s, %s", reason, of.URL())
}

// Observed implements Metrics.
func (l *ledger) Observed(found *Observed) { l.add("would be %s: %s", found.Would, found.URL) }

func (l *ledger) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take returns what was written down, when all that was begun has ended.
func (l *ledger) take(h *testHandler) []string {
	for h.cache.Users() > 0 {
		runtime.Gosched()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// newLedger returns a handler and what it counts.
func newLedger(t *testing.T) (*testHandler, *ledger) {
	h, l := newTestHandler(t), new(ledger)
	h.cache.metrics = l
	return h, l
}

const testURL = "http://example.com/some/path?and=query"

// tenBytes answers with a body of ten bytes and header fields given as pairs.
func tenBytes(status int, header ...string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "0123456789")
		return nil
	}
}

// Each answer is counted once, with the bytes of its body that went to the client.
func TestRequestsAreCountedWithTheirBytes(t *testing.T) {
	fresh := tenBytes(http.StatusOK, "Cache-Control", "max-age=60", "Etag", `"v1"`)
	for _, tc := range []struct {
		name, method string
		header       []string
		cold         bool
		want         string
	}{
		{name: "miss", cold: true, want: "miss 10 B"},
		{name: "hit", want: "hit 10 B"},
		{name: "HEAD", method: http.MethodHead, want: "hit 0 B"},
		{name: "cold HEAD", method: http.MethodHead, cold: true, want: "miss 0 B"},
		{name: "304", header: []string{"If-None-Match", `"v1"`}, want: "hit 0 B"},
		{name: "part", header: []string{"Range", "bytes=2-4"}, want: "hit 3 B"},
		{name: "not satisfiable", header: []string{"Range", "bytes=20-"}, want: "hit 0 B"},
		{name: "passed", method: http.MethodPost, want: "bypass 10 B"},
		{name: "only if cached", header: []string{"Cache-Control", "only-if-cached"}, cold: true, want: "miss 0 B"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, l := newLedger(t)
			if !tc.cold {
				ask(t, h, fresh)
				l.take(h)
			}
			w := httptest.NewRecorder()
			r := newTestRequest(w, tc.header...)
			if tc.method != "" {
				r.Method = tc.method
			}
			_ = h.ServeHTTP(w, r, fresh)
			if lines := l.take(h); !slices.Contains(lines, tc.want+" of "+testURL) {
				t.Errorf("counted %q, want %s", lines, tc.want)
			}
		})
	}
}

// Parts are counted with what stands around them: it is the Content-Length.
func TestPartsAreCounted(t *testing.T) {
	h, l := newLedger(t)
	ask(t, h, tenBytes(http.StatusOK, "Cache-Control", "max-age=60"))
	l.take(h)
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, newTestRequest(w, "Range", "bytes=0-1,5-6"), nil); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("hit %d B of %s", w.Body.Len(), testURL)
	if lines := l.take(h); !slices.Equal(lines, []string{want}) || w.Code != http.StatusPartialContent {
		t.Errorf("%d, counted %q, want %q", w.Code, lines, want)
	}
}

// brokenWriter takes the first bytes of a body only.
type brokenWriter struct {
	*httptest.ResponseRecorder
	room int
}

// Write implements io.Writer.
func (w *brokenWriter) Write(p []byte) (int, error) {
	n := min(w.room, len(p))
	w.room -= n
	if n < len(p) {
		return n, errors.New("the client has left")
	}
	return n, nil
}

// An answer that breaks off is counted with what went out.
func TestBrokenAnswersAreCounted(t *testing.T) {
	h, l := newLedger(t)
	ask(t, h, tenBytes(http.StatusOK, "Cache-Control", "max-age=60"))
	l.take(h)
	w := &brokenWriter{httptest.NewRecorder(), 4}
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // a panic's value
				t.Errorf("panic %v", v)
			}
		}()
		_ = h.ServeHTTP(w, newTestRequest(w), nil)
	}()
	if lines := l.take(h); !slices.Equal(lines, []string{"hit 4 B of " + testURL}) {
		t.Errorf("counted %q", lines)
	}
}

// Each request to the origin is counted with what came of it.
func TestFetchesAreCountedByResult(t *testing.T) {
	abort := func(w http.ResponseWriter, _ *http.Request) error { panic(http.ErrAbortHandler) }
	for _, tc := range []struct {
		name   string
		next   handlerFunc
		result string
	}{
		{"200", tenBytes(http.StatusOK, "Cache-Control", "max-age=60"), "ok"},
		{"404", tenBytes(http.StatusNotFound), "ok"},
		{"404 as an error", func(http.ResponseWriter, *http.Request) error { return fail(http.StatusNotFound, nil) }, "ok"},
		{"500", tenBytes(http.StatusInternalServerError), "error"},
		{"502 as an error", func(http.ResponseWriter, *http.Request) error { return fail(http.StatusBadGateway, nil) }, "error"},
		{"429", tenBytes(http.StatusTooManyRequests), "error"},
		{"504", tenBytes(http.StatusGatewayTimeout), "timeout"},
		{"504 as an error", func(http.ResponseWriter, *http.Request) error { return fail(http.StatusGatewayTimeout, nil) }, "timeout"},
		{"breaks off", func(w http.ResponseWriter, r *http.Request) error {
			_ = tenBytes(http.StatusOK, "Cache-Control", "max-age=60")(w, r)
			return abort(w, r)
		}, "error"},
		{"abort", abort, "cancelled"},
		{"short, and nothing is said of it", tenBytes(http.StatusOK, "Cache-Control", "max-age=60", "Content-Length", "11"), "error"},
		{"short, and not stored", tenBytes(http.StatusOK, "Cache-Control", "no-store", "Content-Length", "11"), "error"},
		{"short by ReadFrom", func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", "11")
			_, err := io.Copy(w, io.MultiReader(strings.NewReader("0123456789"))) // which has no WriteTo
			return err
		}, "error"},
		{"as long as it says", tenBytes(http.StatusOK, "Cache-Control", "max-age=60", "Content-Length", "10"), "ok"},
		{"no body is due", func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusNoContent)
			return nil
		}, "ok"},
	} {
		for kind, method := range map[string]string{"miss": http.MethodGet, "pass": http.MethodPost} {
			t.Run(tc.name+", "+kind, func(t *testing.T) {
				h, l := newLedger(t)
				w := httptest.NewRecorder()
				r := newTestRequest(w)
				r.Method = method
				_ = guarded(func() error { return h.ServeHTTP(w, r, tc.next) })
				want := kind + ": " + tc.result + " of " + testURL
				lines := l.take(h)
				if n := len(slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return s != want })); n != 1 {
					t.Errorf("counted %q, want %q once", lines, want)
				}
			})
		}
	}
}

// A validation of what a client waits for is a miss, and one behind a stale answer a refresh.
func TestValidationsAreCounted(t *testing.T) {
	for name, tc := range map[string]struct{ control, want string }{
		"waits":   {"max-age=0", "miss: not_modified"},
		"refresh": {"max-age=0, stale-while-revalidate=60", "refresh: not_modified"},
	} {
		t.Run(name, func(t *testing.T) {
			h, l := newLedger(t)
			header := []string{"Cache-Control", tc.control, "Etag", `"v1"`}
			ask(t, h, tenBytes(http.StatusOK, header...))
			l.take(h)
			ask(t, h, tenBytes(http.StatusNotModified, header...))
			if lines := l.take(h); !slices.Contains(lines, tc.want+" of "+testURL) {
				t.Errorf("counted %q, want %q", lines, tc.want)
			}
		})
	}
}

// What finds no place at the origin is counted as refused, and what its client leaves as cancelled.
func TestRefusedAndCancelledFetchesAreCounted(t *testing.T) {
	h, l := newLedger(t)
	h.Budget = origin.New("", origin.Limits{MaxConcurrent: 1}, nil)
	client, leave := context.WithCancel(context.Background())
	inside, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		w := httptest.NewRecorder()
		_ = h.ServeHTTP(w, newTestRequest(w, "Cache-Control", "no-store").WithContext(client), func(_ http.ResponseWriter, r *http.Request) error {
			close(inside)
			<-r.Context().Done()
			return fail(statusClientGone, r.Context().Err())
		})
	}()
	<-inside
	w := httptest.NewRecorder()
	other := newTestRequest(w)
	other.URL.Path = "/other"
	_ = h.ServeHTTP(w, other, nil)
	leave()
	<-done
	lines := strings.Join(l.take(h), "\n")
	for _, want := range []string{"miss: refused of http://example.com/other?and=query", "pass: cancelled of " + testURL} {
		if !strings.Contains(lines, want) {
			t.Errorf("%q is missing in:\n%s", want, lines)
		}
	}
}

// What is not stored is counted with its URL, fetched or passed on.
func TestNotStoredIsCountedWithItsURL(t *testing.T) {
	h, l := newLedger(t)
	for _, round := range []string{"fetched", "passed on"} {
		ask(t, h, tenBytes(http.StatusOK, "Cache-Control", "no-store"))
		if lines := l.take(h); !slices.Contains(lines, "not stored: no-store, "+testURL) {
			t.Errorf("%s: counted %q", round, lines)
		}
	}
}

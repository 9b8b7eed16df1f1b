package httpcache

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Handlers may return the status of an answer as an error. For a slice that says what the answer
// would say, and nothing of the page.
func TestSliceThatFailsByAnError(t *testing.T) {
	for _, c := range []struct {
		status int
		header []string
		stays  bool
	}{
		{404, nil, false},
		{404, []string{"Cookie", "a=b"}, true},
		{410, []string{"Authorization", "x"}, true},
		{403, nil, true},
		{500, nil, true},
	} {
		h, f := newSlicing(t), newFilm(80, 1000)
		f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
		w := httptest.NewRecorder()
		err := h.ServeHTTP(w, newTestRequest(w, append(c.header, "Range", "bytes=210-219")...), func(http.ResponseWriter, *http.Request) error {
			return fail(c.status, errIncomplete)
		})
		if statusOf(err) != c.status {
			t.Errorf("%v, want the origin's %d", err, c.status)
		}
		if stays := h.cache.store.Stats().Memory.Entries > 0; stays != c.stays {
			t.Errorf("after %d to %q the file is there: %t", c.status, c.header, stays)
		}
	}
	h, f := newSlicing(t), newFilm(80, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	var failed atomic.Bool
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	if err := h.ServeHTTP(w, r, func(w http.ResponseWriter, r *http.Request) error {
		if r.Header.Get("Range") == "bytes=500-599" && failed.CompareAndSwap(false, true) {
			return fail(http.StatusForbidden, errIncomplete)
		}
		return f.serve(w, r)
	}); err != nil || !bytes.Equal(w.Body.Bytes(), f.content) {
		t.Errorf("%v, after %d bytes", err, w.Body.Len())
	}
	q := h.newRequest(w, r, f.serve)
	q.readKey()
	if got := q.sharing(); got != sharingOpen {
		t.Errorf("after a slice that has failed requests for the file share no fetch: %d", got)
	}
}

// The fetch breaks off a part that it cannot use. A panic of the handlers at that is logged, unless
// it is how they break off.
func TestPanicAtAPartThatIsBrokenOff(t *testing.T) {
	for value, lines := range map[any]int{"out of cheese": 1, http.ErrAbortHandler: 0} {
		h, f := newSlicing(t), newFilm(81, 1000)
		var log bytes.Buffer
		h.Logger = slog.New(slog.NewTextHandler(&log, nil))
		f.alter = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Del("Etag")
			w.Header().Set("Content-Range", "bytes 500-599/1000")
			w.WriteHeader(http.StatusPartialContent)
			panic(value)
		}
		f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, "Larder; fwd=uri-miss; fwd-status=200; stored")
		if got := strings.Count(log.String(), "level=ERROR"); got != lines {
			t.Errorf("%v: %d lines, want %d:\n%s", value, got, lines, &log)
		}
	}
}

// A refresh that is answered with 416 is not made again at once.
func TestRefreshBacksOffAfter416(t *testing.T) {
	h, f := newSlicing(t), newFilm(82, 1000)
	h.Policy.MaxTTL, h.Policy.StaleWhileRevalidate = time.Nanosecond, time.Hour
	_ = f.get(t, h, "Range", "bytes=110-119")
	f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return true
	}
	f.take()
	for range 3 {
		_ = f.get(t, h, "Range", "bytes=110-119", "Cookie", "a=b")
	}
	f.wantAsked(t, `bytes=100-199 "v1"`)
}

// What is stale stands in, too, where the origin fails at the whole after it has answered in parts
// that cannot be stored.
func TestStaleStandsInWhereTheWholeFails(t *testing.T) {
	h, f := newSlicing(t), newFilm(83, 1000)
	h.Policy.MaxTTL, h.Policy.StaleIfError = time.Nanosecond, time.Hour
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		w.Header().Set("Etag", `W/"v2"`)
		return false
	}
	if w := f.get(t, h, "Range", "bytes=110-119"); w.Code != 206 || w.Body.String() != string(f.content[110:120]) {
		t.Errorf("%d, %s", w.Code, w.Header().Get("Cache-Status"))
	}
}

// Where the origin fails, those whose slices are there get them, and the others the failure, by one
// request.
func TestFailureForThoseWhoLackSlices(t *testing.T) {
	for name, order := range map[string][]string{
		"one that has its slices leads": {"bytes=110-119", "bytes=210-219"},
		"one that lacks them leads":     {"bytes=210-219", "bytes=110-119"},
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(84, 1000)
			h.Policy.MaxTTL, h.Policy.StaleIfError = time.Nanosecond, time.Hour
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			f.take()
			asked, joined := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				once.Do(func() { close(asked) })
				<-joined
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			}
			var requests sync.WaitGroup
			ask := func(asked string) {
				w := httptest.NewRecorder()
				err := h.ServeHTTP(w, newTestRequest(w, "Range", asked), f.serve)
				if has := asked == "bytes=110-119"; has && (err != nil || w.Body.String() != string(f.content[110:120])) {
					t.Errorf("of what is there: %d, %v", w.Code, err)
				} else if !has && w.Code != http.StatusServiceUnavailable && statusOf(err) != http.StatusServiceUnavailable {
					t.Errorf("of what is missing: %d, %v", w.Code, err)
				}
			}
			requests.Go(func() { ask(order[0]) })
			<-asked
			flight, m, ok := h.cache.flights.JoinRunning(h.newKeyed(t), nil)
			if !ok {
				t.Fatal("no fetch is under way")
			}
			m.Leave()
			requests.Go(func() { ask(order[1]) })
			for flight.Waiting() == 0 {
				runtime.Gosched()
			}
			close(joined)
			requests.Wait()
			if got := f.take(); len(got) != 1 || !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "bytes=") }) {
				t.Errorf("the origin was asked for %q", got)
			}
		})
	}
}

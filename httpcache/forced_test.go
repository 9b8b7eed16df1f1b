package httpcache

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// endless is an origin whose body is as long as it says, and of which more than its beginning comes
// only to who reads all of it.
type endless struct {
	etag   func(call int) string // "" is none
	mu     sync.Mutex
	calls  int
	whole  bool          // all of it comes
	asked  []string      // method and Range
	broken chan struct{} // one value for each answer that was broken off
}

const (
	endlessLength = 4 << 20
	endlessBegin  = 128 << 10
)

func newEndless(etag func(call int) string) *endless {
	return &endless{etag: etag, whole: true, broken: make(chan struct{}, 16)}
}

func (e *endless) serve(w http.ResponseWriter, r *http.Request) error {
	e.mu.Lock()
	e.calls++
	call, whole := e.calls, e.whole
	e.asked = append(e.asked, r.Method+" "+r.Header.Get("Range"))
	e.mu.Unlock()
	h := w.Header()
	h.Set("Cache-Control", "max-age=3600")
	h.Set("Content-Type", "video/mp4")
	if tag := e.etag(call); tag != "" {
		h.Set("Etag", tag)
	}
	if r.Header.Get("Range") != "" || r.Method == http.MethodHead {
		h.Set("Content-Range", "bytes 1000000-1000001/4194304")
		w.WriteHeader(http.StatusPartialContent)
		_, err := w.Write([]byte("xy"))
		return err
	}
	h.Set("Content-Length", "4194304")
	piece := make([]byte, endlessBegin)
	piece[0] = byte(call)
	for sent := 0; sent < endlessLength; sent += len(piece) {
		if sent > 0 && !whole {
			select {
			case <-r.Context().Done():
				e.broken <- struct{}{}
				return context.Cause(r.Context())
			case <-time.After(time.Minute):
				return errIncomplete
			}
		}
		if _, err := w.Write(piece); err != nil {
			e.broken <- struct{}{}
			return err
		}
		piece[0] = 0
	}
	return nil
}

// What is stored is fresh, and cannot be validated. A client that says no-cache and reads little of
// what comes, or nothing, has the origin send no more, and what is stored stays.
func TestForcedFetchEndsWithItsReaders(t *testing.T) {
	for name, etag := range map[string]func(int) string{
		"without validator": func(int) string { return "" },
		"another each time": func(call int) string { return `"` + string(rune('a'+call)) + `"` },
	} {
		for _, fields := range [][]string{
			{"HEAD"},
			{"GET", "Range", "bytes=0-0"},
			{"GET", "Range", "bytes=5-70000"},
			{"GET", "If-None-Match", "*"},
		} {
			if fields[0] == "HEAD" && name == "without validator" {
				continue // passed on, see TestForcedRequestIsPassedOn
			}
			t.Run(name+" "+fields[len(fields)-1], func(t *testing.T) {
				h, e := newTestHandler(t), newEndless(etag)
				if w := ask(t, h, e.serve); w.Body.Len() != endlessLength {
					t.Fatalf("%d bytes", w.Body.Len())
				}
				e.mu.Lock()
				e.whole = false
				e.mu.Unlock()
				w := httptest.NewRecorder()
				r := newTestRequest(w, append(fields[1:], "Cache-Control", "no-cache")...)
				r.Method = fields[0]
				if err := h.ServeHTTP(w, r, e.serve); err != nil {
					t.Fatal(err)
				}
				select {
				case <-e.broken:
				case <-time.After(time.Minute):
					t.Fatal("the origin is not broken off")
				}
				w = ask(t, h, e.serve)
				if got := w.Header().Get("Cache-Status"); got != "Larder; hit; ttl=3599" && got != "Larder; hit; ttl=3600" || w.Body.Bytes()[0] != 1 {
					t.Errorf("then %q with the body of call %d, want what was stored", got, w.Body.Bytes()[0])
				}
			})
		}
	}
}

// A header, or a part that lies far in what would come whole, is asked for by itself.
func TestForcedRequestIsPassedOn(t *testing.T) {
	none, another := func(int) string { return "" }, func(call int) string { return `"` + string(rune('a'+call)) + `"` }
	for name, tc := range map[string]struct {
		etag   func(int) string
		fields []string
		calls  int
	}{
		"a part, without validator": {none, []string{"GET", "Range", "bytes=1000000-1000001"}, 2},
		"another tag each time":     {another, []string{"GET", "Range", "bytes=1000000-1000001"}, 3},
		"HEAD, without validator":   {none, []string{"HEAD"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			h, e := newTestHandler(t), newEndless(tc.etag)
			ask(t, h, e.serve)
			e.whole = false
			w := httptest.NewRecorder()
			r := newTestRequest(w, append(tc.fields[1:], "Cache-Control", "no-cache")...)
			r.Method = tc.fields[0]
			if err := h.ServeHTTP(w, r, e.serve); err != nil || w.Code != http.StatusPartialContent || w.Body.String() != "xy" {
				t.Fatalf("%d with %d bytes, %v", w.Code, w.Body.Len(), err)
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			if e.calls != tc.calls || e.asked[e.calls-1] != r.Method+" "+r.Header.Get("Range") {
				t.Errorf("the origin was asked for %q", e.asked)
			}
		})
	}
}

// A reload that is read to its end replaces what is stored, although its client leaves with the
// last byte.
func TestForcedFetchThatIsReadReplaces(t *testing.T) {
	h, e := newTestHandler(t), newEndless(func(int) string { return "" })
	ask(t, h, e.serve)
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, newTestRequest(w, "Cache-Control", "no-cache"), e.serve); err != nil || w.Body.Len() != endlessLength {
		t.Fatalf("%d bytes, %v", w.Body.Len(), err)
	}
	if got := ask(t, h, e.serve).Body.Bytes()[0]; got != 2 {
		t.Errorf("then the body of call %d", got)
	}
}

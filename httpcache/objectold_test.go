package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// An answer that has all it needs goes on to its end, whatever becomes of the head.
func TestAnswerOfTheOldVersionGoesOn(t *testing.T) {
	gone := func(f *film) {
		f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusNotFound)
			return true
		}
	}
	for name, happens := range map[string]func(t *testing.T, h *testHandler, f *film){
		"another version, seen by a validation": func(t *testing.T, h *testHandler, f *film) {
			f.change(filmBytes(41, 1000))
			f.want(t, f.get(t, h, "Range", "bytes=0-0", "Cache-Control", "no-cache"), 206, 0, 1, "Larder; fwd=request; stored")
		},
		"another version, seen by a slice": func(t *testing.T, h *testHandler, f *film) {
			f.change(filmBytes(41, 1100))
			f.want(t, f.get(t, h, "Range", "bytes=950-959"), 206, 950, 960, cold)
		},
		"it is gone": func(t *testing.T, h *testHandler, f *film) {
			gone(f)
			if w := f.get(t, h, "Range", "bytes=950-959"); w.Code != http.StatusNotFound {
				t.Errorf("%d", w.Code)
			}
		},
		"a soft purge": func(t *testing.T, h *testHandler, f *film) {
			f.change(filmBytes(41, 1000))
			if _, err := h.cache.store.Purge(store.Selectors{All: true}, store.PurgeOptions{Severity: store.Soft}); err != nil {
				t.Error(err)
			}
			f.want(t, f.get(t, h, "Range", "bytes=0-0"), 206, 0, 1, "Larder; fwd=stale; stored")
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(40, 1000)
			old := f.content
			f.want(t, f.get(t, h, "Range", "bytes=0-899"), 206, 0, 900, "Larder; fwd=uri-miss; stored")
			reader, ended := &waiting{ResponseRecorder: httptest.NewRecorder(), come: make(chan struct{}), goOn: make(chan struct{})}, make(chan bool)
			go func() { ended <- f.read(h, reader, newTestRequest(reader, "Range", "bytes=0-899")) }()
			<-reader.come
			reading := h.cache.Fetches() // none, and get waits for that
			happens(t, h, f)
			close(reader.goOn)
			if broke := <-ended; broke || reading > 0 || !bytes.Equal(reader.Body.Bytes(), old[:900]) {
				t.Errorf("broken off: %t, after %d bytes", broke, reader.Body.Len())
			}
		})
	}
}

// waiting is a recorder that stops in its first Write.
type waiting struct {
	*httptest.ResponseRecorder
	come, goOn chan struct{}
	begun      bool
}

// Write implements io.Writer.
func (w *waiting) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		close(w.come)
		<-w.goOn
	}
	return w.ResponseRecorder.Write(p)
}

// A request that starts the refresh of a stale file gets all of it, although the refresh brings
// another version meanwhile.
func TestRefreshLeavesItsOwnAnswerWhole(t *testing.T) {
	h, f := newSlicing(t), newFilm(42, 1000)
	h.Policy.MaxTTL, h.Policy.StaleWhileRevalidate = time.Nanosecond, time.Hour
	old := f.content
	if w := f.get(t, h, "Range", "bytes=0-"); !bytes.Equal(w.Body.Bytes(), old) {
		t.Fatalf("%d bytes", w.Body.Len())
	}
	f.change(filmBytes(43, 1100))
	reader, ended := &waiting{ResponseRecorder: httptest.NewRecorder(), come: make(chan struct{}), goOn: make(chan struct{})}, make(chan bool)
	go func() { ended <- f.read(h, reader, newTestRequest(reader)) }()
	<-reader.come
	for deadline := time.Now().Add(10 * time.Second); h.cache.Fetches() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(reader.goOn)
	if broke := <-ended; broke || !bytes.Equal(reader.Body.Bytes(), old) {
		t.Errorf("broken off: %t, after %d bytes; %s", broke, reader.Body.Len(), reader.Header().Get("Cache-Status"))
	}
	if w := f.get(t, h); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), f.content) {
		t.Errorf("the next one: %d, %d bytes", w.Code, w.Body.Len())
	}
}

package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// wholeFilm is a film whose fetch of the whole stands still after 50 bytes, until goOn is closed.
type wholeFilm struct {
	*film
	goOn chan struct{}
	read sync.WaitGroup
}

// newWholeFilm begins to read the whole of a film of 2,000 bytes, and returns when 50 have come.
func newWholeFilm(t *testing.T, h *testHandler, seed uint64) *wholeFilm {
	t.Helper()
	f := &wholeFilm{film: newFilm(seed, 2000), goOn: make(chan struct{})}
	begun, content := make(chan struct{}), f.content
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", "2000")
		_, _ = w.Write(content[:50])
		close(begun)
		<-f.goOn
		_, _ = w.Write(content[50:])
		return true
	}
	f.read.Go(func() {
		w := httptest.NewRecorder()
		if broke := f.film.read(h, w, newTestRequest(w)); broke || !bytes.Equal(w.Body.Bytes(), content) {
			t.Errorf("the whole: broken off: %t, after %d bytes", broke, w.Body.Len())
		}
	})
	<-begun
	return f
}

// ask asks for a part while the whole stands still.
func (f *wholeFilm) ask(h *testHandler, header ...string) (w *httptest.ResponseRecorder, broke bool) {
	w = httptest.NewRecorder()
	broke = f.film.read(h, w, newTestRequest(w, header...))
	return w, broke
}

// A Range far ahead of what has come of a file that is fetched whole does not wait for that. Those
// who ask for the same share a fetch, and the whole is stored as it comes.
func TestRangeFarAheadOfTheWhole(t *testing.T) {
	h := newSlicing(t)
	f := newWholeFilm(t, h, 100)
	held := make(chan struct{})
	whole := f.alter
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") == "bytes=1500-1599" {
			<-held
		}
		return whole(w, r)
	}
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			w, broke := f.ask(h, "Range", "bytes=1510-1519")
			if broke {
				t.Error("the answer has broken off")
			}
			f.want(t, w, 206, 1510, 1520, "Larder; fwd=uri-miss")
		})
	}
	slice := f.flight(t, h, f.flight(t, h, h.newKeyed(t)).Shared().(*sharedResponse).ahead.object.key(15))
	for slice.Waiting() < 2 {
		runtime.Gosched()
	}
	close(held)
	others.Wait()
	if w, _ := f.ask(h, "Range", "bytes=-20"); !bytes.Equal(w.Body.Bytes(), f.content[1980:]) {
		t.Errorf("the last bytes: %d, %d bytes", w.Code, w.Body.Len())
	}
	f.wantAsked(t, "", "bytes=1500-1599", "bytes=1900-1999")
	close(f.goOn)
	f.read.Wait()
	f.want(t, f.get(t, h, "Range", "bytes=1510-1519"), 206, 1510, 1520, hit)
	f.wantAsked(t)
}

// A Range that is not far ahead waits for the whole, and so does one where the origin has another
// version by then.
func TestRangeThatWaitsForTheWhole(t *testing.T) {
	for name, c := range map[string]struct {
		from, to int
		header   []string
		changes  bool
		asked    []string
	}{
		"near":            {from: 850, to: 860, header: []string{"Range", "bytes=850-859"}, asked: []string{""}},
		"another version": {from: 1510, to: 1520, header: []string{"Range", "bytes=1510-1519"}, changes: true, asked: []string{"", "bytes=1500-1599"}},
		"a condition":     {from: 0, to: 2000, header: []string{"Range", "bytes=1510-1519", "If-Range", `"v0"`}, asked: []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSlicing(t)
			f := newWholeFilm(t, h, 101)
			old := f.content
			if c.changes {
				f.change(filmBytes(102, 2000))
			}
			var other sync.WaitGroup
			other.Go(func() {
				if w, broke := f.ask(h, c.header...); broke || !bytes.Equal(w.Body.Bytes(), old[c.from:c.to]) {
					t.Errorf("%d, broken off: %t, %d bytes", w.Code, broke, w.Body.Len())
				}
			})
			f.awaitReaders(t, h, 2, len(c.asked))
			close(f.goOn)
			other.Wait()
			f.read.Wait()
			f.wantAsked(t, c.asked...)
		})
	}
}

// awaitReaders waits until so many read the whole, and the origin has been asked so often.
func (f *wholeFilm) awaitReaders(t *testing.T, h *testHandler, readers, asked int) {
	t.Helper()
	flight := f.flight(t, h, h.newKeyed(t))
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); runtime.Gosched() {
		f.mu.Lock()
		got := len(f.asked)
		f.mu.Unlock()
		if got == asked && flight.Readers() == readers {
			return
		}
	}
	t.Error("no other request reads the whole")
}

// flight waits for the flight with a key.
func (f *wholeFilm) flight(t *testing.T, h *testHandler, key store.Key) *coalesce.Flight {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); runtime.Gosched() {
		if flight, m, ok := h.cache.flights.JoinRunning(key, nil); ok {
			m.Leave()
			return flight
		}
	}
	t.Fatal("nothing is fetched")
	return nil
}

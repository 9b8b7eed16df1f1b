package httpcache

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
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

	breaks bool // it does then
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
		if f.breaks {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(content[50:])
		return true
	}
	f.read.Go(func() {
		w := httptest.NewRecorder()
		if broke := f.film.read(h, w, newTestRequest(w)); broke != f.breaks || !broke && !bytes.Equal(w.Body.Bytes(), content) {
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
	var led atomic.Int64
	for range 3 {
		others.Go(func() {
			w, broke := f.ask(h, "Range", "bytes=1510-1519")
			if broke {
				t.Error("the answer has broken off")
			}
			if status := f.want206(t, w, 1510, 1520); status == "Larder; fwd=uri-miss" {
				led.Add(1)
			} else if status != collapsedAhead {
				t.Errorf("Cache-Status %q", status)
			}
		})
	}
	slice := f.flight(t, h, h.byRules(f.flight(t, h, h.newKeyed(t)).Shared().(*sharedResponse).ahead.object.key(15)))
	for slice.Waiting() < 2 {
		runtime.Gosched()
	}
	close(held)
	others.Wait()
	if led.Load() != 1 {
		t.Errorf("%d say that they have fetched it", led.Load())
	}
	if w, _ := f.ask(h, "Range", "bytes=-20"); !bytes.Equal(w.Body.Bytes(), f.content[1980:]) {
		t.Errorf("the last bytes: %d, %d bytes", w.Code, w.Body.Len())
	}
	f.wantAsked(t, "", "bytes=1500-1599", "bytes=1900-1999")
	close(f.goOn)
	f.read.Wait()
	f.want(t, f.get(t, h, "Range", "bytes=1510-1519"), 206, 1510, 1520, hit)
	f.wantAsked(t)
}

// collapsedAhead is the status of a Range far ahead whose slice another request has fetched.
const collapsedAhead = "Larder; fwd=uri-miss; fwd-status=206; collapsed"

// want206 wants a part, and returns its Cache-Status.
func (f *wholeFilm) want206(t *testing.T, w *httptest.ResponseRecorder, from, to int) string {
	t.Helper()
	if w.Code != http.StatusPartialContent || !bytes.Equal(w.Body.Bytes(), f.content[from:to]) {
		t.Errorf("%d, %d bytes, want those from %d to %d", w.Code, w.Body.Len(), from, to)
	}
	return w.Header().Get("Cache-Status")
}

// Of what is read ahead of the whole each slice is fetched once, however many ask for it one after
// the other: one byte of it cost a slice each time. What is stored for that goes when the whole has
// come, or has failed.
func TestRangesFarAheadOneAfterTheOther(t *testing.T) {
	for name, fails := range map[string]bool{"the whole comes": false, "the whole breaks off": true} {
		t.Run(name, func(t *testing.T) {
			h := newSlicing(t)
			f := newWholeFilm(t, h, 103)
			if fails {
				f.breaks = true
			}
			for i := range 20 {
				w, broke := f.ask(h, "Range", fmt.Sprintf("bytes=%d-%d", 1500+i, 1500+i))
				want := collapsedAhead
				if i == 0 {
					want = "Larder; fwd=uri-miss"
				}
				if status := f.want206(t, w, 1500+i, 1501+i); broke || status != want {
					t.Errorf("%d: broken off %t, %q", i, broke, status)
				}
				for h.cache.Fetches() > 1 { // the slice is stored when its fetch has ended
					runtime.Gosched()
				}
			}
			f.wantAsked(t, "", "bytes=1500-1599")
			close(f.goOn)
			f.read.Wait()
			for h.cache.Users() > 0 { // a flight that fails ends before its fetch does
				runtime.Gosched()
			}
			used, want := h.cache.store.Stats().Memory.Bytes, int64(0)
			if !fails {
				want = f.alone(t)
			}
			if used != want {
				t.Errorf("%d bytes of memory are used, want %d", used, want)
			}
		})
	}
}

// alone is how much memory the film takes that nothing was read ahead of.
func (f *wholeFilm) alone(t *testing.T) int64 {
	t.Helper()
	h := newSlicing(t)
	other := &film{version: f.version, begun: f.begun, content: f.content}
	other.get(t, h)
	return h.cache.store.Stats().Memory.Bytes
}

// A slice that the store has no room for is fetched by each request that reads it, so a short part
// of it is asked for by itself.
func TestShortPartsWhereSlicesHaveNoRoom(t *testing.T) {
	h := newSlicingWith(t, store.Config{}, store.Settings{Memory: 4 << 20, Eviction: store.None})
	h.Slice = 64 << 10
	f := newFilm(104, 10*64<<10)
	f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
	hour := time.Now().Add(time.Hour)
	for n, room := byte(0), true; room; n++ {
		room = h.cache.store.Put(&store.Entry{
			Key: store.Key{n}, URL: "http://example.com/", Method: http.MethodGet, Status: http.StatusOK,
			FreshUntil: hour, KeepUntil: hour, Body: store.NewBody([][]byte{make([]byte, 32<<10)}),
		}, 0) == store.Stored
	}
	f.take()
	f.want(t, f.get(t, h, "Range", "bytes=70000-70009"), 206, 70000, 70010, partly)
	for range 2 {
		f.want(t, f.get(t, h, "Range", "bytes=70000-70009"), 206, 70000, 70010, "Larder; fwd=partial")
		f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, hit)
	}
	f.want(t, f.get(t, h, "Range", "bytes=70000-80000"), 206, 70000, 80001, partly)
	f.wantAsked(t, "bytes=65536-131071", "bytes=70000-70009", "bytes=70000-70009", "bytes=65536-131071")
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

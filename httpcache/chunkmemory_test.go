package httpcache

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// TestLargeBodiesLeaveTheHeapAlone: what is on its way of a large body lies outside of Go's heap,
// whether it is stored or passed on. Each byte was allocated there once, and the collector lets the
// heap grow to twice of what lives.
func TestLargeBodiesLeaveTheHeapAlone(t *testing.T) {
	const size, rounds = 3 << 20, 8
	for _, tc := range []struct {
		name    string
		maxBody int64
	}{
		{"stored", size},
		{"passed on", size / 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: 64 << 20})
			h.MaxBody = tc.maxBody
			want := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			origin := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=60")
				if tc.maxBody < size { // else it would be known not to be stored
					w.(http.Flusher).Flush()
				} else {
					w.Header().Set("Content-Length", strconv.Itoa(size))
				}
				_, err := io.Copy(w, bytes.NewReader(want))
				return err
			})
			relay := func(i int) {
				w := &comparing{ResponseRecorder: httptest.NewRecorder(), want: want}
				if err := h.ServeHTTP(w, pathRequest(w, "/"+strconv.Itoa(i)), origin); err != nil || len(w.want) > 0 || w.differs {
					t.Errorf("%v, %d bytes are missing, wrong ones %v", err, len(w.want), w.differs)
				}
			}
			relay(0) // what is allocated once
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i := range rounds {
				relay(i + 1)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > rounds*size/8 {
				t.Errorf("%d bytes were allocated on the heap for %d of bodies", n, rounds*size)
			}
			if n := h.cache.store.Stats().InFlight.Chunks; n != 0 {
				t.Errorf("%d bytes of chunks have not been given back", n)
			}
		})
	}
}

// TestLargeBodiesThatSpillLeaveTheHeapAlone: the same goes for what is in memory of bodies that go
// to disk while they come, for clients that take nothing.
func TestLargeBodiesThatSpillLeaveTheHeapAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("all of it is in the heap")
	}
	const size, come, clients = 12 << 20, 8 << 20, 8
	config := store.Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandlerWith(t, config, store.Settings{Memory: 64 << 20, Disk: 1 << 30})
		goesOn, piece := make(chan struct{}), make([]byte, 64<<10)
		origin := func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Length", strconv.Itoa(size))
			for range come / len(piece) {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
			<-goesOn
			return errors.New("it breaks off")
		}
		before := heap()
		all := askedByDeaf(h, clients, origin)
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		inFlight := h.cache.store.Stats().InFlight
		runtime.GC() // what is in pools goes with the second turn
		took := heap() - before
		t.Logf("%d KiB, beside %+v", took>>10, inFlight)
		if counted := inFlight.Kept + inFlight.Beyond; counted < clients<<20 || counted > clients*come*3/4 || inFlight.Chunks < counted*7/8 {
			t.Errorf("%d bytes of chunks for %d of bodies that spill", inFlight.Chunks, counted)
		}
		if took > inFlight.Chunks/4 { // what the disk's transactions have at the time among it
			t.Errorf("%d bytes are in the heap, and %d beside it", took, inFlight.Chunks)
		}
		close(goesOn)
		for _, c := range all {
			_ = c.end()
		}
		time.Sleep(time.Second) // until the workers have ended
		if n := h.cache.store.Stats().InFlight.Chunks; n != 0 {
			t.Errorf("%d bytes of chunks have not been given back", n)
		}
	})
}

// comparing is a client that compares what it is sent, and keeps none of it.
type comparing struct {
	*httptest.ResponseRecorder
	want    []byte // what is to come
	differs bool
}

func (w *comparing) Write(p []byte) (int, error) {
	w.differs = w.differs || !bytes.HasPrefix(w.want, p)
	w.want = w.want[min(len(p), len(w.want)):]
	return len(p), nil
}

// TestSmallerBodiesLeaveTheHeapAlone: so does a body that is smaller than a chunk, or comes in
// small pieces. What a client has in hand of it counts, though the body is stored meanwhile.
func TestSmallerBodiesLeaveTheHeapAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("all of it is in the heap")
	}
	const size, clients = 60_000, 100
	for _, tc := range []struct {
		name  string
		known bool // its length
		piece int
		whole bool // all of it comes
	}{
		{"stored", true, size, true},
		{"stored, of unknown length", false, size, true},
		{"on its way", true, size / 2, false},
		{"on its way in small pieces", false, 2000, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: 64 << 20})
				goesOn := make(chan struct{})
				pieces := make([]byte, tc.piece)
				origin := func(w http.ResponseWriter, _ *http.Request) error {
					w.Header().Set("Cache-Control", "max-age=60")
					if tc.known {
						w.Header().Set("Content-Length", strconv.Itoa(size))
					}
					for range size / tc.piece {
						if _, err := w.Write(pieces); err != nil {
							return err
						}
					}
					if !tc.whole {
						<-goesOn
						return errors.New("it breaks off")
					}
					return nil
				}
				before := heap()
				all := askedByDeaf(h, clients, origin)
				synctest.Wait()
				took, inFlight := heap()-before, h.cache.store.Stats().InFlight
				t.Logf("%d KiB, beside %+v", took>>10, inFlight)
				if counted := inFlight.Kept + inFlight.Passed; counted < clients*size*7/8 || inFlight.Chunks < clients*size*7/8 {
					t.Errorf("%d bytes are counted, %d are in chunks, of %d", counted, inFlight.Chunks, clients*size)
				}
				if took > clients*size*3/4 {
					t.Errorf("%d bytes are in the heap, and %d beside it", took, inFlight.Chunks)
				}
				close(goesOn)
				for _, c := range all {
					_ = c.end()
				}
				time.Sleep(time.Second) // until the workers have ended
				if n := h.cache.store.Stats().InFlight; n.Chunks != 0 || n.Kept != 0 || n.Passed != 0 {
					t.Errorf("%+v has not been given back", n)
				}
			})
		})
	}
}

// TestStreamsThatTakeNothingHaveNoSecondCopies: of clients that take nothing of bodies that are
// stored, each of another one, those for which there is no room are broken off. What they held was
// counted nowhere, so the sum was bounded by the number of streams.
func TestStreamsThatTakeNothingHaveNoSecondCopies(t *testing.T) {
	const budget, size, clients = 8 << 20, 60_000, 400
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: budget})
		origin := func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=3600")
			w.Header().Set("Content-Length", strconv.Itoa(size))
			_, err := w.Write(make([]byte, size))
			return err
		}
		all := make([]*deafClient, clients)
		for i := range all {
			all[i] = newDeafClient()
			all[i].ask(h, pathRequest(all[i], "/"+strconv.Itoa(i)), origin)
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		stats := h.cache.store.Stats()
		t.Logf("%+v", stats.InFlight)
		if n := stats.InFlight.Chunks; n > budget*9/8 {
			t.Errorf("%d bytes of chunks are held, under a budget of %d", n, budget)
		}
		for _, c := range all {
			_ = c.end()
		}
		time.Sleep(time.Second)
	})
}

package httpcache

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// TestManyLargeBodiesAtOnce: many large bodies that go to disk while they come, for clients that
// take nothing, hold a budget and a half at most, all together. Each went beyond the budget by what
// the disk had not taken of it yet, without a bound on all.
func TestManyLargeBodiesAtOnce(t *testing.T) {
	const budget, clients = 8 << 20, 120
	config := store.Config{Path: t.TempDir(), Required: true}
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandlerWith(t, config, store.Settings{Memory: budget, Disk: 2 << 30})
		h.MaxBody = 64 << 20
		goesOn, piece := make(chan struct{}), make([]byte, 100_000)
		origin := func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=3600")
			w.Header().Set("Content-Length", fmt.Sprint(12<<20))
			for range 40 {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
			<-goesOn
			return errors.New("it breaks off")
		}
		before := heap()
		all := make([]*deafClient, clients)
		for i := range all {
			all[i] = newDeafClient()
			go all[i].ask(h, pathRequest(all[i], fmt.Sprint("/", i)), origin)
		}
		synctest.Wait()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		chunks := h.cache.store.Stats().InFlight.Chunks
		after := heap() + chunks
		t.Logf("%d KiB, %d of them outside of the heap", (after-before)>>10, chunks>>10)
		if after-before > budget*3/2+clients*ofClient {
			t.Errorf("%d clients hold %d bytes", clients, after-before)
		}
		close(goesOn)
		for _, c := range all {
			_ = c.end()
		}
		time.Sleep(time.Second) // until the workers have ended
	})
}

// TestStalledStreamsKeepNothingFromBeingStored: clients that ask for bodies past max_body, whose
// length is not known, and take nothing of them, hold no room that a page needs, whether that has a
// Content-Length or not. What they held filled the half of memory that bodies on their way have.
func TestStalledStreamsKeepNothingFromBeingStored(t *testing.T) {
	const budget, clients = 8 << 20, 64
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: budget})
		h.MaxBody = 64 << 10
		piece := make([]byte, 10_000)
		stream := func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=3600")
			for range 1000 {
				if _, err := w.Write(piece); err != nil {
					return err
				}
			}
			return nil
		}
		all := make([]*deafClient, clients)
		for i := range all {
			all[i] = newDeafClient()
			go all[i].ask(h, pathRequest(all[i], fmt.Sprint("/stream/", i)), stream)
			synctest.Wait()
		}
		for i := range 40 {
			page := func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=3600")
				if i%2 == 0 {
					w.Header().Set("Content-Length", fmt.Sprint(len(piece)))
				}
				_, err := w.Write(piece)
				return err
			}
			for range 2 {
				w := httptest.NewRecorder()
				if err := h.ServeHTTP(w, pathRequest(w, fmt.Sprint("/page/", i)), handlerFunc(page)); err != nil {
					t.Error(err)
				}
				if got := w.Header().Get("Cache-Status"); strings.Contains(got, "full") {
					t.Errorf("page %d: %s", i, got)
				}
			}
		}
		if n := h.cache.store.Stats().Memory.Entries; n != 40 {
			t.Errorf("%d of 40 pages are stored", n)
		}
		for _, c := range all {
			_ = c.end()
		}
		time.Sleep(time.Second)
	})
}

// TestStreamsThatTakeNothingOfPagesAreBrokenOff: clients that are sent all pages that are stored,
// and take nothing of them, keep a new one out for half a minute and no longer. They kept it out
// for as long as they stayed.
func TestStreamsThatTakeNothingOfPagesAreBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: 1 << 20})
		s, piece := h.cache.store, make([]byte, 20_000)
		page := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=3600")
			w.Header().Set("Content-Length", fmt.Sprint(len(piece)))
			_, err := w.Write(piece)
			return err
		})
		ask := func(path string) (status string) {
			w := httptest.NewRecorder()
			if err := h.ServeHTTP(w, pathRequest(w, path), page); err != nil {
				t.Error(err)
			}
			return w.Header().Get("Cache-Status")
		}
		var all []*deafClient
		for i := range 60 {
			path := fmt.Sprint("/held/", i)
			ask(path)
			c := newDeafClient()
			c.ask(h, pathRequest(c, path), page)
			all = append(all, c)
		}
		ask("/new")
		if got := ask("/new"); strings.Contains(got, "hit") {
			t.Fatalf("there is room: %s", got)
		}
		time.Sleep(25 * time.Second)
		if n := s.Stats().Interrupted; n != 0 {
			t.Errorf("%d are broken off early", n)
		}
		time.Sleep(10 * time.Second)
		ask("/new")
		time.Sleep(2 * time.Second)
		ask("/new")
		if got := ask("/new"); !strings.Contains(got, "hit") {
			t.Errorf("%s, %d are broken off", got, s.Stats().Interrupted)
		}
		cut := 0
		for _, c := range all {
			if c.isCut() {
				cut++
			}
			_ = c.end()
		}
		if cut == 0 || cut == len(all) {
			t.Errorf("%d of %d are broken off", cut, len(all))
		}
		time.Sleep(time.Second)
	})
}

// TestFetchesUnderWayAreCounted: a fetch counts for what it takes beside its body, from when it
// begins until it is over, whether its response is stored or passed on.
func TestFetchesUnderWayAreCounted(t *testing.T) {
	for _, cacheControl := range []string{"max-age=60", "no-store"} {
		t.Run(cacheControl, func(t *testing.T) {
			const clients = 3
			h := newTestHandlerWith(t, store.Config{}, store.Settings{Memory: 8 << 20})
			asked, goesOn := make(chan struct{}, clients), make(chan struct{})
			origin := func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Cache-Control", cacheControl)
				asked <- struct{}{}
				<-goesOn
				_, err := w.Write([]byte("body"))
				return err
			}
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() {
					w := httptest.NewRecorder()
					if err := h.ServeHTTP(w, pathRequest(w, fmt.Sprint("/", i)), handlerFunc(origin)); err != nil {
						t.Error(err)
					}
				})
			}
			for range clients {
				<-asked
			}
			if n := h.cache.store.Stats().InFlight.Fetches; n != clients*store.FetchBytes {
				t.Errorf("%d bytes count for %d fetches", n, clients)
			}
			close(goesOn)
			all.Wait()
		})
	}
}

// pathRequest is a request for a path.
func pathRequest(w http.ResponseWriter, path string) *http.Request {
	r := newTestRequest(w)
	r.URL.Path = path
	return r
}

// ofClient is what a request takes beside its body: a piece in hand, its goroutines, its buffers.
const ofClient = 64 << 10

// heap is what is in use of Go's heap.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

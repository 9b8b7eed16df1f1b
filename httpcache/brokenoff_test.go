package httpcache

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/store"
)

// deafClient takes the header, and nothing of the body, until its write has a deadline.
type deafClient struct {
	*httptest.ResponseRecorder
	writing chan struct{} // closed at its first write
	cut     chan struct{} // closed by the first deadline
	once    sync.Once
	cutOnce sync.Once
	ended   chan error // what the handler ended with, or what it panicked with
}

func newDeafClient() *deafClient {
	return &deafClient{
		ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), cut: make(chan struct{}), ended: make(chan error, 1),
	}
}

// askedByDeaf has so many of them ask, each for a page of its own.
func askedByDeaf(h *testHandler, clients int, origin handlerFunc) []*deafClient {
	all := make([]*deafClient, clients)
	for i := range all {
		all[i] = newDeafClient()
		go all[i].ask(h, pathRequest(all[i], "/"+strconv.Itoa(i)), origin)
	}
	return all
}

// Write implements io.Writer.
func (c *deafClient) Write([]byte) (int, error) {
	c.once.Do(func() { close(c.writing) })
	<-c.cut
	return 0, os.ErrDeadlineExceeded
}

// SetWriteDeadline is for http.ResponseController.
func (c *deafClient) SetWriteDeadline(time.Time) error {
	c.cutOnce.Do(func() { close(c.cut) })
	return nil
}

// ask has the client ask h, and waits until it is sent something.
func (c *deafClient) ask(h *testHandler, r *http.Request, origin handlerFunc) {
	go func() {
		defer func() {
			if p := recover(); p != nil {
				err, _ := p.(error)
				c.ended <- err
			}
		}()
		c.ended <- h.ServeHTTP(c, r, origin)
	}()
	<-c.writing
}

// isCut tells whether the client was broken off.
func (c *deafClient) isCut() bool {
	select {
	case <-c.cut:
		return true
	default:
		return false
	}
}

// end ends the client, and returns what the handler has ended with.
func (c *deafClient) end() error {
	_ = c.SetWriteDeadline(time.Time{})
	return <-c.ended
}

// largeWith answers with as many bytes as are too many for memory, under an ETag.
func largeWith(etag string) handlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Etag", etag)
		piece := make([]byte, 1<<20)
		for range 10 {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestClientsThatTakeNothingAreBrokenOff: a client that takes nothing of a large body on disk is
// broken off 30 s after the body was deleted, whether its own fetch brought it or it was stored.
// Before that it may pause for as long as it likes.
func TestClientsThatTakeNothingAreBrokenOff(t *testing.T) {
	for _, hit := range []bool{false, true} {
		t.Run(map[bool]string{false: "of a fetch", true: "of what is stored"}[hit], func(t *testing.T) {
			config := store.Config{Path: t.TempDir(), Required: true}
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandlerWith(t, config, store.Settings{Memory: 16 << 20, Disk: 64 << 20})
				s := h.cache.store
				if hit {
					w := httptest.NewRecorder()
					if err := h.ServeHTTP(w, newTestRequest(w), largeWith(`"1"`)); err != nil || w.Body.Len() != 10<<20 {
						t.Fatalf("%d bytes, %v", w.Body.Len(), err)
					}
					// What this client has taken is credited to those who come while the body is
					// held for it: until its fetch has ended and the record is written.
					synctest.Wait()
					if err := s.Sync(); err != nil {
						t.Fatal(err)
					}
				}
				c := newDeafClient()
				c.ask(h, newTestRequest(c), largeWith(`"1"`))
				waitUntil(t, "it is stored", func() bool { return s.Stats().Disk.Entries == 1 })
				time.Sleep(time.Minute)
				if c.isCut() {
					t.Error("it is broken off although the body is stored")
				}
				if _, err := s.Purge(store.Selectors{All: true}, store.PurgeOptions{}); err != nil {
					t.Fatal(err)
				}
				waitUntil(t, "it is deleted", func() bool { return s.Stats().DiskHeld > 0 })
				time.Sleep(28 * time.Second)
				if c.isCut() {
					t.Error("it is broken off before 30 s")
				}
				time.Sleep(4 * time.Second)
				if !c.isCut() {
					t.Error("it is not broken off after 30 s")
				}
				if err := c.end(); !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("the handler has ended with %v", err)
				}
				waitUntil(t, "nothing is held", func() bool { return s.Stats().DiskHeld == 0 })
				if n := s.Stats().Interrupted; n != 1 {
					t.Errorf("%d readers count as broken off", n)
				}
			})
		})
	}
}

// TestAnswerFromAFetchGivesBackWhatWasFound: a client that is slow to read the answer of a fetch
// does not hold what was stored before.
func TestAnswerFromAFetchGivesBackWhatWasFound(t *testing.T) {
	h := newTestHandlerWith(t, store.Config{Path: t.TempDir(), Required: true}, store.Settings{Memory: 16 << 20, Disk: 64 << 20})
	w, s := httptest.NewRecorder(), h.cache.store
	if err := h.ServeHTTP(w, newTestRequest(w), largeWith(`"1"`)); err != nil || w.Body.Len() != 10<<20 {
		t.Fatalf("%d bytes, %v", w.Body.Len(), err)
	}
	c := newDeafClient()
	c.ask(h, newTestRequest(c, "Cache-Control", "no-cache"), largeWith(`"2"`))
	waitUntil(t, "it is replaced", func() bool {
		w := httptest.NewRecorder()
		return h.ServeHTTP(w, newTestRequest(w, "Range", "bytes=0-0"), nil) == nil && w.Header().Get("Etag") == `"2"`
	})
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.DiskHeld != 0 || st.Disk.Entries != 1 {
		t.Errorf("%d bytes of what was found are held, %d entries are there", st.DiskHeld, st.Disk.Entries)
	}
	if err := c.end(); !errors.Is(err, http.ErrAbortHandler) {
		t.Errorf("the handler has ended with %v", err)
	}
}

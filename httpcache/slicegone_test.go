package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestDownloadGoesOnAfterTheGoneOfAField: a client for whose field the origin says that there is no
// such file asked for a slice that downloads of others came to. All of these broke off, although
// the origin had the file for them, under its validator. Where it is gone for all they break off,
// and it is asked twice more for all of them.
func TestDownloadGoesOnAfterTheGoneOfAField(t *testing.T) {
	const downloads = 20
	for _, c := range []struct {
		status  int
		changed bool // for all
	}{{404, false}, {410, false}, {200, false}, {404, true}, {200, true}} {
		inBubble(t, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(95, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") != "bytes=500-599" {
					return false
				}
				time.Sleep(time.Second) // the others come to the slice meanwhile
				if !c.changed && r.Header.Get("X-Bad") == "" {
					return false
				}
				w.WriteHeader(c.status)
				return true
			}
			var clients sync.WaitGroup
			clients.Go(func() {
				w := httptest.NewRecorder()
				f.read(h, w, newTestRequest(w, "X-Bad", "1", "Range", "bytes=510-519"))
			})
			synctest.Wait()
			f.take()
			broken := make([]bool, downloads)
			for i := range broken {
				clients.Go(func() {
					w := httptest.NewRecorder()
					broke := f.read(h, w, newTestRequest(w))
					broken[i] = broke || !bytes.Equal(w.Body.Bytes(), f.content)
				})
			}
			clients.Wait()
			for i, broke := range broken {
				if broke != c.changed {
					t.Errorf("%d, changed %t: download %d is broken off: %t", c.status, c.changed, i, broke)
				}
			}
			asked := 0
			for _, part := range f.take() {
				if part == "bytes=500-599" {
					asked++
				}
			}
			if asked > 3 { // once by the client that has got the answer, as its first part
				t.Errorf("%d, changed %t: the slice was asked for %d times more", c.status, c.changed, asked)
			}
		})
	}
}

package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// An origin may answer a field that it does not name in Vary. What comes for it to one client leaves
// the file to all, and that client gets the stored version.
func TestOddFieldLeavesTheObject(t *testing.T) {
	status := func(status int) func(*film, http.ResponseWriter, *http.Request) bool {
		return func(_ *film, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			return true
		}
	}
	for name, answer := range map[string]func(*film, http.ResponseWriter, *http.Request) bool{
		"another version": func(_ *film, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Etag", `"odd"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 1100)))
			return true
		},
		"the whole": func(f *film, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(f.content)
			return true
		},
		"404": status(404), "410": status(410), "416": status(416), "a redirect": status(302),
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(90, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=110-119", "X-Usual", "a"), 206, 110, 120, cold)
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("X-Usual") == "" {
					w.WriteHeader(http.StatusBadRequest)
					return true
				}
				return r.Header.Get("X-Odd") != "" && answer(f, w, r)
			}
			f.want(t, f.get(t, h, "Range", "bytes=210-219", "X-Usual", "a", "X-Odd", "b"), 206, 210, 220, partly)
			f.want(t, f.get(t, h, "Range", "bytes=110-219", "X-Usual", "a"), 206, 110, 220, hit)
			f.wantAsked(t, "bytes=100-199", "bytes=200-299", "bytes=200-299")
		})
	}
}

// Another version that comes without the odd fields, too, takes the place of the old one.
func TestAnotherVersionToOddFields(t *testing.T) {
	h, f := newSlicing(t), newFilm(91, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.take()
	f.change(filmBytes(92, 1200))
	f.want(t, f.get(t, h, "Range", "bytes=210-219", "X-Odd", "b"), 206, 210, 220, cold)
	f.wantAsked(t, "bytes=200-299", "bytes=200-299", "bytes=200-299")
	f.want(t, f.get(t, h, "Range", "bytes=310-319"), 206, 310, 320, partly)
	f.wantAsked(t, "bytes=300-399")
}

// A 304 to a client that spells a field of Vary otherwise keeps slices coming that are fetched for
// the head as it was before, and removes that head where the file has changed.
func TestRenewalByAnotherSpelling(t *testing.T) {
	for name, changes := range map[string]bool{"the file stays": false, "it changes": true} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(93, 1000)
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Vary", "Accept-Encoding")
				w.Header().Set("Content-Encoding", "br")
				return false
			}
			f.want(t, f.get(t, h, "Range", "bytes=10-19", "Accept-Encoding", "br, gzip"), 206, 10, 20, cold)
			reader, ended := &waiting{ResponseRecorder: httptest.NewRecorder(), come: make(chan struct{}), goOn: make(chan struct{})}, make(chan bool)
			go func() { ended <- f.read(h, reader, newTestRequest(reader, "Accept-Encoding", "br, gzip")) }()
			<-reader.come
			for h.cache.Fetches() > 0 {
				time.Sleep(time.Millisecond)
			}
			f.want(t, f.get(t, h, "Range", "bytes=10-19", "Accept-Encoding", "br", "Cache-Control", "no-cache"),
				206, 10, 20, "Larder; fwd=request; fwd-status=304; stored")
			if changes {
				f.change(filmBytes(94, 1000))
			}
			close(reader.goOn)
			if broke := <-ended; broke != changes {
				t.Errorf("broken off: %t", broke)
			}
			if changes {
				if got := h.cache.store.Stats().Memory.Entries; got != 0 {
					t.Errorf("%d files are stored", got)
				}
				return
			}
			f.want(t, f.get(t, h, "Accept-Encoding", "zstd, br"), 200, 0, 1000, hit)
		})
	}
}

// Tags that a file gets by a 304 are those of the slices that are read or fetched from then on, so
// that a purge by them frees their room.
func TestTagsOfARenewalReachSlices(t *testing.T) {
	now := time.Now()
	h, f := newSlicingWith(t, store.Config{Now: func() time.Time { return now }}, store.Settings{Memory: 16 << 20}), newFilm(95, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	found := h.cache.store.Lookup(h.newKeyed(t), func(*store.Variant) int { return 1 })
	head := found.Entry
	found.Release()
	renewed := head.Renewal()
	renewed.Tags = []string{"new"}
	renewed.KeepUntil, renewed.KeptFrom = renewed.KeepUntil.Add(time.Hour), renewed.KeptFrom.Add(time.Hour)
	if got := h.cache.store.Put(renewed, 0); got != store.Stored {
		t.Fatal(got)
	}
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
	f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
	for _, number := range []int64{1, 2} {
		slice := h.cache.slice(objectOf(renewed), number)
		if slice.Entry == nil || !slices.Equal(slice.Entry.Tags, renewed.Tags) {
			t.Errorf("slice %d has not the tags of its head: %v", number, slice.Entry)
		}
		slice.Release()
	}
}

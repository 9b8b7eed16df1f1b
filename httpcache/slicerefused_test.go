package httpcache

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// Any client can bring about an answer to how it has asked, by a field that it has or lacks. What
// may not be stored removes nothing, and the client gets it as its own. One such answer removed a
// file in slices for all, and broke off the downloads that waited for the slice.
func TestAnswerThatMayNotBeStoredLeavesTheObject(t *testing.T) {
	whole := func(header ...string) func(*film, http.ResponseWriter, *http.Request) {
		return func(_ *film, w http.ResponseWriter, _ *http.Request) {
			setFields(w, header)
			_, _ = w.Write([]byte("odd"))
		}
	}
	part := func(header ...string) func(*film, http.ResponseWriter, *http.Request) {
		return func(_ *film, w http.ResponseWriter, r *http.Request) {
			setFields(w, header)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, 1100)))
		}
	}
	status := func(status int, header ...string) func(*film, http.ResponseWriter, *http.Request) {
		return func(_ *film, w http.ResponseWriter, _ *http.Request) {
			setFields(w, header)
			w.WriteHeader(status)
		}
	}
	for name, answer := range map[string]func(*film, http.ResponseWriter, *http.Request){
		"a redirect":                     status(302, "Location", "/en/", "Cache-Control", ""),
		"a redirect that says no-store":  status(301, "Location", "/en/", "Cache-Control", "no-store"),
		"nothing":                        func(*film, http.ResponseWriter, *http.Request) {},
		"200 no-store":                   whole("Cache-Control", "no-store"),
		"200 private":                    whole("Cache-Control", "private, max-age=60"),
		"200 without a lifetime":         whole("Cache-Control", ""),
		"200 with Set-Cookie":            whole("Cache-Control", "max-age=60", "Set-Cookie", "a=b"),
		"206 private of another version": part("Etag", `"odd"`, "Cache-Control", "private"),
		"206 no-store with a weak tag":   part("Etag", `W/"odd"`, "Cache-Control", "no-store"),
		"416 of the same length":         status(416, "Content-Range", "bytes */1000"),
		"416 without a length":           status(416),
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(90, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				odd := r.Header.Get("X-Odd") != ""
				if odd {
					answer(f, w, r)
				}
				return odd
			}
			if got := f.get(t, h, "Range", "bytes=210-219", "X-Odd", "b").Header().Get("Cache-Status"); got != "Larder; fwd=partial" {
				t.Errorf("the client's own answer: %q", got)
			}
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
		})
	}
}

func setFields(w http.ResponseWriter, header []string) {
	for i := 0; i < len(header); i += 2 {
		if w.Header().Set(header[i], header[i+1]); header[i+1] == "" {
			w.Header().Del(header[i])
		}
	}
}

// What could be stored in place of a file, and what says that there is none, removes it.
func TestAnswerInPlaceOfTheObject(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"404":                   func(w http.ResponseWriter) { w.WriteHeader(404) },
		"416 of another length": func(w http.ResponseWriter) { w.Header().Set("Content-Range", "bytes */150"); w.WriteHeader(416) },
		"a redirect to be kept": func(w http.ResponseWriter) { w.Header().Set("Cache-Control", "max-age=60"); w.WriteHeader(301) },
		"a page that is storable": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = w.Write([]byte("new"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(91, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
				answer(w)
				return true
			}
			f.get(t, h, "Range", "bytes=210-219")
			f.alter = nil
			if w := f.get(t, h, "Range", "bytes=110-119"); w.Code == http.StatusPartialContent && f.status(w) == hit {
				t.Error("the file is stored")
			}
		})
	}
}

// TestMemberReadsOnInTheFileOfAll: an origin that gives a member another content under the same
// validator calls it private. It went out as the rest of the public file, under its header; then
// each answer to a member broke off. Now the member's own request is passed on.
func TestMemberReadsOnInTheFileOfAll(t *testing.T) {
	for _, field := range []string{"Cookie", "Authorization"} {
		for cacheControl, passes := range map[string]bool{"private": true, "no-store": true, "max-age=60, public": false} {
			h, f := newSlicing(t), newFilm(92, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
			content := f.content
			if passes {
				content = filmBytes(97, 1000)
			}
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get(field) == "" {
					return false
				}
				w.Header().Set("Cache-Control", cacheControl)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
				return true
			}
			for _, part := range []struct {
				text     string
				from, to int
			}{{"", 0, 1000}, {"bytes=0-", 0, 1000}, {"bytes=50-949", 50, 950}} {
				w := httptest.NewRecorder()
				r := newTestRequest(w, field, "x")
				if part.text != "" {
					r.Header.Set("Range", part.text)
				}
				if broke := f.read(h, w, r); broke || !bytes.Equal(w.Body.Bytes(), content[part.from:part.to]) {
					t.Errorf("%s, %s, %q: broken off %t after %d bytes", field, cacheControl, part.text, broke, w.Body.Len())
				}
				if got := w.Header().Get("Cache-Status"); passes && got != "Larder; fwd=partial" {
					t.Errorf("%s, %s, %q: %q", field, cacheControl, part.text, got)
				}
			}
			f.wantHit(t, h, 10, 20, "Range", "bytes=10-19")
		}
	}
}

// TestFileTurnsPrivate: an origin calls a file private of which a part is stored. Each answer to
// anybody broke off for as long as the head was fresh. The first one has begun before that is
// known; the next ones pass the client's own request on, until slices may be stored again.
func TestFileTurnsPrivate(t *testing.T) {
	for _, cacheControl := range []string{"private", "no-store", ""} {
		h, f := newSlicing(t), newFilm(98, 1000)
		f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
		f.alter = func(w http.ResponseWriter, _ *http.Request) bool {
			setFields(w, []string{"Cache-Control", cacheControl})
			return false
		}
		for attempt, part := range []string{"", "", "bytes=0-", ""} {
			w := httptest.NewRecorder()
			r := newTestRequest(w)
			if part != "" {
				r.Header.Set("Range", part)
			}
			broke := f.read(h, w, r)
			if broke != (attempt == 0) || !broke && !bytes.Equal(w.Body.Bytes(), f.content) {
				t.Errorf("%q, attempt %d: broken off %t after %d bytes", cacheControl, attempt, broke, w.Body.Len())
			}
		}
		f.alter = nil
		f.want(t, f.get(t, h), 200, 0, 1000, "Larder; fwd=partial; fwd-status=206")
		f.wantHit(t, h, 0, 1000)
	}
}

// TestFileTurnsPrivateForAll: the first answer that broke off told it to requests with the same
// fields alone, so each client with a User-Agent of its own had its answer broken off.
func TestFileTurnsPrivateForAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h, f := newSlicing(t), newFilm(98, 1000)
		f.want(t, f.get(t, h, "Range", "bytes=10-19"), 206, 10, 20, cold)
		time.Sleep(sharedSliceKeep)
		f.alter = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("User-Agent") != "well" {
				w.Header().Set("Cache-Control", "private")
			}
			return false
		}
		for n := range 10 {
			w := httptest.NewRecorder()
			broke := f.read(h, w, newTestRequest(w, "User-Agent", fmt.Sprint(n)))
			if broke != (n == 0) || !broke && !bytes.Equal(w.Body.Bytes(), f.content) {
				t.Errorf("client %d: broken off %t after %d bytes", n, broke, w.Body.Len())
			}
		}
		// A slice that can be stored tells that a field may be why.
		f.get(t, h, "Range", "bytes=310-319", "User-Agent", "well")
		w := httptest.NewRecorder()
		if broke := f.read(h, w, newTestRequest(w, "User-Agent", "11")); !broke {
			t.Error("an answer has not begun from the store although a slice has just been stored")
		}
		f.wantHit(t, h, 310, 320, "Range", "bytes=310-319", "User-Agent", "well")
		f.want(t, f.get(t, h, "User-Agent", "well"), 200, 0, 1000, "Larder; fwd=partial; fwd-status=206")
	})
}

// TestRefusedSliceOfAPublicFile: a slice is refused, for its Vary, while the whole is for all.
// Every second answer broke off: that the whole could be stored made the refusal forgotten.
func TestRefusedSliceOfAPublicFile(t *testing.T) {
	h, f := newSlicing(t), newFilm(130, 1000)
	f.get(t, h, "Range", "bytes=0-299")
	f.alter = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Range") != "" {
			w.Header().Set("Vary", "X-Odd")
		}
		return false
	}
	for attempt := range 5 {
		w := httptest.NewRecorder()
		broke := f.read(h, w, newTestRequest(w))
		if broke != (attempt == 0) || !broke && !bytes.Equal(w.Body.Bytes(), f.content) {
			t.Errorf("attempt %d: broken off %t after %d bytes, %q", attempt, broke, w.Body.Len(), w.Header().Get("Cache-Status"))
		}
	}
	f.alter = nil
	f.get(t, h, "Range", "bytes=300-399")
	f.want(t, f.get(t, h), 200, 0, 1000, "Larder; fwd=partial; fwd-status=206")
	f.wantHit(t, h, 0, 1000)
}

// TestRefusedSliceAmongMany: the slice that the origin has turned private is one of so many that no
// sample of them has it. Each answer broke off, of which the header said that it was a hit.
func TestRefusedSliceAmongMany(t *testing.T) {
	for name, length := range map[string]int{"fewer than are looked up": 4000, "more": (maxLookedAll + 40) * 100} {
		for _, field := range []string{"", "Cookie", "Authorization"} {
			t.Run(name+" "+field, func(t *testing.T) {
				h, f := newSlicing(t), newFilm(99, length)
				const missing = 20
				f.get(t, h, "Range", fmt.Sprintf("bytes=0-%d", missing*100-1))
				f.get(t, h, "Range", fmt.Sprintf("bytes=%d-", (missing+1)*100))
				f.alter = func(w http.ResponseWriter, r *http.Request) bool {
					if field == "" || r.Header.Get(field) != "" {
						w.Header().Set("Cache-Control", "private")
					}
					return false
				}
				for attempt, part := range []string{"", "", "bytes=0-", ""} {
					w := httptest.NewRecorder()
					r := newTestRequest(w)
					if field != "" {
						r.Header.Set(field, "x")
					}
					if part != "" {
						r.Header.Set("Range", part)
					}
					broke := f.read(h, w, r)
					if broke && attempt > 0 || !broke && !bytes.Equal(w.Body.Bytes(), f.content) {
						t.Errorf("attempt %d: broken off %t after %d bytes, %q", attempt, broke, w.Body.Len(), w.Header().Get("Cache-Status"))
					}
					if broke && field != "" && length <= maxLookedAll*100 {
						t.Error("an answer that may be refused a slice has begun without")
					}
				}
				f.alter = nil
				f.want(t, f.get(t, h, "Range", "bytes=0-0"), 206, 0, 1, hit)
				f.get(t, h, "Range", fmt.Sprintf("bytes=%d-%d", missing*100, missing*100))
				f.get(t, h)
				f.wantHit(t, h, 0, length)
			})
		}
	}
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

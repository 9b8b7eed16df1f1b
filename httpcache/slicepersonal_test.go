package httpcache

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// What the origin answers to credentials, or to a cookie, says nothing of what is stored for all.
func TestPersonalAnswerLeavesTheObject(t *testing.T) {
	another := func(w http.ResponseWriter) bool {
		w.Header().Set("Etag", `"another"`)
		w.Header().Set("Content-Range", "bytes 200-299/1000")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 100))
		return true
	}
	status := func(status int) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(status)
			return true
		}
	}
	field := func(name, value string) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.Header().Set(name, value)
			return false
		}
	}
	for _, c := range []struct {
		name, field, value string
		answer             func(http.ResponseWriter) bool
	}{
		{"as to others", "Authorization", "x", field("X-Seen", "y")},
		{"another version", "Authorization", "x", another},
		{"another version", "Cookie", "a=b", another},
		{"Set-Cookie", "Cookie", "a=b", field("Set-Cookie", "a=b")},
		{"private", "Cookie", "a=b", field("Cache-Control", "private")},
		{"the whole", "Cookie", "a=b", status(200)},
		{"a redirect", "Cookie", "a=b", status(302)},
		{"404", "Cookie", "a=b", status(404)},
		{"410", "Authorization", "x", status(410)},
		{"416", "Cookie", "a=b", status(416)},
		{"no-store", "X-Odd", "a", field("Cache-Control", "no-store")},
	} {
		t.Run(c.field+" "+c.name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(30, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				return r.Header.Get(c.field) != "" && c.answer(w)
			}
			_ = f.get(t, h, "Range", "bytes=210-219", c.field, c.value)
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
			f.want(t, f.get(t, h, "Range", "bytes=210-219"), 206, 210, 220, partly)
		})
	}
}

// signalling is a recorder that tells when so many bytes have come.
type signalling struct {
	*httptest.ResponseRecorder
	at   int
	come chan struct{}
}

// Write implements io.Writer.
func (s *signalling) Write(p []byte) (int, error) {
	before := s.Body.Len()
	n, err := s.ResponseRecorder.Write(p)
	if before < s.at && s.at <= before+n {
		close(s.come)
	}
	return n, err
}

// read asks for the whole, and reports whether the answer broke off.
func (f *film) read(h *testHandler, w http.ResponseWriter, r *http.Request) (broke bool) {
	defer func() {
		if p := recover(); p != nil {
			broke = true
		}
	}()
	return h.ServeHTTP(w, r, f.serve) != nil
}

// An answer that has begun goes on although the fetch of a slice fails that another client leads.
func TestFetchThatFailsForAnotherClient(t *testing.T) {
	status := func(status int) func(http.ResponseWriter) bool {
		return func(w http.ResponseWriter) bool {
			w.WriteHeader(status)
			return true
		}
	}
	for _, c := range []struct {
		name, field, value string
		answer             func(http.ResponseWriter) bool
	}{
		{"401", "Authorization", "x", status(401)},
		{"403", "Cookie", "a=b", status(403)},
		{"404", "Cookie", "a=b", status(404)},
		{"429", "X-Odd", "a", status(429)},
		{"500", "X-Odd", "a", status(500)},
		{"no answer", "X-Odd", "a", func(http.ResponseWriter) bool { panic(http.ErrAbortHandler) }},
		{"private", "X-Odd", "a", func(w http.ResponseWriter) bool {
			w.Header().Set("Cache-Control", "private")
			return false
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, f := newSlicing(t), newFilm(31, 1000)
			f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
			asked, reader := make(chan struct{}), &signalling{httptest.NewRecorder(), 150, make(chan struct{})}
			f.alter = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get(c.field) == "" {
					return false
				}
				if r.Header.Get("Range") == "bytes=200-299" {
					close(asked)
					<-reader.come
				}
				return c.answer(w)
			}
			var other sync.WaitGroup
			other.Go(func() {
				w := httptest.NewRecorder()
				_ = f.read(h, w, newTestRequest(w, "Range", "bytes=200-205", c.field, c.value))
			})
			<-asked
			if broke := f.read(h, reader, newTestRequest(reader)); broke || !bytes.Equal(reader.Body.Bytes(), f.content) {
				t.Errorf("broken off: %t, after %d bytes of %d", broke, reader.Body.Len(), len(f.content))
			}
			other.Wait()
			f.want(t, f.get(t, h), 200, 0, 1000, hit)
		})
	}
}

// A range behind the end removes nothing, whatever the origin does with conditions.
func TestRangeBehindTheEndLeavesTheObject(t *testing.T) {
	h, f := newSlicing(t), newFilm(37, 1000)
	f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
	f.alter = func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("If-None-Match")
		return false
	}
	for _, header := range [][]string{{}, {"Cookie", "a=b"}} {
		_ = f.get(t, h, append(header, "Range", "bytes=99999-", "Cache-Control", "no-cache")...)
		f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, hit)
	}
}

// An answer that has begun goes on after one failure of its own fetch, and breaks off after two.
func TestOwnFetchThatFailsInMidObject(t *testing.T) {
	for failures, whole := range []bool{true, true, false} {
		h, f := newSlicing(t), newFilm(32, 1000)
		f.want(t, f.get(t, h, "Range", "bytes=110-119"), 206, 110, 120, cold)
		var asked atomic.Int32
		f.alter = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") != "bytes=500-599" || asked.Add(1) > int32(failures) {
				return false
			}
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		w := httptest.NewRecorder()
		if broke := f.read(h, w, newTestRequest(w)); broke == whole || whole && !bytes.Equal(w.Body.Bytes(), f.content) {
			t.Errorf("after %d failures: broken off: %t, after %d bytes", failures, broke, w.Body.Len())
		}
	}
}

// A client for whom the origin does not let slices be stored gets all of a file that is stored in
// part, and what is fetched for it is shared with no other.
func TestMidObjectForOneClient(t *testing.T) {
	for _, field := range []string{"Authorization", "Cookie"} {
		h, f := newSlicing(t), newFilm(33, 1000)
		var failed atomic.Bool
		f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, cold)
		f.alter = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "bytes=700-799" && failed.CompareAndSwap(false, true) {
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
			if r.Header.Get("Cookie") != "" {
				w.Header().Set("Set-Cookie", "a=b")
			}
			return false
		}
		w := httptest.NewRecorder()
		if broke := f.read(h, w, newTestRequest(w, field, "a=b")); broke || !bytes.Equal(w.Body.Bytes(), f.content) {
			t.Errorf("%s: broken off: %t, after %d bytes", field, broke, w.Body.Len())
		}
		f.take()
		f.want(t, f.get(t, h, "Range", "bytes=0-9"), 206, 0, 10, hit)
		f.want(t, f.get(t, h, "Range", "bytes=510-519"), 206, 510, 520, partly)
		f.wantAsked(t, "bytes=500-599")
	}
}

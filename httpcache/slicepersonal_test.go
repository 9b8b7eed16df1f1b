package httpcache

import (
	"net/http"
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

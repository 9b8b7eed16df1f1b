package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestNotModifiedUpdatesWhatIsStored is RFC 9111 4.3.4 and 3.2.
func TestNotModifiedUpdatesWhatIsStored(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") != "" {
			h.Set("Cache-Control", "max-age=60")
			h.Set("Etag", `"v1"`)
			h.Set("X-New", "1")
			h.Set("X-Both", "new")
			h.Set("Content-Length", "99")
			h.Set("Content-Encoding", "gzip")
			h.Set("Set-Cookie", "a=b")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Cache-Control", "max-age=90")
		h.Set("Age", "100")
		h.Set("Etag", `"v1"`)
		h.Set("Last-Modified", "Mon, 02 Jan 2023 03:04:05 GMT")
		h.Set("X-Old", "1")
		h.Set("X-Both", "old")
		_, _ = io.WriteString(w, "body")
	})
	in, begun := start(t, withDisk(t, "larder"), o), time.Now()
	in.get("/").want(t, 200, "body", "Larder; fwd=uri-miss; stored")
	in.get("/").want(t, 200, "body", "Larder; fwd=stale; fwd-status=304; stored")
	hit := in.get("/")
	hit.want(t, 200, "body", "")
	hit.wantTTL(t, 60, begun)
	for name, want := range map[string]string{
		"X-Old": "1", "X-New": "1", "X-Both": "new", "Etag": `"v1"`, "Cache-Control": "max-age=60",
		"Content-Encoding": "", "Set-Cookie": "", "Content-Length": "4", "Last-Modified": "Mon, 02 Jan 2023 03:04:05 GMT",
	} {
		if got := hit.Header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	o.asked(t, 2)
}

// validated answers with a page that is stale on arrival, and a validation with 304 and the fields
// given as pairs.
func validated(notModified ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			for i := 0; i < len(notModified); i += 2 {
				w.Header().Add(notModified[i], notModified[i+1])
			}
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Cache-Control", "max-age=90, stale-if-error=86400")
		w.Header().Set("Age", "100")
		w.Header().Set("X-First", "first-header")
		_, _ = io.WriteString(w, "the page")
	}
}

// A 304 that forbids to store it is for the client whose request it answers: nothing of it is
// stored, and what is stored stays as it was.
func TestNotModifiedThatForbidsStoring(t *testing.T) {
	for _, tc := range []struct {
		name, detail string
		notModified  []string
		request      []string
	}{
		{"no-store", "no-store", []string{"Cache-Control", "no-store"}, nil},
		{"private", "private", []string{"Cache-Control", "private, max-age=60"}, nil},
		{"private that names Vary", "private", []string{"Cache-Control", `max-age=60, private="Vary"`}, nil},
		{"Vary: *", "vary-star", []string{"Cache-Control", "max-age=60", "Vary", "*"}, nil},
		{"to Authorization", "authorization", []string{"Cache-Control", "max-age=60"}, []string{"Authorization", "x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, validated(append(tc.notModified, "X-Secret", marker)...))
			s := withDisk(t, block("status full"))
			in := start(t, s, o)
			in.get("/").want(t, 200, "the page", "")
			for range 2 {
				a := in.get("/", tc.request...)
				a.want(t, 200, "the page", fmt.Sprintf(`Larder; fwd=stale; fwd-status=304; key="GET %s"; detail=%s`, in.url("/"), tc.detail))
				if a.Header.Get("X-Secret") != marker {
					t.Error("the client whose request was validated has not what the 304 says")
				}
			}
			o.Close()
			if a := in.get("/"); a.body != "the page" || a.Header.Get("X-Secret") != "" || a.Header.Get("X-First") == "" {
				t.Errorf("%d %q %q once the origin fails", a.StatusCode, a.cacheStatus(), a.Header)
			}
			if err := caddy.Stop(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.disk, "larder.db")
			eventually(t, "the file is written and closed", func() bool { return canLock(path) })
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Contains(file, []byte("first-header")) {
				t.Error("the file has nothing of the 200")
			}
			if bytes.Contains(file, []byte(marker)) {
				t.Error("the file has something of the 304")
			}
		})
	}
}

// Those who wait for such a 304 ask for themselves.
func TestFollowersOfANotModifiedThatForbidsStoring(t *testing.T) {
	answer := validated("Cache-Control", "no-store", "X-Secret", marker)
	g := newGate(t, func(w http.ResponseWriter, v *visit) { answer(w, v.Request) })
	in := start(t, proxied("larder"), g.origin)
	g.letThrough(t, in, "/")

	c := gather(t, in, 5, http.MethodGet, "/", nil)
	parked(t, 5)
	open(g.next(t, 1)...)
	open(g.next(t, 4)...)
	secrets := 0
	for _, a := range c.all() {
		a.want(t, 200, "the page", "")
		if a.Header.Get("X-Secret") != "" {
			secrets++
		}
	}
	if secrets != 1 {
		t.Errorf("%d clients have what one was told", secrets)
	}
	settled(t, in)
}

// What a 304 says to one client reaches that client and no other: Set-Cookie, and fields that
// private and no-cache name.
func TestOneClientsFieldsOfANotModified(t *testing.T) {
	for _, tc := range []struct {
		name, directive, cacheControl, field string
		shared                               bool
	}{
		{"Set-Cookie", "larder", "max-age=60", "Set-Cookie", false},
		{"Set-Cookie under strip", block("set_cookie strip"), "max-age=60", "Set-Cookie", false},
		{"Set-Cookie under ignore", block("ignore Set-Cookie"), "max-age=60", "Set-Cookie", false},
		{"Set-Cookie under store", block("set_cookie store"), "max-age=60", "Set-Cookie", true},
		{"named in private", "larder", `max-age=60, private="X-User"`, "X-User", false},
		{"named in no-cache", "larder", `max-age=60, no-cache="X-User"`, "X-User", false},
		{"any other", "larder", "max-age=60", "X-User", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := validated("Cache-Control", tc.cacheControl, tc.field, "u=1")
			g := newGate(t, func(w http.ResponseWriter, v *visit) { answer(w, v.Request) })
			in := start(t, proxied(tc.directive), g.origin)
			g.letThrough(t, in, "/")

			c := gather(t, in, 5, http.MethodGet, "/", nil)
			parked(t, 5)
			open(g.next(t, 1)...)
			for _, a := range append(c.all(), in.get("/")) {
				a.want(t, 200, "the page", "")
				leads := a.cacheStatus() == "Larder; fwd=stale; fwd-status=304; stored"
				if got := a.Header.Get(tc.field) != ""; got != (leads || tc.shared) {
					t.Errorf("%s is there: %v, for %q", tc.field, got, a.cacheStatus())
				}
			}
			g.noMore(t)
			settled(t, in)
		})
	}
}

// A refresh in the background has no client: what its 304 says to one reaches none, and what it
// forbids to store is not stored.
func TestNotModifiedInTheBackground(t *testing.T) {
	for _, tc := range []struct {
		name    string
		fields  []string
		renewed bool
	}{
		{"storable", []string{"Cache-Control", "max-age=60", "Set-Cookie", "u=1"}, true},
		{"no-store", []string{"Cache-Control", "no-store", "X-Secret", marker}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, validated(tc.fields...))
			in := start(t, proxied(block("stale_while_revalidate 1h")), o)
			in.get("/").want(t, 200, "the page", "")
			if a := in.get("/"); !strings.HasSuffix(a.cacheStatus(), "; detail=swr") {
				t.Fatalf("%q, want a stale answer", a.cacheStatus())
			}
			eventually(t, "the refresh has come", func() bool { return o.count() >= 2 })
			settled(t, in)
			o.Close()
			a := in.get("/")
			a.want(t, 200, "the page", "")
			if a.Header.Get("X-Secret") != "" || a.Header.Get("Set-Cookie") != "" || a.ttl(t) > 0 != tc.renewed {
				t.Errorf("%q %q", a.cacheStatus(), a.Header)
			}
		})
	}
}

// A 304 with another Vary: the stored response is selected by that from now on, and is not found by
// the old one as well.
func TestNotModifiedWithAnotherVary(t *testing.T) {
	o := newOrigin(t, validated("Cache-Control", "max-age=60", "Vary", "X-Kind"))
	in := start(t, proxied("larder"), o)
	in.get("/", "X-Kind", "a").want(t, 200, "the page", "Larder; fwd=uri-miss; stored")
	in.get("/", "X-Kind", "a").want(t, 200, "the page", "Larder; fwd=stale; fwd-status=304; stored")
	if a := in.get("/", "X-Kind", "a"); !a.isHit() {
		t.Errorf("%q for what was validated", a.cacheStatus())
	}
	in.get("/", "X-Kind", "b").want(t, 200, "the page", "Larder; fwd=vary-miss; stored")
}

// The operator's lifetime is not for requests with a cookie, so a 304 to one does not give what it
// says that lifetime; and takes no lifetime from what is there.
func TestNotModifiedToACookieUnderForceTTL(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("X-Cart", r.Header.Get("Cookie"))
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
		}
	})
	in, begun := start(t, proxied(block("force_ttl 1h")), o), time.Now()
	in.get("/").want(t, 200, "", "Larder; fwd=uri-miss; stored")
	if a := in.get("/", "Cookie", "u=1"); a.Header.Get("X-Cart") != "u=1" || a.cacheStatus() != "Larder; fwd=stale; fwd-status=304" {
		t.Errorf("%q, X-Cart %q for the member", a.cacheStatus(), a.Header.Get("X-Cart"))
	}
	a := in.get("/")
	if a.Header.Get("X-Cart") != "" {
		t.Errorf("a visitor has the member's X-Cart %q", a.Header.Get("X-Cart"))
	}
	a.wantTTL(t, 3600, begun)
}

// TestNotModifiedForAnotherResponse: a 304 with an entity tag that is not the stored one speaks of
// a response that is not here, so it updates nothing (RFC 9111 4.3.4), and the origin is asked
// again without a condition.
func TestNotModifiedForAnotherResponse(t *testing.T) {
	for name, current := range map[string]int{"storable": http.StatusOK, "odd status": 999} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				switch {
				case r.Header.Get("If-None-Match") != "":
					w.Header().Set("Etag", `"v2"`)
					w.WriteHeader(http.StatusNotModified)
				case r.Header.Get("Second") != "":
					w.Header().Set("Etag", `"v2"`)
					w.WriteHeader(current)
					_, _ = fmt.Fprint(w, "two")
				default:
					w.Header().Set("Etag", `"v1"`)
					w.Header().Set("Age", "100")
					_, _ = fmt.Fprint(w, "one")
				}
			})
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "one", "Larder; fwd=uri-miss; stored")

			second := in.get("/", "Second", "1")
			second.want(t, current, "two", "")
			if got := second.Header.Get("Etag"); got != `"v2"` {
				t.Errorf("ETag %s, want that of the body", got)
			}
			o.asked(t, 3) // a fetch, a validation, and one more fetch
		})
	}
}

// The same for a whole response: its own client gets all of it.
func TestOneClientsFieldsOfAResponse(t *testing.T) {
	for _, tc := range []struct{ name, directive, cacheControl, field string }{
		{"Set-Cookie under strip", block("set_cookie strip"), "max-age=60", "Set-Cookie"},
		{"named in private", "larder", `max-age=60, private="X-User"`, "X-User"},
		{"named in no-cache", "larder", `max-age=60, no-cache="X-User"`, "X-User"},
		{"Set-Cookie named in private, under store", block("set_cookie store"), `max-age=60, private="Set-Cookie"`, "Set-Cookie"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, _ *visit) {
				w.Header().Set("Cache-Control", tc.cacheControl)
				w.Header().Set(tc.field, "u=1")
				_, _ = io.WriteString(w, "the page")
			})
			in := start(t, proxied(tc.directive), g.origin)
			c := gather(t, in, 5, http.MethodGet, "/", nil)
			parked(t, 5)
			open(g.next(t, 1)...)
			for _, a := range append(c.all(), in.get("/")) {
				a.want(t, 200, "the page", "")
				leads := a.cacheStatus() == "Larder; fwd=uri-miss; stored"
				if got := a.Header.Get(tc.field) != ""; got != leads {
					t.Errorf("%s is there: %v, for %q", tc.field, got, a.cacheStatus())
				}
			}
			g.noMore(t)
			settled(t, in)
		})
	}
}

// Who follows a fetch of a handler with other rules gets what its own rules leave.
func TestFollowersByTheirOwnRules(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		for name, value := range map[string]string{"Cache-Control": "max-age=60", "Set-Cookie": "u=1", "Surrogate-Key": "t", "X-Other": "1"} {
			w.Header().Set(name, value)
		}
		_, _ = io.WriteString(w, "the page")
	})
	in := start(t, setup{site: `
		@first header X-First *
		handle @first {
			larder {
				set_cookie store
				tags {
					keep_headers
				}
			}
			reverse_proxy {{origin}}
		}
		handle {
			larder {
				set_cookie strip
			}
			reverse_proxy {{origin}}
		}`}, g.origin)
	leader := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return []string{"X-First", "1"} })
	parked(t, 1)
	followers := gather(t, in, 3, http.MethodGet, "/", nil)
	parked(t, 4)
	open(g.next(t, 1)...)
	for _, a := range append(leader.all(), followers.all()...) {
		own := a.cacheStatus() == "Larder; fwd=uri-miss; stored"
		a.want(t, 200, "the page", "")
		if a.Header.Get("X-Other") == "" || (a.Header.Get("Set-Cookie") != "") != own || (a.Header.Get("Surrogate-Key") != "") != own {
			t.Errorf("%q: %q", a.cacheStatus(), a.Header)
		}
	}
	g.noMore(t)
	settled(t, in)
}

// An answer that comes after one to a later request does not take its place, nor does it bring back
// what a 404 has removed.
func TestAnswerThatWasOvertaken(t *testing.T) {
	for _, tc := range []struct {
		name, directive string
		stored          bool     // before the two begin
		slow            []string // the header of the first request
		late            int      // the status that comes last, to that
		between         int      // the status that comes before, to the second
	}{
		{"200 to Authorization", "larder", false, []string{"Authorization", "x"}, 200, 200},
		{"200 without coalescing", block("coalesce off"), true, []string{"Cache-Control", "no-cache"}, 200, 200},
		{"304 without coalescing", block("coalesce off"), true, []string{"Cache-Control", "no-cache"}, 304, 200},
		{"304 to Authorization", "larder", true, []string{"Authorization", "x", "Cache-Control", "no-cache"}, 304, 200},
		{"304 after a 404", "larder", true, []string{"Authorization", "x", "Cache-Control", "no-cache"}, 304, 404},
		{"200 after a 404", "larder", true, []string{"Authorization", "x", "Cache-Control", "no-cache"}, 200, 404},
		{"200 after a 404 without coalescing", block("coalesce off"), true, []string{"Cache-Control", "no-cache"}, 200, 404},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) {
				body, status := v.Header.Get("X-Body"), http.StatusOK
				switch body {
				case "slow":
					status = tc.late
				case "fast":
					status = tc.between
				}
				if status != http.StatusNotFound {
					w.Header().Set("Cache-Control", "public, max-age=600")
				}
				if w.Header().Set("Etag", `"`+body+`"`); status == http.StatusNotModified {
					w.Header().Set("Etag", `"before"`)
				}
				if w.WriteHeader(status); status != http.StatusNotModified {
					_, _ = io.WriteString(w, body)
				}
			})
			in := start(t, proxied(tc.directive), g.origin)
			ask := func(body string, header ...string) (*crowd, []*visit) {
				c := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return append(header, "X-Body", body) })
				return c, g.next(t, 1)
			}
			if tc.stored {
				before, visit := ask("before")
				open(visit...)
				before.all()
				settled(t, in)
			}
			slow, late := ask("slow", tc.slow...)
			fast, between := ask("fast", "Cache-Control", "no-cache")
			open(between...)
			fast.all()[0].want(t, tc.between, "fast", "")
			eventually(t, "the faster answer is stored", func() bool {
				n := len(in.entries("").Entries)
				return tc.between == http.StatusNotFound && n == 0 || tc.between == http.StatusOK && n == 1
			})
			open(late...)
			slow.all()[0].want(t, http.StatusOK, map[int]string{200: "slow", 304: "before"}[tc.late], "")
			settled(t, in)
			if tc.between == http.StatusNotFound {
				if list := in.entries("").Entries; len(list) != 0 {
					t.Errorf("what was removed is stored again: %+v", list)
				}
				return
			}
			if a := in.get("/"); a.body != "fast" || !a.isHit() {
				t.Errorf("stored is %q %q", a.body, a.cacheStatus())
			}
		})
	}
}

// A background refresh is the cache's own request: what its client says of the answer that it has
// got already is not for the origin, which may be a cache.
func TestRefreshSaysNothingOfItsClientsDirectives(t *testing.T) {
	for _, vary := range []string{"", "Cache-Control"} {
		t.Run("Vary: "+vary, func(t *testing.T) {
			fields := []string{"Cache-Control", "max-age=90, stale-while-revalidate=600", "Etag", `"old"`}
			if vary != "" {
				fields = append(fields, "Vary", vary)
			}
			o := newOrigin(t, stale(answering(200, "Cache-Control", "max-age=60"), fields...))
			in := start(t, proxied("larder"), o)
			said := "only-if-cached, max-stale=700"
			if vary == "" {
				in.get("/").want(t, 200, "old", "")
			} else {
				said = "max-stale=700"
				in.get("/", "Cache-Control", said).want(t, 200, "old", "")
			}
			in.get("/", "Cache-Control", said).want(t, 200, "old", "")
			eventually(t, "the origin is asked", func() bool { return o.count() == 2 })
			if got := o.last().Header.Get("Cache-Control"); (got == "") != (vary == "") {
				t.Errorf("the origin is told %q", got)
			}
		})
	}
}

package e2e

import (
	"io"
	"net/http"
	"testing"
)

// pageFor answers with the number of the request and the X-Id that it was asked with.
func pageFor(header ...string) func(w http.ResponseWriter, v *visit) {
	return func(w http.ResponseWriter, v *visit) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, "page of "+v.Header.Get("X-Id"))
	}
}

// laxAndStrict has two handlers for one URL: the lax one for X-Id 1, the strict one for all else.
func laxAndStrict(lax, strict string) setup {
	return proxied("@lax header X-Id 1\n@strict not header X-Id 1\n" +
		"larder @lax {\n" + lax + "\n}\nlarder @strict {\n" + strict + "\n}")
}

// TestStricterHandlerOfTheSameURL: what a lax handler has stored or is fetching is no answer at one
// that would have refused it.
func TestStricterHandlerOfTheSameURL(t *testing.T) {
	for _, tc := range []struct {
		name, lax, strict string
		request           []string // fields of every request
		response          []string
		stores            bool // the strict handler does, under a key of its own kind
	}{
		{"set_cookie", "set_cookie strip", "set_cookie refuse", nil, []string{"Set-Cookie", "sid=1"}, false},
		{"ignore Set-Cookie", "ignore Set-Cookie", "", nil, []string{"Set-Cookie", "sid=1"}, false},
		{"ignore Vary", "ignore Vary", "", nil, []string{"Vary", "X-Id"}, true},
		{"ignore Vary of a star", "ignore Vary", "", nil, []string{"Vary", "*"}, false},
		{"client_directives", "client_directives ignore", "", []string{"Cache-Control", "no-store"}, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, pageFor(append(tc.response, "Cache-Control", "max-age=60")...))
			in := start(t, laxAndStrict(tc.lax, tc.strict), g.origin)
			as := func(id string) func(int) []string {
				return func(int) []string { return append([]string{"X-Id", id}, tc.request...) }
			}
			first := gather(t, in, 1, http.MethodGet, "/", as("1"))
			fetch := g.next(t, 1)
			second := gather(t, in, 1, http.MethodGet, "/", as("2"))
			if len(tc.request) == 0 {
				parked(t, 2)
			} else { // no-store waits for nobody
				open(g.next(t, 1)...)
			}
			open(fetch...)
			first.all()[0].want(t, 200, "page of 1", "Larder; fwd=uri-miss; stored")
			if len(tc.request) == 0 {
				open(g.next(t, 1)...)
			}
			second.all()[0].want(t, 200, "page of 2", "")
			settled(t, in)

			if a := in.get("/", as("1")(0)...); !a.isHit() || a.body != "page of 1" {
				t.Errorf("the lax handler: %q %q", a.cacheStatus(), a.body)
			}
			third := gather(t, in, 1, http.MethodGet, "/", as("2"))
			if !tc.stores {
				open(g.next(t, 1)...)
			}
			if a := third.all()[0]; a.isHit() != tc.stores || a.body != "page of 2" {
				t.Errorf("the strict handler: %q %q", a.cacheStatus(), a.body)
			}
			in.client.CloseIdleConnections()
		})
	}
}

// TestNoStoreThatWasIgnored: what a request with no-store has fetched where that had no effect is
// not used once it has (RFC 9111 5.2.1.5).
func TestNoStoreThatWasIgnored(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block("client_directives ignore")), o)
	in.get("/", "Cache-Control", "no-store").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	if a := in.get("/"); !a.isHit() {
		t.Fatalf("not stored: %q", a.cacheStatus())
	}
	in.load(proxied("larder"), o)
	in.get("/").want(t, 200, "2", "")
}

// TestVaryOf304WhereItIsIgnored: a 304 that adds a Vary where that is ignored leaves nothing that a
// handler which obeys it would give to others.
func TestVaryOf304WhereItIsIgnored(t *testing.T) {
	o := newOrigin(t, counted(func(w http.ResponseWriter, r *http.Request, number int) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"a"`)
		switch number {
		case 1:
			w.Header().Set("Age", "60")
		default:
			w.Header().Set("Vary", "X-Id")
		}
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "page of "+r.Header.Get("X-Id"))
	}))
	in := start(t, proxied(block("ignore Vary")), o)
	in.get("/", "X-Id", "1").want(t, 200, "page of 1", "")
	in.get("/", "X-Id", "1").want(t, 200, "page of 1", "Larder; fwd=stale; fwd-status=304; stored")
	if a := in.get("/", "X-Id", "2"); !a.isHit() {
		t.Fatalf("not renewed: %q", a.cacheStatus())
	}
	in.load(proxied("larder"), o)
	in.get("/", "X-Id", "2").want(t, 200, "page of 2", "")
}

package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// trailing answers with trailer fields, half of them announced.
func trailing(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", r.Header.Get("X-Cache-Control"))
	h.Set("Trailer", "Surrogate-Key, X-Sum, X-User")
	size := 1
	if r.URL.Path == "/large" {
		size = 6 << 20 // goes to disk while it arrives
	}
	_, _ = io.WriteString(w, strings.Repeat("b", size))
	_ = http.NewResponseController(w).Flush()
	h.Set("Surrogate-Key", marker)
	h.Set("X-Sum", "42")
	h.Set("X-User", "7")
	h.Set(http.TrailerPrefix+"Cache-Tag", marker)
	h.Set(http.TrailerPrefix+"X-Other", "1")
	h.Set(http.TrailerPrefix+"Retry-After", "1000")
	if r.Header.Get("X-Cookie") != "" {
		h.Set(http.TrailerPrefix+"Set-Cookie", "u=1")
	}
}

// Every rule for the fields of a header holds for those behind the body: for the client that a
// response was made for, for those who waited, and for hits.
func TestTrailersAreHeldToTheRules(t *testing.T) {
	const sums = "X-Other X-Sum"
	for _, tc := range []struct {
		name, directive, path string
		cacheControl          string
		cookie                bool
		own, others           string
		stored                bool
	}{
		{"tags", "larder", "/", "max-age=60", false, sums + " X-User", sums + " X-User", true},
		{"tags that are kept", block("tags {\nkeep_headers\n}"), "/", "max-age=60", false, "Cache-Tag Surrogate-Key " + sums + " X-User", "Cache-Tag Surrogate-Key " + sums + " X-User", true},
		{"named in private", "larder", "/", `max-age=60, private="X-User"`, false, sums + " X-User", sums, true},
		{"named in no-cache", "larder", "/", `max-age=60, no-cache="X-User"`, false, sums + " X-User", sums, true},
		{"Set-Cookie", "larder", "/", "max-age=60", true, "Set-Cookie " + sums + " X-User", sums + " X-User", false},
		{"Set-Cookie behind a large body", "larder", "/large", "max-age=60", true, "Set-Cookie " + sums + " X-User", sums + " X-User", false},
		{"Set-Cookie under strip", block("set_cookie strip"), "/", "max-age=60", true, "Set-Cookie " + sums + " X-User", sums + " X-User", true},
		{"Set-Cookie under store", block("set_cookie store"), "/", "max-age=60", true, "Set-Cookie " + sums + " X-User", "Set-Cookie " + sums + " X-User", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) { trailing(w, v.Request) })
			in := start(t, withDisk(t, tc.directive), g.origin)
			header := []string{"X-Cache-Control", tc.cacheControl}
			if tc.cookie {
				header = append(header, "X-Cookie", "1")
			}
			c := gather(t, in, 3, http.MethodGet, tc.path, func(int) []string { return header })
			parked(t, 3)
			open(g.next(t, 1)...)
			for _, a := range c.all() {
				want := tc.others
				if a.cacheStatus() == "Larder; fwd=uri-miss; stored" {
					want = tc.own
				}
				if got := trailers(a); got != want {
					t.Errorf("%q: trailers %q, want %q", a.cacheStatus(), got, want)
				}
			}
			if !tc.stored {
				if n := in.stats().Memory.Entries; n != 0 {
					t.Errorf("%d entries, want none", n)
				}
				settled(t, in)
				return
			}
			hit := in.get(tc.path)
			if got := trailers(hit); !hit.isHit() || got != tc.others {
				t.Errorf("%q: trailers %q, want %q", hit.cacheStatus(), got, tc.others)
			}
			g.nobody(t)
		})
	}
}

// trailers are the names of the fields behind the body, sorted.
func trailers(a *answer) string {
	names := make([]string, 0, len(a.Trailer))
	for name, values := range a.Trailer {
		if len(values) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Tags stay inside also where they come behind the body of what is passed on; all else passes as
// without Larder.
func TestTagsInTrailersOfWhatIsPassed(t *testing.T) {
	o := newOrigin(t, trailing)
	for _, tc := range []struct {
		name, directive, want string
	}{
		{"stripped", "larder", "Retry-After X-Other X-Sum X-User"},
		{"kept", block("tags {\nkeep_headers\n}"), "Cache-Tag Retry-After Surrogate-Key X-Other X-Sum X-User"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := start(t, proxied(tc.directive), o)
			for _, request := range []struct{ name, method, said, status string }{
				{"not shared", http.MethodGet, "no-store", "Larder; fwd=uri-miss"},
				{"remembered as not shareable", http.MethodGet, "no-store", "Larder; fwd=miss"},
				{"bypass", http.MethodPost, "max-age=60", "Larder; fwd=bypass; detail=method"},
			} {
				a := in.do(request.method, "/", "", "X-Cache-Control", request.said)
				if a.want(t, 200, "b", request.status); trailers(a) != tc.want {
					t.Errorf("%s: trailers %q, want %q", request.name, trailers(a), tc.want)
				}
			}
		})
	}
}

// Trailers that are stored are judged at look-up by the rules of today.
func TestStoredTrailersByStricterRules(t *testing.T) {
	o := newOrigin(t, trailing)
	in := start(t, proxied(block("set_cookie store", "tags {\nkeep_headers\n}")), o)
	header := []string{"X-Cache-Control", "max-age=60", "X-Cookie", "1"}
	if got := trailers(in.get("/", header...)); !strings.Contains(got, "Set-Cookie") || !strings.Contains(got, "Surrogate-Key") {
		t.Fatalf("trailers %q", got)
	}
	in.load(proxied(block("set_cookie strip")), o)
	if hit := in.get("/", header...); !hit.isHit() || trailers(hit) != "X-Other X-Sum X-User" {
		t.Errorf("%q: trailers %q under strip", hit.cacheStatus(), trailers(hit))
	}
	in.load(proxied("larder"), o)
	if a := in.get("/", header...); a.isHit() {
		t.Errorf("%q under refuse", a.cacheStatus())
	}
}

// Tags that inner handlers have set before they failed stay inside too: error handlers answer with
// the header map as it is.
func TestTagsOfAnErrorStayInside(t *testing.T) {
	in := start(t, setup{site: `
		route {
			larder
			header Surrogate-Key ` + marker + `
			header X-Other 1
			error "no such page" 404
		}
		handle_errors {
			respond "error"
		}`}, nil)
	for _, method := range []string{http.MethodGet, http.MethodGet, http.MethodPost} {
		a := in.do(method, "/", "")
		a.want(t, 404, "error", "")
		if a.Header.Get("X-Other") != "1" || a.Header.Get("Surrogate-Key") != "" {
			t.Errorf("%s: %q", method, a.Header)
		}
	}
}

// A request whose body would be part of the key reaches the origin with its trailers: it bypasses.
func TestTrailersBehindAKeyedBodyReachTheOrigin(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, string(body)+" "+r.Trailer.Get("X-Sum"))
	})
	in := start(t, proxied("larder {\nmethods GET HEAD POST QUERY\nkey {\nbody\n}\nsafe_post\n}"), o)
	for _, method := range []string{http.MethodPost, "QUERY"} {
		c := in.dial()
		c.send(method + " / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
			"3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")
		resp := c.response(method)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "abc 42" {
			t.Errorf("%s: the origin saw %q, want the body and its trailer (%v)", method, body, err)
		}
		if got := resp.Header.Get("Cache-Status"); got != "Larder; fwd=bypass; detail=body" {
			t.Errorf("%s: %q, want a bypass", method, got)
		}
	}
}

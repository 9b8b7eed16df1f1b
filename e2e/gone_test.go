package e2e

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// provoked answers with a page that is fresh for ten minutes, or with what the request asks for: a
// status in X-Status and fields, each `Name: value`, in X-Field.
func provoked(page ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if asked := r.Header.Get("X-Status"); asked != "" {
			status, _ := strconv.Atoi(asked)
			for _, field := range r.Header["X-Field"] {
				name, value, _ := strings.Cut(field, ": ")
				w.Header().Add(name, value)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "provoked")
			return
		}
		for i := 0; i < len(page); i += 2 {
			w.Header().Add(page[i], page[i+1])
		}
		_, _ = io.WriteString(w, "the page")
	}
}

// What a request of one client's gets from the origin says nothing about the copy that is for
// everybody: it may replace it only where it may be stored itself, and removes it only where it
// says to anybody that the resource is gone.
func TestPersonalAnswerEmptiesNothing(t *testing.T) {
	for _, tc := range []struct {
		name    string
		vary    string
		request []string
		gone    bool
	}{
		{"authorised reload", "", []string{"Authorization", "x", "Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: max-age=60"}, false},
		{"authorised, max-age=0", "", []string{"Authorization", "x", "Cache-Control", "max-age=0", "X-Status", "200"}, false},
		{"a member's reload", "", []string{"Cookie", "u=1", "Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: private"}, false},
		{"a visitor's first session", "", []string{"Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: max-age=60", "X-Field", "Set-Cookie: s=1"}, false},
		{"a redirect to some cookie", "", []string{"Cookie", "u=1", "Pragma", "no-cache", "X-Status", "302", "X-Field", "Location: /login"}, false},
		{"no-store to a reload", "", []string{"Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: no-store"}, false},
		{"Vary: * to a reload", "", []string{"Cache-Control", "min-fresh=9999", "X-Status", "200", "X-Field", "Vary: *"}, false},
		{"451 to a reload", "", []string{"Cache-Control", "no-cache", "X-Status", "451"}, false},
		{"404 to a member", "", []string{"Cookie", "u=1", "Cache-Control", "no-cache", "X-Status", "404"}, false},
		{"410 to one authorised", "", []string{"Authorization", "x", "Cache-Control", "no-cache", "X-Status", "410"}, false},
		{"404 to anybody", "", []string{"Cache-Control", "no-cache", "X-Status", "404"}, true},
		{"410 to anybody", "", []string{"Cache-Control", "no-cache", "X-Status", "410"}, true},
		{"404 to the visitors without a cookie", "Cookie", []string{"Cache-Control", "no-cache", "X-Status", "404"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			page := []string{"Cache-Control", "max-age=600, stale-if-error=86400", "Etag", `"v1"`}
			if tc.vary != "" {
				page = append(page, "Vary", tc.vary)
			}
			o := newOrigin(t, provoked(page...))
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "the page", "")
			in.get("/", tc.request...).want(t, provokes(tc.request), "provoked", "")
			o.Close() // the origin stops
			if a := in.get("/"); a.isHit() == tc.gone {
				t.Errorf("%d %q after that, want a hit: %v", a.StatusCode, a.cacheStatus(), !tc.gone)
			}
		})
	}
}

// provokes is the status that a request provokes.
func provokes(request []string) int {
	for i := 0; i < len(request); i += 2 {
		if request[i] == "X-Status" {
			n, _ := strconv.Atoi(request[i+1])
			return n
		}
	}
	return http.StatusOK
}

// A cookie that selected the stored response is no cookie of one client's: what its owner hears of
// it takes it away, and no other variant.
func TestGoneForAVariant(t *testing.T) {
	o := newOrigin(t, provoked("Cache-Control", "max-age=600", "Vary", "Cookie, Authorization"))
	in := start(t, proxied("larder"), o)
	for _, cookie := range []string{"u=1", "u=2"} {
		in.get("/", "Cookie", cookie).want(t, 200, "the page", "Larder; fwd="+map[string]string{"u=1": "uri", "u=2": "vary"}[cookie]+"-miss; stored")
	}
	in.get("/", "Cookie", "u=1", "Cache-Control", "no-cache", "X-Status", "404").want(t, 404, "provoked", "")
	if a := in.get("/", "Cookie", "u=1"); a.isHit() {
		t.Errorf("%q for the variant that is gone", a.cacheStatus())
	}
	if a := in.get("/", "Cookie", "u=2"); !a.isHit() {
		t.Errorf("%q for another one", a.cacheStatus())
	}
}

// What the origin's answer to an ordinary request has superseded, and may not be replaced, is not
// shown while the origin answers, and stands in for it when it fails.
func TestSupersededStandsInOnly(t *testing.T) {
	for name, answer := range map[string][]string{
		"no-store": {"X-Status", "200", "X-Field", "Cache-Control: no-store"},
		"redirect": {"X-Status", "302", "X-Field", "Location: /elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, provoked("Cache-Control", "max-age=90, stale-while-revalidate=600, stale-if-error=86400", "Age", "100", "Etag", `"v1"`))
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "the page", "")
			in.get("/", answer...).want(t, 200, "the page", "") // stale, and refreshed behind
			eventually(t, "the refresh is decided", func() bool { return in.get("/", answer...).body == "provoked" })
			if a := in.get("/", answer...); a.body != "provoked" {
				t.Errorf("%q is shown, want what the origin answers now", a.body)
			}
			o.Close()
			if a := in.get("/"); a.body != "the page" || !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
				t.Errorf("%d %q %q once the origin fails", a.StatusCode, a.body, a.cacheStatus())
			}
		})
	}
}

// Requests for what such an answer has superseded do not wait for each other.
func TestSupersededIsNotWaitedFor(t *testing.T) {
	gate := newGate(t, func(w http.ResponseWriter, v *visit) {
		if v.number == 1 {
			w.Header().Set("Age", "100")
			w.Header().Set("Cache-Control", "max-age=90")
			w.Header().Set("Etag", `"v1"`)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "new")
	})
	in := start(t, proxied("larder"), gate.origin)
	for range 2 {
		first := gather(t, in, 1, http.MethodGet, "/", nil)
		open(gate.next(t, 1)...)
		first.all()
	}
	crowd := gather(t, in, 5, http.MethodGet, "/", nil)
	open(gate.next(t, 5)...) // all at the origin at once
	for _, a := range crowd.all() {
		a.want(t, 200, "new", "Larder; fwd=stale; fwd-status=200")
	}
}

// A file that is no more is gone too, although file_server has no response to say so but an error.
func TestGoneFile(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "page")
	if err := os.WriteFile(file, []byte("the page"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := start(t, setup{site: "root " + root + "\nroute {\nlarder\nheader Cache-Control max-age=60\nfile_server\n}"}, nil)
	in.get("/page").want(t, 200, "the page", "Larder; fwd=uri-miss; stored")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	in.get("/page").want(t, 200, "the page", "")
	in.get("/page", "Cache-Control", "no-cache", "Cookie", "u=1").want(t, 404, "", "")
	in.get("/page").want(t, 200, "the page", "")
	in.get("/page", "Cache-Control", "no-cache").want(t, 404, "", "")
	in.get("/page").want(t, 404, "", "")
}

package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestNoVarySearch(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60", "No-Vary-Search", `key-order, params=("utm")`))
	in := start(t, proxied("larder"), o)
	in.get("/a?id=1&utm=x").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	for _, same := range []string{"/a?id=1&utm=x", "/a?utm=y&id=1", "/a?id=1"} {
		hit := in.get(same)
		hit.want(t, 200, "1", "")
		if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
			t.Errorf("%s: %q", same, hit.cacheStatus())
		}
	}
	in.get("/a?id=2&utm=x").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
	in.get("/b?id=1&utm=x").want(t, 200, "3", "Larder; fwd=uri-miss; stored")
	o.asked(t, 3)
}

func TestNoVarySearchThatIsTakenBack(t *testing.T) {
	said := []string{"Cache-Control", "max-age=60", "No-Vary-Search", `params=("utm")`}
	answer := numbered(said...)
	o := newOrigin(t, answer)
	in := start(t, proxied("larder"), o)
	in.get("/a?utm=x").want(t, 200, "1", "")
	in.get("/a?utm=y").want(t, 200, "1", "")
	if got := in.purge(`{"all":true}`); got != 1 {
		t.Errorf("purged %d", got)
	}
	plain := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in.load(proxied("larder"), plain)
	in.get("/a?utm=x").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	in.get("/a?utm=y").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
	in.get("/a?utm=x").want(t, 200, "1", "")
}

// searched answers with the query as the body, and says of queries what says returns for the
// request.
func searched(says func(r *http.Request) string) func(w http.ResponseWriter, v *visit) {
	return func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Cache-Control", "max-age=60")
		if said := says(v.Request); said != "" {
			w.Header().Set("No-Vary-Search", said)
		}
		if v.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if v.Header.Get("X-Stale") != "" {
			w.Header().Set("Age", "100")
		}
		_, _ = io.WriteString(w, v.URL.RawQuery+".")
	}
}

// Requests that have one key, by what a path last said of queries, wait for one fetch. Whether its
// answer is for them all is decided by what that says.
func TestFollowersByWhatTheAnswerSaysOfQueries(t *testing.T) {
	for _, tc := range []struct {
		name, says    string
		stale         bool // what was stored for the path is, and is validated
		leads, method string
		follower      string
		shares        bool
	}{
		{"no longer", "", false, "/a", http.MethodGet, "/a?x=1", false},
		{"no longer, the other way round", "", false, "/a?x=1", http.MethodGet, "/a", false},
		{"no longer, to HEAD", "", false, "/a", http.MethodHead, "/a?x=1", false},
		{"no longer, and the same query", "", false, "/a?x=1", http.MethodGet, "/a?x=1", true},
		{"of other parameters", `params=("y")`, false, "/a", http.MethodGet, "/a?x=1", false},
		{"of this parameter among others", `params=("y" "x")`, false, "/a", http.MethodGet, "/a?x=1", true},
		{"still", "params", false, "/a", http.MethodGet, "/a?x=1", true},
		{"in a 304, of other parameters", `params=("y")`, true, "/a", http.MethodGet, "/a?x=1", false},
		{"in a 304, still", "params", true, "/a", http.MethodGet, "/a?x=1", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, searched(func(r *http.Request) string {
				if r.Header.Get("X-First") != "" {
					return "params"
				}
				return tc.says
			}))
			in := start(t, proxied("larder"), g.origin)
			fields := []string{"X-First", "1"}
			if tc.stale {
				fields = append(fields, "X-Stale", "1")
			}
			first := gather(t, in, 1, http.MethodGet, "/a", func(int) []string { return fields })
			open(g.next(t, 1)...)
			first.all()
			if !tc.stale {
				in.purge(`{"all":true}`)
			}
			leader := gather(t, in, 1, http.MethodGet, tc.leads, nil)
			parked(t, 1)
			fetch := g.next(t, 1)
			follower := gather(t, in, 1, tc.method, tc.follower, nil)
			parked(t, 2)
			open(fetch...)
			if !tc.shares {
				open(g.next(t, 1)...) // its own
			}
			_, query, _ := strings.Cut(tc.leads, "?")
			leader.all()[0].want(t, 200, query+".", "")
			if !tc.shares {
				_, query, _ = strings.Cut(tc.follower, "?")
			}
			a := follower.all()[0]
			if a.want(t, 200, "", ""); tc.method == http.MethodGet && a.body != query+"." {
				t.Errorf("the follower has %q, want %q", a.body, query+".")
			}
			g.nobody(t)
			settled(t, in)
		})
	}
}

// What the look-up has refused, because its own field does not say what it was looked for by, is
// refused at the last look before a fetch too.
func TestStoredByWhatAPathSaidBefore(t *testing.T) {
	answer := searched(func(r *http.Request) string { return r.Header.Get("X-Says") })
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-None-Match")
		answer(w, &visit{Request: r})
	})
	in := start(t, proxied("larder"), o)
	in.get("/a?x=1", "X-Says", "params").want(t, 200, "x=1.", "Larder; fwd=uri-miss; stored")
	in.get("/a?z=1", "X-Says", `params=("y")`, "Cache-Control", "no-cache").want(t, 200, "z=1.", "")
	in.get("/a?y=1", "X-Says", `params=("y")`).want(t, 200, "y=1.", "Larder; fwd=uri-miss; stored")
	in.get("/a").want(t, 200, "y=1.", "")
}

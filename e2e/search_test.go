package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
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
			g.letThrough(t, in, "/a", fields...)
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
			g.noMore(t)
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

// indifferent answers a GET with how many there have been, for all values of u alike. A POST to
// /other names /n.
func indifferent() http.HandlerFunc {
	count := numbered("Cache-Control", "max-age=600", "No-Vary-Search", `params=("u")`)
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPost:
			count(w, r)
		case r.URL.Path == "/other":
			w.Header().Set("Location", "/n?id=1")
			w.WriteHeader(http.StatusCreated)
		}
	}
}

// A response that was stored under a spelling of the query that somebody chose (/n?id=1&u=x)
// answers for /n?id=1 by its No-Vary-Search, so what takes /n?id=1 takes it, also when the process
// has forgotten what the path said of queries.
func TestPurgeReachesWhatAnswersByNoVarySearch(t *testing.T) {
	post := func(path string) func(in *instance) { return func(in *instance) { in.do(http.MethodPost, path, "x") } }
	for name, change := range map[string]func(in *instance){
		"purge":        func(in *instance) { in.purge(fmt.Sprintf(`{"urls":[%q]}`, in.url("/n?id=1"))) },
		"soft purge":   func(in *instance) { in.purge(fmt.Sprintf(`{"urls":[%q],"soft":true}`, in.url("/n?id=1"))) },
		"POST":         post("/n?id=1"),
		"Location":     post("/other"),
		"invalidate":   post("/rule"),
		"another's":    post("/n?id=1&u=y"),
		"other values": post("/n?u=z&id=1"),
	} {
		for _, restarted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restarted), func(t *testing.T) {
				o := newOrigin(t, indifferent())
				s := proxied("larder {\ninvalidate /rule {\nurls /n?id=1\n}\n}")
				if s.options = "memory 64MiB"; restarted {
					s.disk = t.TempDir()
				}
				in := start(t, s, o)
				in.get("/m?u=x").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
				in.get("/n?id=1&u=x").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
				if restarted {
					if err := caddy.Stop(); err != nil {
						t.Fatal(err)
					}
					in.load(s, o)
				}
				if a := in.get("/n?id=1"); !a.isHit() || a.body != "2" {
					t.Fatalf("%q %q", a.body, a.cacheStatus())
				}
				change(in)
				if a := in.get("/n?id=1"); a.isHit() || a.body != "3" {
					t.Errorf("%q %q", a.body, a.cacheStatus())
				}
				if a := in.get("/m"); !a.isHit() {
					t.Errorf("another path: %q", a.cacheStatus())
				}
			})
		}
	}
}

// The same of a fetch that has not said it yet, where nothing has before.
func TestPOSTReachesAFetchByNoVarySearch(t *testing.T) {
	answer := indifferent()
	g := newGate(t, func(w http.ResponseWriter, v *visit) { answer(w, v.Request) })
	in := start(t, proxied("larder"), g.origin)
	leader := gather(t, in, 1, http.MethodGet, "/n?u=x", nil)
	fetch := g.next(t, 1)
	changes := gather(t, in, 1, http.MethodPost, "/n", nil)
	open(g.next(t, 1)...)
	changes.all()
	open(fetch...)
	leader.all()[0].want(t, 200, "1", "")
	settled(t, in)
	g.letThrough(t, in, "/n").want(t, 200, "2", "")
	settled(t, in)
}

// What a purge takes by its path is listed and tagged as before.
func TestNoVarySearchShowsNoTags(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("No-Vary-Search", "params")
		_, _ = io.WriteString(w, "x")
	})
	in := start(t, proxied("larder"), o)
	in.get("/n?u=x")
	list := in.entries("")
	if len(list.Entries) != 1 || len(list.Entries[0].Tags) != 0 || !strings.HasSuffix(list.Entries[0].URL, "/n?u=x") {
		t.Errorf("listed are %+v", list)
	}
}

// What a handler stores that stands behind another is asked for by what the other's query rules
// have left, and a purge by the client's URL reaches it.
func TestPurgeThroughTheRulesOfTwoHandlers(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=600"))
	inner := freePort(t)
	in := start(t, setup{
		site: fmt.Sprintf("larder {\nkey {\nquery ignore q\n}\n}\nreverse_proxy 127.0.0.1:%d", inner),
		more: fmt.Sprintf("http://:%d {\nlarder {\nkey {\nquery sort\n}\n}\nreverse_proxy {{origin}}\n}", inner),
	}, o)
	in.get("/p?b=1&q=1&a=1").want(t, 200, "1", "")
	if got := in.purge(fmt.Sprintf(`{"urls":[%q]}`, in.url("/p?b=1&q=1&a=1"))); got != 2 {
		t.Errorf("purged %d", got)
	}
	in.get("/p?b=1&q=1&a=1").want(t, 200, "2", "")
}

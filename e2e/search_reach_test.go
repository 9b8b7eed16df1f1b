package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// indifferent answers a GET with how many there have been, for all values of u alike. A POST to /other
// names /n.
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

// A response that was stored under a spelling of the query that somebody chose (/n?id=1&u=x) answers for
// /n?id=1 by its No-Vary-Search, so what takes /n?id=1 takes it, also when the process has forgotten what the
// path said of queries.
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
	later := gather(t, in, 1, http.MethodGet, "/n", nil)
	open(g.next(t, 1)...)
	later.all()[0].want(t, 200, "2", "")
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

// What a handler stores that stands behind another is asked for by what the other's query rules have
// left, and a purge by the client's URL reaches it.
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

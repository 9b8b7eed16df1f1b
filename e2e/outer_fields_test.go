package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// C21b: reverse_proxy adds the origin's values to those that an outer handler has set for one
// client. What is shared is the addition: each client gets its own outer value before it, as
// without Larder, from the store, as a follower, after a 304 and after a restart.
func TestOuterValuesOfAFieldStayTheClientsOwn(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"e"`)
		w.Header().Set("Larder-Added", "X-A, Etag") // of no meaning
		w.Header()["X-A"] = []string{"orig", "inal"}
		if v.Header.Get("If-None-Match") != "" {
			w.Header()["X-A"] = []string{"renewed"}
			w.WriteHeader(http.StatusNotModified)
		}
	})
	s := proxied("header X-A {header.X-Me}\nheader X-Whole {header.X-Me}\nlarder")
	s.disk = t.TempDir()
	in := start(t, s, g.origin)
	me := func(i int) []string { return []string{"X-Me", fmt.Sprint("client-", i)} }
	want := func(what string, i int, a *answer, values ...string) {
		t.Helper()
		if got, values := a.Header["X-A"], append(me(i)[1:], values...); !slices.Equal(got, values) {
			t.Errorf("%s: X-A %q, want %q", what, got, values)
		}
	}
	all := gather(t, in, 2, http.MethodGet, "/", func(i int) []string { return me(i) })
	open(g.next(t, 1)...)
	for i, a := range all.all() {
		want("leader and follower", i, a, "orig", "inal")
	}
	want("hit", 7, in.get("/", me(7)...), "orig", "inal")
	if a := in.get("/"); !slices.Equal(a.Header["X-A"], []string{"", "orig", "inal"}) || len(a.Header["Larder-Added"]) > 0 {
		t.Errorf("a client without a value: %q, Larder-Added %q", a.Header["X-A"], a.Header["Larder-Added"])
	}
	renewal := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return append(me(8), "Cache-Control", "no-cache") })
	open(g.next(t, 1)...)
	want("304", 8, renewal.all()[0], "renewed")
	want("after it", 9, in.get("/", me(9)...), "renewed")
	_ = caddy.Stop()
	awaitClosedStores(t)
	in.load(s, g.origin)
	restarted := in.get("/", me(9)...)
	if want("after a restart", 9, restarted, "renewed"); !restarted.isHit() {
		t.Errorf("after a restart: %q", restarted.cacheStatus())
	}
}

// C17: tags that an outer handler sets are tags too, and no client gets them.
func TestTagsOfOuterHandlersStayInside(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", "inner"))
	in := start(t, proxied("header Surrogate-Key outer\nlarder"), o)
	for range 2 {
		a := in.get("/")
		if tags := a.Header["Surrogate-Key"]; tags != nil {
			t.Errorf("%s: tags %q", a.cacheStatus(), tags)
		}
	}
	if n := in.purge(`{"tags":["outer"]}`); n != 1 {
		t.Errorf("a purge of the outer tag matched %d", n)
	}
}

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// A purge that has answered holds against a validation under way, although the 304 takes away what
// the purge found the response by.
func TestPurgeHoldsAgainstAValidationUnderWay(t *testing.T) {
	type pairs = []string
	post := func(path string) func(in *instance) int {
		return func(in *instance) int { in.do(http.MethodPost, path, "x"); return 1 }
	}
	purge := func(selectors string) func(in *instance) int {
		return func(in *instance) int { return in.purge(fmt.Sprintf(selectors, in.url(""))) }
	}
	tagged, search := pairs{"Surrogate-Key", "product-7", "Cache-Groups", `"g7"`}, pairs{"No-Vary-Search", `params=("u")`}
	for _, tc := range []struct {
		name                string
		first, notModified  pairs
		firstPath, thenPath string
		purge               func(in *instance) int
	}{
		{"tag, another comes", tagged, pairs{"Surrogate-Key", "product-8"}, "/p", "/p", purge(`{"tags":["product-7"]}%.0s`)},
		{"tag, none is left", tagged, pairs{"Surrogate-Key", ""}, "/p", "/p", purge(`{"tags":["product-7"]}%.0s`)},
		{"tag, softly", tagged, pairs{"Surrogate-Key", "product-8"}, "/p", "/p", purge(`{"tags":["product-7"],"soft":true}%.0s`)},
		{"invalidate", tagged, pairs{"Surrogate-Key", "product-8"}, "/p", "/p", post("/edit")},
		{"cache group", tagged, pairs{"Cache-Groups", `"g8"`}, "/p", "/p", post("/group")},
		{"URL by No-Vary-Search", search, pairs{"No-Vary-Search", ""}, "/p?u=x", "/p", purge(`{"urls":["%s/p"]}`)},
		{"URL of before", search, pairs{"No-Vary-Search", ""}, "/p?u=x", "/p", purge(`{"urls":["%s/p?u=x"]}`)},
		{"prefix of before", search, nil, "/p?u=x", "/p", purge(`{"prefixes":["%s/p?u"]}`)},
	} {
		for _, window := range []string{"", ", stale-while-revalidate=600"} {
			if window != "" && tc.name == "tag, softly" {
				continue // served stale within the window, whether it was purged or not
			}
			t.Run(tc.name+window, func(t *testing.T) {
				g := newGate(t, func(w http.ResponseWriter, v *visit) {
					fields := append(pairs{"Etag", `"v1"`, "Cache-Control", "max-age=600"}, tc.notModified...)
					switch {
					case v.Method == http.MethodPost:
						fields = pairs{"Cache-Group-Invalidation", `"g7"`}
					case v.number == 1:
						fields = append(pairs{"Etag", `"v1"`, "Age", "60", "Cache-Control", "max-age=60" + window}, tc.first...)
					case v.number > 3:
						fields = pairs{"Cache-Control", "max-age=600"}
					}
					for i := 0; i < len(fields); i += 2 {
						w.Header().Add(fields[i], fields[i+1])
					}
					if v.number > 1 && v.Header.Get("If-None-Match") != "" {
						w.WriteHeader(http.StatusNotModified)
						return
					}
					_, _ = io.WriteString(w, map[bool]string{true: "old", false: "new"}[v.number == 1])
				})
				in := start(t, proxied("larder {\ninvalidate /edit {\ntags product-7\n}\n}"), g.origin)
				ask := func(path string) *crowd { return gather(t, in, 1, http.MethodGet, path, nil) }
				first := ask(tc.firstPath)
				open(g.next(t, 1)...)
				first.all()
				settled(t, in)

				waits := ask(tc.thenPath)
				validation := g.next(t, 1)
				done := make(chan int)
				go func() { done <- tc.purge(in) }()
				if tc.name == "invalidate" || tc.name == "cache group" {
					open(g.next(t, 1)...)
				}
				if matched := <-done; matched != 1 {
					t.Errorf("the purge matched %d", matched)
				}
				later := ask(tc.thenPath)
				open(validation...)
				waits.all()[0].want(t, 200, "old", "")
				open(g.next(t, 1)...)
				soft := tc.name == "tag, softly"
				if a := later.all()[0]; a.body != "new" && !soft {
					t.Errorf("a request after the purge got %q %q", a.body, a.cacheStatus())
				}
				settled(t, in)
				if a := in.get(tc.thenPath); a.body != "new" && !soft || !a.isHit() {
					t.Errorf("stored is %q %q", a.body, a.cacheStatus())
				}
			})
		}
	}
}

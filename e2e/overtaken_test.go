package e2e

import (
	"io"
	"net/http"
	"testing"
)

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

package e2e

import "testing"

// A background refresh is the cache's own request: what its client says of the answer that it has got
// already is not for the origin, which may be a cache.
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

package larder_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestNotModifiedForAnotherResponse: a 304 with an entity tag that is not the stored one speaks of a response that is not here, so it
// updates nothing (RFC 9111 4.3.4), and the origin is asked again without a condition.
func TestNotModifiedForAnotherResponse(t *testing.T) {
	for name, current := range map[string]int{"storable": http.StatusOK, "odd status": 999} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				switch {
				case r.Header.Get("If-None-Match") != "":
					w.Header().Set("Etag", `"v2"`)
					w.WriteHeader(http.StatusNotModified)
				case r.Header.Get("Second") != "":
					w.Header().Set("Etag", `"v2"`)
					w.WriteHeader(current)
					_, _ = fmt.Fprint(w, "two")
				default:
					w.Header().Set("Etag", `"v1"`)
					w.Header().Set("Age", "100")
					_, _ = fmt.Fprint(w, "one")
				}
			})
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "one", "Larder; fwd=uri-miss; stored")

			second := in.get("/", "Second", "1")
			second.want(t, current, "two", "")
			if got := second.Header.Get("Etag"); got != `"v2"` {
				t.Errorf("ETag %s, want that of the body", got)
			}
			o.asked(t, 3) // a fetch, a validation, and one more fetch
		})
	}
}

package larder_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestVaryByWhatAFetchGoesWithout asks for forty ranges, and by conditionals, of what varies by them: a fetch carries none of these fields,
// so there is one variant and one fetch (RFC 9111 4.1).
func TestVaryByWhatAFetchGoesWithout(t *testing.T) {
	o := newOrigin(t, answering(http.StatusOK, "Cache-Control", "max-age=60", "Etag", `"a"`,
		"Vary", "Range, If-None-Match, If-Modified-Since, If-Range, If-Match, If-Unmodified-Since"))
	in := start(t, proxied("larder"), o)
	for i := range 40 {
		a := in.get("/", "Range", fmt.Sprintf("bytes=0-%d", i))
		if a.StatusCode != http.StatusPartialContent {
			t.Fatalf("range %d: status %d", i, a.StatusCode)
		}
	}
	in.get("/", "If-None-Match", `"b"`).want(t, http.StatusOK, "1", "")
	in.get("/", "If-None-Match", `"a"`).want(t, http.StatusNotModified, "", "")
	o.asked(t, 1)
}

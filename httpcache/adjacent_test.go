package httpcache

import (
	"net/http"
	"strings"
	"testing"
)

// Parts that lie side by side are sent from a body on its way as from a stored one: the second
// began behind the piece in which the first had ended.
func TestAdjacentRangesOfABodyOnItsWay(t *testing.T) {
	const body = "0123456789abcdefghij"
	h := newTestHandler(t)
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Length", "20")
		_, err := w.Write([]byte(body))
		return err
	})
	f := &film{}
	f.alter = func(w http.ResponseWriter, r *http.Request) bool { return next(w, r) == nil }
	for _, from := range []string{"the fetch", "the store"} {
		w := f.get(t, h, "Range", "bytes=2-4, 5-9, 15-16")
		for _, part := range []string{"234\r\n", "56789\r\n", "fg\r\n"} {
			if !strings.Contains(w.Body.String(), "\r\n\r\n"+part) {
				t.Errorf("from %s: %q is missing in %q", from, part, w.Body)
			}
		}
	}
}

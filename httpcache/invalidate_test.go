package httpcache

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// An unsafe request invalidates by the method that its client sent. One that Caddy's `method`
// rewrites behind larder invalidated nothing: the method was looked at after that.
func TestRewrittenMethodInvalidatesAllTheSame(t *testing.T) {
	c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		r.Method = http.MethodGet
		return nil
	})
	c.ask()
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	r.Method = http.MethodDelete
	if err := c.h.ServeHTTP(w, r, c.next); err != nil {
		t.Fatal(err)
	}
	if got := c.ask(); got != "Larder; fwd=uri-miss; stored" {
		t.Errorf("after a DELETE: %q", got)
	}
}

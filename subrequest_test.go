package larder

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A fetch that the leader did not get its answer from leaves nothing in the leader's vars, whose
// handlers may be running still.
func TestVarsOfAnAbandonedFetch(t *testing.T) {
	h := newTestHandler(t)
	answered := make(chan struct{})
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "no-store")
		if r.Header.Get("Range") != "" { // forwarded as it is
			caddyhttp.SetVar(r.Context(), "who", "the client's")
			w.WriteHeader(http.StatusPartialContent)
			return nil
		}
		w.WriteHeader(http.StatusOK)
		for {
			caddyhttp.SetVar(r.Context(), "who", "the fetch's")
			select {
			case <-answered:
				return nil
			default:
			}
		}
	})
	w := httptest.NewRecorder()
	r := newTestRequest(w, "Range", "bytes=0-1")
	err := h.ServeHTTP(w, r, next)
	close(answered)
	if err != nil {
		t.Fatal(err)
	}
	if who := caddyhttp.GetVar(r.Context(), "who"); w.Code != http.StatusPartialContent || who != "the client's" {
		t.Errorf("status %d, and the var is %v, want the client's", w.Code, who)
	}
}

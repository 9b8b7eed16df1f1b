package adminapi

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// TestOriginIsAskedForAgainAfterAReload: a client that lives long, as the dashboard's, went on
// without an origin when a reload had begun to ask for one.
func TestOriginIsAskedForAgainAfterAReload(t *testing.T) {
	var wanted atomic.Bool // a request needs an origin; otherwise it must have none
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.Header.Get("Origin") != "") != wanted.Load() {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(server.Close)
	transport, err := Transport(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false, false, true, true, false} {
		wanted.Store(want)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://larder/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("an origin is wanted: %v; the answer is %d", want, response.StatusCode)
		}
	}
}

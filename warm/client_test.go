package warm

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// TestConnectsAtOnce: workers connect to --to at the same time. They wrote to one variable.
func TestConnectsAtOnce(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := newTransport(u.Hostname(), 4)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			conn, err := transport.DialContext(t.Context(), "tcp", "example.com:"+u.Port())
			if err != nil {
				t.Error(err)
				return
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

package fleet_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/larder-cache/larder/store"
)

// Three net/http servers before one origin: 150 requests for one cold URL are one fetch, a purge
// reaches them all, and the next request is a fetch for all again.
func TestServers(t *testing.T) {
	const perNode = 50
	var arrived sync.WaitGroup
	arrived.Add(3 * perNode)
	s := newSite(t, 3, func(w http.ResponseWriter, r *http.Request) {
		arrived.Wait()
		page("first")(w, r)
	}, nil)
	get := func(server *httptest.Server, want string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/page", nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.Host = "example.com"
		response, err := server.Client().Do(r)
		if err != nil {
			t.Error(err)
			return
		}
		defer response.Body.Close()
		if body, err := io.ReadAll(response.Body); string(body) != want || err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%d %q, %v", response.StatusCode, body, err)
		}
	}
	var servers []*httptest.Server
	var counting sync.Mutex
	left := 3 * perNode
	for _, nd := range s.nodes {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			counting.Lock()
			if left > 0 {
				left--
				arrived.Done()
			}
			counting.Unlock()
			nd.ServeHTTP(w, r)
		}))
		defer server.Close()
		servers = append(servers, server)
	}
	var clients sync.WaitGroup
	for _, server := range servers {
		for range perNode {
			clients.Go(func() { get(server, "first") })
		}
	}
	clients.Wait()
	if n := s.calls.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	for _, nd := range s.nodes {
		nd.awaitIdle()
	}
	s.purge(store.Selectors{Tags: []string{"page"}}, store.Hard)
	now := page("second")
	s.origin.Store(&now)
	for _, server := range servers {
		get(server, "second")
		s.nodes[0].awaitIdle()
	}
	if n := s.calls.Load(); n != 2 {
		t.Errorf("%d fetches after the purge", n)
	}
}

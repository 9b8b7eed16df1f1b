package httpcache

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/larder-cache/larder/store"
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

// A request target that a purge could not name, but whose path the origin is asked for, invalidates
// that path.
func TestOddTargetInvalidatesWhatTheOriginIsAsked(t *testing.T) {
	for _, tc := range []struct {
		target string
		want   bool
	}{
		{"/some/path?and=query", true},
		{"http://example.com/some/path?and=query", true},
		{"ftp://example.com/some/path?and=query", true},
		{"http:/some/path?and=query", true},
		{"http:///some/path?and=query", true},
		{"ftp://other.test/some/path?and=query", false},
		{"ftp:some/path?and=query", false},
		{"*", false},
	} {
		h := newTestHandler(t)
		ask(t, h, storable)
		r := httptest.NewRequest(http.MethodPost, tc.target, nil)
		if r.Host == "" {
			r.Host = "example.com"
		}
		if err := h.ServeHTTP(httptest.NewRecorder(), r, handlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, h, storable).Header().Get("Cache-Status"); (got == "Larder; fwd=uri-miss; stored") != tc.want {
			t.Errorf("after POST %s: %q, want it invalidated: %v", tc.target, got, tc.want)
		}
	}
}

// An unsafe request reaches what an earlier process stored for another query of its path, although
// nothing has said in this process that queries of that path make no difference.
func TestInvalidationAfterARestart(t *testing.T) {
	dir := t.TempDir()
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("No-Vary-Search", "params")
		return nil
	})
	open := func() *testHandler {
		return newTestHandlerWith(t, store.Config{Path: dir}, store.Settings{Memory: 1 << 20, Disk: 8 << 20})
	}
	first := open()
	ask(t, first, next)
	if err := first.cache.store.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := first.cache.store.Close(); err != nil {
		t.Fatal(err)
	}
	second := open()
	put := httptest.NewRequest(http.MethodPut, "http://example.com/some/path?other=query", nil)
	if err := second.ServeHTTP(httptest.NewRecorder(), put, storable); err != nil {
		t.Fatal(err)
	}
	if items, _, err := second.cache.store.List(store.Filter{}, 10, ""); err != nil || len(items) > 0 {
		t.Errorf("stored after the PUT: %v, %v", items, err)
	}
}

// TestInvalidationKeepsItsStore: a request that bypasses and may invalidate counts as under way, so
// that its store is still there when it has succeeded. One that cannot invalidate does not count:
// it may be a connection that lasts for days.
func TestInvalidationKeepsItsStore(t *testing.T) {
	h := newTestHandler(t)
	for method, want := range map[string]int64{http.MethodPut: 1, http.MethodOptions: 0} {
		var users int64
		next := handlerFunc(func(http.ResponseWriter, *http.Request) error {
			users = h.cache.Users()
			return nil
		})
		r := httptest.NewRequest(method, "http://example.com/", nil)
		if err := h.ServeHTTP(httptest.NewRecorder(), r, next); err != nil {
			t.Fatal(err)
		}
		if users != want || h.cache.Users() != 0 {
			t.Errorf("%s: %d users meanwhile, want %d; %d after it", method, users, want, h.cache.Users())
		}
	}
}

package httpcache

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
)

// An unsafe request invalidates by the method that its client sent. One that Caddy's `method`
// rewrites behind larder invalidated nothing: the method was looked at after that.
func TestRewrittenMethodInvalidatesAllTheSame(t *testing.T) {
	c := newConfirming(t, func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		r.Method = http.MethodGet
		w.WriteHeader(http.StatusOK)
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

// A Host that is part of no URL is matched by servers for the name in it, and so may the origin
// read it. An unsafe request with one changes the page and left it stored.
func TestUnsafeRequestByAHostThatIsPartOfNoURL(t *testing.T) {
	listener := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{Port: 8080})
	serve := func(h *testHandler, method, host, claim string) string {
		w := httptest.NewRecorder()
		r := newTestRequest(w).WithContext(listener)
		r.Method, r.Host = method, host
		if claim != "" {
			r.Header.Set("X-Forwarded-Host", claim)
		}
		q := &plainRequest{next: storable}
		if err := h.Serve(&q.Request, w, r, new(Identify(r, r.URL, true)), q); err != nil {
			t.Fatal(err)
		}
		return w.Header().Get("Cache-Status")
	}
	for _, tc := range []struct {
		stored, posted string
		gone           bool
	}{
		{"a.test", "a.test:0", true},
		{"a.test", "A.test:99999", true},
		{"a.test", "a.test:+80", true},
		{"a.test", "a.test:x", true},
		{"a.test", "a.test:80;", true},
		{"a.test", "a.test:80:80", true},
		{"a.test", "[a.test]", true},
		{"a.test", "[a.test]:80", true},
		{"a.test", "[a.test", true},
		{"a.test:8080", "a.test:0", true},
		{"a.test:8080", "[a.test]:8080", true},
		{"[::1]", "::1", true},
		{"[::1]:8080", "[::1]:x", true},
		{"[fe80::1]", "[fe80::1%25eth0]", true},
		{"a.test", "a.test:080", true}, // a URL may have it, and means the default port
		{"a.test:81", "a.test:0", false},
		{"a.test", "b.test:0", false},
		{"a.test", "xa.test:0", false},
		{"a.test", "a!.test:0", false},
		{"a.test", "", false},
		{"a.test", ":0", false},
	} {
		h := newTestHandler(t)
		serve(h, http.MethodGet, tc.stored, "")
		serve(h, http.MethodPost, tc.posted, "")
		if got := serve(h, http.MethodGet, tc.stored, ""); strings.HasPrefix(got, "Larder; hit") == tc.gone {
			t.Errorf("%s after a POST to %q: %q", tc.stored, tc.posted, got)
		}
		// A proxy in front may pass such a Host on as what it was asked for.
		serve(h, http.MethodGet, "front.test", tc.stored)
		serve(h, http.MethodPost, "front.test", tc.posted)
		if got := serve(h, http.MethodGet, "front.test", tc.stored); strings.HasPrefix(got, "Larder; hit") == tc.gone {
			t.Errorf("%s after a POST by a proxy that was asked for %q: %q", tc.stored, tc.posted, got)
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
		w.WriteHeader(http.StatusOK)
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

// A successful POST whose origin gives the answer a lifetime invalidates nothing where that answer
// is stored. Where it is not stored in the end, it is an unsafe request like any other (RFC 9111
// 4.4): its page went on being answered from the store.
func TestPostThatIsNotStoredInTheEndInvalidates(t *testing.T) {
	large := func(w http.ResponseWriter, n int) error {
		for range n {
			if _, err := w.Write(make([]byte, 1<<10)); err != nil {
				return err
			}
		}
		return nil
	}
	for name, tc := range map[string]struct {
		answer  func(w http.ResponseWriter, h *testHandler) error
		maxBody int64
		stored  bool
	}{
		"stored": {answer: func(w http.ResponseWriter, _ *testHandler) error { return large(w, 1) }, stored: true},
		"over max_body in mid-stream": {
			answer: func(w http.ResponseWriter, _ *testHandler) error { return large(w, 64) }, maxBody: 16 << 10,
		},
		"breaks off": {answer: func(w http.ResponseWriter, _ *testHandler) error {
			return errors.Join(large(w, 1), io.ErrUnexpectedEOF)
		}},
		"ends before its length": {answer: func(w http.ResponseWriter, _ *testHandler) error {
			w.Header().Set("Content-Length", "4096")
			return large(w, 1)
		}},
		"panics": {answer: func(w http.ResponseWriter, _ *testHandler) error {
			_ = large(w, 1)
			panic(http.ErrAbortHandler)
		}},
		"a trailer for one client": {answer: func(w http.ResponseWriter, _ *testHandler) error {
			err := large(w, 1)
			w.Header().Set(http.TrailerPrefix+"Set-Cookie", "session=alice")
			return err
		}},
		"purged meanwhile": {answer: func(w http.ResponseWriter, h *testHandler) error {
			err := large(w, 1)
			_, purged := h.cache.Purge(t.Context(), store.Selectors{Tags: []string{"t"}}, PurgeOptions{})
			return errors.Join(err, purged)
		}},
		"old when it comes": {answer: func(w http.ResponseWriter, _ *testHandler) error {
			w.Header().Set("Age", "60")
			return large(w, 1)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandler(t)
			if h.Methods = append(slices.Clone(h.Methods), http.MethodPost); tc.maxBody > 0 {
				h.MaxBody = tc.maxBody
			}
			ask(t, h, storable)
			post(h, handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Surrogate-Key", "t")
				return tc.answer(w, h)
			}))
			hit := strings.HasPrefix(ask(t, h, storable).Header().Get("Cache-Status"), "Larder; hit")
			if hit != tc.stored {
				t.Errorf("the page is a hit: %v, want %v", hit, tc.stored)
			}
		})
	}
}

// post sends a POST to the URL of ask, and takes what comes of it.
func post(h *testHandler, next handlerFunc) *httptest.ResponseRecorder {
	defer func() { _ = recover() }() // an answer that breaks off
	w := httptest.NewRecorder()
	r := newTestRequest(w)
	r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("q=1")), int64(len("q=1"))
	_ = h.ServeHTTP(w, r, next)
	return w
}

// The same for one that is passed on, because requests to its URL wait for no other.
func TestPostThatIsPassedOnInvalidates(t *testing.T) {
	h := newTestHandler(t)
	h.Methods = append(slices.Clone(h.Methods), http.MethodPost)
	private := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "private")
		w.WriteHeader(http.StatusOK)
		return nil
	})
	post(h, private)
	ask(t, h, storable)
	if got := post(h, storable).Header().Get("Cache-Status"); got != "Larder; fwd=miss" {
		t.Fatalf("the POST is not passed on: %q", got)
	}
	if got := ask(t, h, storable).Header().Get("Cache-Status"); got != "Larder; fwd=uri-miss; stored" {
		t.Errorf("after it: %q", got)
	}
}

// A proxy that is trusted may pass on what its client says of host and scheme. An unsafe request
// through it invalidates the page by either name: under that of the request itself it stayed.
func TestInvalidationByBothNames(t *testing.T) {
	own, claimed := []string{}, []string{"X-Forwarded-Host", "shop.example", "X-Forwarded-Proto", "https"}
	for name, tc := range map[string]struct {
		stored, posted []string
		gone           bool
	}{
		"neither claims":             {own, own, true},
		"both claim the same":        {claimed, claimed, true},
		"a POST with a claim":        {own, claimed, true},
		"a claim of another host":    {claimed, []string{"X-Forwarded-Host", "bank.example"}, false},
		"a POST without their claim": {claimed, own, false},
	} {
		for path, header := range map[string][2]string{
			"/some/path?and=query": {}, "/by-location": {"Location", "/some/path?and=query"},
			"/by-group": {"Cache-Group-Invalidation", `"g"`},
		} {
			h := newTestHandler(t)
			serve := func(method, path string, fields []string, next handlerFunc) string {
				w := httptest.NewRecorder()
				r := newTestRequest(w, fields...)
				r.Method, r.URL.RawQuery = method, ""
				r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
				q := &plainRequest{next: next}
				if err := h.Serve(&q.Request, w, r, new(Identify(r, r.URL, true)), q); err != nil {
					t.Fatal(err)
				}
				return w.Header().Get("Cache-Status")
			}
			page := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Cache-Groups", `"g"`)
				return storable(w, r)
			})
			serve(http.MethodGet, "/some/path?and=query", tc.stored, page)
			serve(http.MethodPost, path, tc.posted, func(w http.ResponseWriter, _ *http.Request) error {
				if header[0] != "" {
					w.Header().Set(header[0], header[1])
				}
				w.WriteHeader(http.StatusOK)
				return nil
			})
			got := serve(http.MethodGet, "/some/path?and=query", tc.stored, page)
			if gone := !strings.HasPrefix(got, "Larder; hit"); gone != tc.gone {
				t.Errorf("%s, POST %s: %q", name, path, got)
			}
		}
	}
}

// A POST by another spelling of a URL, to which its origin answers as to the plain one, left the
// page that was stored under that.
func TestPostByAnotherSpelling(t *testing.T) {
	for posted, gone := range map[string]bool{
		"/dir/page?q=A":       true,
		"/%64ir/p%61ge?q=%41": true,
		"/dir/./page?q=A":     true,
		"/x/../dir/page?q=A":  true,
		"//dir//page?q=A":     true,
		"/dir/%2e/page?q=A":   true,
		"/dir%2Fpage?q=A":     false,
		"/dir/Page?q=A":       false,
		"/dir/page?q=B":       false,
		"/dir/page/?q=A":      false,
	} {
		h := newTestHandler(t)
		ask := func(method, target string) string {
			w := httptest.NewRecorder()
			err := h.ServeHTTP(w, httptest.NewRequest(method, "http://example.com"+target, nil), func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Cache-Control", "max-age=60")
				_, err := io.WriteString(w, "page")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return w.Header().Get("Cache-Status")
		}
		ask(http.MethodGet, "/dir/page?q=A")
		ask(http.MethodPost, posted)
		if hit := strings.Contains(ask(http.MethodGet, "/dir/page?q=A"), "hit"); hit == gone {
			t.Errorf("after a POST to %s: hit %v", posted, hit)
		}
	}
}

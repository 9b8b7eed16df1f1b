package httpcache

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
)

// purgeThen purges as the Cache does, and has something done before it tells what matched.
type purgeThen struct {
	*Cache
	then func()
}

func (p *purgeThen) Purge(ctx context.Context, selectors store.Selectors, options PurgeOptions) (int, error) {
	matched, err := p.Cache.Purge(ctx, selectors, options)
	if matched > 0 {
		p.then()
	}
	return matched, err
}

// TestPurgeIsNotToldAsAnotherRequests: explain said of what a purge had removed that a POST
// invalidated it, where that POST had purged something else by a tag or by another URL, or where
// the response was stored after it and before its note.
func TestPurgeIsNotToldAsAnotherRequests(t *testing.T) {
	serve := func(t *testing.T, h *testHandler, method, path string) {
		t.Helper()
		next := handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Surrogate-Key", "list")
			if r.Method == http.MethodPost {
				w.Header().Set("Location", "/list")
			}
			w.WriteHeader(http.StatusOK)
			return nil
		})
		r := requestFor(path)
		r.Method = method
		if err := h.ServeHTTP(httptest.NewRecorder(), r, next); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(t *testing.T, h *testHandler, method, path string) {
		t.Helper()
		serve(t, h, method, path)
		h.awaitIdle()
	}
	purge := func(t *testing.T, h *testHandler, path string) {
		t.Helper()
		before := h.cache.store.Stats().Memory.Entries
		if n, err := h.cache.store.Purge(store.Selectors{URLs: []string{"http://example.com" + path}}, store.PurgeOptions{}); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		for h.cache.store.Stats().Memory.Entries == before { // until it is swept it counts as stored
			runtime.Gosched()
		}
	}
	byTag := InvalidateRule{Match: func(*http.Request) (bool, error) { return true, nil }, Tags: []string{"list"}}
	for name, tc := range map[string]struct {
		asks func(t *testing.T, h *testHandler)
		told bool
	}{
		"by itself": {func(t *testing.T, h *testHandler) {
			ask(t, h, http.MethodGet, "/form")
			ask(t, h, http.MethodPost, "/form")
		}, true},
		"by itself, and by a tag and another URL": {func(t *testing.T, h *testHandler) {
			h.Invalidate = []InvalidateRule{byTag}
			ask(t, h, http.MethodGet, "/list")
			ask(t, h, http.MethodGet, "/form")
			ask(t, h, http.MethodPost, "/form")
		}, true},
		"the POST purged another URL": {func(t *testing.T, h *testHandler) {
			ask(t, h, http.MethodGet, "/list")
			ask(t, h, http.MethodGet, "/form")
			purge(t, h, "/form")
			ask(t, h, http.MethodPost, "/form")
		}, false},
		"the POST purged a tag": {func(t *testing.T, h *testHandler) {
			h.Invalidate = []InvalidateRule{byTag}
			ask(t, h, http.MethodGet, "/other")
			ask(t, h, http.MethodGet, "/form")
			purge(t, h, "/form")
			ask(t, h, http.MethodPost, "/form")
		}, false},
		"it was stored before the note": {func(t *testing.T, h *testHandler) {
			h.cache.purger = &purgeThen{h.cache, func() {
				serve(t, h, http.MethodGet, "/form")
				for h.cache.store.Stats().Memory.Entries == 0 { // the fetch goes on when its client has been answered
					runtime.Gosched()
				}
			}}
			ask(t, h, http.MethodGet, "/form")
			ask(t, h, http.MethodPost, "/form")
			purge(t, h, "/form")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newTestHandler(t)
			tc.asks(t, h)
			e := h.explain(t, requestFor("/form"))
			told := strings.Contains(e.Verdict, "invalidated it")
			if !strings.Contains(e.Verdict, "what was stored has been purged") || told != tc.told {
				t.Errorf("%q, told: %v, want %v", e.Verdict, told, tc.told)
			}
		})
	}
}

package httpcache

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
)

// A response that an earlier process stored under another query is a hit at once, at its own URL
// and at those that its No-Vary-Search calls the same. What a later answer of this process says
// takes the place of what was stored.
func TestNoVarySearchAfterARestart(t *testing.T) {
	dir, says := t.TempDir(), ""
	next := handlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Cache-Control", "max-age=60")
		if says != "" {
			w.Header().Set("No-Vary-Search", says)
		}
		return nil
	})
	open := func() *testHandler {
		return newTestHandlerWith(t, store.Config{Path: dir, Required: true}, store.Settings{Memory: 1 << 20, Disk: 8 << 20})
	}
	get := func(h *testHandler, target string, header ...string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://example.com"+target, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		if err := h.ServeHTTP(w, r, next); err != nil {
			t.Fatal(err)
		}
		status, _, _ := strings.Cut(w.Header().Get("Cache-Status"), "; ttl")
		return status
	}
	const hit, miss = "Larder; hit", "Larder; fwd=uri-miss; stored"
	h := open()
	for path, said := range map[string]string{"/none": "", "/some": `params=("u")`, "/all": "params"} {
		says = said
		get(h, path+"?id=1&u=1")
	}
	says = ""
	if err := h.cache.store.Close(); err != nil {
		t.Fatal(err)
	}
	h = open()
	for _, tc := range [][2]string{
		{"/none?id=1&u=2", miss},
		{"/none?id=1&u=1", hit},
		{"/some?id=1&u=1", hit},
		{"/some?id=1&u=2", hit},
		{"/some?id=2&u=1", miss},
		{"/some?id=1&u=3", miss}, // the answer before says nothing of queries any more
		{"/all?id=1&u=1", hit},
		{"/all", hit},
		{"/elsewhere?id=1&u=1", miss},
	} {
		if got := get(h, tc[0]); got != tc[1] {
			t.Errorf("%s: %q, want %q", tc[0], got, tc[1])
		}
	}
	if got := get(h, "/all", "X-Forwarded-Proto", "https"); got != miss {
		t.Errorf("with another key: %q", got)
	}
	if _, err := h.cache.Purge(t.Context(), store.Selectors{All: true}, PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.cache.store.Close(); err != nil {
		t.Fatal(err)
	}
	h = open()
	if get(h, "/all"); h.cache.varianceHints.restored.Load() != nil {
		t.Error("purged responses have left hints")
	}
}

// A hit does not read the field again, however long it is.
func TestNoVarySearchIsReadOnce(t *testing.T) {
	h := newTestHandler(t)
	next := answeringWith(http.Header{
		"Cache-Control": {"max-age=60"}, "No-Vary-Search": {`params=("` + strings.Repeat(`a" "`, 2000) + `")`},
	})
	ask(t, h, next)
	hit := func() string {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			t.Fatal(err)
		}
		return w.Header().Get("Cache-Status")
	}
	if status := hit(); !strings.HasPrefix(status, "Larder; hit") {
		t.Fatalf("%s, want a hit", status)
	}
	if n := testing.AllocsPerRun(20, func() { hit() }); n > 100 {
		t.Errorf("a hit takes %v allocations", n)
	}
}

// BenchmarkNoVarySearchHit is a hit by a field of nearly 8 KiB.
func BenchmarkNoVarySearchHit(b *testing.B) {
	h := newTestHandler(b)
	next := answeringWith(http.Header{
		"Cache-Control": {"max-age=60"}, "No-Vary-Search": {`params=("` + strings.Repeat(`a" "`, 2000) + `")`},
	})
	ask(b, h, next)
	b.ReportAllocs()
	for b.Loop() {
		w := &nullWriter{make(http.Header)}
		if err := h.ServeHTTP(w, newTestRequest(w), next); err != nil {
			b.Fatal(err)
		}
	}
}

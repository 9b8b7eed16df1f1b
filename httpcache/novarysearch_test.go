package httpcache

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larder-cache/larder/rfc9111"
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
		w.WriteHeader(http.StatusOK)
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
		{"/some?id=1&u=3", hit}, // the answer before says nothing of queries, but this one does
		{"/some?id=2&u=1", hit},
		{"/some?id=2&u=2", miss},
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

// searchStep asks for a query, a second after the step before. The origin says so of queries.
type searchStep struct {
	query, says string
	reload      bool
	want        string // the step whose answer it gets, its own where that is empty
}

// An origin may say different things of queries for pages of one path, and for one page after
// another. Each response answers by its own, and of several that answer the latest does.
func TestNoVarySearchOfSeveralForms(t *testing.T) {
	const u, v = `params=("u")`, `params=("v")`
	for name, steps := range map[string][]searchStep{
		"pages of several kinds": {
			{query: "id=1&u=1", says: u},
			{query: "id=2&u=1"},
			{query: "id=3&v=1", says: v},
			{query: "id=1&u=2", want: "0"},
			{query: "id=2&u=1", want: "1"},
			{query: "id=3&v=2", want: "2"},
			{query: "id=2&u=2"},
			{query: "id=1&u=3", want: "0"},
		},
		"the same page, later": {
			{query: "id=1&u=1", says: u},
			{query: "id=1&u=2", reload: true},
			{query: "id=1&u=2", want: "1"},
			{query: "id=1&u=1"},
			{query: "id=1&u=3"},
		},
		"the latest of two that answer": {
			{query: "id=1&u=2", says: v},
			{query: "id=1&u=1", says: u},
			{query: "id=1&u=2", want: "1"},
			{query: "id=1&u=2&v=1", want: "0"},
		},
		"more than are remembered": {
			{query: "id=0&a=1", says: `params=("a")`},
			{query: "id=1&b=1", says: `params=("b")`},
			{query: "id=2&c=1", says: `params=("c")`},
			{query: "id=3&d=1", says: `params=("d")`},
			{query: "id=4&e=1", says: `params=("e")`},
			{query: "id=4&e=2", want: "4"},
			{query: "id=1&b=2", want: "1"},
			{query: "id=0&a=2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHandler(t)
				for i, step := range steps {
					own := strconv.Itoa(i)
					w := httptest.NewRecorder()
					r := httptest.NewRequest(http.MethodGet, "http://example.com/?"+step.query, nil)
					if step.reload {
						r.Header.Set("Cache-Control", "no-cache")
					}
					err := h.ServeHTTP(w, r, func(w http.ResponseWriter, _ *http.Request) error {
						w.Header().Set("Cache-Control", "max-age=600")
						if step.says != "" {
							w.Header().Set("No-Vary-Search", step.says)
						}
						_, err := io.WriteString(w, own)
						return err
					})
					if want := cmp.Or(step.want, own); err != nil || w.Body.String() != want {
						t.Errorf("step %d, %s: the answer of step %q, want %q (%s), %v", i, step.query, w.Body, want, w.Header().Get("Cache-Status"), err)
					}
					time.Sleep(time.Second)
				}
				time.Sleep(time.Minute) // the goroutines of fetches go home
			})
		})
	}
}

// What is remembered of queries is bounded in bytes, whatever origins say.
func TestNoVarySearchHintsAreBounded(t *testing.T) {
	s, k, rules := newVarianceHints(), &keyed{}, &KeyRules{}
	says := rfc9111.ParseNoVarySearch(http.Header{"No-Vary-Search": {`params=("` + strings.Repeat("a", 8000) + `")`}})
	for i := range 3000 {
		k.URL = &url.URL{Path: "/" + strconv.Itoa(i)}
		k.inner = k.URL
		s.note(rules, k, varianceHint{says, time.Now()})
		s.note(rules, k, varianceHint{says, time.Now()})
	}
	size := 0
	for _, hints := range s.known.Values() {
		size += hints.bytes()
	}
	if s.size != size || size > maxHintBytes || size < maxHintBytes/2 {
		t.Errorf("%d paths of %d bytes, counted as %d", s.known.Len(), size, s.size)
	}
}

// An origin reads a thousand parameters and no more. What it answers to a longer query is for that
// one, cold or in place of what is stored.
func TestManyParametersAnswerForThemselves(t *testing.T) {
	h := newTestHandler(t)
	get := func(query string, header ...string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "http://example.com/?"+query, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		err := h.ServeHTTP(w, r, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("No-Vary-Search", `params, except=("id")`)
			read := strings.Split(r.URL.RawQuery, "&")
			_, err := fmt.Fprint(w, slices.Contains(read[:min(len(read), 1000)], "id=5"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return w.Body.String()
	}
	many := strings.Repeat("a&", 1000) + "id=5"
	for _, cold := range []bool{true, false} {
		if got := get(many, "Cache-Control", "no-cache"); got != "false" {
			t.Errorf("the origin reads %s", got)
		}
		for _, query := range []string{"id=5", "id=5&utm=1"} {
			if got := get(query); got != "true" {
				t.Errorf("cold %v: %s gets the page that has %s", cold, query, got)
			}
		}
	}
}

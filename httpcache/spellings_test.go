package httpcache

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
)

// ignoring are rules that each leave out a parameter of their own, and a query of about some bytes
// that has all of these, again and again.
func ignoring(n, size int) (rules []*KeyRules, query string) {
	var params []string
	for i := range n {
		name := fmt.Sprint("p", i)
		params = append(params, name)
		rules = append(rules, &KeyRules{Query: QueryRules{Ignore: []string{name}}})
	}
	all := strings.Join(params, "&") + "&z=1"
	return rules, all + strings.Repeat("&"+all, size/len(all))
}

// TestSpellingsAreBounded: n rules that each leave out a parameter make 2^n queries of one. What a
// POST with a long query costs stays within a bound, and so does what it purges by.
func TestSpellingsAreBounded(t *testing.T) {
	for _, tc := range []struct {
		rules, bytes int
		all          bool // they are few enough
	}{
		{1, 100, true},
		{1, 15 << 10, true},
		{1, 100 << 10, false},
		{2, 100, true},
		{2, 2 << 10, true},
		{2, 100 << 10, false},
		{4, 100, true},
		{5, 100, false},
		{6, 0, false},
		{6, 2 << 10, false},
		{6, 15 << 10, false},
		{20, 0, false},
		{20, 2 << 10, false},
		{20, 15 << 10, false},
		{40, 0, false},
		{40, 2 << 10, false},
		{40, 15 << 10, false},
	} {
		rules, query := ignoring(tc.rules, tc.bytes)
		s := spellings{of: []spelling{{query: query}}}
		all := s.complete(rules)
		if s.applied > maxRespelled || len(s.of) > maxSpellings || all != tc.all {
			t.Errorf("%+v: %d bytes of work, %d spellings, all %v", tc, s.applied, len(s.of), all)
		}
		want := 1 << tc.rules // one for each subset
		if !tc.all {
			want = 1
		}
		urls, err := StoredURLs("http://example.com/a?"+query, rules)
		if err != nil || len(urls) != want || !tc.all && urls[0] != store.AnyQuery("http://example.com/a") {
			t.Errorf("%+v: %d URLs, %v", tc, len(urls), err)
		}
	}
}

// TestManyRulesThatChangeNothing: rules that a query has no parameter for cost their work and no
// more, so that the purge takes no other query.
func TestManyRulesThatChangeNothing(t *testing.T) {
	rules, _ := ignoring(40, 0)
	const url = "http://example.com/a?id=7&page=2"
	if urls, err := StoredURLs(url, rules); err != nil || !slices.Equal(urls, []string{url}) {
		t.Errorf("%q, %v", urls, err)
	}
}

// TestDistinctRules: what many sites have alike is applied once.
func TestDistinctRules(t *testing.T) {
	var rules []*KeyRules
	for range 40 {
		rules = append(rules, new(KeyRules), &KeyRules{Query: QueryRules{Sort: true}}, &KeyRules{Query: QueryRules{Ignore: []string{"utm_*"}}, Cookies: []string{"c"}})
	}
	if got := DistinctRules(rules); len(got) != 2 || got[0] != rules[1] || got[1] != rules[2] {
		t.Errorf("%d rules", len(got))
	}
	h := newTestHandler(t)
	siblings := new(Siblings)
	for _, r := range rules {
		h.cache.NewRoute(Rules{Key: *r}, siblings)
	}
	past := h.cache.PastRules()
	if got := siblings.rulesAnd(past); len(past) != 2 || len(got) != 2 {
		t.Errorf("%d rules with %d of before", len(got), len(past))
	}
	h.cache.NewRoute(Rules{Key: KeyRules{Query: QueryRules{Only: []string{"id"}}}}, siblings)
	if got := siblings.rulesAnd(past); len(got) != 3 {
		t.Errorf("%d rules after one more", len(got))
	}
}

// chain is a site with one route behind another, the last two of many with a rule of their own.
// Every answer tells how often the origin was asked.
func chain(tb testing.TB, c *Cache, n int) (site http.Handler, rules []*KeyRules, target string) {
	rules, query := ignoring(n, 0)
	siblings := new(Siblings)
	asked := 0
	site = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			asked++
			w.Header().Set("Cache-Control", "max-age=60")
		}
		fmt.Fprint(w, asked)
	})
	for i, r := range rules {
		if rt := c.NewRoute(Rules{Key: *r}, siblings); i >= n-2 {
			site = Middleware(rt)(site)
		}
	}
	return site, rules, "http://example.com/page?" + query
}

func answerTo(site http.Handler, method, target string) string {
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Body.String()
}

// A purge that has answered holds, and so does a POST, where one larder stands behind another and
// so many sites have rules of their own that the query of the inner one was left out.
func TestPurgeThroughTwoOfManyRules(t *testing.T) {
	for _, n := range []int{2, 12, 40} {
		h := newTestHandler(t)
		site, rules, target := chain(t, h.cache, n)
		if first, again := answerTo(site, http.MethodGet, target), answerTo(site, http.MethodGet, target); first != "1" || again != "1" {
			t.Fatalf("%d rules: %s and %s are no miss and a hit", n, first, again)
		}
		answerTo(site, http.MethodPost, target)
		if got := answerTo(site, http.MethodGet, target); got != "2" {
			t.Errorf("%d rules, after a POST: %s", n, got)
		}
		urls, err := StoredURLs(target, rules)
		if err != nil {
			t.Fatal(err)
		}
		matched, err := h.cache.Purge(t.Context(), store.Selectors{URLs: urls}, PurgeOptions{})
		if matched != 2 || err != nil {
			t.Errorf("%d rules: %d purged, %v", n, matched, err)
		}
		if got := answerTo(site, http.MethodGet, target); got != "3" {
			t.Errorf("%d rules, after a purge: %s", n, got)
		}
	}
}

// BenchmarkUnsafeRequest is a POST by whose URL nothing is stored, where sites have rules of their
// own.
func BenchmarkUnsafeRequest(b *testing.B) {
	for _, n := range []int{1, 6, 40} {
		for _, size := range []int{0, 2 << 10, 15 << 10} {
			b.Run(fmt.Sprintf("%d rules, %d bytes", n, size), func(b *testing.B) {
				h := newTestHandler(b)
				rules, query := ignoring(n, size)
				siblings := new(Siblings)
				var rt *Route
				for _, r := range rules {
					rt = h.cache.NewRoute(Rules{Key: *r}, siblings)
				}
				site := Middleware(rt)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
				b.ReportAllocs()
				for b.Loop() {
					site.ServeHTTP(&nullWriter{http.Header{}}, httptest.NewRequest(http.MethodPost, "/a?"+query, nil))
				}
			})
		}
	}
}

// TestPathsThatAreEncodedAnew: a path with raw bytes reaches the origin, and a cache in between, as
// another than it was sent. A purge takes both. A path that cannot have been sent so has one form.
func TestPathsThatAreEncodedAnew(t *testing.T) {
	for _, tc := range []struct{ path, other string }{
		{"/%70age%C3%BC", "/page%C3%BC"},
		{"/x(%C3%BC", "/x%28%C3%BC"},
		{"/a%2Fb%7C", "/a/b%7C"},
		{"/page%C3%BC", ""},
		{"/%70age", ""},
		{"/a%2Fb", ""},
		{"/x(1)", ""},
		{"/%70age%c3%bc", ""}, // an escape that nothing here has made
	} {
		want := []string{"http://h" + tc.path + "?a=1"}
		if tc.other != "" {
			want = append(want, "http://h"+tc.other+"?a=1")
		}
		if urls, err := StoredURLs(want[0], nil); err != nil || !slices.Equal(urls, want) {
			t.Errorf("%q, %v; want %q", urls, err, want)
		}
	}
	rules, query := ignoring(20, 0)
	urls, err := StoredURLs("http://h/x(%C3%BC?"+query, rules)
	if want := []string{store.AnyQuery("http://h/x(%C3%BC"), store.AnyQuery("http://h/x%28%C3%BC")}; err != nil || !slices.Equal(urls, want) {
		t.Errorf("%q, %v; want %q", urls, err, want)
	}
}

// TestPrefixesThatAreEncodedAnew is the same of prefixes: raw bytes may stand behind one.
func TestPrefixesThatAreEncodedAnew(t *testing.T) {
	for _, tc := range []struct{ prefix, other string }{
		{"http://h/%70age%C3%BC", "http://h/page%C3%BC"},
		{"http://h/x(", "http://h/x%28"},
		{"http://h/x(%C3", "http://h/x%28%C3"},
		{"http://h/x(?a=%C3%BC", "http://h/x%28?a=%C3%BC"},
		{"http://h/page", ""},
		{"http://h/", ""},
		{"http://h/a%2Fb", ""},
	} {
		want := []string{tc.prefix}
		if tc.other != "" {
			want = append(want, tc.other)
		}
		if got, err := StoredPrefixes(tc.prefix); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

// TestPostWithRawBytesInvalidatesWhatTheOriginIsAsked: what a POST changes is what the origin sees
// of its path.
func TestPostWithRawBytesInvalidatesWhatTheOriginIsAsked(t *testing.T) {
	for posted, page := range map[string]string{
		"/%70age\u00fc": "/page%C3%BC", "/page%2F\u00fc": "/page/%C3%BC", "/x(\u00fc": "/x%28%C3%BC", "/page|%C3%BC": "/page%7C%C3%BC", "/page": "/page",
	} {
		bubble(t, func(t *testing.T) {
			h := newTestHandler(t)
			next, calls := counting(storable)
			ask := func(method, target string) {
				w := httptest.NewRecorder()
				r := newTestRequest(w)
				u, err := url.ParseRequestURI(target)
				if err != nil {
					t.Fatal(err)
				}
				r.Method, r.URL, r.RequestURI = method, u, target
				if err := h.ServeHTTP(w, r, next); err != nil {
					t.Fatal(err)
				}
			}
			ask(http.MethodGet, page)
			if ask(http.MethodGet, page); *calls != 1 {
				t.Fatalf("%s is not stored: %d calls", page, *calls)
			}
			ask(http.MethodDelete, posted)
			if ask(http.MethodGet, page); *calls != 3 {
				t.Errorf("%s is stored after DELETE %s: %d calls", page, posted, *calls)
			}
		})
	}
}

// TestRespelled: what another machine purges, in each form, comes to what rules make of it here.
func TestRespelled(t *testing.T) {
	rules := []*KeyRules{{Query: QueryRules{Ignore: []string{"a"}}}, {Query: QueryRules{Ignore: []string{"b"}}}}
	many, query := ignoring(6, 0)
	at := store.URLAt("http://h/p?a&b&c", "s:80")
	elsewhere := store.URLElsewhere("http://h/p?a", ",s,")
	for _, tc := range []struct {
		selectors []string
		rules     []*KeyRules
		want      []string
	}{
		{[]string{"http://h/p?a"}, nil, nil},
		{[]string{"http://h/p"}, rules, nil},
		{[]string{"http://h/p?"}, rules, nil},
		{[]string{"http://h/p?c"}, rules, nil},
		{[]string{store.AnyQuery("http://h/p?a")}, rules, nil},
		{[]string{"http://h/p?a"}, rules, []string{"http://h/p"}},
		{[]string{elsewhere}, rules, []string{store.URLElsewhere("http://h/p", ",s,")}},
		{[]string{at, "http://h/q?b"}, rules, []string{
			store.URLAt("http://h/p?b&c", "s:80"), store.URLAt("http://h/p?a&c", "s:80"), store.URLAt("http://h/p?c", "s:80"), "http://h/q",
		}},
		{[]string{"http://h/p?" + query}, many, []string{store.AnyQuery("http://h/p")}},
	} {
		if got := Respelled(tc.selectors, tc.rules); !slices.Equal(got, slices.Concat(tc.selectors, tc.want)) {
			t.Errorf("%q: %q, want %q beside it", tc.selectors, got, tc.want)
		}
	}
}

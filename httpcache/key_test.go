package httpcache

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

func TestWildcard(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "ab", false},
		{"a", "A", false},
		{"a", "", false},
		{"*", "", true},
		{"*", "anything", true},
		{"utm_*", "utm_source", true},
		{"utm_*", "utm_", true},
		{"utm_*", "utm", false},
		{"utm_*", "xutm_source", false},
		{"*id", "fbclid", true},
		{"*id", "ids", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "acb", false},
		{"**", "x", true},
		{"a?", "ab", false},
		{"[a]", "a", false},
	} {
		t.Run(tc.pattern+" "+tc.name, func(t *testing.T) {
			if got := wildcard(tc.pattern, tc.name); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzWildcard compares with the definition, byte by byte.
func FuzzWildcard(f *testing.F) {
	f.Add("utm_*", "utm_source")
	f.Add("a*b*c", "aXbXbXc")
	f.Add("*a*", "\xff*a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 30 || len(name) > 60 || strings.Count(pattern, "*") > 6 {
			t.Skip("the definition takes exponential time")
		}
		if got, want := wildcard(pattern, name), matchesByDefinition(pattern, name); got != want {
			t.Errorf("wildcard(%q, %q) = %v", pattern, name, got)
		}
	})
}

func matchesByDefinition(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return matchesByDefinition(pattern[1:], name) || name != "" && matchesByDefinition(pattern, name[1:])
	}
	return name != "" && pattern[0] == name[0] && matchesByDefinition(pattern[1:], name[1:])
}

func TestCookieValues(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lines   []string
		want    map[string][]string
		unkeyed bool // where `key { cookie a }` stands
	}{
		{"none", nil, nil, false},
		{"empty", []string{""}, nil, false},
		{"one", []string{"a=b"}, map[string][]string{"a": {"=b"}}, false},
		{"no equals sign", []string{"a"}, map[string][]string{"a": {""}}, false},
		{"a bare equals sign", []string{"a="}, map[string][]string{"a": {"="}}, false},
		{"twice, in order", []string{"a=2; a=1"}, map[string][]string{"a": {"=2", "=1"}}, false},
		{"in two lines", []string{"a=1", "a=2"}, map[string][]string{"a": {"=1", "=2"}}, false},
		{"white space", []string{" a =1 ;; "}, map[string][]string{"a": {" =1 "}}, false},
		{"U+00A0", []string{"a=1\u00a0; \u00a0a=2"}, map[string][]string{"a": {"=1\u00a0"}}, true},
		{"equals sign in the value", []string{"a=b=c"}, map[string][]string{"a": {"=b=c"}}, false},
		{"another", []string{"a=1; b=2"}, map[string][]string{"a": {"=1"}, "b": {"=2"}}, true},
		{"another in a second line", []string{"a=1", "b=2"}, map[string][]string{"a": {"=1"}, "b": {"=2"}}, true},
		{"another case", []string{"A=1"}, map[string][]string{"A": {"=1"}}, true},
		{"no name", []string{"=x"}, map[string][]string{"": {"=x"}}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := http.Header{"Cookie": tc.lines}
			got := cookieValues(h, []string{"a", "b", "A", ""})
			if len(got) != len(tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			for name, values := range tc.want {
				if !slices.Equal(got[name], values) {
					t.Errorf("got %q, want %q", got, tc.want)
				}
			}
			if got := (&KeyRules{Cookies: []string{"a"}}).hasUnkeyedCookie(h); got != tc.unkeyed {
				t.Errorf("an unkeyed cookie: %v", got)
			}
		})
	}
}

// FuzzQueryRules: the rules take away whole parameters or put them in order, and a second time they
// change nothing. The key is that of what is sent, so what has no effect on the key cannot have one
// on the answer.
func FuzzQueryRules(f *testing.F) {
	for _, raw := range []string{"", "a", "b=2&a=1&a=0", "utm_source=x&a=1", "&&", "a=1;utm_b=2", "%75tm_a=1", "a=%26b", "=x", "utm_=1&utm_"} {
		for rules := range byte(6) {
			f.Add(raw, rules)
		}
	}
	f.Fuzz(func(t *testing.T, raw string, which byte) {
		rules := fuzzedRules(which)
		left := rules.apply(raw)
		if again := rules.apply(left); again != left {
			t.Errorf("%q becomes %q, and then %q", raw, left, again)
		}
		kept, given := count(left), count(raw)
		for param, n := range kept {
			if n > given[param] {
				t.Errorf("%q is not in %q so often", param, raw)
			}
		}
		for param, n := range given {
			if param == "" {
				continue // an empty one alone looks like none
			}
			out := MatchesAny(rules.Ignore, paramName(param)) || len(rules.Only) > 0 && !MatchesAny(rules.Only, paramName(param))
			if out && kept[param] > 0 || !out && kept[param] != n {
				t.Errorf("%q of %q stands %d times in %q", param, raw, kept[param], left)
			}
		}
		k := &KeyRules{Query: rules}
		sent := rules.Applied(&url.URL{Path: "/", RawQuery: raw})
		if sent.RawQuery != left {
			t.Errorf("%q is sent, %q is keyed", sent.RawQuery, left)
		}
		if keyOf(k, &url.URL{Path: "/", RawQuery: raw}) != keyOf(k, sent) {
			t.Errorf("the key of %q is not that of what is sent, %q", raw, left)
		}
		if a, b := k.entryURL("http", "h", &url.URL{Path: "/", RawQuery: raw}), k.entryURL("http", "h", sent); a != b {
			t.Errorf("the URL of %q is %q, that of what is sent %q", raw, a, b)
		}
	})
}

func fuzzedRules(which byte) QueryRules {
	rules := QueryRules{Sort: which&1 != 0}
	switch which / 2 % 3 {
	case 1:
		rules.Ignore = []string{"utm_*", "x"}
	case 2:
		rules.Only = []string{"a*", "b"}
	}
	return rules
}

// count counts the parameters.
func count(raw string) map[string]int {
	n := make(map[string]int)
	if raw == "" {
		return n
	}
	for param := range strings.SplitSeq(raw, "&") {
		n[param]++
	}
	return n
}

func keyOf(rules *KeyRules, u *url.URL) store.Key {
	return rules.key(&keyed{Identity: Identity{Authority: "h", URL: u}, method: "GET", inner: u, header: http.Header{}})
}

// FuzzKeysDoNotCollide: two requests have the same key if and only if all that is keyed is the
// same.
func FuzzKeysDoNotCollide(f *testing.F) {
	// Each pair would be one for a key that puts its parts together with a delimiter.
	f.Add("/a", "b", "", "c", "", "/a", "", "b", "c", "")
	f.Add("/a?b", "", "", "", "", "/a", "b", "", "", "")
	f.Add("/", "", "12", "3", "", "/", "", "1", "23", "")
	f.Add("/", "", "a=1", "", "", "/", "", "", "a=1", "")
	f.Add("/", "", "\x00", "\x01", "x", "/", "", "\x00\x01", "", "x")
	f.Add("/", "a=1&b=2", "", "", "", "/", "b=2&a=1", "", "", "")
	f.Add("/%2F", "", "", "", "", "//", "", "", "", "")
	f.Add("/(\u00fc", "", "", "", "", "/%28%C3%BC", "", "", "", "")
	f.Add("/%2F\u00fc", "utm_\u00fc=1", "", "", "", "//%C3%BC", "utm_%C3%BC=2", "", "", "")
	f.Add("/", "", "", "host:a", "", "/", "", "", "scheme:a", "")
	f.Add("/", "", "", "host:a,b", "", "/", "", "", "host:a", "")
	f.Add("/", "", "", "host:.", "", "/", "", "", "host:", "")
	f.Add("/", "", "", "host:!", "", "/", "", "", "host:.", "")
	f.Add("/", "utm_x=1", "", "", "", "/", "", "", "", "")
	f.Fuzz(func(t *testing.T, path1, query1, header1, cookie1, body1, path2, query2, header2, cookie2, body2 string) {
		rules := &KeyRules{Query: QueryRules{Sort: true, Ignore: []string{"utm_*"}}, Headers: []string{"X-A", "X-B"}, Cookies: []string{"a", "b"}}
		one, ok1 := fuzzedRequest(path1, query1, header1, cookie1, body1)
		two, ok2 := fuzzedRequest(path2, query2, header2, cookie2, body2)
		if !ok1 || !ok2 {
			t.Skip("not a request line")
		}
		same := spelled(rules, one) == spelled(rules, two)
		if got := rules.key(one) == rules.key(two); got != same {
			t.Errorf("the keys are the same: %v\n%s\n%s", got, spelled(rules, one), spelled(rules, two))
		}
		if told := reflect.DeepEqual(rules.parts(one), rules.parts(two)); told != same {
			t.Errorf("the parts that are told are the same: %v\n%v\n%v", told, rules.parts(one), rules.parts(two))
		}
		if a, b := rules.entryURL("http", "h", one.URL), rules.entryURL("http", "h", two.URL); same && a != b {
			// Whichever was asked for first.
			t.Errorf("one key, and a purge would have to name %s or %s", a, b)
		}
		if first, second := rules.key(one), rules.key(one); first != second {
			t.Error("the key is not the same the second time")
		}
		if names := []string{"Vary"}; same && variantKey(rules.key(one), names, []string{header1}) == variantKey(rules.key(two), names, []string{header1 + "x"}) {
			t.Error("two variants have the same key")
		}
	})
}

// fuzzedRequest makes a request in which the parts can look like each other.
func fuzzedRequest(path, query, header, cookie, body string) (*keyed, bool) {
	u, err := url.ParseRequestURI("/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, false
	}
	u.RawQuery = query
	k := &keyed{
		Identity: Identity{Authority: "h", URL: u}, method: "GET", inner: u,
		header: http.Header{"Cookie": {cookie}}, added: strings.Split(header, "|"),
	}
	a, b, both := strings.Cut(header, ",")
	k.header["X-A"] = []string{a}
	if both {
		k.header["X-B"] = strings.Split(b, ",")
	}
	if claimed, found := strings.CutPrefix(cookie, "host:"); found {
		k.header["X-Forwarded-Host"] = strings.Split(claimed, ",")
	}
	if claimed, found := strings.CutPrefix(cookie, "scheme:"); found {
		k.header["X-Forwarded-Scheme"] = strings.Split(claimed, ",")
	}
	k.Dotted = strings.HasSuffix(cookie, ".")
	k.Trusted = strings.HasSuffix(cookie, "!")
	if body != "" {
		k.method, k.content = "QUERY", &content{body: []byte(body)}
		k.header["Content-Type"] = []string{header}
	}
	if inner, found := strings.CutPrefix(path, "/api"); found { // as handle_path does
		k.inner = &url.URL{Path: inner, RawQuery: query}
	}
	return k, true
}

// spelled writes down all that the key is made of, so that nothing can run together.
func spelled(rules *KeyRules, k *keyed) string {
	target := func(path string, u *url.URL) string {
		query := rules.Query.apply(u.RawQuery)
		return fmt.Sprintf("%q %q %v", path, query, query == "" && u.ForceQuery && u.RawQuery == "")
	}
	inner := ""
	if !sameTarget(k.URL, k.inner) {
		inner = target(k.inner.EscapedPath(), k.inner)
	}
	jar := cookieValues(k.header, []string{"a", "b"})
	s := fmt.Sprintf("%q %q %q %v %s | %s | %q %q | %q %q | %q", k.method, k.scheme(), k.Authority, k.Listener, target(urlform.PathAsSent(k.URL), k.URL), inner,
		k.header["X-A"], k.header["X-B"], jar["a"], jar["b"], k.added)
	s += fmt.Sprintf("%q", rules.oddCookies(k.header))
	s += fmt.Sprintf("%q %q %v %v", k.header["X-Forwarded-Host"], k.header["X-Forwarded-Scheme"], k.Dotted, k.Trusted)
	if k.hasBody() {
		s += fmt.Sprintf("%q %q %q", k.header["Content-Type"], k.header["Content-Encoding"], k.content.sent())
	}
	return s
}

// TestKeyPartsCount changes one part after the other.
func TestKeyPartsCount(t *testing.T) {
	base := func() *keyed {
		u := &url.URL{Path: "/a", RawQuery: "b=c"}
		return &keyed{
			Identity: Identity{Authority: "h", Listener: Listener{Port: 80}, URL: u}, method: "GET", inner: u,
			header: http.Header{"X-A": {"1"}, "Cookie": {"a=1"}}, added: []string{"x"},
		}
	}
	rules := &KeyRules{Headers: []string{"X-A"}, Cookies: []string{"a"}}
	seen := map[store.Key]string{rules.key(base()): "nothing"}
	for _, tc := range []struct {
		name   string
		change func(k *keyed)
	}{
		{"method", func(k *keyed) { k.method = "QUERY" }},
		{"scheme", func(k *keyed) { k.TLS = true }},
		{"authority", func(k *keyed) { k.Authority = "i" }},
		{"trailing dot", func(k *keyed) { k.Dotted = true }},
		{"trusted proxy", func(k *keyed) { k.Trusted = true }},
		{"trusted proxy and trailing dot", func(k *keyed) { k.Trusted, k.Dotted = true, true }},
		{"error", func(k *keyed) { k.ErrorStatus = 500 }},
		{"another error", func(k *keyed) { k.ErrorStatus = 503 }},
		{"branch", func(k *keyed) { k.Branch = "a" }},
		{"another branch", func(k *keyed) { k.Branch = "b" }},
		{"branch and error", func(k *keyed) { k.Branch, k.ErrorStatus = "a", 500 }},
		{"server", func(k *keyed) { k.Listener.Server = "s" }},
		{"port", func(k *keyed) { k.Listener.Port = 81 }},
		{"socket", func(k *keyed) { k.Listener = Listener{Socket: "80"} }},
		{"path", func(k *keyed) { k.URL = &url.URL{Path: "/b", RawQuery: "b=c"}; k.inner = k.URL }},
		{"query", func(k *keyed) { k.URL = &url.URL{Path: "/a", RawQuery: "b=d"}; k.inner = k.URL }},
		{"no query", func(k *keyed) { k.URL = &url.URL{Path: "/a"}; k.inner = k.URL }},
		{"a bare question mark", func(k *keyed) { k.URL = &url.URL{Path: "/a", ForceQuery: true}; k.inner = k.URL }},
		{"rewritten path", func(k *keyed) { k.inner = &url.URL{Path: "/v2/a", RawQuery: "b=c"} }},
		{"rewritten query", func(k *keyed) { k.inner = &url.URL{Path: "/a", RawQuery: "b=c&d"} }},
		{"header", func(k *keyed) { k.header["X-A"] = []string{"2"} }},
		{"header, absent", func(k *keyed) { delete(k.header, "X-A") }},
		{"header, two lines", func(k *keyed) { k.header["X-A"] = []string{"1", ""} }},
		{"cookie", func(k *keyed) { k.header["Cookie"] = []string{"a=2"} }},
		{"cookie, absent", func(k *keyed) { delete(k.header, "Cookie") }},
		{"claim", func(k *keyed) { k.header["X-Forwarded-Host"] = []string{"i"} }},
		{"claim, another field", func(k *keyed) { k.header["X-Host"] = []string{"i"} }},
		{"claim, two lines", func(k *keyed) { k.header["X-Host"] = []string{"i", ""} }},
		{"added", func(k *keyed) { k.added = []string{"y"} }},
		{"added, split", func(k *keyed) { k.added = []string{"x", ""} }},
		{"body", func(k *keyed) { k.method, k.content = "QUERY", &content{body: []byte("x")} }},
		{"type of the body", func(k *keyed) {
			k.method, k.content = "QUERY", &content{body: []byte("x")}
			k.header["Content-Type"] = []string{"text/plain"}
		}},
	} {
		k := base()
		tc.change(k)
		if other, taken := seen[rules.key(k)]; taken {
			t.Errorf("a change of %s gives the key of %s", tc.name, other)
		}
		seen[rules.key(k)] = "a change of " + tc.name
	}
	k := base()
	k.header["X-Other"], k.header["Cookie"] = []string{"1"}, []string{"b=2; a=1"}
	if other := seen[rules.key(k)]; other != "nothing" {
		t.Errorf("what is not keyed changes the key (%s)", other)
	}
	if others := (&KeyRules{Headers: []string{"X-A"}}).key(base()); seen[others] != "" {
		t.Error("the rules themselves are not in the key")
	}
}

func TestEntryURL(t *testing.T) {
	for _, tc := range []struct {
		name  string
		u     url.URL
		rules QueryRules
		want  string
	}{
		{"path", url.URL{Path: "/a"}, QueryRules{}, "http://h/a"},
		{"no path", url.URL{}, QueryRules{}, "http://h/"},
		{"escaped path", url.URL{Path: "/a/b", RawPath: "/a%2Fb"}, QueryRules{}, "http://h/a%2Fb"},
		{"query", url.URL{Path: "/a", RawQuery: "b=2&a=1"}, QueryRules{}, "http://h/a?b=2&a=1"},
		{"sorted", url.URL{Path: "/a", RawQuery: "b=2&a=1"}, QueryRules{Sort: true}, "http://h/a?a=1&b=2"},
		{"nothing left", url.URL{Path: "/a", RawQuery: "b=2"}, QueryRules{Only: []string{"a"}}, "http://h/a"},
		{"a bare question mark", url.URL{Path: "/a", ForceQuery: true}, QueryRules{}, "http://h/a?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (&KeyRules{Query: tc.rules}).entryURL("http", "h", &tc.u); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestForwardedCountsWithoutTheClientsAddress(t *testing.T) {
	key := func(forwarded string) [32]byte {
		u := &url.URL{Path: "/"}
		return new(KeyRules).key(&keyed{Identity: Identity{URL: u}, method: "GET", inner: u, header: http.Header{"Forwarded": {forwarded}}})
	}
	if key(`for=192.0.2.1, for=192.0.2.1;host=a`) != key(`For="[2001:db8::1]:80", by=_x;host=a; for=192.0.2.7:47 `) {
		t.Error("the client's address splits the cache")
	}
	if key(`for=192.0.2.1;host=a`) == key(`for=192.0.2.1;host=b`) {
		t.Error("the host that is claimed is not in the key")
	}
}

// BenchmarkQueryRules applies rules to queries of 64 KiB.
func BenchmarkQueryRules(b *testing.B) {
	var many strings.Builder
	for i := 0; many.Len() < 64<<10; i++ {
		fmt.Fprintf(&many, "%x=1&", (i*40503)&0xffff)
	}
	rules := QueryRules{Sort: true, Ignore: []string{"utm_*", "*a*b*c*"}}
	for name, query := range map[string]string{
		"many": many.String(), "alike": strings.Repeat("a=1&", 16<<10), "empty": strings.Repeat("&", 64<<10),
		"1,024 long ones": strings.Repeat(strings.Repeat("ab", 31)+"=&", 1023), "one": strings.Repeat("a", 64<<10),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rules.apply(query)
			}
		})
	}
}

// TestQuerySortIsBounded leaves a query of more parameters than are sorted as it was sent, in the
// form of its URL too.
func TestQuerySortIsBounded(t *testing.T) {
	rules := QueryRules{Sort: true, Ignore: []string{"u"}}
	for _, n := range []int{maxSorted, maxSorted + 1} {
		raw, form := strings.Repeat("b=ü&", n-1)+"a=1", strings.Repeat("b=%C3%BC&", n-1)+"a=1"
		for _, query := range []string{raw, form} {
			got := rules.apply(query + "&u=1")
			if sorted := strings.HasPrefix(got, "a=1&"); sorted != (n == maxSorted) || len(got) != len(query) {
				t.Errorf("%d parameters: %.20q… of %d bytes", n, got, len(got))
			}
		}
	}
}

package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// describing answers with what it was asked, so that a fill shows what was sent.
func describing(header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Method+" "+r.URL.RequestURI()+" "+string(body))
	}
}

// keyed is a directive with a key block.
func keyed(lines ...string) string { return block("key {\n" + strings.Join(lines, "\n") + "\n}") }

// TestKeyQuery asks for two URLs and looks whether the second is answered by the first, and what
// the origin was asked.
func TestKeyQuery(t *testing.T) {
	for _, tc := range []struct {
		name, directive, first, second string
		same                           bool
		sent                           string // to the origin, for the first
	}{
		{"as sent", "larder", "/?b=2&a=1", "/?a=1&b=2", false, "/?b=2&a=1"},
		{"sort", keyed("query sort"), "/?b=2&a=1", "/?a=1&b=2", true, "/?a=1&b=2"},
		{"sort keeps the order of equal names", keyed("query sort"), "/?a=2&a=1", "/?a=1&a=2", false, "/?a=2&a=1"},
		{"sort looks at names, not at values", keyed("query sort"), "/?b&a=2&a=1", "/?a=2&b&a=1", true, "/?a=2&a=1&b"},
		{"sort without query", keyed("query sort"), "/", "/?", false, "/"},
		{"ignore", keyed("query ignore utm_* fbclid"), "/?utm_source=x&a=1&fbclid=y", "/?a=1", true, "/?a=1"},
		{"ignore leaves others", keyed("query ignore utm_*"), "/?a=1&autm_x=2", "/?a=1", false, "/?a=1&autm_x=2"},
		{"ignore is exact without a star", keyed("query ignore a"), "/?ab=1", "/", false, "/?ab=1"},
		{"ignore all that is there", keyed("query ignore utm_*"), "/?utm_a=1", "/", true, "/"},
		{"ignore distinguishes case", keyed("query ignore utm_*"), "/?UTM_a=1", "/", false, "/?UTM_a=1"},
		{"ignore does not decode", keyed("query ignore utm_*"), "/?%75tm_a=1", "/", false, "/?%75tm_a=1"},
		{"ignore does not split at semicolons", keyed("query ignore utm_*"), "/?utm_a=1;b=2", "/?b=2", false, "/"},
		{"ignore a name without value", keyed("query ignore a"), "/?a&b", "/?b", true, "/?b"},
		{"ignore with a star within", keyed("query ignore a*z"), "/?abcz=1&b", "/?b", true, "/?b"},
		{"only", keyed("query only page q"), "/?page=2&x=1&q=a", "/?page=2&q=a", true, "/?page=2&q=a"},
		{"only, and the kept one differs", keyed("query only page"), "/?page=2", "/?page=3", false, "/?page=2"},
		{"only with a pattern", keyed("query only p*"), "/?x=1&page=2", "/?page=2&y", true, "/?page=2"},
		{"only and sort", keyed("query only b a", "query sort"), "/?b=2&x&a=1", "/?a=1&b=2", true, "/?a=1&b=2"},
		{"a bare question mark", "larder", "/", "/?", false, "/"},
		{"the path distinguishes case", "larder", "/A", "/a", false, "/A"},
		{"an escaped slash is none", "larder", "/a%2Fb", "/a/b", false, "/a%2Fb"},
		{"an escaped letter is not the letter", "larder", "/%61", "/a", false, "/%61"},
		{"a fragment-like path", "larder", "/a%23b", "/a", false, "/a%23b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, describing("Cache-Control", "max-age=60"))
			in := start(t, proxied(tc.directive), o)
			in.get(tc.first).want(t, 200, "GET "+tc.sent+" ", "Larder; fwd=uri-miss; stored")
			if second := in.get(tc.second); second.isHit() != tc.same {
				t.Errorf("%s after %s: %q", tc.second, tc.first, second.cacheStatus())
			}
		})
	}
}

// TestIgnoredParametersReachNoInnerHandler: whatever an inner handler looks at, what is not in the
// key is not there.
func TestIgnoredParametersReachNoInnerHandler(t *testing.T) {
	for name, site := range map[string]string{
		"plain":            "{{larder}}\nreverse_proxy {{origin}} {\n{{up}}\n}",
		"handle_path":      "handle_path /api/* {\n{{larder}}\nreverse_proxy {{origin}} {\n{{up}}\n}\n}",
		"rewrite before":   "rewrite /api/* /v2{uri}\n{{larder}}\nreverse_proxy {{origin}} {\n{{up}}\n}",
		"rewrite behind":   "route {\n{{larder}}\nrewrite /api/* /v2{uri}\nreverse_proxy {{origin}} {\n{{up}}\n}\n}",
		"uri strip_prefix": "uri strip_prefix /api\n{{larder}}\nreverse_proxy {{origin}} {\n{{up}}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			site = strings.ReplaceAll(site, "{{larder}}", keyed("query ignore utm_*"))
			site = strings.ReplaceAll(site, "{{up}}", strings.Join([]string{
				"header_up X-Uri {uri}", "header_up X-Query {query}", "header_up X-Param {query.utm_source}",
				"header_up X-Orig {http.request.orig_uri}", "header_up X-Orig-Query {http.request.orig_uri.query}",
			}, "\n"))
			o := newOrigin(t, describing("Cache-Control", "max-age=60"))
			in := start(t, setup{site: site}, o)
			in.get("/api/x?a=1&utm_source=evil").want(t, 200, "", "Larder; fwd=uri-miss; stored")
			seen := o.last()
			for _, field := range []string{"X-Uri", "X-Query", "X-Param", "X-Orig", "X-Orig-Query"} {
				if strings.Contains(seen.Header.Get(field), "evil") {
					t.Errorf("%s: %s", field, seen.Header.Get(field))
				}
			}
			if strings.Contains(seen.URL.RawQuery, "utm") || !strings.Contains(seen.URL.RawQuery, "a=1") {
				t.Errorf("the origin was asked for %s", seen.URL)
			}
			if got := seen.Header.Get("X-Orig"); got != "/api/x?a=1" {
				t.Errorf("the original URI is %s", got)
			}
			if hit := in.get("/api/x?a=1"); !hit.isHit() {
				t.Errorf("without the parameter: %q", hit.cacheStatus())
			}
		})
	}
}

func TestBypassKeepsIgnoredParameters(t *testing.T) {
	o := newOrigin(t, describing())
	in := start(t, proxied(keyed("query only a")), o)
	in.do(http.MethodPost, "/?a=1&b=2", "x").want(t, 200, "POST /?a=1&b=2 x", "Larder; fwd=bypass; detail=method")
}

// TestKeyParts asks with two headers and looks whether the second request is answered by the first.
func TestKeyParts(t *testing.T) {
	type pairs = []string
	for _, tc := range []struct {
		name, directive string
		first, second   pairs
		same            bool
	}{
		{"a header that is not in the key", "larder", pairs{"X-Lang", "de"}, pairs{"X-Lang", "en"}, true},
		{"header", keyed("header X-Lang"), pairs{"X-Lang", "de"}, pairs{"X-Lang", "en"}, false},
		{"header, the same", keyed("header x-lang"), pairs{"X-Lang", "de"}, pairs{"X-Lang", "de"}, true},
		{"header, absent and empty", keyed("header X-Lang"), nil, pairs{"X-Lang", ""}, false},
		{"header, two lines are not one", keyed("header X-Lang"), pairs{"X-Lang", "de", "X-Lang", "en"}, pairs{"X-Lang", "de, en"}, false},
		{"headers do not run together", keyed("header X-A X-B"), pairs{"X-A", "1"}, pairs{"X-B", "1"}, false},
		{"headers, split elsewhere", keyed("header X-A X-B"), pairs{"X-A", "12", "X-B", "3"}, pairs{"X-A", "1", "X-B", "23"}, false},
		{"a cookie that is not in the key", keyed("cookie lang"), pairs{"Cookie", "id=1"}, pairs{"Cookie", "id=2"}, true},
		{"cookie", keyed("cookie lang"), pairs{"Cookie", "lang=de"}, pairs{"Cookie", "lang=en"}, false},
		{"cookie among others", keyed("cookie lang"), pairs{"Cookie", "id=1; lang=de"}, pairs{"Cookie", "lang=de; id=2"}, true},
		{"cookie, absent", keyed("cookie lang"), nil, pairs{"Cookie", "lang="}, false},
		{"cookie in two lines, of which some read one", keyed("cookie lang"), pairs{"Cookie", "id=1", "Cookie", "lang=de"}, pairs{"Cookie", "lang=de"}, false},
		{"cookie in another case, which some ignore", keyed("cookie lang"), pairs{"Cookie", "Lang=de"}, pairs{"Cookie", "Lang=en"}, false},
		{"add", keyed("add {header.X-Device}"), pairs{"X-Device", "phone"}, pairs{"X-Device", "desktop"}, false},
		{"add, the same", keyed("add {header.X-Device}"), pairs{"X-Device", "phone"}, pairs{"X-Device", "phone"}, true},
		{"add, with text", keyed("add v1-{header.X-Device} {http.request.method}"), pairs{"X-Device", "a"}, pairs{"X-Device", "b"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
			in := start(t, proxied(tc.directive), o)
			in.get("/", tc.first...).want(t, 200, "1", "Larder; fwd=uri-miss; stored")
			second := in.get("/", tc.second...)
			if second.isHit() != tc.same {
				t.Errorf("%v after %v: %q", tc.second, tc.first, second.cacheStatus())
			}
		})
	}
}

func TestRequestsOfTwoHandlersWithDifferentKeysDoNotMix(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, setup{site: `
		@app header X-App *
		handle @app {
			` + keyed("header X-Lang") + `
			reverse_proxy {{origin}}
		}
		handle {
			` + keyed("cookie lang") + `
			reverse_proxy {{origin}}
		}`}, o)
	in.get("/", "X-App", "1", "X-Lang", "de").want(t, 200, "1", "")
	in.get("/", "Cookie", "lang=de").want(t, 200, "2", "Larder; fwd=uri-miss; stored")
}

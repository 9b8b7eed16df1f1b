package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTags fills and looks at the tags that were kept.
func TestTags(t *testing.T) {
	type pairs = []string
	long := strings.Repeat("x", 257)
	tagged := func(lines ...string) string { return block("tags {\n" + strings.Join(lines, "\n") + "\n}") }
	for _, tc := range []struct {
		name, directive string
		response        pairs
		want            []string
	}{
		{"Surrogate-Key at white space", "larder", pairs{"Surrogate-Key", "a  b\tc,d"}, []string{"a", "b", "c,d"}},
		{"xkey at white space", "larder", pairs{"xkey", "a b"}, []string{"a", "b"}},
		{"Cache-Tag at commas", "larder", pairs{"Cache-Tag", "a, b ,c"}, []string{"a", "b", "c"}},
		{"a Cache-Tag with a space is none", "larder", pairs{"Cache-Tag", "a b,c"}, []string{"c"}},
		{"all three", "larder", pairs{"Surrogate-Key", "a", "Cache-Tag", "b", "xkey", "c"}, []string{"a", "b", "c"}},
		{"two lines", "larder", pairs{"Surrogate-Key", "a", "Surrogate-Key", "b"}, []string{"a", "b"}},
		{"each once", "larder", pairs{"Surrogate-Key", "a a", "xkey", "a"}, []string{"a"}},
		{"case matters", "larder", pairs{"Surrogate-Key", "a A"}, []string{"A", "a"}},
		{"too long", "larder", pairs{"Surrogate-Key", "a " + long + " " + long[1:]}, []string{"a", long[1:]}},
		{"not ASCII", "larder", pairs{"Surrogate-Key", "a é"}, []string{"a"}},
		{"from", tagged("from X-Tags"), pairs{"X-Tags", "a,b c", "Surrogate-Key", "no"}, []string{"a", "b", "c"}},
		{"from, in order and twice", tagged("from X-Tags Surrogate-Key"), pairs{"X-Tags", "b", "Surrogate-Key", "a"}, []string{"a", "b"}},
		{"add", tagged("add one site-{host} m-{http.request.method}"), nil, []string{"m-GET", "one", "site-localhost"}},
		{"add beside the response's", tagged("add one"), pairs{"Surrogate-Key", "a"}, []string{"a", "one"}},
		{"add what the response carries", tagged("add a"), pairs{"Surrogate-Key", "a"}, []string{"a"}},
		{"add what expands to nothing", tagged("add {header.X-None}"), nil, nil},
		{"cache groups are not tags", "larder", pairs{"Cache-Groups", `"a", "b"`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(200, append(pairs{"Cache-Control", "max-age=60"}, tc.response...)...))
			in := start(t, proxied(tc.directive), o)
			in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
			var got []string
			eventually(t, "the entry is listed", func() bool {
				l := in.entries("")
				if len(l.Entries) == 1 {
					got = l.Entries[0].Tags
				}
				return len(l.Entries) == 1
			})
			slices.Sort(got)
			if !slices.Equal(got, tc.want) {
				t.Errorf("tags %q, want %q", got, tc.want)
			}
			for _, tag := range tc.want {
				if n := in.purge(fmt.Sprintf(`{"tags":[%q],"dry_run":true}`, tag)); n != 1 {
					t.Errorf("a purge of %q matches %d", tag, n)
				}
			}
		})
	}
}

func TestAtMost128Tags(t *testing.T) {
	var tags []string
	for i := range 200 {
		tags = append(tags, fmt.Sprintf("t%d", i))
	}
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", strings.Join(tags, " ")))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	for tag, want := range map[string]int{"t0": 1, "t127": 1, "t128": 0, "t199": 0} {
		if n := in.purge(fmt.Sprintf(`{"tags":[%q],"dry_run":true}`, tag)); n != want {
			t.Errorf("a purge of %s matches %d, want %d", tag, n, want)
		}
	}
}

func TestKeepHeaders(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "X-Tags", "a", "Surrogate-Key", "b"))
	in := start(t, proxied(block("tags {\nfrom X-Tags\n}")), o)
	for range 2 {
		a := in.get("/")
		if a.Header.Get("X-Tags") != "" || a.Header.Get("Surrogate-Key") != "b" {
			t.Errorf("X-Tags %q, Surrogate-Key %q", a.Header.Get("X-Tags"), a.Header.Get("Surrogate-Key"))
		}
	}
	in.load(proxied(block("tags {\nfrom X-Tags\nkeep_headers\n}")), o)
	for _, path := range []string{"/", "/b", "/b"} {
		if a := in.get(path); a.Header.Get("X-Tags") != "a" {
			t.Errorf("keep_headers: X-Tags %q (%s)", a.Header.Get("X-Tags"), a.cacheStatus())
		}
	}
}

// TestTagsReachALarderInFront is the purge by tag that left the page in the larder handler in
// front, to which the one behind it gave the page without its tags. Clients get them from neither.
func TestTagsReachALarderInFront(t *testing.T) {
	for _, tc := range []struct {
		name, front, inner string
		matched            int
		fields             string // that clients get
	}{
		{"in front", "larder", "larder", 2, "b"},
		{"in front for some", "@some header X-Front 1\nlarder @some", "larder", 2, "b"},
		{"in front, with other fields", block("tags {\nfrom Surrogate-Key\n}"), block("tags {\nfrom X-Tags Surrogate-Key\n}"), 2, ""},
		{"in front, with no field of these", block("tags {\nfrom X-Page\n}"), block("tags {\nfrom X-Tags Surrogate-Key\n}"), 1, ""},
		{"in front, keeping them", block("tags {\nfrom Surrogate-Key X-Tags\nkeep_headers\n}"), block("tags {\nfrom X-Tags Surrogate-Key\n}"), 2, "a b"},
		{"in front, observing", block("observe"), block("tags {\nfrom X-Tags Surrogate-Key\n}"), 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", "a", "X-Tags", "b"))
			in := start(t, setup{site: "route {\n" + tc.front + "\nheader X-Between 1\n" + tc.inner + "\nreverse_proxy {{origin}}\n}"}, o)
			ask := func(path string, header ...string) *answer {
				t.Helper()
				a := in.get(path, header...)
				if got := strings.TrimSpace(a.Header.Get("Surrogate-Key") + " " + a.Header.Get("X-Tags")); got != tc.fields {
					t.Errorf("%s: a client gets %q, want %q", a.cacheStatus(), got, tc.fields)
				}
				return a
			}
			if strings.Contains(tc.name, "some") { // and not for this one
				ask("/")
				ask("/")
				ask("/", "Cache-Control", "no-cache")
			}
			ask("/", "X-Front", "1")
			ask("/", "X-Front", "1")
			ask("/", "Cache-Control", "no-store", "X-Front", "1")
			asked := o.count()
			if n := in.purge(`{"tags":["a"]}`); n != tc.matched {
				t.Errorf("a purge of the tag matches %d, want %d", n, tc.matched)
			}
			if ask("/", "X-Front", "1"); tc.matched == 2 && o.count() != asked+1 {
				t.Error("the page is still there after the purge")
			}
		})
	}
}

// TestTagsAreStrippedFromWhatIsNotStored: a client must not learn them there either.
func TestTagsAreStrippedFromWhatIsNotStored(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "no-store", "Surrogate-Key", "a"))
	in := start(t, proxied("larder"), o)
	for _, a := range []*answer{in.get("/"), in.get("/"), in.do(http.MethodPost, "/", "x"), in.get("/", "Connection", "X-Foo")} {
		if v := a.Header.Get("Surrogate-Key"); v != "" {
			t.Errorf("%s: Surrogate-Key %q", a.cacheStatus(), v)
		}
	}
}

// TestRevalidationKeepsTags: a 304 seldom repeats them.
func TestRevalidationKeepsTags(t *testing.T) {
	for name, tc := range map[string]struct {
		of304 string
		tag   string
	}{
		"not repeated": {"", "old"},
		"replaced":     {"new", "new"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Etag", `"v1"`)
				if r.Header.Get("If-None-Match") != "" {
					if tc.of304 != "" {
						w.Header().Set("Surrogate-Key", tc.of304)
					}
					w.WriteHeader(http.StatusNotModified)
					return
				}
				w.Header().Set("Age", "100")
				w.Header().Set("Surrogate-Key", "old")
			})
			in := start(t, proxied(block("tags {\nadd site\n}")), o)
			in.get("/")
			in.get("/").want(t, 200, "", "Larder; fwd=stale; fwd-status=304; stored")
			for _, tag := range []string{"site", tc.tag} {
				if n := in.purge(fmt.Sprintf(`{"tags":[%q],"dry_run":true}`, tag)); n != 1 {
					t.Errorf("after the 304 a purge of %q matches %d", tag, n)
				}
			}
		})
	}
}

// TestInvalidate fills, sends an unsafe request, and looks at what is left.
func TestInvalidate(t *testing.T) {
	urls := []string{"/list", "/list?page=2", "/products/7", "/other"}
	for _, tc := range []struct {
		name, site, method, target string
		status                     int
		gone                       []string
	}{
		{"its own URL without any rule", "{{larder}}", "POST", "/list", 200, []string{"/list"}},
		{"PUT", "{{larder}}", "PUT", "/list", 204, []string{"/list"}},
		{"an unknown method", "{{larder}}", "FROB", "/list", 200, []string{"/list"}},
		{"OPTIONS is safe", "{{larder}}", "OPTIONS", "/list", 200, nil},
		{"a redirect is a success", "{{larder}}", "POST", "/list", 303, []string{"/list"}},
		{"a 404 is none", "{{larder}}", "POST", "/list", 404, nil},
		{"a 500 is none", "{{larder}}", "POST", "/list", 500, nil},
		{"tags", "invalidate {\ntags tag-list\n}", "POST", "/x", 200, []string{"/list", "/list?page=2"}},
		{"tags after a failure", "invalidate {\ntags tag-list\n}", "POST", "/x", 500, nil},
		{"tags after a GET", "invalidate {\ntags tag-list\n}", "OPTIONS", "/x", 200, nil},
		{"tags with a placeholder", "invalidate {\ntags tag-{http.request.uri.path.0}\n}", "POST", "/products/9", 201, []string{"/products/7"}},
		{"urls", "invalidate {\nurls /list?page=2 /other\n}", "POST", "/x", 200, []string{"/list?page=2", "/other"}},
		{"urls with a placeholder", "invalidate {\nurls /{http.request.uri.path.0}\n}", "POST", "/list/5", 200, []string{"/list"}},
		{"a matcher that matches", "invalidate /edit/* {\ntags tag-list\n}", "POST", "/edit/1", 200, []string{"/list", "/list?page=2"}},
		{"a matcher that does not", "invalidate /edit/* {\ntags tag-list\n}", "POST", "/x", 200, nil},
		{"a named matcher", "invalidate @edit {\ntags tag-list\n}", "DELETE", "/list", 200, []string{"/list", "/list?page=2"}},
		{"a named matcher that does not match", "invalidate @edit {\ntags tag-products\n}", "POST", "/list", 200, []string{"/list"}},
		{"several rules", "invalidate @edit {\ntags tag-other\n}\ninvalidate {\nurls /products/7\n}", "DELETE", "/x", 200, []string{"/other", "/products/7"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.WriteHeader(tc.status)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Surrogate-Key", "tag-"+strings.Split(r.URL.Path, "/")[1])
			})
			in := start(t, proxied("@edit method DELETE\n"+block(strings.ReplaceAll(tc.site, "{{larder}}", ""))), o)
			for _, u := range urls {
				in.get(u)
			}
			in.do(tc.method, tc.target, "x").want(t, tc.status, "", "Larder; fwd=bypass; detail=method")
			for _, u := range urls {
				if hit := in.get(u).isHit(); hit == slices.Contains(tc.gone, u) {
					t.Errorf("%s: a hit %v after %s %s", u, hit, tc.method, tc.target)
				}
			}
		})
	}
}

// TestInvalidateAroundARewrite: the matcher sees the request as it came, the placeholders what the
// inner handlers made of it.
func TestInvalidateAroundARewrite(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", r.Header.Get("X-Tag"))
	})
	in := start(t, setup{site: `route {
		larder {
			invalidate /products/* {
				tags path-{http.request.uri.path.1} var-{http.vars.id}
			}
			invalidate /api/* {
				tags never
			}
		}
		vars /products/* id 7
		rewrite /products/* /api{uri}
		reverse_proxy {{origin}}
	}`}, o)
	fill := func() {
		for _, tag := range []string{"path-products", "var-7", "never", "path-9"} {
			in.get("/"+tag, "X-Tag", tag)
		}
	}
	fill()
	in.do(http.MethodPost, "/products/9", "x").want(t, 200, "", "")
	for tag, gone := range map[string]bool{"path-products": true, "var-7": true, "never": false, "path-9": false} {
		if hit := in.get("/"+tag, "X-Tag", tag).isHit(); hit == gone {
			t.Errorf("%s: a hit %v", tag, hit)
		}
	}
}

func TestInvalidateSoftly(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60, stale-while-revalidate=60", "Surrogate-Key", "a"))
	in := start(t, proxied(block("invalidate {\ntags a\nsoft\n}")), o)
	in.get("/").want(t, 200, "1", "")
	in.do(http.MethodPost, "/x", "x")
	stale := in.get("/")
	stale.want(t, 200, "1", "")
	if !strings.HasSuffix(stale.cacheStatus(), "; detail=swr") || stale.ttl(t) > 0 {
		t.Errorf("Cache-Status %q", stale.cacheStatus())
	}
	eventually(t, "the refresh is stored", func() bool { return in.get("/").body != "1" })
}

// TestInvalidateFollowsTheKeysOfEveryHandler: what a handler with other query rules has stored goes
// too.
func TestInvalidateFollowsTheKeysOfEveryHandler(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, setup{site: `
		@get method GET
		handle @get {
			larder
			reverse_proxy {{origin}}
		}
		handle {
			` + keyed("query only page") + `
			reverse_proxy {{origin}}
		}`}, o)
	in.get("/list?id=1").want(t, 200, "1", "")
	in.do(http.MethodPost, "/list?id=1", "x")
	in.get("/list?id=1").want(t, 200, "3", "Larder; fwd=uri-miss; stored")
}

// TestTagLimitsLogOneLine: however many tags of a response are dropped.
func TestTagLimitsLogOneLine(t *testing.T) {
	var tags []string
	for i := range 150 {
		tags = append(tags, fmt.Sprintf("t%d", i))
	}
	tags = append(tags, strings.Repeat("x", 257), "é")
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", strings.Join(tags, " ")))
	log := filepath.Join(t.TempDir(), "log")
	s := proxied("larder")
	s.global = "log tags {\noutput file " + log + "\nformat json\ninclude http.handlers.larder\n}"
	in := start(t, s, o)
	in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	eventually(t, "the line is written", func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Count(string(text), "tags of a response are not kept") == 1 &&
			strings.Contains(string(text), `"dropped":24,"kept":128`)
	})
}

// What `invalidate { urls }` names by a part of the request's URL is what the client has sent, with
// its escapes: Caddy's placeholders have decoded it.
func TestInvalidateNamesWhatIsEscaped(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block(`invalidate /products/* {
		urls /list/{path.1} /orig/{http.request.orig_uri.path.1}/end /file/{file} /q?of={query.of} /q/{query.of} /base/{file.base}
	}`, `invalidate /all/* {
		urls /copy{path}
	}`)), o)
	for _, name := range []string{"7", "caf%C3%A9", "a%20b", "50%25", "a%3Fb", "a%2Fb", "x%23y", "a%2fb", "%2541", "a&b", "a+b", "a%2Bb", "a%3Bb", "a%41", "caf%c3%a9"} {
		gone := []string{"/list/" + name, "/orig/" + name + "/end", "/copy/all/" + name}
		gone = append(gone, "/file/"+name, "/base/"+name)
		if name != "a&b" { // in a query that is two parameters
			gone = append(gone, "/q?of="+name, "/q/"+strings.ReplaceAll(name, "+", "%20"))
		}
		for _, path := range gone {
			in.rawGet(path)
		}
		for _, path := range []string{"/products/" + name + "?of=" + name, "/all/" + name} {
			in.raw("POST "+path+" HTTP/1.1\nHost: "+strings.TrimPrefix(in.url(""), "http://")+"\nContent-Length: 0\nConnection: close\n\n").want(t, 200, "", "")
		}
		for _, path := range gone {
			if a := in.rawGet(path); a.isHit() {
				t.Errorf("%s is answered by %q", path, a.cacheStatus())
			}
		}
	}
}

// A tag that an operator adds stands before the origin's: 128 of these leave it its place.
func TestOwnTagsStandBeforeTheOrigins(t *testing.T) {
	many := "t"
	for i := range 199 {
		many += fmt.Sprint(" t", i)
	}
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", many))
	in := start(t, proxied(block("tags {\nadd site-{host}\n}")), o)
	in.get("/").want(t, http.StatusOK, "", "Larder; fwd=uri-miss; stored")
	if n := in.purge(`{"tags":["site-localhost"],"dry_run":true}`); n != 1 {
		t.Errorf("a purge of the operator's tag matched %d", n)
	}
	if l := in.entries(""); len(l.Entries) == 1 && (len(l.Entries[0].Tags) != 128 || !slices.Contains(l.Entries[0].Tags, "t")) {
		t.Errorf("%d tags", len(l.Entries[0].Tags))
	}
}

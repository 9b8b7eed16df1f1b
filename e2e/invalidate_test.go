package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestLocationIsInvalidatedOnTheSameOriginOnly is RFC 9111 4.4.
func TestLocationIsInvalidatedOnTheSameOriginOnly(t *testing.T) {
	for _, field := range []string{"Location", "Content-Location"} {
		for _, tc := range []struct {
			name, value string // {{url}} stands for the site
			gone        bool
		}{
			{"a path", "/item?id=1", true},
			{"relative", "item?id=1", true},
			{"absolute", "{{url}}/item?id=1", true},
			{"absolute, in capitals", "HTTP://LOCALHOST:{{port}}/item?id=1", true},
			{"another host", "http://example.com/item?id=1", false},
			{"another port", "http://localhost:1/item?id=1", false},
			{"another scheme", "https://localhost:{{port}}/item?id=1", false},
			{"another query", "/item?id=2", false},
			{"no URL", "http://[::1/item?id=1", false},
		} {
			t.Run(field+", "+tc.name, func(t *testing.T) {
				var in *instance
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						value := strings.ReplaceAll(tc.value, "{{url}}", in.url(""))
						w.Header().Set(field, strings.ReplaceAll(value, "{{port}}", strconv.Itoa(in.port)))
						w.WriteHeader(http.StatusCreated)
						return
					}
					w.Header().Set("Cache-Control", "max-age=60")
				})
				in = start(t, proxied("larder"), o)
				in.get("/item?id=1")
				in.do(http.MethodPost, "/create", "x").want(t, 201, "", "")
				if hit := in.get("/item?id=1").isHit(); hit == tc.gone {
					t.Errorf("a hit: %v", hit)
				}
			})
		}
	}
}

// TestCacheGroups is RFC 9875.
func TestCacheGroups(t *testing.T) {
	for _, tc := range []struct {
		name, method, invalidation string
		status                     int
		gone                       bool
	}{
		{"its group", "POST", `"b"`, 200, true},
		{"one of several", "POST", `"x", "a"`, 200, true},
		{"another", "POST", `"c"`, 200, false},
		{"case matters", "POST", `"B"`, 200, false},
		{"a failure", "POST", `"b"`, 500, false},
		{"a safe method", "OPTIONS", `"b"`, 200, false},
		{"not a string", "POST", `b`, 200, false},
		{"not a list", "POST", `"b"; ;`, 200, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet {
					w.Header().Set("Cache-Group-Invalidation", tc.invalidation)
					w.WriteHeader(tc.status)
					return
				}
				w.Header().Set("Cache-Control", "max-age=60")
				w.Header().Set("Cache-Groups", `"a", "b"`)
			})
			in := start(t, proxied("larder"), o)
			for range 2 {
				if got := in.get("/").Header.Get("Cache-Groups"); got != `"a", "b"` {
					t.Errorf("Cache-Groups %q reached the client", got)
				}
			}
			if got := in.do(tc.method, "/other", "x").Header.Get("Cache-Group-Invalidation"); got != tc.invalidation {
				t.Errorf("Cache-Group-Invalidation %q reached the client", got)
			}
			if hit := in.get("/").isHit(); hit == tc.gone {
				t.Errorf("a hit: %v", hit)
			}
		})
	}
	t.Run("of another origin", func(t *testing.T) {
		o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Cache-Groups", `"a"`)
			w.Header().Set("Cache-Group-Invalidation", `"a"`)
		})
		s := proxied("larder")
		other := freePort(t)
		s.more = fmt.Sprintf("http://localhost:%d {\n%s\n}", other, s.site)
		in := start(t, s, o)
		in.get("/")
		resp, err := in.client.Post(fmt.Sprintf("http://localhost:%d/x", other), "", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if !in.get("/").isHit() {
			t.Error("one origin has invalidated another's group")
		}
	})
}

// TestCacheGroupsOnSeveralLines are one list, ignored whole if a member is no string (RFC 9875 2).
func TestCacheGroupsOnSeveralLines(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Add("Cache-Group-Invalidation", r.URL.Query().Get("first"))
			w.Header().Add("Cache-Group-Invalidation", `"`+r.URL.Query().Get("group")+`";why="changed"`)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Add("Cache-Groups", `"one"`)
		w.Header().Add("Cache-Groups", `"two"`)
	})
	in := start(t, proxied("larder"), o)
	for _, tc := range []struct {
		first, group string
		gone         bool
	}{
		{`"x"`, "one", true},
		{`"x"`, "two", true},
		{`"x"`, "three", false},
		{`token`, "one", false},
		{`"x", 7`, "one", false},
		{`("x" "y")`, "one", false},
		{`"x`, "one", false},
	} {
		in.get("/")
		posted := in.do(http.MethodPost, "/form?group="+tc.group+"&first="+url.QueryEscape(tc.first), "x")
		if n := len(posted.Header.Values("Cache-Group-Invalidation")); n != 2 {
			t.Errorf("%d lines of Cache-Group-Invalidation reached the client", n)
		}
		a := in.get("/")
		if a.isHit() == tc.gone {
			t.Errorf("%s and group %s: %s", tc.first, tc.group, a.cacheStatus())
		}
		if n := len(a.Header.Values("Cache-Groups")); n != 2 {
			t.Errorf("%d lines of Cache-Groups reached the client", n)
		}
	}
}

// C28: Host is the client's word. A POST to one site that names another's host drops what is stored
// for the listener that it came in by, and nothing of a site at another one: not by its URL, nor by
// what the origin's answer names, nor by a group. Tags that the operator names are the process's.
func TestPOSTReachesItsOwnListenerOnly(t *testing.T) {
	header := map[string][]string{
		"/by-location": {"Content-Location", "/page"}, "/by-group": {"Cache-Group-Invalidation", `"g"`},
	}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if pair := header[r.URL.Path]; pair != nil {
				w.Header().Set(pair[0], pair[1])
			}
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Groups", `"g"`)
		w.Header().Set("Surrogate-Key", "shared")
		_, _ = io.WriteString(w, "page")
	})
	evil, bank := freePort(t), freePort(t)
	in := start(t, setup{site: "respond unused", more: fmt.Sprintf(`http://:%d {
	larder {
		invalidate /by-rule {
			urls /page
		}
		invalidate /by-url {
			urls {http.request.header.Destination}
		}
		invalidate /by-tag {
			tags shared
		}
	}
	reverse_proxy {{origin}}
}
http://:%d {
	larder
	reverse_proxy {{origin}}
}`, evil, bank)}, o)
	get := func(port int) *answer { in.port = port; return in.get("/page", "Host", "bank.example") }
	for _, tc := range []struct {
		path  string
		there bool // what the other listener has goes too
	}{
		{"/page", false}, {"/by-location", false}, {"/by-group", false}, {"/by-rule", false}, {"/by-url", false}, {"/by-tag", true},
	} {
		get(evil)
		get(bank)
		if !get(evil).isHit() || !get(bank).isHit() {
			t.Fatal("not stored")
		}
		in.port = evil
		in.do(http.MethodPost, tc.path, "x", "Host", "bank.example", "Destination", "https://BANK.example/page").want(t, 200, "", "")
		if a := get(bank); a.isHit() == tc.there {
			t.Errorf("POST %s: at the other listener %q", tc.path, a.cacheStatus())
		}
		if a := get(evil); a.isHit() {
			t.Errorf("POST %s: at its own %q", tc.path, a.cacheStatus())
		}
	}
	if n := in.purge(`{"urls":["http://bank.example/page"]}`); n != 2 {
		t.Errorf("a purge of the URL matched %d, want both", n)
	}
}

// A POST drops what a server of another configuration has stored for its URL, by its addresses: the
// page of before it was a hit once that configuration came back, by a reload or by a restart. By
// then the server has another name. What a server of the same configuration has stays (C28).
func TestPOSTReachesServersOfAnotherConfiguration(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/group" {
			w.Header().Set("Cache-Group-Invalidation", `"g"`)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Groups", `"g"`)
		if r.URL.Query().Has("x") {
			w.Header().Set("No-Vary-Search", `params=("u")`)
		}
	})
	other := freePort(t)
	with := func(s setup, addresses string) setup {
		s.more = fmt.Sprintf("http://:%d {\nbind %s\nlarder\nreverse_proxy {{origin}}\n}", other, addresses)
		s.site = "respond unused"
		return s
	}
	for _, restart := range []bool{false, true} {
		s := withDisk(t, "larder")
		in := start(t, with(s, "127.0.0.1"), o)
		site := in.port
		change := func(addresses string) {
			in.port = site
			if restart {
				if err := caddy.Stop(); err != nil {
					t.Fatal(err)
				}
				awaitClosedStores(t)
			}
			in.load(with(s, addresses), o)
			awaitHandOver(t, fmt.Sprintf("127.0.0.1:%d", other))
			in.port = other
		}
		in.port = other
		for _, tc := range []struct{ page, post string }{
			{"/page", "/page"}, {"/page", "/group"}, {"/page?x&u=1", "/page?x&u=2"},
		} {
			in.get(tc.page).want(t, 200, "", "Larder; fwd=uri-miss; stored")
			change("127.0.0.1 127.0.0.2")
			in.get(tc.page).want(t, 200, "", "Larder; fwd=uri-miss; stored")
			in.do(http.MethodPost, tc.post, "x").want(t, 200, "", "")
			change("127.0.0.1")
			in.get(tc.page).want(t, 200, "", "Larder; fwd=uri-miss; stored")
			if n := in.purge(`{"all":true}`); n == 0 {
				t.Error("nothing was stored")
			}
		}
	}
}

// A POST, and a purge by URL, drop what was stored by query rules of before: the page was a hit
// once these came back, by a reload or by a restart.
func TestPurgeReachesWhatFormerQueryRulesHaveStored(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	for _, rules := range []string{"query ignore utm_*", "query only id", "query sort"} {
		for _, restart := range []bool{false, true} {
			for _, purge := range []bool{false, true} {
				s := withDisk(t, block("key {\n"+rules+"\n}"))
				in := start(t, s, o)
				change := func(directive string) {
					if restart {
						if err := caddy.Stop(); err != nil {
							t.Fatal(err)
						}
						awaitClosedStores(t)
					}
					to := proxied(directive)
					to.disk = s.disk
					in.load(to, o)
				}
				const page = "/page?utm_source=x&id=7"
				in.get(page).want(t, 200, "", "Larder; fwd=uri-miss; stored")
				change("larder")
				if purge {
					in.purge(`{"urls":["` + in.url(page) + `"]}`)
				} else {
					in.do(http.MethodPost, page, "x").want(t, 200, "", "")
				}
				change(block("key {\n" + rules + "\n}"))
				if a := in.get(page); a.isHit() {
					t.Errorf("%s, restart %v, purge %v: %q", rules, restart, purge, a.cacheStatus())
				}
			}
		}
	}
}

// C28, and of one listener: Caddy's host matcher takes a name with a trailing dot for another, so
// that a POST comes to the catch-all site.
func TestPOSTWithADotReachesItsOwnSiteOnly(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	port := freePort(t)
	in := start(t, setup{site: "respond unused", more: fmt.Sprintf(`http://bank.example:%d {
	larder
	reverse_proxy {{origin}}
}
http://:%d {
	larder
	reverse_proxy {{origin}}
}`, port, port)}, o)
	in.port = port
	for _, host := range []string{"bank.example", "bank.example."} {
		in.get("/page", "Host", host).want(t, 200, "", "Larder; fwd=uri-miss; stored")
	}
	in.do(http.MethodPost, "/page", "x", "Host", "bank.example.").want(t, 200, "", "")
	if a := in.get("/page", "Host", "bank.example"); !a.isHit() {
		t.Errorf("the named site's: %q", a.cacheStatus())
	}
	if a := in.get("/page", "Host", "bank.example."); a.isHit() {
		t.Errorf("its own: %q", a.cacheStatus())
	}
}

// What a WebDAV client moves goes at both ends, as its Destination names the other: an absolute URL
// or a path.
func TestInvalidateNamesDestination(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, proxied(block("invalidate {\nurls {http.request.header.Destination}\ntags {http.request.header.X-Tag}\n}")), o)
	for _, tc := range []struct {
		name, destination string
		gone              []string
	}{
		{"an absolute URL", in.url("/to?a=(ü"), []string{"/from", "/to?a=(ü"}},
		{"its host in capitals", fmt.Sprintf("HTTP://LOCALHOST.:%d/to", in.port), []string{"/from", "/to"}},
		{"https, as in front of a proxy that ends TLS", fmt.Sprintf("https://localhost:%d/to", in.port), []string{"/from", "/to"}},
		{"a path", "/to", []string{"/from", "/to"}},
		{"a path with two slashes", "//to", []string{"/from", "//to"}},
		{"another host", "http://evil.test/to", []string{"/from"}},
		{"another port", "http://localhost:1/to", []string{"/from"}},
		{"no URL", "to", []string{"/from"}},
		{"another scheme", "ftp://localhost/to", []string{"/from"}},
		{"none", "", []string{"/from"}}, // and the root stays, and what no tag names
	} {
		in.purge(`{"all":true}`)
		all := []string{"/from", "/to", "/to?a=(ü", "//to", "/"}
		for _, path := range all {
			in.rawGet(path)
		}
		in.raw(fmt.Sprintf("MOVE /from HTTP/1.1\nHost: localhost:%d\nDestination: %s\nConnection: close\n\n", in.port, tc.destination)).want(t, 200, "", "")
		for _, path := range all {
			gone := false
			for _, one := range tc.gone {
				gone = gone || one == path
			}
			if a := in.rawGet(path); a.isHit() == gone {
				t.Errorf("%s: %s is answered by %q", tc.name, path, a.cacheStatus())
			}
		}
	}
}

// provoked answers with a page that is fresh for ten minutes, or with what the request asks for: a
// status in X-Status and fields, each `Name: value`, in X-Field.
func provoked(page ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if asked := r.Header.Get("X-Status"); asked != "" {
			status, _ := strconv.Atoi(asked)
			for _, field := range r.Header["X-Field"] {
				name, value, _ := strings.Cut(field, ": ")
				w.Header().Add(name, value)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "provoked")
			return
		}
		for i := 0; i < len(page); i += 2 {
			w.Header().Add(page[i], page[i+1])
		}
		_, _ = io.WriteString(w, "the page")
	}
}

// What a request of one client's gets from the origin says nothing about the copy that is for
// everybody: it may replace it only where it may be stored itself, and removes it only where it
// says to anybody that the resource is gone.
func TestPersonalAnswerEmptiesNothing(t *testing.T) {
	for _, tc := range []struct {
		name    string
		vary    string
		request []string
		gone    bool
	}{
		{"authorised reload", "", []string{"Authorization", "x", "Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: max-age=60"}, false},
		{"authorised, max-age=0", "", []string{"Authorization", "x", "Cache-Control", "max-age=0", "X-Status", "200"}, false},
		{"a member's reload", "", []string{"Cookie", "u=1", "Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: private"}, false},
		{"a visitor's first session", "", []string{"Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: max-age=60", "X-Field", "Set-Cookie: s=1"}, false},
		{"a redirect to some cookie", "", []string{"Cookie", "u=1", "Pragma", "no-cache", "X-Status", "302", "X-Field", "Location: /login"}, false},
		{"no-store to a reload", "", []string{"Cache-Control", "no-cache", "X-Status", "200", "X-Field", "Cache-Control: no-store"}, false},
		{"Vary: * to a reload", "", []string{"Cache-Control", "min-fresh=9999", "X-Status", "200", "X-Field", "Vary: *"}, false},
		{"451 to a reload", "", []string{"Cache-Control", "no-cache", "X-Status", "451"}, false},
		{"404 to a member", "", []string{"Cookie", "u=1", "Cache-Control", "no-cache", "X-Status", "404"}, false},
		{"410 to one authorised", "", []string{"Authorization", "x", "Cache-Control", "no-cache", "X-Status", "410"}, false},
		{"404 to anybody", "", []string{"Cache-Control", "no-cache", "X-Status", "404"}, true},
		{"410 to anybody", "", []string{"Cache-Control", "no-cache", "X-Status", "410"}, true},
		{"404 to the visitors without a cookie", "Cookie", []string{"Cache-Control", "no-cache", "X-Status", "404"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			page := []string{"Cache-Control", "max-age=600, stale-if-error=86400", "Etag", `"v1"`}
			if tc.vary != "" {
				page = append(page, "Vary", tc.vary)
			}
			o := newOrigin(t, provoked(page...))
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "the page", "")
			in.get("/", tc.request...).want(t, provokes(tc.request), "provoked", "")
			o.Close() // the origin stops
			if a := in.get("/"); a.isHit() == tc.gone {
				t.Errorf("%d %q after that, want a hit: %v", a.StatusCode, a.cacheStatus(), !tc.gone)
			}
		})
	}
}

// provokes is the status that a request provokes.
func provokes(request []string) int {
	for i := 0; i < len(request); i += 2 {
		if request[i] == "X-Status" {
			n, _ := strconv.Atoi(request[i+1])
			return n
		}
	}
	return http.StatusOK
}

// A cookie that selected the stored response is no cookie of one client's: what its owner hears of
// it takes it away, and no other variant.
func TestGoneForAVariant(t *testing.T) {
	o := newOrigin(t, provoked("Cache-Control", "max-age=600", "Vary", "Cookie, Authorization"))
	in := start(t, proxied("larder"), o)
	for _, cookie := range []string{"u=1", "u=2"} {
		in.get("/", "Cookie", cookie).want(t, 200, "the page", "Larder; fwd="+map[string]string{"u=1": "uri", "u=2": "vary"}[cookie]+"-miss; stored")
	}
	in.get("/", "Cookie", "u=1", "Cache-Control", "no-cache", "X-Status", "404").want(t, 404, "provoked", "")
	if a := in.get("/", "Cookie", "u=1"); a.isHit() {
		t.Errorf("%q for the variant that is gone", a.cacheStatus())
	}
	if a := in.get("/", "Cookie", "u=2"); !a.isHit() {
		t.Errorf("%q for another one", a.cacheStatus())
	}
}

// What the origin's answer to an ordinary request has superseded, and may not be replaced, is not
// shown while the origin answers, and stands in for it when it fails.
func TestSupersededStandsInOnly(t *testing.T) {
	for name, answer := range map[string][]string{
		"no-store": {"X-Status", "200", "X-Field", "Cache-Control: no-store"},
		"redirect": {"X-Status", "302", "X-Field", "Location: /elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, provoked("Cache-Control", "max-age=90, stale-while-revalidate=600, stale-if-error=86400", "Age", "100", "Etag", `"v1"`))
			in := start(t, proxied("larder"), o)
			in.get("/").want(t, 200, "the page", "")
			in.get("/", answer...).want(t, 200, "the page", "") // stale, and refreshed behind
			eventually(t, "the refresh is decided", func() bool { return in.get("/", answer...).body == "provoked" })
			if a := in.get("/", answer...); a.body != "provoked" {
				t.Errorf("%q is shown, want what the origin answers now", a.body)
			}
			o.Close()
			if a := in.get("/"); a.body != "the page" || !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
				t.Errorf("%d %q %q once the origin fails", a.StatusCode, a.body, a.cacheStatus())
			}
		})
	}
}

// Requests for what such an answer has superseded do not wait for each other.
func TestSupersededIsNotWaitedFor(t *testing.T) {
	gate := newGate(t, func(w http.ResponseWriter, v *visit) {
		if v.number == 1 {
			w.Header().Set("Age", "100")
			w.Header().Set("Cache-Control", "max-age=90")
			w.Header().Set("Etag", `"v1"`)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, "new")
	})
	in := start(t, proxied("larder"), gate.origin)
	for range 2 {
		first := gather(t, in, 1, http.MethodGet, "/", nil)
		open(gate.next(t, 1)...)
		first.all()
	}
	crowd := gather(t, in, 5, http.MethodGet, "/", nil)
	open(gate.next(t, 5)...) // all at the origin at once
	for _, a := range crowd.all() {
		a.want(t, 200, "new", "Larder; fwd=stale; fwd-status=200")
	}
}

// A file that is no more is gone too, although file_server has no response to say so but an error.
func TestGoneFile(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "page")
	if err := os.WriteFile(file, []byte("the page"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := start(t, setup{site: "root " + root + "\nroute {\nlarder\nheader Cache-Control max-age=60\nfile_server\n}"}, nil)
	in.get("/page").want(t, 200, "the page", "Larder; fwd=uri-miss; stored")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	in.get("/page").want(t, 200, "the page", "")
	in.get("/page", "Cache-Control", "no-cache", "Cookie", "u=1").want(t, 404, "", "")
	in.get("/page").want(t, 200, "the page", "")
	in.get("/page", "Cache-Control", "no-cache").want(t, 404, "", "")
	in.get("/page").want(t, 404, "", "")
}

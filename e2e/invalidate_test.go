package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
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
		{"a path with two slashes", "//to", []string{"/from", "//to", "/to"}}, // which handlers may read as one
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

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

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

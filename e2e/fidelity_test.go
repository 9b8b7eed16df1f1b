package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// With and without Larder a client sees the same. Each case here runs the same site twice, side by side: once with the
// directive and once with nothing in its place.

// sides are the two sites of one configuration.
type sides struct {
	with, without *instance
}

// startSides loads a site twice, with `{{larder}}` standing for the directive and for nothing.
func startSides(t *testing.T, site string, o *origin) sides {
	t.Helper()
	port := freePort(t)
	in := start(t, setup{
		site: strings.ReplaceAll(site, "{{larder}}", "larder"),
		more: fmt.Sprintf("http://localhost:%d {\n%s\n}", port, strings.ReplaceAll(site, "{{larder}}", "")),
	}, o)
	without := *in
	without.port = port
	return sides{with: in, without: &without}
}

// probe is one request, made of the site without Larder once and of the one with it twice.
type probe struct {
	name   string
	method string // "" for GET
	path   string
	header []string
	hit    bool // the second answer with Larder comes from the store
}

// same compares what the two sites answer.
func (s sides) same(t *testing.T, p probe) {
	t.Helper()
	method := p.method
	if method == "" {
		method = http.MethodGet
	}
	header := append([]string{"Host", "localhost", "Accept-Encoding", "identity"}, p.header...)
	if slices.Contains(p.header, "Accept-Encoding") {
		header = append([]string{"Host", "localhost"}, p.header...)
	}
	want := s.without.do(method, p.path, "", header...)
	first := s.with.do(method, p.path, "", header...)
	second := s.with.do(method, p.path, "", header...)
	differences(t, p.name+", first", want, first)
	differences(t, p.name+", second", want, second)
	// The first answer may be out before its fetch has stored it; the second then joins that fetch.
	if p.hit && !strings.HasPrefix(second.cacheStatus(), "Larder; hit") && !strings.HasSuffix(second.cacheStatus(), "collapsed") {
		t.Errorf("%s: the second answer is no hit: %d %q", p.name, second.StatusCode, second.cacheStatus())
	}
}

// differences reports what a client would see differently with Larder. Age and Cache-Status are Larder's to add; a stored body's length
// is known even where the origin did not say it, and net/http adds the length of a short body that came in one piece.
func differences(t *testing.T, name string, want, got *answer) {
	t.Helper()
	if (want.err == nil) != (got.err == nil) {
		t.Errorf("%s: reading the body: %v, without Larder %v", name, got.err, want.err)
	}
	if got.StatusCode != want.StatusCode || got.body != want.body {
		t.Errorf("%s: %d %.80q, without Larder %d %.80q", name, got.StatusCode, got.body, want.StatusCode, want.body)
	}
	a, b := comparable(want.Header), comparable(got.Header)
	for _, h := range []http.Header{a, b} {
		if (a.Get("Content-Length") == "" || b.Get("Content-Length") == "") && h.Get("Content-Length") == fmt.Sprint(len(got.body)) {
			h.Del("Content-Length")
		}
	}
	for _, name2 := range union(a, b) {
		if !slices.Equal(a[name2], b[name2]) {
			t.Errorf("%s: %s %q, without Larder %q", name, name2, b[name2], a[name2])
		}
	}
	for _, name2 := range union(want.Trailer, got.Trailer) {
		if !slices.Equal(want.Trailer[name2], got.Trailer[name2]) {
			t.Errorf("%s: trailer %s %q, without Larder %q", name, name2, got.Trailer[name2], want.Trailer[name2])
		}
	}
}

func comparable(h http.Header) http.Header {
	h = h.Clone()
	h.Del("Age")
	h.Del("Cache-Status")
	if len(h["Date"]) == 1 {
		h.Set("Date", "some time")
	}
	return h
}

func union(a, b http.Header) []string {
	var names []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// longText is long enough for encode to think it worth its while.
var longText = strings.Repeat("all work and no play makes jack a dull boy\n", 100)

func gzipped(s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.Bytes()
}

func TestSameWithFileServer(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"index.html": "<p>index</p>", "a.txt": "0123456789", "sub/index.html": "<p>sub</p>",
		"style.css": longText, "style.css.gz": string(gzipped(longText)), "empty.txt": "",
	} {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := startSides(t, "root "+root+`
	header Cache-Control max-age=60
	{{larder}}
	file_server {
		precompressed gzip
	}`, nil)
	etag := s.without.get("/a.txt").Header.Get("Etag")
	modified := s.without.get("/a.txt").Header.Get("Last-Modified")
	for _, p := range []probe{
		{name: "index", path: "/", hit: true},
		{name: "file", path: "/a.txt", hit: true},
		{name: "empty file", path: "/empty.txt", hit: true},
		{name: "HEAD", method: http.MethodHead, path: "/a.txt", hit: true},
		{name: "cold HEAD", method: http.MethodHead, path: "/a.txt?cold"},
		{name: "not found", path: "/missing"},
		{name: "redirect to the folder", path: "/sub", hit: true},
		{name: "folder's index", path: "/sub/", hit: true},
		{name: "range", path: "/a.txt", header: []string{"Range", "bytes=2-4"}, hit: true},
		{name: "cold range", path: "/a.txt?range", header: []string{"Range", "bytes=2-4"}, hit: true},
		{name: "If-None-Match", path: "/a.txt", header: []string{"If-None-Match", etag}, hit: true},
		{name: "If-None-Match, cold", path: "/a.txt?etag", header: []string{"If-None-Match", etag}, hit: true},
		{name: "If-None-Match, another", path: "/a.txt", header: []string{"If-None-Match", `"x"`}, hit: true},
		{name: "If-Modified-Since", path: "/a.txt", header: []string{"If-Modified-Since", modified}, hit: true},
		{name: "If-Modified-Since, cold", path: "/a.txt?since", header: []string{"If-Modified-Since", modified}, hit: true},
		{name: "If-Range", path: "/a.txt", header: []string{"Range", "bytes=0-1", "If-Range", etag}, hit: true},
		{name: "If-Range, another", path: "/a.txt", header: []string{"Range", "bytes=0-1", "If-Range", `"x"`}, hit: true},
		{name: "precompressed", path: "/style.css", header: []string{"Accept-Encoding", "gzip"}, hit: true},
		{name: "plain", path: "/style.css", hit: true},
		{name: "POST", method: http.MethodPost, path: "/a.txt"},
	} {
		s.same(t, p)
	}
	beyond := s.with.get("/a.txt", "Range", "bytes=20-") // its body is a matter of taste
	beyond.want(t, 416, "", "")
	if got := beyond.Header.Get("Content-Range"); got != "bytes */10" {
		t.Errorf("Content-Range %q", got)
	}
}

func TestSameWithEncode(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		// With a length reverse_proxy does not flush, which would show in the coded bytes.
		w.Header().Set("Content-Length", fmt.Sprint(len(longText)))
		_, _ = io.WriteString(w, longText)
	})
	s := startSides(t, "{{larder}}\nencode zstd gzip\nreverse_proxy {{origin}}", o)
	for _, p := range []probe{
		{name: "gzip", header: []string{"Accept-Encoding", "gzip"}, hit: true},
		{name: "zstd", header: []string{"Accept-Encoding", "zstd"}, hit: true},
		{name: "both", header: []string{"Accept-Encoding", "gzip;q=0.5, zstd"}, hit: true},
		{name: "identity", hit: true},
		{name: "If-None-Match, another", header: []string{"Accept-Encoding", "gzip", "If-None-Match", `"v0-gzip"`}, hit: true},
	} {
		p.path = "/"
		s.same(t, p)
	}
	// encode itself answers 304 with the origin's ETag, and knows neither weak ones nor lists; from the store they are right.
	for _, tags := range []string{`"v1-gzip"`, `W/"v1-gzip"`, `"x", "v1-gzip"`, "*"} {
		coded := s.with.get("/", "Accept-Encoding", "gzip", "If-None-Match", tags)
		coded.want(t, 304, "", "")
		if coded.Header.Get("Etag") != `"v1-gzip"` || coded.body != "" {
			t.Errorf("If-None-Match: %s: %v, body %q", tags, coded.Header, coded.body)
		}
	}
	before := o.count()
	for range 3 {
		hit := s.with.get("/", "Accept-Encoding", "gzip, br")
		if hit.Header.Get("Content-Encoding") != "gzip" || hit.Header.Get("Etag") != `"v1-gzip"` || len(hit.body) >= len(longText) {
			t.Errorf("the hit is not the coded variant: %v, %d bytes", hit.Header, len(hit.body))
		}
	}
	o.asked(t, before) // by no coded hit
}

// A coded variant that went stale is validated by the ETag its origin knows, and its clients keep the one they know.
func TestEncodedVariantIsRevalidated(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Age", "100")
		_, _ = io.WriteString(w, longText)
	})
	in := start(t, setup{site: "larder\nencode gzip\nreverse_proxy {{origin}}"}, o)
	first := in.get("/", "Accept-Encoding", "gzip")
	first.want(t, 200, "", "Larder; fwd=uri-miss; stored")
	again := in.get("/", "Accept-Encoding", "gzip")
	again.want(t, 200, first.body, "Larder; fwd=stale; fwd-status=304; stored")
	if again.Header.Get("Etag") != `"v1-gzip"` {
		t.Errorf("ETag %s after the validation", again.Header.Get("Etag"))
	}
	in.get("/", "Accept-Encoding", "gzip", "If-None-Match", `"v1-gzip"`).want(t, 304, "", "")
}

func TestSameWithErrors(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/503":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/404":
			w.WriteHeader(http.StatusNotFound)
		case "/abort":
			w.Header().Set("Content-Length", "100")
		}
		_, _ = io.WriteString(w, "the origin's own words")
	})
	s := startSides(t, fmt.Sprintf(`
	header X-Outer outer
	route {
		{{larder}}
		header X-Inner inner
		handle /dead* {
			reverse_proxy localhost:%d
		}
		handle /thrown* {
			error "thrown" 418
		}
		handle /turned {
			rewrite /503
			reverse_proxy {{origin}} {
				@bad status 5xx
				handle_response @bad {
					error {rp.status_code}
				}
			}
		}
		reverse_proxy {{origin}}
	}
	handle_errors {
		header X-Error {err.status_code}
		respond "{err.status_code} {err.status_text}"
	}`, freePort(t)), o)
	for _, path := range []string{"/dead", "/thrown", "/turned", "/503", "/500", "/404"} {
		s.same(t, probe{name: path, path: path})
	}
	for range 2 {
		if a, err := s.with.try(t.Context(), http.MethodGet, "/abort", ""); err == nil && a.err == nil {
			t.Errorf("a body that breaks off came as %d %q", a.StatusCode, a.body)
		}
	}
}

// Templates take {file.*} away from what a client may write into a page. That of a fetch must not get it back from the replacer behind its
// own, nor outer templates from that of the fetch.
func TestTemplatesReadNoFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	page := "header Cache-Control max-age=60\nheader Content-Type text/html\nrespond `[{{placeholder \"file." + secret + "\"}}]`"
	for name, site := range map[string]string{
		"inside":  "route {\nlarder\ntemplates\n" + page + "\n}",
		"outside": "route {\ntemplates\nlarder\n" + page + "\n}",
	} {
		t.Run(name, func(t *testing.T) {
			in := start(t, setup{site: site}, nil)
			in.get("/").want(t, 200, "[]", "")
		})
	}
}

func TestSameWithOtherHandlers(t *testing.T) {
	root := t.TempDir()
	page := "{{.Req.URL}} of {{.OriginalReq.URL}}, {{placeholder `vars.color`}}, {{.Cookie `a`}}, {{placeholder `http.request.uri`}}\n"
	if err := os.WriteFile(filepath.Join(root, "page.html"), []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("X-Accel-Redirect", "/page.html")
		w.Header().Set("X-User", "ann")
		_, _ = fmt.Fprintf(w, "%s %s by %s", r.Method, r.URL, r.Header.Get("X-User"))
	})
	for name, site := range map[string]string{
		"templates":       "root " + root + "\nheader Cache-Control max-age=60\nroute {\nvars color red\n{{larder}}\nrewrite /old /page.html\ntemplates\nfile_server\n}",
		"respond":         "header Cache-Control max-age=60\nroute {\n{{larder}}\nrespond \"{method} {uri} {host} {scheme} {http.request.header.X-Any} {query.a}\" 203\n}",
		"no content":      "header Cache-Control max-age=60\nroute {\n{{larder}}\nrespond 204\n}",
		"nothing":         "header Cache-Control max-age=60\n{{larder}}",
		"redir":           "route {\n{{larder}}\nredir /old /new permanent\nredir https://other.example{uri}\n}",
		"intercept":       "root " + root + "\n{{larder}}\nintercept {\n@ok status 200\nhandle_response @ok {\nroot " + root + "\nrewrite * {resp.header.X-Accel-Redirect}\nmethod GET\nfile_server\n}\n}\nreverse_proxy {{origin}}",
		"copy_response":   "{{larder}}\nreverse_proxy {{origin}} {\n@ok status 200\nhandle_response @ok {\nheader X-Copied yes\ncopy_response_headers\ncopy_response 206\n}\n}",
		"forward_auth":    "forward_auth {{origin}} {\nuri /auth\ncopy_headers X-User\n}\n{{larder}}\nreverse_proxy {{origin}}",
		"auth inside":     "route {\n{{larder}}\nforward_auth {{origin}} {\nuri /auth\ncopy_headers X-User\n}\nreverse_proxy {{origin}}\n}",
		"request_header":  "request_header X-User bob\nrequest_header -Cookie\n{{larder}}\nreverse_proxy {{origin}}",
		"named route":     "route {\n{{larder}}\nroute {\nvars color green\nheader X-Color {vars.color}\n}\nreverse_proxy {{origin}}\n}",
		"method override": "method GET\n{{larder}}\nreverse_proxy {{origin}}",
		"two of them":     "{{larder}}\nroute {\n{{larder}}\nreverse_proxy {{origin}}\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s := startSides(t, site, o)
			for _, path := range []string{"/old", "/page.html?a=1"} {
				s.same(t, probe{name: path, path: path, header: []string{"Cookie", "a=b", "X-Any", "x"}})
			}
		})
	}
}

func TestSameWithHeader(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Server", "origin/1")
		h.Set("Via", "1.0 fred")
		h.Set("X-Gone", "x")
		h.Set("X-Inside", "x")
		h["X-Many"] = []string{"1", "2", "2"}
		h.Set("Etag", `"v1"`)
		h.Set("Link", "</a>; rel=preload")
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "body")
	})
	for name, site := range map[string]string{
		"bare": "{{larder}}\nreverse_proxy {{origin}}",
		"before": `header {
			X-Outer outer
			-Server
			-X-Gone
			>X-Deferred deferred
			+X-Many 3
			?X-Default default
			X-Inside in outside
		}
		{{larder}}
		reverse_proxy {{origin}}`,
		"after": `route {
			header X-Outer outer
			header Link </outer>
			{{larder}}
			header -Server
			header -Link
			header {
				X-Inner inner
				-X-Gone
				-X-Outer
				>X-Deferred deferred
				+X-Many 3
				?X-Default default
			}
			reverse_proxy {{origin}} {
				header_down -Via
				header_down X-Down down
			}
		}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := startSides(t, site, o)
			s.same(t, probe{name: "GET", path: "/", hit: true})
			s.same(t, probe{name: "304", path: "/", header: []string{"If-None-Match", `"v1"`}, hit: true})
			s.same(t, probe{name: "range", path: "/?cold", hit: true})
			s.same(t, probe{name: "HEAD", path: "/?cold2", method: http.MethodHead})
		})
	}
}

// What an outer handler wrote for one client must not come to another.
func TestOuterHeaderIsEachClientsOwn(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, setup{site: "header X-Client {http.request.header.X-Client}\nlarder\nreverse_proxy {{origin}}"}, o)
	for _, client := range []string{"a", "b", "c"} {
		a := in.get("/", "X-Client", client)
		a.want(t, 200, "1", "")
		if got := a.Header["X-Client"]; len(got) != 1 || got[0] != client {
			t.Errorf("client %s got X-Client %q", client, got)
		}
	}
}

func TestSameWithRewrites(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprintf(w, "%s %s orig=%s re=%s color=%s", r.Host, r.URL, r.Header.Get("X-Orig"), r.Header.Get("X-Re"), r.Header.Get("X-Color"))
	})
	proxy := `reverse_proxy {{origin}} {
		header_up X-Orig {http.request.orig_uri}
		header_up X-Re {re.v.1}
		header_up X-Color {vars.color}
	}`
	for name, tc := range map[string]struct {
		site  string
		paths []string
	}{
		"rewrite before":   {"rewrite /app* /index.php?{query}&p={path}\n{{larder}}\n" + proxy, []string{"/app/x?a=1", "/app/y?a=1", "/z"}},
		"rewrite after":    {"route {\n{{larder}}\nrewrite /app* /index.php?{query}&p={path}\n" + proxy + "\n}", []string{"/app/x?a=1", "/app/y?a=1", "/z"}},
		"strip_prefix":     {"uri strip_prefix /api\n{{larder}}\n" + proxy, []string{"/api/x", "/x"}},
		"strip after":      {"route {\n{{larder}}\nuri strip_prefix /api\n" + proxy + "\n}", []string{"/api/x", "/x"}},
		"handle_path":      {"{{larder}}\nhandle_path /a/* {\n" + proxy + "\n}\nhandle_path /b/* {\nrewrite * /b{path}\n" + proxy + "\n}", []string{"/a/x", "/b/x", "/c/x"}},
		"inner directives": {"handle_path /a/* {\nvars color red\n{{larder}}\n" + proxy + "\n}\nhandle_path /b/* {\nvars color blue\n{{larder}}\n" + proxy + "\n}", []string{"/a/x", "/b/x", "/a/x"}},
		"capture":          {"@v path_regexp v ^/v/(.+)$\nhandle @v {\nrewrite * /at/{re.v.1}\n{{larder}}\n" + proxy + "\n}", []string{"/v/1", "/v/2"}},
		"capture inside":   {"@v path_regexp v ^/v/(.+)$\nroute {\n{{larder}}\nhandle @v {\nrewrite * /at/{re.v.1}\n" + proxy + "\n}\n}", []string{"/v/1", "/v/2"}},
		"vars outside":     {"vars color red\n{{larder}}\n" + proxy, []string{"/"}},
		"vars inside":      {"vars color red\nroute {\n{{larder}}\nvars color blue\n" + proxy + "\n}", []string{"/"}},
		"map":              {"map {path} {color} {\n/red crimson\ndefault none\n}\nvars color {color}\n{{larder}}\n" + proxy, []string{"/red", "/other"}},
		"try_files":        {"try_files /nothing /index.php{path}\n{{larder}}\n" + proxy, []string{"/x", "/y"}},
		"escaped path":     {"{{larder}}\n" + proxy, []string{"/a%2Fb", "/a/b", "/a//b", "/%7Ea", "/~a", "/a?x=%20", "/a?x=+", "/a?", "/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSides(t, tc.site, o)
			for _, path := range tc.paths {
				s.same(t, probe{name: path, path: path})
			}
		})
	}
}

// Of sibling handle blocks one runs, whether Larder stands around them or inside them.
func TestSameWithSiblingHandles(t *testing.T) {
	for name, site := range map[string]string{
		"inside":     "header Cache-Control max-age=60\nroute {\n{{larder}}\nhandle /a* {\nrespond A\n}\nhandle {\nrespond B\n}\n}",
		"outside":    "header Cache-Control max-age=60\nhandle /a* {\n{{larder}}\nroute {\nheader X-Which a\n}\nrespond A\n}\nhandle {\n{{larder}}\nheader X-Which b\nrespond B\n}",
		"fall thru":  "header Cache-Control max-age=60\nroute {\nhandle /a* {\n{{larder}}\nheader X-Which a\n}\nhandle {\n{{larder}}\nheader X-Which none\n}\nrespond end\n}",
		"both sides": "header Cache-Control max-age=60\nroute {\nhandle /a* {\nvars x 1\n}\n{{larder}}\nhandle /b* {\nheader X-First ran\n}\nhandle {\nheader X-Second ran\n}\nrespond end\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s := startSides(t, site, nil)
			for _, path := range []string{"/a", "/a2", "/b"} {
				s.same(t, probe{name: path, path: path, hit: true})
			}
		})
	}
}

// secretHash is "secret" at bcrypt's lowest cost.
const secretHash = "$2a$04$yCPNXCnEvPZI/mRwLoBh/ei.vNS1tDSD7WKUGYIxRxptF76q1UTmO"

func TestHitsAreBehindAuthentication(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "public, max-age=60"))
	in := start(t, setup{site: "basic_auth {\nann " + secretHash + "\n}\nlarder {\nstatus full\n}\nreverse_proxy {{origin}}"}, o)
	in.get("/").want(t, 401, "", "")
	auth := []string{"Authorization", "Basic YW5uOnNlY3JldA=="}
	in.get("/", auth...).want(t, 200, "1", "")
	hit := in.get("/", auth...)
	hit.want(t, 200, "1", "")
	if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("an explicitly public response: %q", hit.cacheStatus())
	}
	denied := in.get("/")
	denied.want(t, 401, "", "")
	if denied.body == "1" {
		t.Error("the stored body came without authentication")
	}
	in.get("/", "Authorization", "Basic YW5uOndyb25n").want(t, 401, "", "")
}

func TestAuthorisedResponseIsNotStored(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, setup{site: "basic_auth {\nann " + secretHash + "\n}\nlarder {\nstatus full\n}\nreverse_proxy {{origin}}"}, o)
	for _, want := range []string{"1", "2", "3"} {
		a := in.get("/", "Authorization", "Basic YW5uOnNlY3JldA==")
		a.want(t, 200, want, "")
		if !strings.HasSuffix(a.cacheStatus(), "detail=authorization") {
			t.Errorf("Cache-Status %q", a.cacheStatus())
		}
	}
}

// accessLog is a JSON log in a file that a test can read.
type accessLog struct{ file string }

func newAccessLog(t *testing.T) accessLog {
	return accessLog{filepath.Join(t.TempDir(), "access.log")}
}

func (l accessLog) directive() string {
	return "log {\noutput file " + l.file + "\nformat json\n}\n"
}

// entry waits for the access-log line of the first request for uri.
func (l accessLog) entry(t *testing.T, method, uri string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "a log line of "+uri, func() bool {
		text, err := os.ReadFile(l.file)
		if err != nil {
			return false
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) != nil {
				continue
			}
			if request, ok := fields["request"].(map[string]any); ok && request["uri"] == uri && request["method"] == method {
				found = fields
				return true
			}
		}
		return false
	})
	return found
}

func TestAccessLog(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, r.Header.Get("X-Id"))
	})
	log := newAccessLog(t)
	in := start(t, setup{site: log.directive() + `
	log_append upstream {http.reverse_proxy.upstream.hostport}
	log_append color {vars.color}
	route {
		larder
		vars color blue
		log_append inner {http.request.uri.path}
		reverse_proxy {{origin}} {
			header_up X-Id {http.request.uuid}
		}
	}`}, o)
	upstream := strings.TrimPrefix(o.URL, "http://")
	for _, tc := range []struct{ uri, status, reason string }{
		{"/?cc=max-age%3D60", "miss", ""},
		{"/?cc=no-store", "miss", "no-store"},
		{"/?cc=no-store&again", "miss", "no-store"},
	} {
		a := in.get(tc.uri)
		got := log.entry(t, http.MethodGet, tc.uri)
		for field, want := range map[string]string{
			"larder_status": tc.status, "upstream": upstream, "color": "blue", "inner": "/", "uuid": a.body, "larder_reason": tc.reason,
		} {
			if value, _ := got[field].(string); value != want {
				t.Errorf("%s: access log has %s=%q, want %q", tc.uri, field, value, want)
			}
		}
		if a.body == "" {
			t.Errorf("%s: the origin saw no UUID", tc.uri)
		}
	}
	in.do(http.MethodPost, "/?post", "")
	in.do(http.MethodHead, "/?cc=max-age%3D60", "")
	for _, tc := range []struct {
		method, uri    string
		status, reason any
	}{
		{http.MethodPost, "/?post", "bypass", "method"},
		{http.MethodHead, "/?cc=max-age%3D60", "hit", nil},
	} {
		got := log.entry(t, tc.method, tc.uri)
		if got["larder_status"] != tc.status || got["larder_reason"] != tc.reason {
			t.Errorf("%s %s: access log has %v, %v, want %v, %v", tc.method, tc.uri, got["larder_status"], got["larder_reason"], tc.status, tc.reason)
		}
	}
}

// TestHandlersThatFailAreNoted has a request that ends in an error counted and logged, and its error route told, as any other.
func TestHandlersThatFailAreNoted(t *testing.T) {
	log := newAccessLog(t)
	in := start(t, setup{site: log.directive() + `
	larder
	root * ` + t.TempDir() + `
	file_server
	handle_errors {
		respond "{http.larder.status} {http.larder.reason}"
	}`}, nil)
	for range 2 { // the second finds the URL remembered as not shareable
		before := in.metric("caddy_larder_requests_total", `outcome="miss"`)
		in.get("/nothing").want(t, 404, "miss error", "")
		if after := in.metric("caddy_larder_requests_total", `outcome="miss"`); after != before+1 {
			t.Errorf("misses went from %v to %v", before, after)
		}
	}
	if got := log.entry(t, http.MethodGet, "/nothing"); got["larder_status"] != "miss" || got["larder_reason"] != "error" {
		t.Errorf("access log has %v, %v", got["larder_status"], got["larder_reason"])
	}
}

func TestStatusPlaceholderInADeferredHeader(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, "body")
	})
	in := start(t, setup{site: `header >X-Larder "{http.larder.status} {http.larder.reason}"` + "\nlarder\nreverse_proxy {{origin}}"}, o)
	for _, tc := range []struct{ method, path, want string }{
		{"GET", "/?cc=max-age%3D60", "miss "},
		{"GET", "/?cc=max-age%3D60", "hit "},
		{"GET", "/?cc=no-store", "miss no-store"},
		{"GET", "/?cc=no-store", "miss no-store"},
		{"POST", "/", "bypass method"},
	} {
		a := in.do(tc.method, tc.path, "")
		if got := a.Header.Get("X-Larder"); strings.TrimSpace(got) != strings.TrimSpace(tc.want) {
			t.Errorf("%s %s: %q, want %q", tc.method, tc.path, got, tc.want)
		}
	}
}

// What inner handlers have set by the response header is there for outer handlers that write into it. A hit has no inner handlers, so this
// is about misses, stored or not.
func TestOuterHeaderFromInnerPlaceholders(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, r.Header.Get("X-Id"))
	})
	s := startSides(t, `header {
		>X-Upstream {http.reverse_proxy.upstream.hostport}
		>X-Color {vars.color}
		>X-Id {http.request.uuid}
	}
	route {
		{{larder}}
		vars color blue
		reverse_proxy {{origin}} {
			header_up X-Id {http.request.uuid}
		}
	}`, o)
	for _, path := range []string{"/?cc=max-age%3D60", "/?cc=no-store", "/?cc=no-store"} {
		for side, in := range map[string]*instance{"with": s.with, "without": s.without} {
			a := in.get(path)
			want := []string{strings.TrimPrefix(o.URL, "http://"), "blue", a.body}
			if got := []string{a.Header.Get("X-Upstream"), a.Header.Get("X-Color"), a.Header.Get("X-Id")}; !slices.Equal(got, want) || a.body == "" {
				t.Errorf("%s, %s: %q, want %q", path, side, got, want)
			}
		}
	}
}

// Those who share a fetch see what they would see alone.
func TestSameForFollowers(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, _ *visit) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Server", "origin/1")
		h.Set("Via", "1.0 fred")
		h.Set("Etag", `"v1"`)
		h.Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		h.Set("X-Sum", "42")
	})
	s := startSides(t, "header X-Outer {http.request.header.X-Client}\n{{larder}}\nreverse_proxy {{origin}}", g.origin)
	client := func(int) []string { return []string{"X-Client", "c", "Host", "localhost"} }
	alone := gather(t, s.without, 1, http.MethodGet, "/", client)
	open(g.next(t, 1)...)
	want := alone.all()[0]
	c := gather(t, s.with, 5, http.MethodGet, "/", client)
	parked(t, 5)
	open(g.next(t, 1)...)
	for i, a := range c.all() {
		differences(t, fmt.Sprint("client ", i), want, a)
	}
	settled(t, s.with)
}

func TestSameTrailers(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		if r.URL.Path == "/announced" {
			w.Header().Set("Trailer", "X-Sum, X-Never")
		}
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/announced" {
			w.Header().Set("X-Sum", "42")
			return
		}
		w.Header().Set(http.TrailerPrefix+"X-Sum", "43")
	})
	s := startSides(t, "{{larder}}\nreverse_proxy {{origin}}", o)
	for _, path := range []string{"/announced", "/unannounced"} {
		s.same(t, probe{name: path + " not stored", path: path + "?cc=no-store"})
		for name, want := range map[string]*answer{"without": s.without.get(path + "?cc=max-age%3D60"), "miss": s.with.get(path + "?cc=max-age%3D60"), "hit": s.with.get(path + "?cc=max-age%3D60")} {
			if want.Trailer.Get("X-Sum") == "" {
				t.Errorf("%s, %s: no trailer: %v", path, name, want.Trailer)
			}
		}
		s.same(t, probe{name: path, path: path + "?cc=max-age%3D60", hit: true})
	}
}

func TestEarlyHintsArePassedOnAtOnce(t *testing.T) {
	for name, directive := range map[string]string{"stored": "max-age=60", "not stored": "no-store"} {
		t.Run(name, func(t *testing.T) {
			seen := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				select {
				case <-seen:
				case <-r.Context().Done():
					return
				}
				w.Header().Del("Link")
				w.Header().Set("Cache-Control", directive)
				_, _ = io.WriteString(w, "body")
			})
			in := start(t, proxied("larder"), o)
			var hints []string
			var once sync.Once
			trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, " ", header.Get("Link")))
				once.Do(func() { close(seen) })
				return nil
			}}
			ctx := httptrace.WithClientTrace(t.Context(), trace)
			first, err := in.try(ctx, http.MethodGet, "/", "")
			if err != nil {
				t.Fatal(err)
			}
			first.want(t, 200, "body", "")
			if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload" {
				t.Errorf("informational responses: %q", hints)
			}
			if link := first.Header.Get("Link"); link != "" {
				t.Errorf("the final response has the hint's Link: %s", link)
			}
			hints = nil
			second, err := in.try(ctx, http.MethodGet, "/", "")
			if err != nil {
				t.Fatal(err)
			}
			second.want(t, 200, "body", "")
			if strings.HasPrefix(second.cacheStatus(), "Larder; hit") && len(hints) != 0 {
				t.Errorf("a hit came with %q", hints)
			}
		})
	}
}

func TestUpgradeIsUntouched(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nSurrogate-Key: secret\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(conn, rw)
	})
	in := start(t, proxied("larder"), o)
	c := in.dial()
	c.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	resp := c.response(http.MethodGet)
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "echo" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	if got := resp.Header.Get("Cache-Status"); got != "Larder; fwd=bypass; detail=upgrade" {
		t.Errorf("Cache-Status %q", got)
	}
	if got := resp.Header.Get("Surrogate-Key"); got != "" {
		t.Errorf("Surrogate-Key %q", got)
	}
	for _, word := range []string{"hello\n", "again\n"} {
		c.send(word)
		if got, err := c.r.ReadString('\n'); err != nil || got != word {
			t.Fatalf("echo %q, %v", got, err)
		}
	}
}

// connection is a client that speaks HTTP by hand.
type connection struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (in *instance) dial() *connection {
	in.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("localhost:%d", in.port))
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &connection{Conn: conn, t: in.t, r: bufio.NewReader(conn)}
}

func (c *connection) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// response reads a response's header; its body is the caller's.
func (c *connection) response(method string) *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// Every event of a stream arrives before the origin sends the next. The origin waits for the client to say so.
func TestStreamsArriveEventByEvent(t *testing.T) {
	const events = 5
	for name, tc := range map[string]struct {
		directive string
		response  []string // header
		request   []string
	}{
		"SSE":                          {"larder", []string{"Content-Type", "text/event-stream"}, []string{"Accept", "text/event-stream"}},
		"SSE, no Accept":               {"larder", []string{"Content-Type", "text/event-stream"}, nil},
		"SSE, no-cache":                {"larder", []string{"Content-Type", "text/event-stream", "Cache-Control", "no-cache"}, nil},
		"SSE under ttl":                {"larder {\nttl 5m\n}", []string{"Content-Type", "text/event-stream; charset=utf-8"}, nil},
		"JSON lines, stored":           {"larder", []string{"Content-Type", "application/x-ndjson", "Cache-Control", "max-age=60"}, nil},
		"Incremental, not stored":      {"larder", []string{"Incremental", "?1", "Cache-Control", "no-store"}, nil},
		"X-Accel-Buffering":            {"larder", []string{"X-Accel-Buffering", "no", "Cache-Control", "no-store"}, nil},
		"Incremental, stored":          {"larder", []string{"Incremental", "?1", "Cache-Control", "max-age=60"}, nil},
		"SSE with coalescing disabled": {"larder {\ncoalesce off\n}", []string{"Content-Type", "text/event-stream"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{})
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				for i := 0; i < len(tc.response); i += 2 {
					w.Header().Set(tc.response[i], tc.response[i+1])
				}
				for i := range events {
					_, _ = fmt.Fprintf(w, "data: %d\n", i)
					_ = http.NewResponseController(w).Flush()
					select {
					case <-arrived:
					case <-r.Context().Done():
						return
					}
				}
			})
			// Without flush_interval reverse_proxy itself would buffer what is not text/event-stream.
			in := start(t, setup{site: tc.directive + "\nreverse_proxy {{origin}} {\nflush_interval -1\n}"}, o)
			for range 2 {
				if readEvents(t, in, tc.request, events, arrived); t.Failed() {
					return
				}
				if o.count() == 1 && slices.Contains(tc.response, "max-age=60") {
					return // the second would be a hit
				}
			}
		})
	}
}

func readEvents(t *testing.T, in *instance, header []string, n int, arrived chan<- struct{}) {
	t.Helper()
	resp := in.open(t.Context(), "/events", header...)
	defer resp.Body.Close()
	r := bufio.NewReader(resp.Body)
	for i := range n {
		line, err := r.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
			t.Errorf("event %q, %v, want %q", line, err, want)
			return
		}
		arrived <- struct{}{}
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("behind the last event: %q, %v", rest, err)
	}
}

// open sends a GET and returns the response with its body unread.
func (in *instance) open(ctx context.Context, path string, header ...string) *http.Response {
	in.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, in.url(path), nil)
	if err != nil {
		in.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := in.client.Do(r)
	if err != nil {
		in.t.Fatalf("GET %s: %v", path, err)
	}
	return resp
}

// Where writes are to be passed on at once, that holds without reverse_proxy's flush_interval as well.
func TestIncrementalIsFlushedAtEveryWrite(t *testing.T) {
	for name, header := range map[string][]string{
		"Incremental":       {"Incremental", "?1"},
		"X-Accel-Buffering": {"X-Accel-Buffering", "no"},
	} {
		for _, directive := range []string{"no-store", "max-age=60"} {
			t.Run(name+" "+directive, func(t *testing.T) {
				arrived := make(chan struct{})
				o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set(header[0], header[1])
					w.Header().Set("Cache-Control", directive)
					for i := range 3 {
						_, _ = fmt.Fprintf(w, "data: %d\n", i)
						_ = http.NewResponseController(w).Flush()
						select {
						case <-arrived:
						case <-r.Context().Done():
							return
						}
					}
				})
				in := start(t, proxied("larder"), o)
				readEvents(t, in, nil, 3, arrived)
			})
		}
	}
}

func TestHTTP2(t *testing.T) {
	started, release := make(chan struct{}, 10), make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.URL.Path == "/slow" {
			_, _ = io.WriteString(w, "first ")
			_ = http.NewResponseController(w).Flush()
			started <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "body")
	})
	s := proxied("larder")
	s.global = "servers {\nprotocols h1 h2c\n}"
	in := start(t, s, o)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	in.client.Transport = transport

	first := in.get("/")
	first.want(t, 200, "body", "Larder; fwd=uri-miss; stored")
	if first.ProtoMajor != 2 {
		t.Fatalf("spoken is %s", first.Proto)
	}
	if hit := in.get("/"); !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
		t.Errorf("over HTTP/2: %q", hit.cacheStatus())
	}

	// A client that resets its stream ends nothing: not the fetch, not the connection.
	ctx, reset := context.WithCancel(t.Context())
	resp := in.open(ctx, "/slow")
	<-started
	reset()
	_ = resp.Body.Close()
	close(release)
	in.get("/slow").want(t, 200, "first body", "")
	o.asked(t, 2)
}

func TestHTTP10(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "one ")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "two")
	})
	in := start(t, proxied("larder"), o)
	for i := range 2 {
		c := in.dial()
		c.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
		resp := c.response(http.MethodGet)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "one two" || len(resp.TransferEncoding) > 0 {
			t.Errorf("answer %d: %q, %v, Transfer-Encoding %q", i, body, err, resp.TransferEncoding)
		}
	}
	o.asked(t, 1)
}

func TestBypasses(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "1", "")
	for _, tc := range []struct {
		name, method, body, detail string
		header                     []string
	}{
		{"Connection names a field", "GET", "", "connection", []string{"Connection", "close, X-Foo"}},
		{"Connection names Authorization", "GET", "", "connection", []string{"Connection", "Authorization"}},
		{"a body on GET", "GET", "x=1", "body", nil},
		{"a body on HEAD", "HEAD", "x=1", "body", nil},
		{"POST", "POST", "x=1", "method", nil},
		{"OPTIONS", "OPTIONS", "", "method", nil},
	} {
		a := in.do(tc.method, "/other", tc.body, tc.header...)
		a.want(t, 200, "", "Larder; fwd=bypass; detail="+tc.detail)
	}
	for _, value := range []string{"close", "keep-alive", "TE", "close, te", ""} {
		a := in.get("/", "Connection", value)
		if !strings.HasPrefix(a.cacheStatus(), "Larder; hit") {
			t.Errorf("Connection: %s: %q", value, a.cacheStatus())
		}
	}
}

func TestLoops(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.get("/a", "CDN-Loop", "other; v=1").want(t, 200, "1", "")
	if got := o.last().Header["Cdn-Loop"]; strings.Join(got, ", ") != "other; v=1, larder" {
		t.Errorf("CDN-Loop forwarded as %q", got)
	}
	in.get("/a", "CDN-Loop", strings.TrimSuffix(strings.Repeat("larder, ", 9), ", ")).want(t, 200, "1", "") // a hit: not in the key
	in.get("/b", "CDN-Loop", strings.TrimSuffix(strings.Repeat("larder, ", 9), ", ")).want(t, 200, "2", "")
	in.get("/b", "CDN-Loop", strings.TrimSuffix(strings.Repeat("larder, ", 10), ", ")).want(t, 508, "", "")
	in.do("POST", "/b", "", "CDN-Loop", strings.TrimSuffix(strings.Repeat("larder;x=y, ", 10), ", ")).want(t, 508, "", "")
	in.do("POST", "/b", "").want(t, 200, "3", "")
	if got := o.last().Header.Get("Cdn-Loop"); got != "larder" {
		t.Errorf("CDN-Loop of a bypass forwarded as %q", got)
	}
}

// A site that points at itself ends with 508 instead of eating the machine.
func TestLoopEnds(t *testing.T) {
	in := start(t, setup{site: "larder\nreverse_proxy localhost:{http.request.local.port}"}, nil)
	in.get("/").want(t, 508, "", "")
}

func TestHostSpellings(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	port, second := freePort(t), freePort(t)
	in := start(t, setup{
		site: "respond unused",
		more: fmt.Sprintf("http://:%d, http://:%d {\nlarder\nreverse_proxy {{origin}}\n}", port, second),
	}, o)
	in.port = port
	for _, host := range []string{"example.com", "EXAMPLE.com", "example.com:80", "example.com.", "Example.Com.:80"} {
		in.get("/", "Host", host).want(t, 200, "1", "")
	}
	for i, host := range []string{"example.com:8080", "example.org", "www.example.com"} {
		in.get("/", "Host", host).want(t, 200, fmt.Sprint(i+2), "Larder; fwd=uri-miss; stored")
	}
	// Host is the client's word: what came in by another port is another site's.
	in.port = second
	in.get("/", "Host", "example.com").want(t, 200, "5", "Larder; fwd=uri-miss; stored")
}

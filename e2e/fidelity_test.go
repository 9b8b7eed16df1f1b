package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// With and without Larder a client sees the same. Each case here runs the same site twice, side by
// side: once with the directive and once with nothing in its place.

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

// differences reports what a client would see differently with Larder. Age and Cache-Status are
// Larder's to add; a stored body's length is known even where the origin did not say it, and
// net/http adds the length of a short body that came in one piece.
func differences(t *testing.T, name string, want, got *answer) {
	t.Helper()
	if (want.err == nil) != (got.err == nil) {
		t.Errorf("%s: reading the body: %v, without Larder %v", name, got.err, want.err)
	}
	if got.StatusCode != want.StatusCode || got.body != want.body {
		t.Errorf("%s: %d %.80q, without Larder %d %.80q", name, got.StatusCode, got.body, want.StatusCode, want.body)
	}
	a, b := headerToCompare(want.Header), headerToCompare(got.Header)
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

func headerToCompare(h http.Header) http.Header {
	h = h.Clone()
	h.Del("Age")
	h.Del("Cache-Status")
	for i := range h["Date"] {
		h["Date"][i] = "some time" // copy_response answers with two
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

// longPage answers with longText and a field more, or that it has not changed.
func longPage(field, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set(field, value)
		_, _ = io.WriteString(w, longText)
	}
}

func TestSameWithEncode(t *testing.T) {
	// With a length reverse_proxy does not flush, which would show in the coded bytes.
	o := newOrigin(t, longPage("Content-Length", fmt.Sprint(len(longText))))
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
	// encode itself answers 304 with the origin's ETag, and knows neither weak ones nor lists; from
	// the store they are right.
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

// A coded variant that went stale is validated by the ETag its origin knows, and its clients keep
// the one they know.
func TestEncodedVariantIsRevalidated(t *testing.T) {
	o := newOrigin(t, longPage("Age", "100"))
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

// Templates take {file.*} away from what a client may write into a page. That of a fetch must not
// get it back from the replacer behind its own, nor outer templates from that of the fetch.
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

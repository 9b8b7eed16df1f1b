package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// C8: an error that one request causes is no other's answer, and takes no answer away from
// others.
func TestErrorsThatARequestCauses(t *testing.T) {
	status := func(r *http.Request) int {
		var n int
		_, _ = fmt.Sscan(r.Header.Get("X-Provoke"), &n)
		return n
	}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if n := status(r); n > 0 {
			w.WriteHeader(n)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		_, _ = io.WriteString(w, "the page")
	})
	in := start(t, proxied("larder {\nttl 1h\n}"), o)
	for _, n := range []int{400, 401, 403, 405, 406, 408, 411, 413, 414, 415, 421, 429, 431, 500, 501, 502, 503, 504, 505} {
		path := fmt.Sprintf("/%d", n)
		in.get(path, "X-Provoke", fmt.Sprint(n)).want(t, n, "", "")
		in.get(path).want(t, 200, "the page", "")
		in.get(path).want(t, 200, "the page", "")
		if a := in.get(path); !a.isHit() {
			t.Errorf("%d keeps the page out of the store: %q", n, a.cacheStatus())
		}
		in.get(path, "X-Provoke", fmt.Sprint(n), "Cache-Control", "no-cache").want(t, n, "", "")
		if a := in.get(path); !a.isHit() {
			t.Errorf("%d drops what was stored: %q", n, a.cacheStatus())
		}
	}
}

// C8 with header fields that servers refuse: too large, and with bytes that none should have.
func TestHeadersThatServersRefuse(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for name, values := range r.Header {
			if len(values[0]) > 8000 || strings.ContainsAny(values[0], "\a\x7f") {
				w.Header().Del("Cache-Control")
				w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
				_, _ = io.WriteString(w, name)
				return
			}
		}
		_, _ = io.WriteString(w, "the page")
	})
	in := start(t, proxied("larder"), o)
	for i, line := range []string{
		"X-Oversized: " + strings.Repeat("x", 20_000), "X-Oversized: " + strings.Repeat("x", 2_000_000),
		"X-Meta: a\ab", "X-Meta: a\x7fb", "X-Meta: a\x00b", "X-Meta: a\rb", "X Meta: b", "X-Meta\t: b", ": b",
	} {
		path := fmt.Sprintf("/%d", i)
		if a := in.rawGet(path, line); a.StatusCode == http.StatusOK {
			t.Logf("%.20q is let through", line)
		}
		in.get(path).want(t, 200, "the page", "")
		in.get(path).want(t, 200, "the page", "")
		if a := in.get(path); !a.isHit() {
			t.Errorf("%.20q: %q", line, a.cacheStatus())
		}
	}
}

// C8: an origin that stamps a lifetime on everything, its errors included, is taken at its word.
// SECURITY.md's example takes it back.
func TestErrorsThatTheOriginCallsFresh(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		if r.Header.Get("X-Odd") != "" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	for _, tc := range []struct {
		name, site string
		then       int
	}{
		{"by default", "larder\nreverse_proxy {{origin}}", 400},
		{"taken back", "route {\nlarder\nheader {\nmatch status 4xx 5xx\nCache-Control no-store\ndefer\n}\nreverse_proxy {{origin}}\n}", 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := start(t, setup{site: tc.site}, o)
			in.get("/", "X-Odd", "1").want(t, 400, "", "")
			in.get("/").want(t, tc.then, "", "")
		})
	}
}

// C12: a handler that writes what the client sent into a field. What would end a line is not
// stored, and reaches no client as a line of its own.
func TestResponseSplitting(t *testing.T) {
	in := start(t, setup{site: `route {
		larder
		header Cache-Control max-age=60
		header X-Echo {query.x}
		respond "the page"
	}`}, nil)
	for _, x := range []string{"a%0d%0aSet-Cookie:%20" + marker + "=1", "a%0aX-Injected:%20" + marker, "a%0dX-Injected:%20" + marker} {
		for range 2 {
			a := in.rawGet("/?x=" + x)
			if a.StatusCode != http.StatusOK || a.Header.Get("Set-Cookie") != "" || a.Header.Get("X-Injected") != "" || a.isHit() {
				t.Errorf("%s: %d %v", x, a.StatusCode, a.Header)
			}
		}
	}
	in.unread("/?x=a%00b")
	if n := in.stats().Memory.Entries; n != 0 {
		t.Errorf("%d entries, want none", n)
	}
	in.get("/?x=plain").want(t, 200, "the page", "Larder; fwd=uri-miss; stored")
	if a := in.get("/?x=plain"); !a.isHit() || a.Header.Get("X-Echo") != "plain" {
		t.Errorf("an ordinary value: %q %q", a.cacheStatus(), a.Header.Get("X-Echo"))
	}
}

// C12: an upstream that frames its answer in two ways, or breaks off, leaves nothing in the store
// but what all parsers agree on.
func TestDamagedUpstreamAnswers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\nCache-Control: max-age=60\n"
	smuggled := "HTTP/1.1 200 OK\nContent-Length: 8\n\nsmuggled"
	// Without keep-alive: net/http may give the bytes behind an answer to the next request on the
	// connection, with or without a cache.
	fresh := setup{site: "larder\nreverse_proxy {{origin}} {\ntransport http {\nkeepalive off\n}\n}"}
	in := start(t, fresh, rawOrigin(t, map[string]string{
		"/both":     head + "Content-Length: 4\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n" + smuggled,
		"/two":      head + "Content-Length: 5\nContent-Length: 6\n\nhello!" + smuggled,
		"/negative": head + "Content-Length: -1\n\nhello",
		"/list":     head + "Content-Length: 5, 6\n\nhello!",
		"/unknown":  head + "Transfer-Encoding: evil\n\nhello",
		"/short":    head + "Content-Length: 50\n\nhello",
		"/chunk":    head + "Transfer-Encoding: chunked\n\n5\nhello\n50\nhel",
		"/nul":      head + "X-A: b\x00c\nContent-Length: 5\n\nhello",
		"/name":     head + "X A: b\nContent-Length: 5\n\nhello",
		"/more":     head + "Content-Length: 5\n\nhello" + smuggled,
	}))
	for _, path := range []string{"/two", "/negative", "/list", "/unknown", "/short", "/chunk", "/nul"} {
		for range 2 {
			a, err := in.try(t.Context(), "GET", path, "")
			if err == nil && a.err == nil && a.StatusCode == http.StatusOK || err == nil && a.isHit() {
				t.Errorf("%s: %d %q (%s)", path, a.StatusCode, a.body, a.cacheStatus())
			}
		}
	}
	// Net/http reads one body of it, drops the length, and closes the connection.
	for _, path := range []string{"/both", "/more"} {
		for range 2 {
			in.get(path).want(t, 200, "hello", "")
		}
	}
	for range 2 { // net/http passes a name with a space on; it is not stored
		if a := in.get("/name"); a.isHit() {
			t.Errorf("/name: %q", a.cacheStatus())
		}
	}
	var stored struct {
		Entries []struct{ URL string }
	}
	in.adminCall(http.MethodGet, "/larder/entries", "", &stored)
	for _, e := range stored.Entries {
		if e.URL != in.url("/both") && e.URL != in.url("/more") {
			t.Errorf("%s is stored", e.URL)
		}
	}
}

// C17: fields that carry tags stay inside, whatever becomes of the response. Cache-Groups are
// public.
func TestTagHeadersStayInside(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for _, name := range []string{"Surrogate-Key", "Cache-Tag", "xkey", "Edge-Cache-Tag"} {
			h.Set(name, marker)
		}
		h.Set("Cache-Groups", `"public"`)
		h.Set("Etag", `"v1"`)
		switch {
		case r.URL.Path == "/private":
			h.Set("Cache-Control", "private")
		case r.URL.Path == "/error":
			w.WriteHeader(http.StatusBadGateway)
		case r.Header.Get("If-None-Match") != "":
			w.WriteHeader(http.StatusNotModified)
		default:
			h.Set("Cache-Control", "max-age=60")
		}
	})
	in := start(t, proxied("larder {\ntags {\nfrom Surrogate-Key Cache-Tag xkey Edge-Cache-Tag\n}\n}"), o)
	for _, tc := range []struct {
		name, method, path string
		header             []string
	}{
		{"miss", "GET", "/", nil},
		{"hit", "GET", "/", nil},
		{"HEAD", "HEAD", "/", nil},
		{"cold HEAD", "HEAD", "/head", nil},
		{"not modified", "GET", "/", []string{"If-None-Match", `"v1"`}},
		{"revalidated", "GET", "/", []string{"Cache-Control", "no-cache"}},
		{"not stored", "GET", "/private", nil},
		{"remembered as not shareable", "GET", "/private", nil},
		{"error", "GET", "/error", nil},
		{"bypass", "POST", "/", nil},
		{"override", "GET", "/", []string{"X-Original-Url", "/"}},
	} {
		a := in.do(tc.method, tc.path, "", tc.header...)
		a.clean(t)
		if a.Header.Get("Cache-Groups") != `"public"` {
			t.Errorf("%s: Cache-Groups %q", tc.name, a.Header.Get("Cache-Groups"))
		}
	}
}

// C18: what an attacker makes the origin say of tags and groups is bounded, and invalidates
// nothing.
func TestTagInjection(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Cache-Groups", `"g"`)
		if tags := r.URL.Query().Get("tags"); tags != "" {
			h.Set("Surrogate-Key", tags)
		}
		if groups := r.URL.Query().Get("invalidate"); groups != "" {
			h.Set("Cache-Group-Invalidation", groups)
		}
	})
	in := start(t, proxied("larder"), o)
	in.get("/victim").want(t, 200, "", "Larder; fwd=uri-miss; stored")
	// A GET may not (RFC 9875 3).
	in.get("/?invalidate=%22g%22").want(t, 200, "", "")
	// Nor a client.
	in.do("POST", "/other", "", "Cache-Group-Invalidation", `"g"`).want(t, 200, "", "")
	in.do("POST", "/x?invalidate=%22g%22", "", "Host", "other.localhost").want(t, 200, "", "")
	if a := in.get("/victim"); !a.isHit() {
		t.Errorf("invalidated from outside: %q", a.cacheStatus())
	}
	many := strings.Repeat("t%20", 10) + strings.Repeat("x", 257) + "%20caf%C3%A9%20" + marker
	in.get("/?tags="+many).want(t, 200, "", "")
	for tag, want := range map[string]int{"t": 1, strings.Repeat("x", 257): 0, "café": 0, marker: 1, "": 0} {
		body := fmt.Sprintf(`{"tags":[%q],"dry_run":true}`, tag)
		var got struct{ Matched int }
		if in.adminCall("POST", "/larder/purge", body, &got); got.Matched != want {
			t.Errorf("tag %.20q matches %d, want %d", tag, got.Matched, want)
		}
	}
	// The origin itself may.
	if in.do("POST", "/x?invalidate=%22g%22", ""); in.get("/victim").isHit() {
		t.Error("an unsafe request of the same origin invalidates nothing")
	}
}

// C20: by default Cache-Status tells neither keys nor reasons; it can be turned off, and the cache
// be divided.
func TestCacheStatusAsAnOracle(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", strings.TrimPrefix(r.URL.Path, "/"))
	})
	t.Run("short", func(t *testing.T) {
		in := start(t, proxied("larder"), o)
		for _, path := range []string{"/max-age=60", "/private", "/no-store"} {
			for range 2 {
				if cs := in.get(path, "Cookie", marker, "Authorization", marker).cacheStatus(); strings.Contains(cs, "key=") || strings.Contains(cs, "detail=") {
					t.Errorf("%s: %q", path, cs)
				}
			}
		}
	})
	t.Run("off", func(t *testing.T) {
		in := start(t, proxied("larder {\nstatus off\n}"), o)
		in.get("/max-age=60")
		if a := in.get("/max-age=60"); a.cacheStatus() != "" {
			t.Errorf("%q", a.cacheStatus())
		}
	})
	t.Run("divided", func(t *testing.T) {
		in := start(t, proxied("larder {\nkey {\nadd {http.request.header.X-Tenant}\n}\n}"), o)
		in.get("/max-age=60", "X-Tenant", "a")
		if a := in.get("/max-age=60", "X-Tenant", "b"); a.isHit() {
			t.Error("one tenant sees what another has asked for")
		}
	})
}

// C21: a 304 that would make the stored body mean something else.
func TestDeceptiveNotModified(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = io.WriteString(z, "the page")
	_ = z.Close()
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			for name, value := range map[string]string{
				"Content-Length": "3", "Content-Encoding": "br", "Content-Range": "bytes 0-2/3", "Content-Digest": marker, "Set-Cookie": marker + "=1",
				"Connection": "X-Hop", "X-Now": "updated",
			} {
				h.Set(name, value)
			}
			if r.URL.Path == "/foreign" {
				h.Set("Etag", `"another"`)
			}
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	in := start(t, proxied("larder"), o)
	for _, path := range []string{"/own", "/foreign"} {
		in.get(path, "Accept-Encoding", "gzip").want(t, 200, packed.String(), "")
		in.get(path, "Accept-Encoding", "gzip", "Cache-Control", "no-cache").want(t, 200, packed.String(), "")
		hit := in.get(path, "Accept-Encoding", "gzip")
		hit.want(t, 200, packed.String(), "")
		hit.clean(t)
		now := "updated"
		if path == "/foreign" {
			now = "" // it spoke of another response (RFC 9111 4.3.4)
		}
		for name, want := range map[string]string{
			"Content-Length": fmt.Sprint(packed.Len()), "Content-Encoding": "gzip", "Content-Range": "", "Set-Cookie": "", "Etag": `"v1"`, "X-Now": now,
		} {
			if got := hit.Header.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", path, name, got, want)
			}
		}
		if !hit.isHit() {
			t.Errorf("%s: %q", path, hit.cacheStatus())
		}
	}
}

// C109: an origin answers a field with a 101 that was not asked for, of which the proxy writes
// nothing and the server makes an empty 200. The client gets that, and others their page.
func TestUnaskedSwitchingProtocols(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Odd") == "" {
			_, _ = io.WriteString(w, "the page")
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: upgrade\r\n\r\nhello")
	})
	in := start(t, proxied("larder {\nttl 60s\n}"), o)
	odd := func(path, cacheStatus string, header ...string) {
		t.Helper()
		in.get(path, append(header, "X-Odd", "1")...).want(t, 200, "", cacheStatus)
	}
	in.get("/").want(t, 200, "the page", "Larder; fwd=uri-miss; stored")
	odd("/", "Larder; fwd=request", "Cache-Control", "no-cache")
	odd("/", "Larder; fwd=bypass; detail=upgrade", "Connection", "upgrade", "Upgrade", "bar")
	odd("/cold", "Larder; fwd=uri-miss")
	in.get("/cold").want(t, 200, "the page", "")
	settled(t, in)
	for _, path := range []string{"/", "/cold"} {
		if a := in.get(path); a.body != "the page" || path == "/" && !a.isHit() {
			t.Errorf("%s: %q (%s)", path, a.body, a.cacheStatus())
		}
	}
}

// When a 304 speaks of another response the origin is asked again, with the request as it came: its
// body not read yet, its URL not rewritten, and no route taken.
func TestAskedAgainAsItCame(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the request: %v", err)
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Etag", `"another"`)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = fmt.Fprintf(w, "%s %s", r.URL.Path, body)
	})
	in := start(t, setup{site: `route {
		larder {
			methods GET HEAD QUERY
		}
		handle_path /a/* {
			header X-Path {http.request.uri.path}
			header >X-Asked {http.response.header.Etag}
			reverse_proxy {{origin}}
		}
		respond astray 404
	}`}, o)
	for _, validate := range []string{"", "no-cache"} {
		a := in.do("QUERY", "/a/x", "question", "Cache-Control", validate)
		a.want(t, 200, "/x question", "")
		if path, asked := a.Header.Get("X-Path"), a.Header.Get("X-Asked"); path != "/x" || asked != `"v1"` {
			t.Errorf("path %q, Etag %q; want /x and v1", path, asked)
		}
	}
	o.asked(t, 3) // once, to validate, and again
}

// C21f: reverse_proxy adds the origin's values to those that an outer handler has set for one
// client. What is shared is the addition: each client gets its own outer value before it, as
// without Larder, from the store, as a follower, after a 304 and after a restart.
func TestOuterValuesOfAFieldStayTheClientsOwn(t *testing.T) {
	g := newGate(t, func(w http.ResponseWriter, v *visit) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", `"e"`)
		w.Header().Set("Larder-Added", "X-A, Etag") // a field as any other
		w.Header()["X-A"] = []string{"orig", "inal"}
		if v.Header.Get("If-None-Match") != "" {
			w.Header()["X-A"] = []string{"renewed"}
			w.WriteHeader(http.StatusNotModified)
		}
	})
	s := proxied("header X-A {header.X-Me}\nheader X-Whole {header.X-Me}\nlarder")
	s.disk = t.TempDir()
	in := start(t, s, g.origin)
	me := func(i int) []string { return []string{"X-Me", fmt.Sprint("client-", i)} }
	want := func(what string, i int, a *answer, values ...string) {
		t.Helper()
		if got, values := a.Header["X-A"], append(me(i)[1:], values...); !slices.Equal(got, values) {
			t.Errorf("%s: X-A %q, want %q", what, got, values)
		}
	}
	all := gather(t, in, 2, http.MethodGet, "/", func(i int) []string { return me(i) })
	open(g.next(t, 1)...)
	for i, a := range all.all() {
		want("leader and follower", i, a, "orig", "inal")
	}
	want("hit", 7, in.get("/", me(7)...), "orig", "inal")
	if a := in.get("/"); !slices.Equal(a.Header["X-A"], []string{"", "orig", "inal"}) || a.Header.Get("Larder-Added") != "X-A, Etag" {
		t.Errorf("a client without a value: %q, Larder-Added %q", a.Header["X-A"], a.Header["Larder-Added"])
	}
	renewal := gather(t, in, 1, http.MethodGet, "/", func(int) []string { return append(me(8), "Cache-Control", "no-cache") })
	open(g.next(t, 1)...)
	want("304", 8, renewal.all()[0], "renewed")
	want("after it", 9, in.get("/", me(9)...), "renewed")
	_ = caddy.Stop()
	awaitClosedStores(t)
	in.load(s, g.origin)
	restarted := in.get("/", me(9)...)
	if want("after a restart", 9, restarted, "renewed"); !restarted.isHit() {
		t.Errorf("after a restart: %q", restarted.cacheStatus())
	}
}

// C21g: an inner handler sets a field for everybody. That the client which fetched had the same
// value from outside does not give the others their own values back.
func TestInnerValueThatEqualsAnOuterOneIsForEverybody(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in := start(t, setup{site: `header Access-Control-Allow-Origin {header.Origin}
	route {
		larder
		header Access-Control-Allow-Origin https://app.test
		reverse_proxy {{origin}}
	}`}, o)
	for _, origin := range []string{"https://app.test", "https://evil.test", "https://other.test"} {
		a := in.get("/", "Origin", origin)
		if got := a.Header["Access-Control-Allow-Origin"]; !slices.Equal(got, []string{"https://app.test"}) {
			t.Errorf("%s gets %q (%s)", origin, got, a.cacheStatus())
		}
	}
}

// C17: tags that an outer handler sets are tags too, and no client gets them.
func TestTagsOfOuterHandlersStayInside(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60", "Surrogate-Key", "inner"))
	in := start(t, proxied("header Surrogate-Key outer\nlarder"), o)
	for range 2 {
		a := in.get("/")
		if tags := a.Header["Surrogate-Key"]; tags != nil {
			t.Errorf("%s: tags %q", a.cacheStatus(), tags)
		}
	}
	if n := in.purge(`{"tags":["outer"]}`); n != 1 {
		t.Errorf("a purge of the outer tag matched %d", n)
	}
}

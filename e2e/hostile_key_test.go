package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// C4: parameters are whole pieces between ampersands. What is keyed is what the origin gets, so
// nothing can be smuggled past the key.
func TestParameterCloaking(t *testing.T) {
	o := newOrigin(t, echo)
	in := start(t, proxied("larder {\nkey {\nquery ignore utm_* callback\n}\n}"), o)
	sent := make(map[string]string) // what the origin got, and who sent it first
	for _, tc := range []struct{ query, left string }{
		{"", ""},
		{"?utm_a=1", ""},
		{"?utm_a=1;a=" + marker, ""},
		{"?utm_a=1&a=1", "?a=1"},
		{"?a=1&utm_a=1", "?a=1"},
		{"?a=1;utm_a=" + marker, "?a=1;utm_a=" + marker},
		{"?a=1&a=2", "?a=1&a=2"},
		{"?a=2&a=1", "?a=2&a=1"},
		{"?%61=1", "?%61=1"},
		{"?%75tm_a=" + marker, "?%75tm_a=" + marker},
		{"?utm%5fa=" + marker, "?utm%5fa=" + marker},
		{"?UTM_a=" + marker, "?UTM_a=" + marker},
		{"?callback%20=" + marker, "?callback%20=" + marker},
		{"?a[]=1&callback[]=" + marker, "?a[]=1&callback[]=" + marker},
		{"?a=1&&utm_a=1", "?a=1&"},
		{"?a=1%26utm_a=" + marker, "?a=1%26utm_a=" + marker},
		{"?a=?callback=" + marker, "?a=?callback=" + marker},
	} {
		a := in.rawGet("/p" + tc.query)
		if got, _, _ := strings.Cut(a.body, "\n"); got != "GET /p"+tc.left {
			t.Errorf("%q is answered with %q, want that of %q (%s)", tc.query, got, tc.left, a.cacheStatus())
		}
		if first, known := sent[tc.left]; a.isHit() != known {
			t.Errorf("%q: hit %v, sent before by %q", tc.query, a.isHit(), first)
		}
		sent[tc.left] = tc.query
	}
	in.rawGet("/p").clean(t)
}

// C5: no parts of one request can be put together to look like those of another. The origin says
// what it was sent.
func TestKeyCollisions(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprintf(w, "%q %q %q %q", r.RequestURI, r.Header["X-A"], r.Header["X-B"], r.Header["Cookie"])
	})
	in := start(t, proxied("larder {\nkey {\nheader X-A X-B\ncookie c d\n}\n}"), o)
	pieces := []string{"", "a", "-", "{-VARY-}", "|", ":", "%00", "%0a", "%0D%0A", "&", "=", "a=b", "%3f", ".", ";", "~", "X-A", "c=a", ","}
	text := func() string { return pieces[random.IntN(len(pieces))] + pieces[random.IntN(len(pieces))] }
	hits := 0
	for range 400 {
		path, query := "/"+text(), text()
		if query != "" {
			query = "?" + query
		}
		a, b, c := text(), text(), strings.NewReplacer(";", "", ",", "").Replace(text())
		u, err := url.ParseRequestURI(path + query)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%q %q %q %q", u.RequestURI(), []string{a}, []string{b}, []string{"c=" + c})
		answer := in.rawGet(path+query, "X-A: "+a, "X-B: "+b, "Cookie: c="+c)
		if answer.body != want {
			t.Fatalf("(%s)\nwas answered with %s\nand asked for     %s", answer.cacheStatus(), answer.body, want)
		}
		if answer.isHit() {
			hits++
		}
	}
	if hits > 200 {
		t.Errorf("%d hits of 400: the requests hardly differ", hits)
	}
}

// C6: two paths that some server takes for the same are two, and each is answered as without a
// cache.
func TestPathNormalisation(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.RequestURI)
	})
	plain := freePort(t)
	in := start(t, setup{
		site: "larder\nreverse_proxy {{origin}}",
		more: fmt.Sprintf("http://localhost:%d {\nreverse_proxy {{origin}}\n}", plain),
	}, o)
	direct := *in
	direct.port = plain
	targets := []string{
		"/static/account", "/account", "/static/../account", "/static/..%2faccount", "/static/..%2Faccount", "/static/%2e%2e/account",
		"/static/%2e%2e%2faccount", "//account", "///account", "/./account", "/account/", "/account/.", "/%61ccount", "/Account", "/ACCOUNT",
		"/account;jsessionid=1", "/account;a=b", "/account%3bjsessionid=1", "/account%23x", "/account%3f", "/account?", "/account??", "/account%00",
		"/account%0a", "/account%20", "/account%5c..%5cx", "/static\\..\\account", "/account%2500", "/account%u0061", "/%c0%af", "/account%ff",
		"/account#x", "/account?x#y",
	}
	for _, what := range []string{"fetched", "stored"} {
		for _, target := range targets {
			with, without := in.rawGet(target), direct.rawGet(target)
			if !identical(with, without) {
				t.Errorf("%s, %s: %d %q, without a cache %d %q", target, what, with.StatusCode, with.body, without.StatusCode, without.body)
			}
			if what == "stored" && with.StatusCode == http.StatusOK && !with.isHit() {
				t.Errorf("%s: %q", target, with.cacheStatus())
			}
		}
	}
}

// C7: no name of a file makes anything storable, and no rule of the operator overrules what the
// origin says of privacy.
func TestWebCacheDeception(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		switch { // the account is answered at whatever stands behind it
		case strings.HasPrefix(r.URL.Path, "/private"):
			w.Header().Set("Cache-Control", "private")
		case strings.HasPrefix(r.URL.Path, "/nostore"):
			w.Header().Set("Cache-Control", "no-store")
		case strings.HasPrefix(r.URL.Path, "/cookie"):
			w.Header().Set("Set-Cookie", "a=b")
		// Something in front of the origin goes by the extension.
		case strings.HasPrefix(r.URL.Path, "/stamped"):
			w.Header().Set("Cache-Control", "public, max-age=600")
		}
		_, _ = io.WriteString(w, "the account of "+r.Header.Get("Cookie"))
	})
	suffixes := []string{"/x.css", ";x.js", "%00.png", "%3fx.css", "%23x.css", "%0ax.css", "/..%2fx.css", "/x.JPG", "%2fx.css"}
	t.Run("the origin's word stands", func(t *testing.T) {
		in := start(t, proxied("larder {\nttl 1h\nforce_ttl 2h 200\n}"), o)
		for _, account := range []string{"/private", "/nostore", "/cookie", "/unstated"} {
			for _, suffix := range suffixes {
				in.rawGet(account+suffix, "Cookie: "+marker).want(t, 200, "the account of "+marker, "")
				in.rawGet(account + suffix).clean(t)
			}
		}
	})
	t.Run("guarded", func(t *testing.T) {
		in := start(t, proxied("larder {\nstatus full\ndeception_guard on\n}"), o)
		for _, suffix := range suffixes {
			a := in.rawGet("/stamped"+suffix, "Cookie: "+marker)
			if a.want(t, 200, "the account of "+marker, ""); !strings.Contains(a.cacheStatus(), "detail=content-type") {
				t.Errorf("%s: %q", suffix, a.cacheStatus())
			}
			in.rawGet("/stamped" + suffix).clean(t)
		}
		in.get("/stamped").want(t, 200, "", "")
		if a := in.get("/stamped"); !a.isHit() {
			t.Errorf("a page without an extension: %q", a.cacheStatus())
		}
	})
	t.Run("guarded from today", func(t *testing.T) {
		in := start(t, proxied("larder"), o)
		in.get("/stamped/x.css", "Cookie", marker).want(t, 200, "", "Larder; fwd=uri-miss; stored")
		in.load(proxied("larder {\ndeception_guard on\n}"), o)
		in.get("/stamped/x.css").clean(t)
	})
}

// TestFetchesShowWhatIsKeyed: placeholders of the original request do not tell a fetch how the
// request target was spelt, nor that its client has sent HEAD.
func TestFetchesShowWhatIsKeyed(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
		}
	})
	in := start(t, setup{site: "larder\nreverse_proxy {{origin}} {\nheader_up X-Original {http.request.orig_method},{http.request.orig_uri},{http.request.uri}\n}"}, o)
	for _, tc := range []struct{ method, target string }{
		{"GET", "/a?b"},
		{"GET", "http://localhost:%d/a?b"},
		{"GET", "http://user:secret@localhost:%d/a?b"},
		{"GET", "HTTP://LOCALHOST:%d/a?b"},
		{"HEAD", "/a?b"},
		{"GET", "http://text@localhost:%d/a?b"},
		{"HEAD", "http://text@localhost:%d/a?b"},
	} {
		target := strings.ReplaceAll(tc.target, "%d", strconv.Itoa(in.port))
		in.raw(fmt.Sprintf("%s %s HTTP/1.1\nHost: localhost:%d\nConnection: close\n\n", tc.method, target, in.port))
		if got := o.last().Header.Get("X-Original"); got != "GET,/a?b,/a?b" {
			t.Errorf("%s %s: the origin was shown %s", tc.method, target, got)
		}
	}
}

// C11: one authority for the key and for the origin, however the request spells it, and in HTTP/2
// as in HTTP/1.1.
func TestHostConfusion(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Host)
	})
	port := freePort(t)
	s := setup{site: "respond unused", more: fmt.Sprintf("http://:%d {\nlarder\nreverse_proxy {{origin}}\n}", port)}
	s.global = "servers {\nprotocols h1 h2c\n}"
	in := start(t, s, o)
	in.port = port
	get := func(target, host string) *answer {
		return in.raw(fmt.Sprintf("GET %s HTTP/1.1\nHost: %s\nConnection: close\n\n", target, host))
	}
	for _, tc := range []struct {
		name, target, host string
		hit                bool
	}{
		{"plain", "/", "example.com", false},
		{"case", "/", "EXAMPLE.com", true},
		{"default port", "/", "example.com:80", true},
		{"empty port", "/", "example.com:", true},
		{"case and port", "/", "Example.COM:80", true},
		// Each is kept apart: handlers in front have seen it.
		{"absolute form", "http://example.com/", "example.com", false},
		// RFC 9112 3.2.2.
		{"absolute form beside another Host", "http://example.com/", "evil.test", true},
		{"absolute form with user", "http://user:secret@example.com/", "evil.test", false},
		{"absolute form, case and port", "HTTP://EXAMPLE.com:80/", "evil.test", false},
		{"https in an absolute form", "https://example.com/", "example.com", false},
	} {
		a := get(tc.target, tc.host)
		if a.StatusCode != http.StatusOK || a.body != "example.com" || a.isHit() != tc.hit {
			t.Errorf("%s: %d %q %q", tc.name, a.StatusCode, a.body, a.cacheStatus())
		}
	}
	for i, host := range []string{"example.com.", "Example.COM.:80", "example.com..:"} {
		// One name, and another than without a dot.
		a := get("/", host)
		if a.StatusCode != http.StatusOK || a.body != "example.com" || a.isHit() != (i > 0) {
			t.Errorf("%s: %d %q %q", host, a.StatusCode, a.body, a.cacheStatus())
		}
	}
	for _, host := range []string{"evil.test", "example.com:8080", "www.example.com", "xn--bcher-kva.example", "example.com.evil.test", "[::1]"} {
		for _, target := range []string{"/", "http://" + host + "/"} {
			if a := get(target, host); a.StatusCode == http.StatusOK && a.body != host {
				t.Errorf("Host %s, %s: %q (%s)", host, target, a.body, a.cacheStatus())
			}
		}
	}
	for name, head := range map[string]string{
		"two Hosts":       "GET / HTTP/1.1\nHost: example.com\nHost: evil.test\n\n",
		"two equal Hosts": "GET / HTTP/1.1\nHost: example.com\nHost: example.com\n\n",
		"no Host":         "GET / HTTP/1.1\n\n",
		"odd Host":        "GET / HTTP/1.1\nHost: example.com/evil\n\n",
		"spaced Host":     "GET / HTTP/1.1\nHost : evil.test\n\n",
		"folded Host":     "GET / HTTP/1.1\nX: y\n Host: evil.test\nHost: exa mple.com\n\n",
	} {
		if a := in.raw(head); a.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %q", name, a.StatusCode, a.body)
		}
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	in.client.Transport = transport
	for _, host := range []string{"example.com", "EXAMPLE.com", "example.com:80"} {
		if a := in.get("/", "Host", host); a.ProtoMajor != 2 || a.body != "example.com" || !a.isHit() {
			t.Errorf("%s %s: %q (%s)", a.Proto, host, a.body, a.cacheStatus())
		}
	}
}

// C11: Caddy's host matcher takes a name with a trailing dot for another, so such a request comes
// to the catch-all site. What that answers is not the named site's.
func TestTrailingDotOfAnotherSite(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Site")+" "+r.Host)
	})
	port := freePort(t)
	in := start(t, setup{site: "respond unused", more: fmt.Sprintf(`http://example.com:%d {
	larder
	reverse_proxy {{origin}} {
		header_up X-Site named
	}
}
http://:%d {
	larder
	reverse_proxy {{origin}} {
		header_up X-Site any
	}
}`, port, port)}, o)
	in.port = port
	for range 2 {
		for _, tc := range []struct{ host, site string }{
			{"example.com.", "any"}, {"example.com", "named"}, {"EXAMPLE.com", "named"}, {"example.com.:80", "any"}, {"example.com..", "any"},
		} {
			in.get("/", "Host", tc.host).want(t, 200, tc.site+" example.com", "")
		}
	}
	o.asked(t, 2)
}

// The same where the directive of the other site stands where only some requests come, and where
// one directive has handlers in front of it that go by the host.
func TestTrailingDotOfOtherHandlers(t *testing.T) {
	const named = "http://example.com:%[1]d {\n\tlarder\n\treverse_proxy {{origin}} {\n\t\theader_up X-Site named\n\t}\n}\n"
	const another = "larder\n\treverse_proxy {{origin}} {\n\t\theader_up X-Site any\n\t}\n"
	for name, sites := range map[string]string{
		"handle_errors":   named + "http://:%[1]d {\n\terror 503\n\thandle_errors {\n\t" + another + "\t}\n}",
		"handle_response": named + "http://:%[1]d {\n\treverse_proxy {{origin}} {\n\t@ok status 200\n\thandle_response @ok {\n\t" + another + "}\n}\n}",
		"a matcher in front": "http://:%[1]d {\n\t@named host example.com\n\t@any not host example.com\n\t" +
			"request_header @named X-Site named\n\trequest_header @any X-Site any\n\tlarder\n\treverse_proxy {{origin}}\n}",
		"a named route": "&(shared) {\n\troute {\n\t\tlarder\n\t\treverse_proxy {{origin}}\n\t}\n}\n" +
			"http://example.com:%[1]d {\n\trequest_header X-Site named\n\tinvoke shared\n}\n" +
			"http://:%[1]d {\n\trequest_header X-Site any\n\tinvoke shared\n}",
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				_, _ = io.WriteString(w, r.Header.Get("X-Site"))
			})
			port := freePort(t)
			in := start(t, setup{site: "respond unused", more: fmt.Sprintf(sites, port)}, o)
			in.port = port
			for _, tc := range []struct{ host, site string }{
				{"example.com.", "any"}, {"example.com", "named"}, {"EXAMPLE.com", "named"},
			} {
				in.get("/", "Host", tc.host).want(t, 200, tc.site, "")
			}
		})
	}
}

// C11, C77: where an outer handler goes by the host's spelling, one that is not the keyed one gets
// what the origin makes of it, as without larder, and nothing of that is stored.
func TestHostSpellingInAMap(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Tenant"))
	})
	port := freePort(t)
	in := start(t, setup{site: "respond unused", more: fmt.Sprintf(`http://:%d {
	map {host} {tenant} {
		example.com one
		default     %s
	}
	larder
	reverse_proxy {{origin}} {
		header_up X-Tenant {tenant}
	}
}`, port, marker)}, o)
	in.port = port
	for range 2 {
		for _, host := range []string{"EXAMPLE.com", "example.com."} {
			in.get("/", "Host", host).want(t, 200, marker, "Larder; fwd=bypass; detail=target")
		}
		in.get("/", "Host", "example.com").want(t, 200, "one", "")
	}
}

// C24: what was said in clear text never answers where there is TLS, and the other way round.
func TestSchemesDoNotMix(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("X-Forwarded-Proto") == "http" {
			w.Header().Set("Location", "https://example.com/")
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		_, _ = io.WriteString(w, "safe")
	})
	in, tls := startTLS(t, o)
	for range 2 {
		in.get("/", "Host", "example.com").want(t, 301, "", "")
		tls.get("/", "Host", "example.com").want(t, 200, "safe", "")
	}
	o.asked(t, 2)
	if n := in.purge(`{"urls":["http://example.com/"]}`); n != 1 {
		t.Errorf("a purge of the http URL matched %d", n)
	}
	if a := tls.get("/", "Host", "example.com"); !a.isHit() {
		t.Errorf("the https one went with it: %q", a.cacheStatus())
	}
}

// C28a: the port that a connection came in by does not tell two sites apart whose servers have the
// same one at different addresses, and behind the PROXY protocol it is what the header says.

// askAt sends a request for host to an address, behind a preamble, over a connection of its own. As
// instance.do it asks again for what a server that goes in a reload has dropped.
func askAt(t *testing.T, address, preamble, method, host, path string) *answer {
	t.Helper()
	a, err := tryAt(address, preamble, method, host, path)
	for attempt := 1; err != nil && attempt < 3 && method == http.MethodGet; attempt++ {
		a, err = tryAt(address, preamble, method, host, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryAt(address, preamble, method, host, path string) (*answer, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", preamble, method, path, host); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: string(body), err: err}, nil
}

// named answers with the name of the site that a reverse_proxy stands in.
func named(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	_, _ = io.WriteString(w, r.Header.Get("X-Site"))
}

// twoSites is a public site for any Host and an internal one, with a line of their own each.
func twoSites(public int, publicLine string, internal int, internalLine string) string {
	const site = "%s:%d {\n%s\nlarder\nreverse_proxy {{origin}} {\nheader_up X-Site %s\n}\n}\n"
	return fmt.Sprintf(site, "http://", public, publicLine, "public") + fmt.Sprintf(site, "http://internal.test", internal, internalLine, "internal")
}

// wantApart fails the test unless who asks the public site for the internal one's host reads,
// poisons and drops nothing of it.
func wantApart(t *testing.T, in *instance, host string, public, internal func(method, path string) *answer) {
	t.Helper()
	internal("GET", "/read").want(t, 200, "internal", "Larder; fwd=uri-miss; stored")
	public("GET", "/read").want(t, 200, "public", "Larder; fwd=uri-miss; stored")
	public("GET", "/poison").want(t, 200, "public", "Larder; fwd=uri-miss; stored")
	internal("GET", "/poison").want(t, 200, "internal", "Larder; fwd=uri-miss; stored")
	public("POST", "/read").want(t, 200, "public", "")
	if a := internal("GET", "/read"); !a.isHit() || a.body != "internal" {
		t.Errorf("after a POST to the public site: %q %q", a.body, a.cacheStatus())
	}
	if a := public("GET", "/read"); a.isHit() {
		t.Errorf("the POST left %q", a.cacheStatus())
	}
	if n := in.purge(fmt.Sprintf(`{"hosts":[%q]}`, host)); n != 4 {
		t.Errorf("a purge matched %d, want what both sites have", n)
	}
}

func TestSitesAtTwoAddressesOfOnePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("the loopback interface has one address only: %v", err)
	}
	_ = l.Close()
	o := newOrigin(t, named)
	port := freePort(t)
	s := setup{site: "respond unused", more: twoSites(port, "bind 127.0.0.1", port, "bind 127.0.0.2")}
	in := start(t, s, o)
	host := fmt.Sprintf("internal.test:%d", port)
	at := func(ip string) func(method, path string) *answer {
		return func(method, path string) *answer {
			return askAt(t, fmt.Sprintf("%s:%d", ip, port), "", method, host, path)
		}
	}
	public, internal := at("127.0.0.1"), at("127.0.0.2")
	internal("GET", "/kept")
	s.more = fmt.Sprintf("http://127.0.0.1:%d {\nrespond first\n}\n", freePort(t)) + s.more
	in.load(s, o) // Caddy numbers its servers anew
	awaitHandOver(t, fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.2:%d", port))
	if a := internal("GET", "/kept"); !a.isHit() {
		t.Errorf("after a reload with another site: %q", a.cacheStatus())
	}
	in.purge(`{"all":true}`)
	wantApart(t, in, host, public, internal)
}

func TestSitesBehindTheProxyProtocol(t *testing.T) {
	o := newOrigin(t, named)
	one, other := freePort(t), freePort(t)
	in := start(t, setup{
		global: "servers {\nlistener_wrappers {\nproxy_protocol {\nallow 127.0.0.0/8 ::1/128\n}\n}\n}",
		site:   "respond unused", more: twoSites(one, "", other, ""),
	}, o)
	at := func(port int) func(method, path string) *answer {
		return func(method, path string) *answer {
			return askAt(t, fmt.Sprintf("localhost:%d", port), "PROXY TCP4 1.2.3.4 10.0.0.1 5555 80\r\n", method, "internal.test", path)
		}
	}
	wantApart(t, in, "internal.test", at(one), at(other))
}

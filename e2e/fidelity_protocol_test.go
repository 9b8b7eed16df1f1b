package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"
)

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

// TestHTTP3 asks one TLS site by HTTP/1.1, HTTP/2 and HTTP/3: what one has fetched, the others hit,
// and Alt-Svc, which is the connection's, is not stored.
func TestHTTP3(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	port := freePort(t)
	s := setup{site: "respond plain", more: fmt.Sprintf("https://localhost:%d {\n\ttls internal\n\tlarder\n\treverse_proxy {{origin}}\n}", port)}
	s.global = "skip_install_trust\n\tservers {\n\t\tprotocols h1 h2 h3\n\t}\n\tlocal_certs\n\tstorage file_system " + t.TempDir()
	in := start(t, s, o)
	loadOver(t, strings.Replace(in.file, "auto_https off", "auto_https disable_redirects", 1), port)

	insecure := &tls.Config{InsecureSkipVerify: true} // the certificate is the test's own
	h1 := &http.Transport{TLSClientConfig: insecure.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: insecure.Clone()}
	t.Cleanup(func() { _ = h3.Close() })
	t.Cleanup(h2.CloseIdleConnections)
	t.Cleanup(h1.CloseIdleConnections)
	if !within(patience, func() bool { // the certificate is made behind the start
		conn, err := tls.Dial("tcp", fmt.Sprintf("localhost:%d", port), insecure.Clone())
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}) {
		t.Fatal("no TLS handshake succeeds")
	}
	for i, tc := range []struct {
		proto     string
		transport http.RoundTripper
	}{{"HTTP/3.0", h3}, {"HTTP/2.0", h2}, {"HTTP/1.1", h1}, {"HTTP/3.0", h3}} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://localhost:%d/", port), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tc.transport.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", tc.proto, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		status := resp.Header.Get("Cache-Status")
		want := "Larder; hit"
		if i == 0 {
			want = "Larder; fwd=uri-miss; stored"
		}
		if err != nil || resp.Proto != tc.proto || string(body) != "1" || !strings.HasPrefix(status, want) {
			t.Errorf("%d: %s %q %q (%v), want %s and %q", i, resp.Proto, body, status, err, tc.proto, want)
		}
		if hasAlt := resp.Header.Get("Alt-Svc") != ""; hasAlt != (tc.proto != "HTTP/3.0") {
			t.Errorf("%d: %s with Alt-Svc %q", i, tc.proto, resp.Header.Get("Alt-Svc"))
		}
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

// tagged answers every request alike, with a tag.
func tagged(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Surrogate-Key", "secret")
	_, _ = io.WriteString(w, "page")
}

// C17: a field in the request does not have tags shown, whatever it asks for.
func TestUpgradeShowsNoTags(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, tagged))
	for _, lines := range [][]string{
		{"Upgrade: x"},
		{"Upgrade: websocket", "Connection: Upgrade"},
		{"Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"},
		{"Upgrade:"},
		{"HTTP2-Settings: AAMAAABk"},
	} {
		a := in.rawGet("/", lines...)
		if tags := a.Header.Get("Surrogate-Key"); a.StatusCode != http.StatusOK || tags != "" {
			t.Errorf("%q: %d, Surrogate-Key %q", lines, a.StatusCode, tags)
		}
	}
}

// C27: what a POST changes is gone afterwards, whatever it asked to switch to.
func TestUpgradeInvalidatesAllTheSame(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, tagged))
	for lines, detail := range map[string]string{
		"Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk": "method",
		"Connection: Upgrade\nUpgrade: websocket":                                     "upgrade",
		"Upgrade: x": "upgrade",
	} {
		in.get("/page")
		if !in.get("/page").isHit() {
			t.Fatal("not stored")
		}
		a := in.raw(fmt.Sprintf("POST /page HTTP/1.1\nHost: localhost:%d\n%s\nContent-Length: 1\n\nx", in.port, lines))
		a.want(t, 200, "page", "Larder; fwd=bypass; detail="+detail)
		if after := in.get("/page"); after.isHit() {
			t.Errorf("%q: afterwards %q", lines, after.cacheStatus())
		}
	}
}

// C27: after a 101 the answer to the POST comes in the other protocol, as that of Docker to attach.
func TestSwitchInvalidates(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			tagged(w, r)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_ = rw.Flush()
	}))
	in.get("/page")
	if !in.get("/page").isHit() {
		t.Fatal("not stored")
	}
	c := in.dial()
	c.send(fmt.Sprintf("POST /page HTTP/1.1\r\nHost: localhost:%d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n", in.port))
	if resp := c.response(http.MethodPost); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	if after := in.get("/page"); after.isHit() {
		t.Errorf("afterwards %q", after.cacheStatus())
	}
}

// An offer of HTTP/2 in clear text, as Java's HttpClient and `curl --http2` make it with every
// request, is as if it were not there. It sent every such request past the cache.
func TestH2CIsIgnored(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "1", "Larder; fwd=uri-miss; stored")
	for _, lines := range [][]string{
		{"Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Connection: Upgrade, HTTP2-Settings"},
		{"upgrade: H2C", "http2-settings: AAMAAABk", "connection: upgrade,  http2-settings ,, keep-alive"},
		{"Upgrade: h2c", "Connection: Upgrade", "Connection: HTTP2-Settings"},
		{"HTTP2-Settings: AAMAAABk", "Connection: HTTP2-Settings"},
		{"Connection: HTTP2-Settings"},
	} {
		if a := in.rawGet("/", lines...); !a.isHit() {
			t.Errorf("%q: %q", lines, a.cacheStatus())
		}
	}
	in.rawGet("/", "Upgrade: h2c", "Connection: Upgrade, X-Foo").want(t, 200, "2", "Larder; fwd=bypass; detail=connection")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		in.raw(fmt.Sprintf("%s /new HTTP/1.1\nHost: localhost:%d\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk\nContent-Length: 0\n\n",
			method, in.port)).want(t, 200, "", "")
		for _, name := range []string{"Upgrade", "Http2-Settings", "Connection"} {
			if values := o.last().Header[name]; values != nil {
				t.Errorf("%s: the origin gets %s: %q", method, name, values)
			}
		}
	}
	in.rawGet("/", "Upgrade: h2c, other", "HTTP2-Settings: AAMAAABk", "Connection: Upgrade, HTTP2-Settings").want(t, 200, "", "Larder; fwd=bypass; detail=upgrade")
	if got := o.last().Header; got.Get("Upgrade") != "other" || got.Get("Http2-Settings") != "" {
		t.Errorf("the origin gets %v", got)
	}
}

// Handlers within take the connection over by type and by http.ResponseController, before a header
// of theirs and behind it, as without Larder.
func TestHandlersTakeTheConnectionOver(t *testing.T) {
	byType := func(w http.ResponseWriter) http.Hijacker { h, _ := w.(http.Hijacker); return h }
	for name, switched := range map[string]func(w http.ResponseWriter) error{
		"by hand": func(w http.ResponseWriter) error {
			conn, rw, err := byType(w).Hijack()
			if err != nil {
				return err
			}
			return echoing(conn, rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		},
		"behind a header": func(w http.ResponseWriter) error {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.Header().Set("Surrogate-Key", "secret")
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return err
			}
			return echoing(conn, rw, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			ts := newTurnstile(t, func(_ int, w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
				err := switched(w)
				ended <- err
				return err
			})
			in := start(t, setup{site: "route {\nlarder\ntest_breaker\n}"}, nil)
			c := in.dial()
			c.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			ts.let(t)
			resp := c.response(http.MethodGet)
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "echo" || resp.Header.Get("Surrogate-Key") != "" {
				t.Fatalf("%s %v", resp.Status, resp.Header)
			}
			c.send("hello\n")
			if got, err := c.r.ReadString('\n'); err != nil || got != "hello\n" {
				t.Fatalf("echo %q, %v", got, err)
			}
			_ = c.Close()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// echoing writes head and gives back what comes until the client has enough.
func echoing(conn io.WriteCloser, rw *bufio.ReadWriter, head string) error {
	defer conn.Close()
	if _, err := rw.WriteString(head); err != nil {
		return err
	}
	if err := rw.Flush(); err != nil {
		return err
	}
	line, err := rw.ReadString('\n')
	if err != nil {
		return err
	}
	_, err = io.Copy(conn, io.MultiReader(strings.NewReader(line), rw))
	return err
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
	// A hit: not in the key.
	in.get("/a", "CDN-Loop", strings.TrimSuffix(strings.Repeat("larder, ", 9), ", ")).want(t, 200, "1", "")
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
	for _, host := range []string{"example.com", "EXAMPLE.com", "example.com:80", "Example.Com:80"} {
		in.get("/", "Host", host).want(t, 200, "1", "")
	}
	for i, host := range []string{"example.com:8080", "example.org", "www.example.com", "example.com."} {
		in.get("/", "Host", host).want(t, 200, fmt.Sprint(i+2), "Larder; fwd=uri-miss; stored")
	}
	// Host is the client's word: what came in by another port is another site's.
	in.port = second
	in.get("/", "Host", "example.com").want(t, 200, "6", "Larder; fwd=uri-miss; stored")
}

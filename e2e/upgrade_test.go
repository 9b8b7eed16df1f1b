package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

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

// C17: nor does an informational response show them, whether what follows is stored or not.
func TestEarlyHintsShowNoTags(t *testing.T) {
	for name, tc := range map[string]struct{ method, directive string }{
		"stored": {http.MethodGet, "max-age=60"}, "not stored": {http.MethodGet, "no-store"}, "passed on": {http.MethodPost, "no-store"},
	} {
		t.Run(name, func(t *testing.T) {
			in := start(t, proxied("larder"), newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Surrogate-Key", "secret")
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Cache-Control", tc.directive)
				_, _ = io.WriteString(w, "page")
			}))
			for range 2 { // the second knows the key for one that is not shareable
				var hints []string
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					hints = append(hints, fmt.Sprintf("%d %s %q", code, header.Get("Link"), header.Get("Surrogate-Key")))
					return nil
				}})
				a, err := in.try(ctx, tc.method, "/", "")
				if err != nil {
					t.Fatal(err)
				}
				a.want(t, 200, "page", "")
				for _, hint := range hints {
					if hint != `103 </style.css>; rel=preload ""` {
						t.Errorf("%s: %s", a.cacheStatus(), hint)
					}
				}
			}
			if want := map[string]int{"stored": 1}[name]; in.purge(`{"tags":["secret"]}`) != want {
				t.Errorf("a purge by the tag matches another number than %d", want)
			}
		})
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

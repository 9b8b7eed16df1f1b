package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// TestHTTP3 asks one TLS site by HTTP/1.1, HTTP/2 and HTTP/3: what one has fetched, the others hit, and Alt-Svc, which is the connection's,
// is not stored.
func TestHTTP3(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	port := freePort(t)
	s := setup{site: "respond plain", more: fmt.Sprintf("https://localhost:%d {\n\ttls internal\n\tlarder\n\treverse_proxy {{origin}}\n}", port)}
	s.global = "skip_install_trust\n\tservers {\n\t\tprotocols h1 h2 h3\n\t}\n\tlocal_certs\n\tstorage file_system " + t.TempDir()
	in := start(t, s, o)
	if err := loadCaddyfile(t, strings.Replace(in.file, "auto_https off", "auto_https disable_redirects", 1)); err != nil {
		t.Fatal(err)
	}

	insecure := &tls.Config{InsecureSkipVerify: true} // the certificate is the test's own
	h1 := &http.Transport{TLSClientConfig: insecure.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: insecure.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: insecure.Clone()}
	t.Cleanup(func() { _ = h3.Close() })
	t.Cleanup(h2.CloseIdleConnections)
	t.Cleanup(h1.CloseIdleConnections)
	if !within(20*time.Second, func() bool { // the certificate is made behind the start
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
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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

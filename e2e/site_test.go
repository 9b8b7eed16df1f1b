package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
)

// behindProxy is a site at a port of its own, which takes any Host and trusts 127.0.0.2. proxied
// asks it from there, direct from 127.0.0.1.
func behindProxy(t *testing.T, directive string, o *origin) (proxied, direct *instance) {
	t.Helper()
	port := freePort(t)
	s := setup{site: "respond unused", more: fmt.Sprintf("http://:%d {\n%s\nreverse_proxy {{origin}}\n}", port, directive)}
	s.global = "servers {\ntrusted_proxies static 127.0.0.2/32\n}"
	in := start(t, s, o)
	from := func(address string) *instance {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		transport := &http.Transport{DisableCompression: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		}}
		t.Cleanup(transport.CloseIdleConnections)
		one := *in
		one.port, one.client = port, &http.Client{Transport: transport, CheckRedirect: in.client.CheckRedirect, Timeout: in.client.Timeout}
		return &one
	}
	return from("127.0.0.2"), from("127.0.0.1")
}

// claimsOf are the fields by which a proxy that ends TLS says what it was asked.
func claimsOf(scheme, host string) []string {
	return []string{"Host", "backend.internal", "X-Forwarded-Proto", scheme, "X-Forwarded-Host", host}
}

// What is stored behind a proxy that ends TLS is purged and listed by the URL that visitors know.
// It was stored as http://, so that a purge of the https URL answered "purged 0" and the old page
// stayed.
func TestPurgeBehindATrustedProxy(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=60"))
	in, _ := behindProxy(t, "larder", o)
	for _, tc := range []struct {
		name   string
		header []string
		url    string
	}{
		{"scheme and host", claimsOf("https", "example.com"), "https://example.com/page"},
		{"in capitals, with the default port", claimsOf("HTTPS", "EXAMPLE.com.:443"), "https://example.com/page"},
		{"a port of its own", claimsOf("https", "example.com:8443"), "https://example.com:8443/page"},
		{"the scheme alone", []string{"Host", "example.com", "X-Forwarded-Proto", "https"}, "https://example.com/page"},
		{"the scheme alone, beside its port", []string{"Host", "example.com:443", "X-Forwarded-Proto", "https"}, "https://example.com/page"},
		{"the host alone", []string{"Host", "backend.internal", "X-Forwarded-Host", "example.com"}, "http://example.com/page"},
		{"lists", claimsOf("http, https", "evil.test,example.com"), "https://example.com/page"},
		{"several lines", append(claimsOf("http", "evil.test"), "X-Forwarded-Proto", "https", "X-Forwarded-Host", "example.com"), "https://example.com/page"},
		{"no scheme and no host", claimsOf("gopher", "a/b"), "http://backend.internal/page"},
		{"empty ones", claimsOf("", ""), "http://backend.internal/page"},
		{"none", []string{"Host", "backend.internal"}, "http://backend.internal/page"},
	} {
		for _, selector := range []string{`{"urls":[%q]}`, `{"prefixes":[%q]}`} {
			in.get("/page", tc.header...).want(t, 200, "", "Larder; fwd=uri-miss; stored")
			if !in.get("/page", tc.header...).isHit() {
				t.Errorf("%s: not a hit", tc.name)
			}
			if l := in.entries("").Entries; len(l) != 1 || l[0].URL != tc.url {
				t.Errorf("%s: listed are %v, want %s", tc.name, l, tc.url)
			}
			if n := in.purge(fmt.Sprintf(selector, tc.url)); n != 1 {
				t.Errorf("%s: a purge of %s matches %d", tc.name, tc.url, n)
				in.purge(`{"all":true}`)
			}
		}
	}
	in.get("/page", claimsOf("https", "example.com")...)
	if n := in.purge(`{"hosts":["example.com"]}`); n != 1 {
		t.Errorf("a purge of the host matches %d", n)
	}
}

// What unsafe requests behind such a proxy change goes: their own URL, what the answer names by its
// public URL, and groups.
func TestInvalidationBehindATrustedProxy(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/by-location":
			w.Header().Set("Location", "https://example.com/page")
		case "/by-group":
			w.Header().Set("Cache-Group-Invalidation", `"g"`)
		}
		if r.Method == http.MethodGet {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Cache-Groups", `"g"`)
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})
	in, _ := behindProxy(t, block("invalidate {\nurls {http.request.header.Destination}\n}"), o)
	claims := claimsOf("https", "example.com")
	for _, path := range []string{"/page", "/by-location", "/by-group", "/by-destination"} {
		in.get("/page", claims...)
		if !in.get("/page", claims...).isHit() {
			t.Fatal("not stored")
		}
		header := slices.Clone(claims)
		if path == "/by-destination" {
			header = append(header, "Destination", "https://example.com/page")
		}
		in.do(http.MethodPost, path, "x", header...).want(t, 200, "", "")
		if a := in.get("/page", claims...); a.isHit() {
			t.Errorf("POST %s: afterwards %q", path, a.cacheStatus())
		}
	}
}

// C24: who is not trusted names no URL, and shares nothing with those of whom a trusted proxy says
// the same: reverse_proxy tells the origin something else.
func TestClaimsOfTheUntrusted(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto")+" "+r.Header.Get("X-Forwarded-Host"))
	})
	proxied, direct := behindProxy(t, "larder", o)
	for range 2 {
		direct.get("/", claimsOf("https", "example.com")...).want(t, 200, "http backend.internal", "")
		proxied.get("/", claimsOf("https", "example.com")...).want(t, 200, "https example.com", "")
	}
	o.asked(t, 2)
	for _, url := range []string{"http://backend.internal/", "https://example.com/"} {
		if n := direct.purge(fmt.Sprintf(`{"urls":[%q]}`, url)); n != 1 {
			t.Errorf("a purge of %s matches %d", url, n)
		}
	}
}

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// C19: nothing that reaches a site purges, whatever it is called.
func TestSitesPurgeNothing(t *testing.T) {
	o := newOrigin(t, echo)
	in := start(t, proxied("larder"), o)
	in.get("/page").want(t, 200, "", "Larder; fwd=uri-miss; stored")
	for _, method := range []string{"PURGE", "BAN", "PURGEKEYS", "REFRESH", "SOFTPURGE"} {
		for _, path := range []string{"/other", "/larder/purge"} {
			a := in.do(method, path, `{"all":true}`, "Surrogate-Key", "x", "Fastly-Soft-Purge", "1")
			if a.StatusCode != http.StatusOK || !strings.HasPrefix(a.body, method+" "+path) {
				t.Errorf("%s %s did not go to the origin: %d %.60q", method, path, a.StatusCode, a.body)
			}
		}
	}
	in.do("POST", "/larder/purge", `{"all":true}`).want(t, 200, "", "")
	for _, header := range []string{"X-Purge", "X-Cache-Purge", "X-Http-Method-Override", "Cache-Group-Invalidation", "Surrogate-Key"} {
		in.get("/page", header, "PURGE").want(t, 200, "", "")
	}
	if a := in.get("/page"); !a.isHit() {
		t.Errorf("something was purged: %q", a.cacheStatus())
	}
}

// C19: Caddy's own checks of Host and Origin stand before the admin API, and what a browser can
// send without asking first does not purge.
func TestPurgeFromABrowser(t *testing.T) {
	in := start(t, proxied("larder"), newOrigin(t, echo))
	in.get("/page").want(t, 200, "", "Larder; fwd=uri-miss; stored")
	long := `{"tags":["` + strings.Repeat("x", 2<<20) + `"]}`
	for _, tc := range []struct {
		name, method, path, body string
		header                   []string
	}{
		{"another site's page", "POST", "/larder/purge", `{"all":true}`, []string{"Origin: https://evil.test"}},
		{"another site's form", "POST", "/larder/purge", `{"all":true}`, []string{"Origin: https://evil.test", "Content-Type: text/plain"}},
		{"a sandboxed frame", "POST", "/larder/purge", `{"all":true}`, []string{"Origin: null"}},
		{"another site's fetch without an Origin", "POST", "/larder/purge", `{"all":true}`, []string{"Sec-Fetch-Mode: no-cors", "Sec-Fetch-Site: cross-site"}},
		{"a name that was bound anew", "POST", "/larder/purge", `{"all":true}`, []string{"Host: evil.test"}},
		{"a name bound anew, with the port", "POST", "/larder/purge", `{"all":true}`, []string{"Host: evil.test:2019", "Origin: http://evil.test:2019"}},
		{"an image", "GET", "/larder/purge?all=true", "", nil},
		{"no selector", "POST", "/larder/purge", `{}`, nil},
		{"a word that is none", "POST", "/larder/purge", `{"all":true,"regex":".*"}`, nil},
		{"two values", "POST", "/larder/purge", `{"all":false}{"all":true}`, nil},
		{"two names", "POST", "/larder/purge", `{"all":true,"all":"x"}`, nil},
		{"too long", "POST", "/larder/purge", long, nil},
		{"a path around", "POST", "/larder/../larder/purge/", `{"all":true}`, nil},
		{"listing by a page", "GET", "/larder/entries", "", []string{"Origin: https://evil.test"}},
	} {
		status := adminRaw(t, in, tc.method, tc.path, tc.body, tc.header)
		if status >= 200 && status < 300 {
			t.Errorf("%s: %d", tc.name, status)
		}
		if a := in.get("/page"); !a.isHit() {
			t.Fatalf("%s: purged", tc.name)
		}
	}
	if status := adminRaw(t, in, "POST", "/larder/purge", `{"all":true}`, nil); status != 200 || in.get("/page").isHit() {
		t.Errorf("the operator's own purge: %d", status)
	}
}

// adminRaw sends lines to the admin endpoint as they are.
func adminRaw(t *testing.T, in *instance, method, path, body string, header []string) int {
	t.Helper()
	conn, err := net.Dial("tcp", in.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	host := "Host: " + in.admin
	if len(header) > 0 && strings.HasPrefix(header[0], "Host: ") {
		host, header = header[0], header[1:]
	}
	head := append([]string{host, "Connection: close", fmt.Sprintf("Content-Length: %d", len(body))}, header...)
	go func() { // it may be refused before it is read
		_, _ = io.WriteString(conn, fmt.Sprintf("%s %s HTTP/1.1\r\n%s\r\n\r\n%s", method, path, strings.Join(head, "\r\n"), body))
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// quoted is text as a JSON string.
func quoted(t *testing.T, text string) string {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// C26: raw bytes in a request line, as curl and old clients send them, are named by a purge as they
// were typed and as a browser sends them. A raw query was found by neither, nor a path with a raw
// byte beside ( ) ! ' *.
func TestRawBytesArePurged(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	in := start(t, proxied("larder"), o)
	for _, tc := range []struct{ sent, typed, browser string }{
		{"/?q=ü", "/?q=ü", "/?q=%C3%BC"},
		{"/ü", "/ü", "/%C3%BC"},
		{"/(ü)!'*", "/(ü)!'*", "/(%C3%BC)!'*"},
		{"/a%2Fb/ü", "/a%2Fb/ü", "/a%2Fb/%C3%BC"},
		{"/%2f%41(é?é=%e9", "/%2f%41(é?é=%e9", "/%2f%41(%C3%A9?%C3%A9=%e9"},
		{"/{a}|(\"b\"?{c}", "/{a}|(\"b\"?{c}", "/%7Ba%7D%7C(%22b%22?{c}"},
		{"/\xff(?\xff", "/%FF(?%FF", "/%FF(?%FF"},
		{"/a#b(", "/a%23b(", "/a%23b("},
		{"/a?x#y", "/a?x%23y", "/a?x%23y"},
		{"/plain(1)", "/plain(1)", "/plain(1)"},
	} {
		for _, text := range []string{tc.typed, tc.browser} {
			if a := in.rawGet(tc.sent); a.StatusCode != http.StatusOK || a.isHit() {
				t.Fatalf("%q: %d %q", tc.sent, a.StatusCode, a.cacheStatus())
			}
			if !in.rawGet(tc.sent).isHit() {
				t.Errorf("%q is not stored", tc.sent)
			}
			if n := in.purge(`{"urls":[` + quoted(t, in.url("")+text) + `]}`); n != 1 {
				t.Errorf("%q was asked for, a purge of %q matches %d; listed is %v", tc.sent, text, n, in.entries("").Entries)
				in.purge(`{"all":true}`)
			}
			in.rawGet(tc.sent)
			if n := in.purge(`{"prefixes":[` + quoted(t, in.url("")+text) + `]}`); n != 1 {
				t.Errorf("%q was asked for, a purge of the prefix %q matches %d", tc.sent, text, n)
				in.purge(`{"all":true}`)
			}
		}
	}
	if n := len(in.entries("").Entries); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// C26b: a proxy encodes a path with raw bytes anew, so one larder behind another has it by another
// URL. A purge takes both.
func TestRawBytesArePurgedBehindAProxy(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	port := freePort(t)
	in := start(t, setup{
		site: fmt.Sprintf("larder\nreverse_proxy localhost:%d", port),
		more: fmt.Sprintf("http://:%d {\nlarder\nreverse_proxy {{origin}} {\nheader_up Host {host}\n}\n}", port),
	}, o)
	for _, selector := range []string{"urls", "prefixes"} {
		const path = "/x(\u00fc"
		in.rawGet(path)
		// A listing shows what a purge by the same word would take.
		for _, word := range []string{"url", "prefix"} {
			if n := len(in.entries("?" + word + "=" + url.QueryEscape(in.url("")+path)).Entries); n != 2 {
				t.Errorf("a listing by %s has %d; stored is %v", word, n, in.entries("").Entries)
			}
		}
		if n := in.purge(`{"` + selector + `":[` + quoted(t, in.url("")+path) + `]}`); n != 2 {
			t.Errorf("a purge by %s matches %d; left is %v", selector, n, in.entries("").Entries)
			in.purge(`{"all":true}`)
		}
	}
}

// C26: the same in what the origin names for itself.
func TestRawBytesInLocationInvalidate(t *testing.T) {
	const path = "/(ü?ü"
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Location", path)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "page")
	})
	in := start(t, proxied("larder"), o)
	in.rawGet(path)
	if !in.rawGet(path).isHit() {
		t.Fatal("not stored")
	}
	in.do(http.MethodPost, "/edit", "x").want(t, 200, "", "")
	if a := in.rawGet(path); a.isHit() {
		t.Errorf("after the POST: %q", a.cacheStatus())
	}
}

// C26: a request target that is no URL shares no key and is stored under no name: it bypasses. `GET
// http:one` and `GET http:two` had one entry, and that of `GET *` outlived every purge of its host.
func TestTargetsThatNoPurgeCouldName(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	port := freePort(t)
	s := setup{site: "respond unused", more: fmt.Sprintf("http://:%d {\nlarder\nreverse_proxy {{origin}}\n}", port)}
	s.global = "servers {\nprotocols h1 h2c\n}"
	in := start(t, s, o)
	in.port = port
	for _, tc := range []struct{ name, head string }{
		{"asterisk", "GET * HTTP/1.1\nHost: example.com"},
		{"opaque", "GET http:one HTTP/1.1\nHost: example.com"},
		{"another opaque one", "GET http:two HTTP/1.1\nHost: example.com"},
		{"authority", "GET example.com:80 HTTP/1.1\nHost: example.com"},
		{"another scheme", "GET ftp://example.com/ HTTP/1.1\nHost: example.com"},
		{"no host in an absolute one", "GET http:///a HTTP/1.1\nHost: example.com"},
		{"HTTP/1.0 without Host", "GET / HTTP/1.0"},
		{"empty Host", "GET / HTTP/1.1\nHost:"},
		{"a Host that is no name", "GET / HTTP/1.1\nHost: a!b"},
		{"a Host of dots", "GET / HTTP/1.1\nHost: ."},
		{"a Host with a word for a port", "GET / HTTP/1.1\nHost: example.com:x"},
		{"a Host with a port too large", "GET / HTTP/1.1\nHost: example.com:65536"},
	} {
		for range 2 {
			a := in.raw(tc.head + "\nConnection: close\n\n")
			// net/http and reverse_proxy refuse some of them. None is stored.
			if a.StatusCode == http.StatusOK && a.cacheStatus() != "Larder; fwd=bypass; detail=target" || a.isHit() {
				t.Errorf("%s: %d %q", tc.name, a.StatusCode, a.cacheStatus())
			}
		}
	}
	for _, tc := range []struct{ name, target string }{
		{"origin", "/a"},
		{"absolute", "http://example.com/a"},
		{"absolute, https", "https://example.com/a"},
		{"two slashes", "//example.com/a"},
		{"absolute without a path", "http://example.com"},
		{"only a query", "http://example.com?a"},
	} {
		in.raw("GET "+tc.target+" HTTP/1.1\nHost: example.com\nConnection: close\n\n").want(t, 200, "", "")
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	t.Cleanup(transport.CloseIdleConnections)
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: fmt.Sprintf("localhost:%d", port), Path: "*"}, Host: "example.com", Header: http.Header{}}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("Cache-Status"); resp.ProtoMajor != 2 || got != "Larder; fwd=bypass; detail=target" {
		t.Errorf("%s: %q", resp.Proto, got)
	}
	for _, entry := range in.entries("").Entries {
		if !strings.HasPrefix(entry.URL, "http://example.com/") {
			t.Errorf("stored: %s", entry.URL)
		}
	}
	if n := in.purge(`{"hosts":["example.com"]}`); n != 6 || len(in.entries("").Entries) != 0 {
		t.Errorf("a purge of the host matched %d, left are %v", n, in.entries("").Entries)
	}
}

// C26: Caddy takes a Host that is part of no URL for the name in it, and so does the origin. What
// an unsafe request with one changes stayed stored under the URLs of that name.
func TestUnsafeRequestByAHostThatIsPartOfNoURL(t *testing.T) {
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	port := freePort(t)
	in := start(t, setup{site: "respond unused", more: fmt.Sprintf("http://a.test:%d {\nlarder\nreverse_proxy {{origin}}\n}", port)}, o)
	in.port = port
	ask := func(method, host string) *answer {
		return in.raw(method + " /p HTTP/1.1\nHost: " + host + "\nConnection: close\n\n")
	}
	for _, stored := range []string{"a.test", fmt.Sprint("a.test:", port)} {
		for _, host := range []string{"a.test:0", "a.test:99999", "a.test:+80", "a.test:x", "a.test:80;", "[a.test]", "[a.test]:80"} {
			ask(http.MethodGet, stored)
			if !ask(http.MethodGet, stored).isHit() {
				t.Fatalf("%s is not stored", stored)
			}
			ask(http.MethodPost, host).want(t, 200, "", "")
			if a := ask(http.MethodGet, stored); a.isHit() {
				t.Errorf("%s after a POST by %s: %q", stored, host, a.cacheStatus())
			}
		}
	}
}

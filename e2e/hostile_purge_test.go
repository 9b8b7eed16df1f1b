package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
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

// C19: Caddy's own checks of Host and Origin stand before the admin API, and what a browser can send without asking first does not purge.
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
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
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

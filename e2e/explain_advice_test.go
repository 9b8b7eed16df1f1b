package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// greeting is an origin with a page for each member, by the cookie sid, and one for all others. It
// reads cookies as strict parsers do, which find none behind a semicolon that follows no cookie.
func greeting(w http.ResponseWriter, r *http.Request) {
	body := "hello"
	if strings.HasPrefix(r.Header.Get("Cookie"), ";") {
		r.Header.Del("Cookie")
	}
	if sid, err := r.Cookie("sid"); err == nil {
		body += ", member " + sid.Value
	}
	_, _ = w.Write([]byte(body))
}

// advised are the lines that a verdict says to write.
var advised = regexp.MustCompile("`((?:request_header|cookie) [^`]+)`")

// TestAdviceOnCookies follows what explain says to change about a request with cookies: the page is
// stored then, and no member's page is answered to others.
func TestAdviceOnCookies(t *testing.T) {
	for name, c := range map[string]struct{ cookie, advice string }{
		"analytics":             {"_ga=1", "request_header"},
		"a session":             {"sid=1", "key"},
		"a session beside both": {"_ga=1; sid=1; _gid=2", "both"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, greeting)
			in := start(t, proxied(block("ttl 10m")), o)
			e := in.explain(map[string]any{"url": in.url("/"), "headers": map[string]any{"Cookie": c.cookie}})
			front, key := "", ""
			for _, line := range advised.FindAllStringSubmatch(e.Verdict, -1) {
				if words := line[1]; strings.HasPrefix(words, "request_header") {
					front += words + "\n"
				} else if key == "" && c.advice != "request_header" {
					key = "key {\n" + words + "\n}"
				}
			}
			if (front != "") != (c.advice != "key") || (key != "") != (c.advice != "request_header") {
				t.Fatalf("the advice is %q and %q of\n%s", front, key, e.Verdict)
			}
			in.load(setup{site: front + block("ttl 10m", key) + "\nreverse_proxy {{origin}}"}, o)
			first := in.get("/", "Cookie", c.cookie)
			if again := in.get("/", "Cookie", c.cookie); !strings.HasPrefix(again.cacheStatus(), "Larder; hit") || again.body != first.body {
				t.Errorf("%q, then %q with %s, by\n%s%s", first.body, again.body, again.cacheStatus(), front, key)
			}
			in.get("/", "Cookie", "_ga=3; sid=2").want(t, 200, "hello, member 2", "")
			in.get("/", "Cookie", "sid=3").want(t, 200, "hello, member 3", "")
			in.get("/").want(t, 200, "hello", "")
		})
	}
}

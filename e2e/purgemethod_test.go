package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// purging is a site whose PURGE the lines are for, with pages that have a tag.
func purging(t *testing.T, lines ...string) (*instance, *origin) {
	t.Helper()
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=600", "Surrogate-Key", "page"))
	return start(t, proxied(block(append(append([]string{"purge_method {"}, lines...), "}")...)), o), o
}

// wantStored asks for a page that has to be stored still.
func wantStored(t *testing.T, in *instance, what string) {
	t.Helper()
	if a := in.get("/page"); !a.isHit() {
		t.Errorf("%s: the page is gone: %q", what, a.cacheStatus())
	}
}

// TestPurgeNeedsTheRight: a token in either field, an address, or both where both are given. The
// answers to those without it are the same whatever is stored.
func TestPurgeNeedsTheRight(t *testing.T) {
	const wrong, elsewhere = `{"error":"PURGE needs a token here; send it in Authorization: Bearer, or in X-Purge-Token"}`, `{"error":"PURGE is not allowed from this address"}`
	for i, tc := range []struct {
		name   string
		lines  []string
		header []string
		status int
		body   string
	}{
		{"no token", []string{"token hush"}, nil, 401, wrong},
		{"a wrong token", []string{"token hush"}, []string{"Authorization", "Bearer hus"}, 401, wrong},
		{"a longer token", []string{"token hush"}, []string{"X-Purge-Token", "hush2"}, 401, wrong},
		{"an empty token", []string{"token hush"}, []string{"X-Purge-Token", ""}, 401, wrong},
		{"another scheme", []string{"token hush"}, []string{"Authorization", "Basic hush"}, 401, wrong},
		{"two tokens", []string{"token hush"}, []string{"X-Purge-Token", "hush", "X-Purge-Token", "hush"}, 401, wrong},
		{"the token as the URL's", []string{"token hush"}, []string{"Cookie", "token=hush"}, 401, wrong},
		{"a token of a placeholder that is empty", []string{"token {env.LARDER_TEST_NONE}"}, []string{"X-Purge-Token", ""}, 401, wrong},
		{"what is left of a token", []string{"token a{env.LARDER_TEST_NONE}"}, []string{"X-Purge-Token", "a"}, 401, wrong},
		{"another address", []string{"allow 192.0.2.7"}, nil, 403, elsewhere},
		{"another address, the token", []string{"allow 192.0.2.7", "token hush"}, []string{"X-Purge-Token", "hush"}, 403, elsewhere},
		{"the address, a wrong token", []string{"allow 127.0.0.0/8", "token hush"}, []string{"X-Purge-Token", "h"}, 401, wrong},
		{"a forged address", []string{"allow 192.0.2.7"}, []string{"X-Forwarded-For", "192.0.2.7", "Forwarded", "for=192.0.2.7", "X-Real-Ip", "192.0.2.7"}, 403, elsewhere},
		{"the address", []string{"allow 127.0.0.0/8 ::1"}, nil, 200, ""},
		{"private ranges", []string{"allow private_ranges"}, nil, 200, ""},
		{"the token as a bearer's", []string{"token hush"}, []string{"Authorization", "bearer hush"}, 200, ""},
		{"the token in its own field", []string{"token hush"}, []string{"X-Purge-Token", "hush", "Authorization", "Basic eA=="}, 200, ""},
		{"a token of a placeholder", []string{"token {env.LARDER_TEST_TOKEN}"}, []string{"X-Purge-Token", "from-the-env"}, 200, ""},
		{"both", []string{"allow 127.21.0.0/16", "token hush"}, []string{"Authorization", "Bearer hush"}, 200, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("LARDER_TEST_TOKEN", "from-the-env")
			in, o := purging(t, tc.lines...)
			in = in.from(t, fmt.Sprintf("127.21.0.%d", i+1)) // whose refusals are counted apart
			in.get("/page")
			for _, tags := range []string{"page", "nothing"} {
				a := in.do("PURGE", "/page", "", append([]string{"xkey", tags}, tc.header...)...)
				if tc.status == 200 {
					a.want(t, 200, fmt.Sprintf("{\"matched\":%d,\"soft\":false,\"dry_run\":false}\n", strings.Count(tags, "page")), "")
					continue
				}
				a.want(t, tc.status, tc.body+"\n", "")
				if challenge := a.Header.Get("WWW-Authenticate"); (challenge == "Bearer") != (tc.status == 401) {
					t.Errorf("WWW-Authenticate %q", challenge)
				}
				wantStored(t, in, tags)
			}
			o.asked(t, 1)
		})
	}
}

// TestPurgeMethodBehindATrustedProxy: the address is the one that Caddy's trusted proxies name, and
// only theirs.
func TestPurgeMethodBehindATrustedProxy(t *testing.T) {
	for _, tc := range []struct {
		trusted, forwarded string
		status             int
	}{
		{"127.0.0.1/8 ::1", "192.0.2.7", 200},
		{"127.0.0.1/8 ::1", "192.0.2.8", 403},
		{"127.0.0.1/8 ::1", "192.0.2.7, 192.0.2.8", 403},
		{"10.0.0.0/8", "192.0.2.7", 403},
	} {
		s := proxied(block("purge_method {\nallow 192.0.2.7\n}"))
		s.global = "servers {\ntrusted_proxies static " + tc.trusted + "\ntrusted_proxies_strict\n}"
		in := start(t, s, newOrigin(t, answering(200))).from(t, "127.0.0.1")
		in.do("PURGE", "/page", "", "X-Forwarded-For", tc.forwarded).want(t, tc.status, "", "")
	}
}

// TestRefusedPurges: who may not purge is told why ten times, and then to wait. A valid token gets
// through all the same, from the same address.
func TestRefusedPurges(t *testing.T) {
	in, _ := purging(t, "token hush")
	in = in.from(t, "127.22.0.1")
	in.get("/page")
	statuses, begun := make(map[int]int), time.Now()
	for range 100 {
		a := in.do("PURGE", "/page", "", "X-Purge-Token", "guess")
		statuses[a.StatusCode]++
		if wait := a.Header.Get("Retry-After"); (wait != "") != (a.StatusCode == http.StatusTooManyRequests) {
			t.Fatalf("%d with Retry-After %q", a.StatusCode, wait)
		}
	}
	// One more is told why every six seconds.
	if most := 11 + secondsSince(begun)/6; statuses[401] > most || statuses[401]+statuses[429] != 100 {
		t.Errorf("statuses %v", statuses)
	}
	wantStored(t, in, "refused")
	in.do("PURGE", "/page", "", "X-Purge-Token", "hush").want(t, 200, "{\"matched\":1,\"soft\":false,\"dry_run\":false}\n", "")
}

// TestPurgeOfAPage: the URL goes with its variants, its spellings and in either scheme, and no
// other one.
func TestPurgeOfAPage(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=600", "Vary", "Accept-Language"))
	in := start(t, proxied(block("key {\nquery sort\nquery ignore utm_*\n}", "purge_method {\nallow 127.0.0.1 ::1\n}")), o)
	in.get("/page?b=2&a=1", "Accept-Language", "de")
	in.get("/page?a=1&b=2", "Accept-Language", "fr")
	in.get("/page?a=1", "Accept-Language", "de")
	in.get("/\u00fc")
	before := in.metric("caddy_larder_purged_total", `selector="url"`)
	in.do("PURGE", "/page?utm_x=y&b=2&a=1", "").want(t, 200, "{\"matched\":2,\"soft\":false,\"dry_run\":false}\n", "")
	in.do("PURGE", "/page?utm_x=y&b=2&a=1", "", "Purge-Method", "soft").want(t, 200, "{\"matched\":0,\"soft\":true,\"dry_run\":false}\n", "")
	in.do("PURGE", "/%C3%BC", "").want(t, 200, "{\"matched\":1,\"soft\":false,\"dry_run\":false}\n", "")
	if a := in.get("/page?a=1", "Accept-Language", "de"); !a.isHit() {
		t.Errorf("another query is gone: %q", a.cacheStatus())
	}
	if got := in.metric("caddy_larder_purged_total", `selector="url"`) - before; got != 2*3 {
		t.Errorf("%v URLs are counted", got)
	}
}

// TestPurgeInTheOtherScheme: plugins purge in clear text what is served over TLS.
func TestPurgeInTheOtherScheme(t *testing.T) {
	o := newOrigin(t, answering(200, "Cache-Control", "max-age=600"))
	plain, secure := startTLS(t, o)
	site := strings.ReplaceAll(plain.file, "\nlarder\n", "\nlarder {\npurge_method {\nallow 127.0.0.1 ::1\n}\n}\n")
	loadOver(t, strings.Replace(site, "auto_https off", "auto_https disable_redirects", 1), plain.port, secure.port)
	host := fmt.Sprintf("example.com:%d", secure.port)
	secure.get("/page", "Host", host)
	plain.raw(fmt.Sprintf("PURGE /page HTTP/1.1\nHost: %s\n\n", host)).want(t, 200, "{\"matched\":1,\"soft\":false,\"dry_run\":false}\n", "")
}

// TestPurgeThatIsNotUnderstood: it is answered with what to send, as JSON in which nothing is a
// page's, and purges nothing.
func TestPurgeThatIsNotUnderstood(t *testing.T) {
	in, o := purging(t, "allow 127.0.0.1 ::1")
	in.get("/page")
	long := strings.Repeat("x", 300)
	for _, tc := range []struct {
		name, target, body string
		header             []string
		says               string
	}{
		{"a regular expression", "/p(age|ost)", "", []string{"X-Purge-Method: regex"}, "is a regular expression"},
		{"a regular expression without an end", "/page", "", []string{"X-Purge-Method: regex"}, "is a regular expression"},
		{"an asterisk within", "/p*/e", "", nil, "has an asterisk within"},
		{"a query behind the wildcard", "/page*?x=1", "", nil, "a query stands behind the wildcard"},
		{"asterisk-form", "*", "", nil, "asks for no URL"},
		{"an unknown manner", "/page", "", []string{"X-Purge-Method: fuzzy"}, "is not known"},
		{"a field without a tag", "/page", "", []string{"xkey: "}, "has no tag"},
		{"odd bytes", "/page", "", []string{"xkey: p\xe4ge"}, "is not a tag"},
		{"a long tag", "/page", "", []string{"xkey: " + long}, "too long"},
		{"HTML", "/page", "", []string{"xkey: <script>\xfc</script>"}, `\u003cscript\u003e`},
		{"a body", "/page", `{"tags":["page"]}`, nil, "has no body"},
		{"tags and a regular expression", "/page", "", []string{"xkey: page", "X-Purge-Method: regex"}, "are not compared with regular expressions"},
		{"soft and hard", "/page", "", []string{"xkey: page", "xkey-softpurge: page"}, "send two requests"},
		{"tags that are missing", "/page", "", []string{"X-Purge-Method: tags"}, "no field has one"},
		{"everything", "/page", "", []string{"Clear-Cache: true"}, "knows by a tag"},
		{"a ban", "/page", "", []string{"X-Ban-Regex: ^/page"}, "X-Ban-Regex is not read"},
		{"an expression of tags", "/page", "", []string{"X-Cache-Tags: (^|,)pa.*"}, "is a regular expression"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := strings.Join(append(tc.header, fmt.Sprintf("Content-Length: %d", len(tc.body))), "\n")
			a := in.raw(fmt.Sprintf("PURGE %s HTTP/1.1\nHost: localhost:%d\n%s\n\n%s", tc.target, in.port, header, tc.body))
			if a.StatusCode != 400 || !strings.Contains(a.body, tc.says) || strings.ContainsAny(a.body, "<>") {
				t.Errorf("%d %s, want 400 with %q", a.StatusCode, a.body, tc.says)
			}
			if a.Header.Get("Content-Type") != "application/json" || a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("header %v", a.Header)
			}
			wantStored(t, in, tc.name)
		})
	}
	for many, status := range map[int]int{1_000_000: 431, 5_000: 200} { // the first is Caddy's to refuse
		in.raw(fmt.Sprintf("PURGE / HTTP/1.1\nHost: localhost:%d\nxkey: %s page\n\n", in.port, strings.Repeat("no ", many))).want(t, status, "", "")
	}
	if a := in.get("/page"); a.isHit() {
		t.Errorf("a tag behind many others is not purged: %q", a.cacheStatus())
	}
	o.asked(t, 2)
}

// TestPurgeLeavesALine: one line says who has purged what, and one who was refused.
func TestPurgeLeavesALine(t *testing.T) {
	log := t.TempDir() + "/log"
	s := proxied(block("purge_method {\ntoken hush\n}"))
	s.log = "output file " + log + "\nlevel INFO"
	in := start(t, s, newOrigin(t, answering(200))).from(t, "127.23.0.1")
	in.do("PURGE", "/page", "", "X-Purge-Token", "hush", "xkey", "a b")
	in.do("PURGE", "/page", "", "X-Purge-Token", "guess")
	for _, want := range []string{
		`"msg":"purge","remote_addr":"`, `"method":"PURGE","client_ip":"`, `"tags":["a","b"],"all":false,"soft":false,"dry_run":false,"matched":0}`,
		`"msg":"a PURGE was refused","remote_addr":"`, `"uri":"/page","status":401}`,
	} {
		eventually(t, want, func() bool { return strings.Contains(readLog(t, log), want) })
	}
	if text := readLog(t, log); strings.Contains(text, "hush") || strings.Contains(text, "guess") {
		t.Errorf("the log has a token:\n%s", text)
	}
}

// TestPurgeMethodAcrossAReload: what is configured now holds, and so do the refusals of before.
func TestPurgeMethodAcrossAReload(t *testing.T) {
	in, o := purging(t, "token one")
	in.get("/page")
	in.load(proxied(block("purge_method {\ntoken two\n}")), o)
	in.from(t, "127.24.0.1").do("PURGE", "/page", "", "X-Purge-Token", "one").want(t, 401, "", "")
	wantStored(t, in, "the token of before")
	in.do("PURGE", "/page", "", "X-Purge-Token", "two").want(t, 200, "{\"matched\":1,\"soft\":false,\"dry_run\":false}\n", "")
	in.load(proxied("larder"), o)
	in.do("PURGE", "/page", "", "X-Purge-Token", "two").want(t, 200, "", "Larder; fwd=bypass; detail=method")
}

func readLog(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

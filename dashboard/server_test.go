package dashboard

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// admin is an admin API that notes what it is sent and answers 200 with {"ok":true}.
type admin struct {
	requests []*http.Request
	bodies   []string
	answer   http.Response // Status and Header, if StatusCode is set
	body     string
	err      error
}

func (a *admin) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.requests, a.bodies = append(a.requests, r), append(a.bodies, string(body))
	if a.err != nil {
		return nil, a.err
	}
	answer, text := a.answer, `{"ok":true}`
	if answer.StatusCode == 0 {
		answer.StatusCode = http.StatusOK
	} else {
		text = a.body
	}
	answer.Body = io.NopCloser(strings.NewReader(text))
	return &answer, nil
}

// dashboard returns a Server before a, and what sends it a request: the page's own, with its token,
// as edit changes it.
func dashboard(a *admin, options Options) (*Server, func(method, target, body string, edit func(*http.Request)) *http.Response) {
	options.Admin, options.Address = a, "localhost:2019"
	s := New(options)
	return s, func(method, target, body string, edit func(*http.Request)) *http.Response {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		r.Host = "127.0.0.1:8090"
		r.Header.Set("Authorization", "Bearer "+s.token)
		if edit != nil {
			edit(r)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result()
	}
}

// sentence returns the error of a refusal, which must be a sentence in JSON.
func sentence(t *testing.T, response *http.Response) string {
	t.Helper()
	var answer struct{ Error string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || !strings.HasSuffix(answer.Error, ".") {
		t.Errorf("refused with %q (%v), not with a sentence", answer.Error, err)
	}
	return answer.Error
}

func set(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func host(name string) func(*http.Request) {
	return func(r *http.Request) { r.Host = name }
}

func TestRefuses(t *testing.T) {
	tests := []struct {
		name           string
		method, target string
		edit           func(*http.Request)
		status         int
		says           string
	}{
		{"a rebound name", "GET", "/larder/stats", host("attacker.example:8090"), 403, "Host"},
		{"a rebound name, for the page", "GET", "/", host("attacker.example"), 403, "Host"},
		{"a name that begins with the right one", "GET", "/larder/stats", host("localhost.attacker.example"), 403, "Host"},
		{"a name that ends with the right one", "GET", "/larder/stats", host("not-localhost"), 403, "Host"},
		{"no Host", "GET", "/larder/stats", host(""), 403, "Host"},
		{"an address of another machine", "GET", "/larder/stats", host("192.0.2.1:8090"), 403, "Host"},
		{"the unspecified address", "GET", "/larder/stats", host("0.0.0.0:8090"), 403, "Host"},

		{"a foreign origin", "POST", "/larder/purge", set("Origin", "https://attacker.example"), 403, "origin"},
		{"an opaque origin", "POST", "/larder/purge", set("Origin", "null"), 403, "origin"},
		{"an empty origin", "POST", "/larder/purge", set("Origin", ""), 403, "origin"},
		{"another port of this host", "POST", "/larder/purge", set("Origin", "http://127.0.0.1:3000"), 403, "origin"},
		{"another name of this host", "POST", "/larder/purge", set("Origin", "http://localhost:8090"), 403, "origin"},
		{"another scheme", "POST", "/larder/purge", set("Origin", "https://127.0.0.1:8090"), 403, "origin"},
		{"two origins", "POST", "/larder/purge", func(r *http.Request) {
			r.Header["Origin"] = []string{"http://127.0.0.1:8090", "https://attacker.example"}
		}, 403, "origin"},
		{"what another site makes the browser send", "GET", "/larder/stats", set("Sec-Fetch-Site", "cross-site"), 403, "origin"},
		{"what another port makes the browser send", "GET", "/larder/stats", set("Sec-Fetch-Site", "same-site"), 403, "origin"},
		{"a script of the page, included elsewhere", "GET", "/static/main.js", set("Sec-Fetch-Site", "cross-site"), 403, "origin"},
		{"the page in a frame", "GET", "/", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "no-cors")
		}, 403, "origin"},

		{"no token", "GET", "/larder/stats", func(r *http.Request) { r.Header.Del("Authorization") }, 401, "token"},
		{"an empty token", "GET", "/larder/stats", set("Authorization", "Bearer "), 401, "token"},
		{"a wrong token", "GET", "/larder/stats", set("Authorization", "Bearer "+strings.Repeat("0", 64)), 401, "token"},
		{"the token as a password", "GET", "/larder/stats", func(r *http.Request) {
			r.SetBasicAuth("larder", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		}, 401, "token"},
		{"the token as a cookie", "GET", "/larder/stats", func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "token", Value: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")})
			r.Header.Del("Authorization")
		}, 401, "token"},
		{"no token, where nothing is", "GET", "/load", func(r *http.Request) { r.Header.Del("Authorization") }, 401, "token"},
		{"no token, for what it shows", "GET", "/about", func(r *http.Request) { r.Header.Del("Authorization") }, 401, "token"},

		{"Caddy's configuration", "GET", "/config/", nil, 404, "path"},
		{"another configuration", "POST", "/load", nil, 404, "path"},
		{"adapting one", "POST", "/adapt", nil, 404, "path"},
		{"an end to Caddy", "POST", "/stop", nil, 404, "path"},
		{"an id in the configuration", "GET", "/id/x", nil, 404, "path"},
		{"Caddy's metrics", "GET", "/metrics", nil, 404, "path"},
		{"profiles", "GET", "/debug/pprof/", nil, 404, "path"},
		{"a path that climbs", "POST", "/larder/../load", nil, 404, "path"},
		{"a path that climbs by escapes", "POST", "/larder/entries/%2e%2e%2f%2e%2e%2fload", nil, 404, "path"},
		{"a path that climbs out of the files", "POST", "/static/../load", nil, 404, "page"},
		{"an escaped letter", "GET", "/larder/%73tats", nil, 404, "path"},
		{"an empty part", "GET", "//larder/stats", nil, 404, "path"},
		{"a tail", "GET", "/larder/stats/", nil, 404, "path"},
		{"an entry below an entry", "GET", "/larder/entries/a/b", nil, 404, "path"},
		{"what the admin API may have tomorrow", "POST", "/larder/compact", nil, 404, "path"},
		{"the wrong method", "GET", "/larder/purge", nil, 405, "POST"},
		{"a POST where none is", "POST", "/larder/stats", nil, 405, "GET"},
		{"DELETE", "DELETE", "/larder/entries/abc", nil, 405, "GET"},
		{"a CORS preflight", "OPTIONS", "/larder/stats", nil, 405, "GET"},
		{"a POST to the page", "POST", "/", nil, 405, "GET"},
		{"a file that is not there", "GET", "/static/x.js", nil, 404, "page"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := new(admin)
			_, send := dashboard(a, Options{})
			response := send(test.method, test.target, "{}", test.edit)
			if response.StatusCode != test.status {
				t.Errorf("%s %s: %d, want %d", test.method, test.target, response.StatusCode, test.status)
			}
			if says := sentence(t, response); !strings.Contains(says, test.says) {
				t.Errorf("says %q, want %q in it", says, test.says)
			}
			if len(a.requests) > 0 {
				t.Errorf("the admin API was sent %s %s", a.requests[0].Method, a.requests[0].URL)
			}
			if test.status == 405 && response.Header.Get("Allow") == "" {
				t.Error("405 without Allow (RFC 9110 15.5.6)")
			}
			if test.status == 401 && response.Header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate (RFC 9110 15.5.2)")
			}
			if got := response.Header.Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("it allows the origin %q", got)
			}
		})
	}
}

func TestPassesOn(t *testing.T) {
	for _, test := range []struct{ method, target, body string }{
		{"GET", "/larder/stats", ""},
		{"GET", "/larder/stats?zone=shop", ""},
		{"GET", "/larder/history?step=10s", ""},
		{"GET", "/larder/top?by=misses&limit=20", ""},
		{"GET", "/larder/entries?prefix=http%3A%2F%2Fexample.com%2F%3Ca%3E&limit=50", ""},
		{"GET", "/larder/entries/aGVsbG8_-", ""},
		{"GET", "/larder/fleet", ""},
		{"POST", "/larder/purge", `{"tags":["a"],"dry_run":true}`},
		{"POST", "/larder/explain", `{"url":"http://example.com/"}`},
	} {
		a := new(admin)
		_, send := dashboard(a, Options{})
		response := send(test.method, test.target, test.body, func(r *http.Request) {
			r.Header.Set("Origin", "http://127.0.0.1:8090")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			r.Header.Set("Sec-Fetch-Mode", "cors")
			r.Header.Set("Referer", "http://127.0.0.1:8090/")
			r.Header.Set("Cookie", "of=another-port")
		})
		if body, _ := io.ReadAll(response.Body); response.StatusCode != 200 || string(body) != `{"ok":true}` {
			t.Errorf("%s %s: %d %s", test.method, test.target, response.StatusCode, body)
			continue
		}
		sent := a.requests[0]
		if sent.Method != test.method || sent.URL.RequestURI() != test.target || a.bodies[0] != test.body {
			t.Errorf("%s %s became %s %s with %q", test.method, test.target, sent.Method, sent.URL.RequestURI(), a.bodies[0])
		}
		for name := range sent.Header {
			if name != "Content-Type" {
				t.Errorf("%s of the browser's reached the admin API", name)
			}
		}
	}
}

// TestHostsOfItsOwn are those of a loopback listener, with any port: ssh -L has another one.
func TestHostsOfItsOwn(t *testing.T) {
	for _, name := range []string{"127.0.0.1:8090", "127.0.0.1", "localhost:9000", "LOCALHOST", "[::1]:8090", "[::1]", "127.0.0.53:1", "larder.internal:80"} {
		_, send := dashboard(new(admin), Options{Hosts: []string{"larder.internal"}})
		if response := send("GET", "/larder/stats", "", host(name)); response.StatusCode != 200 {
			t.Errorf("Host %s: %d", name, response.StatusCode)
		}
	}
	_, send := dashboard(new(admin), Options{AnyAddress: true})
	for name, status := range map[string]int{"192.0.2.1:8090": 200, "[2001:db8::1]:8090": 200, "rebound.example:8090": 403} {
		if response := send("GET", "/larder/stats", "", host(name)); response.StatusCode != status {
			t.Errorf("Host %s of a server that listens everywhere: %d, want %d", name, response.StatusCode, status)
		}
	}
}

// TestALinkOpensThePage, which has no figures in it, and the page's own files need no token: a
// browser does not send the fragment that has it.
func TestALinkOpensThePage(t *testing.T) {
	_, send := dashboard(new(admin), Options{})
	for _, target := range []string{"/", "/static/main.js", "/static/dashboard.css", "/static/icon.svg", "/static/vendor/uPlot.esm.js"} {
		response := send("GET", target, "", func(r *http.Request) {
			r.Header.Del("Authorization")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			if target == "/" {
				r.Header.Set("Sec-Fetch-Site", "cross-site")
				r.Header.Set("Sec-Fetch-Mode", "navigate")
			}
		})
		if response.StatusCode != 200 {
			t.Errorf("%s: %d", target, response.StatusCode)
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	s, send := dashboard(new(admin), Options{})
	for _, target := range []string{"/", "/static/main.js", "/larder/stats", "/load", "/nowhere"} {
		header := send("GET", target, "", nil).Header
		for name, value := range map[string]string{
			"Content-Security-Policy": contentSecurityPolicy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if header.Get(name) != value {
				t.Errorf("%s: %s: %q, want %q", target, name, header.Get(name), value)
			}
		}
		if strings.HasPrefix(target, "/larder/") && header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be stored: %q", target, header.Get("Cache-Control"))
		}
	}
	for _, unsafe := range []string{"unsafe-", "http:", "https:", "data:", "blob:", "*"} {
		if strings.Contains(contentSecurityPolicy, unsafe) {
			t.Errorf("the policy has %s", unsafe)
		}
	}
	if len(s.token) < 64 || New(Options{}).token == s.token {
		t.Errorf("the token %q can be guessed", s.token)
	}
}

// TestThePageHasNothingInline and nothing from elsewhere: the policy would keep it from working.
func TestThePageHasNothingInline(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<style|<script[^>]*>[^<]|\sstyle=|\son[a-z]+=|(src|href)="(https?:)?//`),
		".css":  regexp.MustCompile(`(?i)@import|url\(`),
		".js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|(from|import) '(https?:)?//`),
	}
	for name, f := range page {
		extension := regexp.MustCompile(`\.[a-z]+$`).FindString(name)
		if name == "/" {
			extension = ".html"
		}
		if found := forbidden[extension]; found != nil && found.Match(f.content) {
			t.Errorf("%s has %q", name, found.Find(f.content))
		}
	}
}

// TestVendoredFiles are those of the package uplot 1.6.32 of npm, to the byte.
func TestVendoredFiles(t *testing.T) {
	for name, want := range map[string]string{
		"uPlot.esm.js":  "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
		"uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
		"uPlot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
	} {
		if got := fmt.Sprintf("%x", sha256.Sum256(page["/static/vendor/"+name].content)); got != want {
			t.Errorf("%s has the digest %s", name, got)
		}
	}
}

// TestAnswersOfAnotherServer: what is at the address of the admin API may be none. Its answer does
// not become a page of the dashboard's origin, sets nothing and leads nowhere.
func TestAnswersOfAnotherServer(t *testing.T) {
	a := &admin{
		answer: http.Response{StatusCode: 302, Header: http.Header{
			"Content-Type": {"text/html"}, "Location": {"https://attacker.example/"}, "Set-Cookie": {"a=b"}, "Access-Control-Allow-Origin": {"*"},
		}},
		body: "<script>alert(1)</script>",
	}
	_, send := dashboard(a, Options{})
	response := send("GET", "/larder/stats", "", nil)
	if response.StatusCode != 302 || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", response.StatusCode, response.Header.Get("Content-Type"))
	}
	for _, name := range []string{"Location", "Set-Cookie", "Access-Control-Allow-Origin"} {
		if response.Header.Get(name) != "" {
			t.Errorf("%s was passed on", name)
		}
	}
}

func TestFailures(t *testing.T) {
	_, send := dashboard(&admin{err: errors.New("connection refused")}, Options{})
	response := send("GET", "/larder/stats", "", nil)
	if says := sentence(t, response); response.StatusCode != 502 || !strings.Contains(says, "localhost:2019") {
		t.Errorf("no Caddy: %d %s", response.StatusCode, says)
	}

	_, send = dashboard(new(admin), Options{})
	response = send("POST", "/larder/purge", strings.Repeat(" ", maxBodyBytes+1), nil)
	if says := sentence(t, response); response.StatusCode != 413 {
		t.Errorf("a large body: %d %s", response.StatusCode, says)
	}

	refusing := &admin{answer: http.Response{StatusCode: 400}, body: `{"error":"nothing is selected"}`}
	_, send = dashboard(refusing, Options{})
	response = send("POST", "/larder/purge", "{}", nil)
	if body, _ := io.ReadAll(response.Body); response.StatusCode != 400 || string(body) != refusing.body {
		t.Errorf("an error of the admin API: %d %s", response.StatusCode, body)
	}
}

// FuzzHost: a Host that is accepted names this machine, and the name is one that no DNS answers
// for.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"localhost:80", "[::1]:80", "127.0.0.1", "[::1", "::1", "localhost.attacker.example", "127.0.0.1.attacker.example:80", "[::ffff:127.0.0.1]:1", "[fe80::1%25lo]:1"} {
		f.Add(seed)
	}
	s := New(Options{})
	f.Fuzz(func(t *testing.T, authority string) {
		if !s.isOwnHost(authority) {
			return
		}
		name, _, err := net.SplitHostPort(authority)
		if err != nil {
			if name, _, err = net.SplitHostPort(authority + ":80"); err != nil {
				t.Fatalf("%q is accepted, and no authority: %v", authority, err)
			}
		}
		if ip := net.ParseIP(name); strings.ToLower(name) != "localhost" && (ip == nil || !ip.IsLoopback()) {
			t.Errorf("%q is accepted", authority)
		}
	})
}

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What an attacker sends, to a site whose origin gives everything back and calls it public. Each
// test stands for a row of the table in SECURITY.md. Requests that net/http's client refuses to
// send are written to the socket as they are.

// marker is what no clean request may ever get to see.
const marker = "marker-of-the-attacker"

// clean fails the test if an answer has the attacker's marker, in its body or its header.
func (a *answer) clean(t *testing.T) {
	t.Helper()
	if strings.Contains(a.body, marker) {
		t.Errorf("poisoned (%s): %s", a.cacheStatus(), a.body)
	}
	for name, values := range a.Header {
		if strings.Contains(strings.Join(values, ","), marker) {
			t.Errorf("poisoned: %s: %s", name, values)
		}
	}
}

// defended are the fields that cannot poison anything by default, and how that is.
var defended = map[string][]string{
	"bypass": {"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"},
	"keyed": {
		"Forwarded", "Front-End-Https", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Forwarded-Server",
		"X-Forwarded-Ssl", "X-Host", "X-HTTP-Host-Override", "X-Original-Host", "X-Scheme", "X-Url-Scheme", "X-Proto",
		"X-Script-Name", "X-Base-Path", "X-Forwarded-Context", "X-Forwarded-Path", "X-Forwarded-Uri", "X-Forwarded-Url", "X-Forwarded-Method",
		"X-Original-URI", "X-Original-Method", "X-Request-URI", "X-Envoy-Original-Path", "X-MS-Original-URL",
	},
	"overwritten": {"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}, // by reverse_proxy
	"dropped": {
		// By the fill.
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range",
		"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Trailer", // hop by hop
	},
}

// undefended are fields that an origin may well look at, but without which no ordinary request
// comes. Only the operator knows.
var undefended = []string{
	"X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "Client-IP", "X-Originating-IP", "X-Cluster-Client-IP", "X-Wap-Profile",
	"User-Agent", "Referer", "Origin", "Accept", "Accept-Language", "X-Requested-With", "X-Ghost-Preview", "X-Anything-Else", "Via",
}

// C1: one asks first, with a field that the origin gives back; the next asks without.
func TestUnkeyedHeaders(t *testing.T) {
	o := newOrigin(t, echo)
	in := start(t, proxied("larder"), o)
	for how, names := range defended {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				path := "/" + name
				attack := in.get(path, name, marker)
				attack.want(t, 200, "", "")
				if reached := strings.Contains(attack.body, marker); reached != (how == "bypass" || how == "keyed") {
					t.Errorf("the origin has seen it: %v", reached)
				}
				if how == "bypass" && attack.cacheStatus() != "Larder; fwd=bypass; detail=override" {
					t.Errorf("Cache-Status %q", attack.cacheStatus())
				}
				in.get(path).clean(t)
				again := in.get(path)
				again.clean(t)
				if !again.isHit() {
					t.Errorf("the clean answer is not stored: %q", again.cacheStatus())
				}
			})
		}
	}
}

// What only the operator can know has two remedies: the field is made part of the key, or taken
// away.
func TestUnkeyedHeadersOfTheOperator(t *testing.T) {
	for _, remedy := range []struct{ name, site string }{
		{"keyed", "larder {\nkey {\nheader " + strings.Join(undefended, " ") + "\n}\n}\nreverse_proxy {{origin}}"},
		{"taken away", "request_header -" + strings.Join(undefended, "\nrequest_header -") + "\nlarder\nreverse_proxy {{origin}}"},
	} {
		t.Run(remedy.name, func(t *testing.T) {
			in := start(t, setup{site: remedy.site}, newOrigin(t, echo))
			for _, name := range undefended {
				in.get("/"+name, name, marker).want(t, 200, "", "")
				in.get("/" + name).clean(t)
				if again := in.get("/" + name); !again.isHit() {
					t.Errorf("%s: the clean answer is not stored: %q", name, again.cacheStatus())
				}
			}
		})
	}
}

// C1 behind a proxy that is trusted: what it says reaches the origin, and each answer is for those
// of whom the same was said.
func TestClaimsOfATrustedProxy(t *testing.T) {
	s := proxied("larder")
	s.global = "servers {\ntrusted_proxies static private_ranges\n}"
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("X-Forwarded-Proto") == "http" {
			w.Header().Set("Location", "https://"+r.Header.Get("X-Forwarded-Host")+r.URL.Path)
			w.WriteHeader(http.StatusMovedPermanently)
			return
		}
		_, _ = io.WriteString(w, "the page of "+r.Header.Get("X-Forwarded-Host"))
	})
	in := start(t, s, o)
	for range 2 { // fetched, then hit
		in.get("/", "X-Forwarded-Proto", "http", "X-Forwarded-Host", "a.test").want(t, 301, "", "")
		in.get("/", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "a.test").want(t, 200, "the page of a.test", "")
		in.get("/", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "b.test").want(t, 200, "the page of b.test", "")
	}
	o.asked(t, 3)
	for _, site := range []string{"http://a.test/", "https://a.test/", "https://b.test/"} {
		if n := in.purge(fmt.Sprintf(`{"urls":[%q]}`, site)); n != 1 {
			t.Errorf("a purge of %s matched %d, want 1", site, n)
		}
	}
}

// C2: without an explicit word of the origin, what was fetched with a cookie is for no other
// client. With it, the origin has answered for it.
func TestUnkeyedCookies(t *testing.T) {
	for _, tc := range []struct {
		name, site, path string
		leaks            bool
	}{
		{"no lifetime", "larder\nreverse_proxy {{origin}}", "/unstated", false},
		{"a lifetime of the operator", "larder {\nttl 1h\n}\nreverse_proxy {{origin}}", "/unstated", false},
		{"forced by the operator", "larder {\nforce_ttl 1h\n}\nreverse_proxy {{origin}}", "/unstated", false},
		{"heuristic", "larder {\nheuristic on\n}\nreverse_proxy {{origin}}", "/unstated", false},
		{"cookie in the key", "larder {\nkey {\ncookie lang\n}\n}\nreverse_proxy {{origin}}", "/", false},
		{"cookie taken away", "request_header -Cookie\nlarder\nreverse_proxy {{origin}}", "/", false},
		// RFC 9111 3: Cookie is like any field.
		{"public by the origin's word", "larder\nreverse_proxy {{origin}}", "/", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := start(t, setup{site: tc.site}, newOrigin(t, echo))
			in.get(tc.path, "Cookie", "lang="+marker).want(t, 200, "", "")
			second := in.get(tc.path)
			if leaks := strings.Contains(second.body, marker); leaks != tc.leaks {
				t.Errorf("the cookie is in another's answer: %v (%s)", leaks, second.cacheStatus())
			}
			in.get(tc.path, "Cookie", "lang=de").want(t, 200, "", "")
		})
	}
}

// C3: a body on GET or HEAD is not in the key, so it takes no part.
func TestFatGet(t *testing.T) {
	o := newOrigin(t, echo)
	in := start(t, proxied("larder {\nkey {\nbody\n}\nmethods GET HEAD POST\n}"), o)
	chunked := fmt.Sprintf("%x\n%s\n0\n\n", len(marker), marker)
	for i, tc := range []struct{ name, method, framing, body string }{
		{"with a length", "GET", fmt.Sprintf("Content-Length: %d", len(marker)), marker},
		{"chunked", "GET", "Transfer-Encoding: chunked", chunked},
		{"chunked, behind an expectation", "GET", "Transfer-Encoding: chunked\nExpect: nothing", chunked},
		{"HEAD", "HEAD", fmt.Sprintf("Content-Length: %d", len(marker)), marker},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := fmt.Sprintf("/%d", i)
			a := in.raw(fmt.Sprintf("%s %s HTTP/1.1\nHost: localhost:%d\nConnection: close\n%s\n\n%s", tc.method, path, in.port, tc.framing, tc.body))
			if a.StatusCode == http.StatusOK && a.cacheStatus() != "Larder; fwd=bypass; detail=body" {
				t.Errorf("Cache-Status %q", a.cacheStatus())
			}
			plain := in.get(path)
			plain.clean(t)
			plain.want(t, 200, "", "Larder; fwd=uri-miss; stored")
			if fat := in.do("GET", path, marker); fat.isHit() {
				t.Error("a GET with a body is answered from the store")
			}
			in.get(path).clean(t)
		})
	}
}

// C9: a fill is everybody's, so it goes without what one client asks for itself alone, and an
// answer to that cannot be stored.
func TestFillCarriesNothingOfOneClients(t *testing.T) {
	o := newOrigin(t, echo)
	in := start(t, proxied("larder"), o)
	for i, tc := range []struct {
		name  string
		lines []string
		gone  []string
	}{
		{"range", []string{"Range: bytes=0-3", `If-Range: "x"`}, []string{"If-Range"}},
		{"conditionals", []string{`If-None-Match: "x"`, "If-Modified-Since: Mon, 02 Jan 2023 03:04:05 GMT"}, []string{"If-None-Match", "If-Modified-Since"}},
		{"preconditions", []string{`If-Match: "x"`, "If-Unmodified-Since: Mon, 02 Jan 2023 03:04:05 GMT"}, []string{"If-Match", "If-Unmodified-Since"}},
		{"expectation", []string{"Expect: 100-continue"}, []string{"Expect"}},
		{"upgrade without a protocol", []string{"Connection: upgrade"}, []string{"Connection", "Upgrade"}},
		{"coding", []string{"TE: trailers, gzip"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := fmt.Sprintf("/%d", i)
			in.raw(fmt.Sprintf("GET %s HTTP/1.1\nHost: localhost:%d\n%s\n\n", path, in.port, strings.Join(tc.lines, "\n")))
			for _, name := range tc.gone {
				if got := o.last().Header[name]; got != nil {
					t.Errorf("the fill carries %s: %q", name, got)
				}
			}
			if got := o.last().Header.Get("Range"); got != "" && got != "bytes=0-4194303" {
				t.Errorf("the fill asks for %s, which is no slice", got)
			}
			in.get(path).want(t, 200, "", "")
			o.asked(t, i+1) // the first answer is not everybody's
		})
	}
}

// C9: whatever they carry, answers to Range, Expect and Upgrade are not stored; an Upgrade goes
// straight through.
func TestErrorsToOddRequests(t *testing.T) {
	for _, status := range []int{206, 416, 417, 426} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			odd := true
			o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60")
				if odd {
					odd = false
					w.WriteHeader(status)
				}
				_, _ = io.WriteString(w, "the page")
			})
			in := start(t, proxied("larder {\nttl 1h 4xx\n}"), o)
			in.get("/").want(t, status, "", "")
			in.get("/").want(t, 200, "the page", "")
		})
	}
	o := newOrigin(t, echo)
	in := start(t, proxied("larder"), o)
	in.rawGet("/", "Upgrade: "+marker).want(t, 200, "", "Larder; fwd=bypass; detail=upgrade")
	in.get("/").clean(t)
}

// C10: what Connection names is dropped on the way to the origin, behind what was decided by it.
// Such a request takes no part.
func TestHopByHopAbuse(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Header.Get("Authorization"), r.Header.Get("X-Key"), r.Header.Get("Cookie"))
	})
	in := start(t, proxied("larder {\nkey {\nheader X-Key\n}\n}"), o)
	for i, named := range []string{"Authorization", "X-Key", "Cookie", "X-Forwarded-For", "Cache-Control", "Host", "close, authorization", "CDN-Loop"} {
		path := fmt.Sprintf("/%d", i)
		a := in.raw(fmt.Sprintf("GET %s HTTP/1.1\nHost: localhost:%d\nConnection: %s\nAuthorization: a\nX-Key: k\nCookie: c=1\n\n", path, in.port, named))
		a.want(t, 200, "", "Larder; fwd=bypass; detail=connection")
		for _, header := range [][]string{nil, {"Authorization", "b"}, {"X-Key", "k"}, {"Cookie", "c=1"}} {
			if other := in.get(path, header...); other.isHit() && header == nil {
				t.Errorf("Connection: %s: the first request without has a hit", named)
			}
			a.clean(t)
		}
	}
}

// C15: no request waits for a fetch whose leader has sent something that the origin may answer to.
func TestLeaderWithOddHeaders(t *testing.T) {
	for _, tc := range []struct {
		name   string
		header []string
	}{
		{"claimed host", []string{"X-Host", marker}},
		{"another method", []string{"X-Http-Method-Override", marker}},
		{"another URL", []string{"X-Original-Url", marker}},
		{"keyed header", []string{"X-Key", marker}},
		{"hop by hop", []string{"Connection", "X-Key"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGate(t, func(w http.ResponseWriter, v *visit) { echo(w, v.Request) })
			in := start(t, proxied("larder {\nkey {\nheader X-Key\n}\n}"), g.origin)
			attack := gather(t, in, 1, "GET", "/", func(int) []string { return tc.header })
			led := g.next(t, 1)
			others := gather(t, in, 10, "GET", "/", func(int) []string { return nil })
			open(g.next(t, 1)...) // theirs comes although the attacker's is under way
			for _, a := range others.all() {
				a.want(t, 200, "", "")
				a.clean(t)
			}
			open(led...)
			attack.all()
			in.get("/").clean(t)
			g.noMore(t)
		})
	}
}

// C16: a hundred at once, each with credentials or a cookie, and an origin that does not say a word
// about caching.
func TestCoalescedPrivateAnswers(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+r.Header.Get("Cookie"))
	})
	in := start(t, proxied("larder {\nttl 1h\n}"), o)
	secret := func(i int) []string {
		return []string{[]string{"Authorization", "Cookie"}[i%2], fmt.Sprintf("secret=%d", i)}
	}
	for i, a := range gather(t, in, 100, "GET", "/", secret).all() {
		a.want(t, 200, secret(i)[1], "")
	}
	in.get("/").want(t, 200, "", "")
	if body := in.get("/").body; body != "" {
		t.Errorf("somebody's answer is left: %q", body)
	}
}

// identical is what two answers have to agree in.
func identical(a, b *answer) bool {
	return a.StatusCode == b.StatusCode && bytes.Equal([]byte(a.body), []byte(b.body))
}

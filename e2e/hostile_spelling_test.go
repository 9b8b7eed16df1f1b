package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// C1, C11: handlers in front of larder see the spelling that the client has sent, and may pass it
// on in fields and variables. What the origin makes of that is for requests that are spelt so: a
// page for all had a stranger's text in it, or was removed by the 404 to that.
func TestHandlersInFrontHaveSeenTheSpelling(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		seen := r.Header.Get("X-Seen") + r.Header.Get("X-Variable") + r.Header.Get("X-Map")
		switch w.Header().Set("Cache-Control", "max-age=60"); {
		case strings.Contains(seen, "missing"):
			w.WriteHeader(http.StatusNotFound)
		case !strings.Contains(seen, http.MethodHead): // the answer to HEAD has no body
			_, _ = io.WriteString(w, seen)
		}
	})
	port := freePort(t)
	in := start(t, setup{site: "respond unused", more: fmt.Sprintf(`http://:%d {
	request_header /uri X-Seen {http.request.orig_uri}
	request_header /host X-Seen {host}
	request_header /port X-Seen {http.request.hostport}
	request_header /method X-Seen "by {method}"
	vars /variable seen {http.request.orig_uri}
	vars /variable-host seen {host}
	vars /variable-method seen {method}
	map {http.request.orig_uri} {seen} {
		default "{http.request.orig_uri}"
	}
	larder
	reverse_proxy {{origin}} {
		header_up X-Variable {vars.seen}
		header_up X-Map {seen}
	}
}`, port)}, o)
	in.port = port
	ask := func(method, target, host, cacheControl string) *answer {
		return in.raw(fmt.Sprintf("%s %s HTTP/1.1\nHost: %s\nCache-Control: %s\nConnection: close\n\n", method, target, host, cacheControl))
	}
	for _, path := range []string{"/uri", "/host", "/port", "/method", "/variable", "/variable-host", "/variable-method", "/map"} {
		page := ask(http.MethodGet, path, "a.test", "").body
		for _, odd := range []struct{ method, target, host string }{
			{http.MethodGet, "http://text@a.test" + path, "a.test"},
			{http.MethodGet, "http://missing@a.test" + path, "a.test"},
			{http.MethodGet, "HTTP://A.test:80" + path, "a.test"},
			{http.MethodGet, path, "A.TEST"},
			{http.MethodGet, path, "a.test:80"},
			{http.MethodGet, path, "a.test:"},
			{http.MethodHead, path, "a.test"},
		} {
			for _, cacheControl := range []string{"no-cache", "no-store, no-cache"} {
				if odd.method == http.MethodHead {
					in.do(http.MethodHead, path, "", "Host", "a.test", "Cache-Control", cacheControl)
				} else {
					ask(odd.method, odd.target, odd.host, cacheControl)
				}
				if a := ask(http.MethodGet, path, "a.test", ""); a.body != page || !a.isHit() {
					t.Errorf("%s: after %s %s of %s, %s: %q %q, want %q", path, odd.method, odd.target, odd.host, cacheControl, a.body, a.cacheStatus(), page)
				}
			}
		}
	}
}

// C1a: so do matchers and maps, which write a constant where the client has sent a HEAD, or a Host
// in capitals. They count whatever they make of it, and cost those requests alone.
func TestMatchersInFrontHaveSeenTheSpelling(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/auth" {
			if r.Header.Get("X-Forwarded-Method") == http.MethodHead || r.Host == "A.test" {
				w.Header().Set("X-Seen", "odd")
			}
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("X-Seen") == "odd" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "the page")
	})
	const auth = "forward_auth {{origin}} {\nuri /auth\ncopy_headers X-Seen\n}\n@odd method NONE"
	head, host := httptest.NewRequest(http.MethodHead, "/", nil), httptest.NewRequest(http.MethodGet, "/", nil)
	head.Host, host.Host = "a.test", "A.test"
	for name, tc := range map[string]struct {
		front string
		odd   *http.Request
	}{
		"method":                {"@odd method HEAD", head},
		"not method":            {"@odd not method GET", head},
		"expression of method":  {"@odd expression {method} == \"HEAD\"", head},
		"function of method":    {"@odd expression method('HEAD')", head},
		"vars of method":        {"@odd vars {method} HEAD", head},
		"map of method":         {"map {method} {made} {\nHEAD odd\ndefault even\n}\n@odd vars {made} odd", head},
		"expression of host":    {"@odd expression {host} == \"A.test\"", host},
		"expression of a field": {"@odd expression header({'Host': 'A.test'})", host},
		"vars of hostport":      {"@odd vars {hostport} A.test", host},
		"header":                {"@odd header Host A.test", host},
		"header_regexp":         {"@odd header_regexp Host A", host},
		"auth of method":        {auth, head},
		"auth of host":          {auth, host},
		"map of host":           {"map {host} {made} {\na.test even\ndefault odd\n}\n@odd vars {made} odd", host},
	} {
		t.Run(name, func(t *testing.T) {
			port := freePort(t)
			in := start(t, setup{site: "respond unused", more: fmt.Sprintf("http://:%d {\n%s\nroute {\nrequest_header @odd X-Seen odd\nlarder\nreverse_proxy {{origin}}\n}\n}", port, tc.front)}, o)
			in.port = port
			page := func() *answer { return in.do(http.MethodGet, "/", "", "Host", "a.test") }
			page()
			for _, cacheControl := range []string{"no-cache", "no-store, no-cache"} {
				in.do(tc.odd.Method, "/", "", "Host", tc.odd.Host, "Cache-Control", cacheControl)
				if a := page(); a.body != "the page" || !a.isHit() {
					t.Errorf("after %s of %s, %s: %d %q %s", tc.odd.Method, tc.odd.Host, cacheControl, a.StatusCode, a.body, a.cacheStatus())
				}
			}
		})
	}
}

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// changing is an upstream whose answers can be changed.
type changing struct {
	now atomic.Pointer[http.HandlerFunc]
}

func (c *changing) set(h http.HandlerFunc) { c.now.Store(&h) }

func (c *changing) serve(w http.ResponseWriter, r *http.Request) { (*c.now.Load())(w, r) }

// pageWith answers with a body and header fields given as pairs.
func pageWith(body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

// reset breaks the connection off, after these bytes of an answer.
func reset(bytes string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = buf.WriteString(bytes)
			_ = buf.Flush()
			_ = conn.Close()
		}
	}
}

// failures are the ways in which an origin fails.
func failures(t *testing.T) map[string]http.HandlerFunc {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return map[string]http.HandlerFunc{
		"429":                          answering(429, "Retry-After", "1"),
		"500":                          answering(500),
		"503":                          answering(503),
		"no answer":                    reset(""),
		"broken before its first byte": reset("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-done:
			}
		},
	}
}

// TestOutageExample has the origin of that example fail in every way, some hours after its last
// page, and come back.
func TestOutageExample(t *testing.T) {
	text := strings.Replace(example(t, "outage"), "response_header_timeout 10s", "response_header_timeout 300ms", 1)
	for name, failure := range failures(t) {
		t.Run(name, func(t *testing.T) {
			port, answer := freePort(t), new(changing)
			answer.set(pageWith("old", "Cache-Control", "max-age=60", "Age", "72000")) // twenty hours ago
			newOriginAt(t, fmt.Sprintf("localhost:%d", port), answer.serve)
			in := loadExample(t, text, freePort(t), port)
			in.get("/").want(t, 200, "old", "")
			answer.set(failure)
			for range 3 {
				a := in.get("/")
				a.want(t, 200, "old", "")
				if !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
					t.Errorf("Cache-Status %q", a.cacheStatus())
				}
			}
			answer.set(pageWith("new", "Cache-Control", "max-age=60"))
			eventually(t, "the origin is back", func() bool { return in.get("/").body == "new" })
		})
	}
	t.Run("past a day", func(t *testing.T) {
		port, answer := freePort(t), new(changing)
		answer.set(pageWith("old", "Cache-Control", "max-age=60", "Age", "90000", "Etag", `"old"`)) // 25 hours ago
		newOriginAt(t, fmt.Sprintf("localhost:%d", port), answer.serve)
		in := loadExample(t, text, freePort(t), port)
		in.get("/").want(t, 200, "old", "")
		answer.set(reset(""))
		in.get("/").want(t, 502, "", "")
	})
}

// TestMaintenanceExample switches that example's maintenance on and off again.
func TestMaintenanceExample(t *testing.T) {
	dir := t.TempDir()
	text := strings.ReplaceAll(example(t, "maintenance"), "/srv/maintenance", dir)
	port := freePort(t)
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stale" { // it arrives an hour past its lifetime
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Age", "3600")
			w.Header().Set("Etag", `"stale"`)
		}
		_, _ = io.WriteString(w, r.Method+r.URL.Path)
	})
	in := loadExample(t, text, freePort(t), port)
	in.get("/fresh").want(t, 200, "GET/fresh", "")
	in.get("/stale").want(t, 200, "GET/stale", "")
	on := filepath.Join(dir, "on")
	if err := os.WriteFile(on, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in.get("/fresh").want(t, 200, "GET/fresh", "")
	in.get("/fresh", "Cache-Control", "no-cache").want(t, 200, "GET/fresh", "") // a reload button
	a := in.get("/stale")
	a.want(t, 200, "GET/stale", "")
	if !strings.HasPrefix(a.cacheStatus(), "Larder; hit; ttl=-") {
		t.Errorf("Cache-Status %q", a.cacheStatus())
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		a := in.do(method, "/other", "")
		a.want(t, 503, "We are back soon.", "")
		if a.Header.Get("Retry-After") != "600" {
			t.Errorf("%s: Retry-After %q", method, a.Header.Get("Retry-After"))
		}
	}
	o.asked(t, 2)
	if err := os.Remove(on); err != nil {
		t.Fatal(err)
	}
	in.get("/other").want(t, 200, "GET/other", "")
	in.do(http.MethodPost, "/other", "").want(t, 200, "POST/other", "")
}

// TestMaintenanceForSMaxAge is the other way that the page names, for what a client's max-stale
// does not reach.
func TestMaintenanceForSMaxAge(t *testing.T) {
	dir := t.TempDir()
	text := strings.NewReplacer(
		"/srv/maintenance", dir, "request_header @maintenance Cache-Control \"only-if-cached, max-stale\"\n", "\n",
		"ttl 5m\n", "ttl 5m\n\t\tstale_if_error unlimited\n",
		"error @maintenance 504", "error @maintenance 503", "handle_errors 504", "handle_errors 503",
	).Replace(example(t, "maintenance"))
	port := freePort(t)
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), pageWith("old", "Cache-Control", "s-maxage=60", "Age", "3600"))
	in := loadExample(t, text, freePort(t), port)
	in.get("/").want(t, 200, "old", "")
	if err := os.WriteFile(filepath.Join(dir, "on"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in.get("/").want(t, 200, "old", "")
	in.get("/other").want(t, 503, "We are back soon.", "")
	o.asked(t, 1)
}

// TestStaleIfErrorSwitchedOnInAnOutage reloads in the middle of an outage: what expired before is
// found by the rules that are new. Then a reload without keep hides it.
func TestStaleIfErrorSwitchedOnInAnOutage(t *testing.T) {
	for name, site := range map[string]func(string) setup{
		"memory": proxied,
		"disk":   func(directive string) setup { return withDisk(t, directive) },
	} {
		t.Run(name, func(t *testing.T) {
			answer := new(changing)
			answer.set(pageWith("old", "Cache-Control", "max-age=90", "Age", "89")) // for a second, and no validator
			o := newOrigin(t, answer.serve)
			before := site("larder")
			in := start(t, before, o)
			in.get("/").want(t, 200, "old", "")
			eventually(t, "it has expired", func() bool { return in.get("/", "Cache-Control", "only-if-cached").StatusCode == 504 })
			answer.set(answering(429))
			in.get("/").want(t, 429, "", "")
			in.get("/", "Cache-Control", "max-stale").want(t, 200, "old", "")

			with := func(lines ...string) {
				s := before
				s.site = proxied(block(lines...)).site
				in.load(s, o)
			}
			with("stale_if_error unlimited")
			a := in.get("/")
			a.want(t, 200, "old", "")
			if !strings.HasSuffix(a.cacheStatus(), "; detail=sie") {
				t.Errorf("Cache-Status %q", a.cacheStatus())
			}
			with("stale_if_error 1d 503")
			in.get("/").want(t, 429, "", "")
			with("keep 0")
			in.get("/", "Cache-Control", "only-if-cached, max-stale").want(t, 504, "", "")
			with("keep unlimited")
			in.get("/", "Cache-Control", "only-if-cached, max-stale").want(t, 200, "old", "")
		})
	}
}

// TestKeptIsListedAsExpired: what is only kept has a negative ttl.
func TestKeptIsListedAsExpired(t *testing.T) {
	o := newOrigin(t, pageWith("page", "Cache-Control", "max-age=60", "Age", "3600", "Etag", `"page"`))
	in := start(t, proxied("larder"), o)
	in.get("/").want(t, 200, "page", "")
	if l := in.entries(""); len(l.Entries) != 1 || l.Entries[0].TTL > -3000 {
		t.Errorf("listed: %+v", l.Entries)
	}
}

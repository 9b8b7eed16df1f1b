package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const observing = "Larder; fwd=bypass; detail=observe"

// TestObserve tells a story of one site that observes, as its client, its access log and a scrape
// see it, and then has it serve.
func TestObserve(t *testing.T) {
	number := 0
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		number++
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Surrogate-Key", "page")
		if r.Method == http.MethodPost {
			return
		}
		who := "visitor"
		if cookie, err := r.Cookie("member"); err == nil {
			who = cookie.Value
		}
		_, _ = io.WriteString(w, "a page for "+who)
	})
	log := newAccessLog(t)
	s := setup{site: log.directive() + "header >X-Would {http.larder.would}\n" + block("observe") + "\nreverse_proxy {{origin}}"}
	in := start(t, s, o)
	for i, tc := range []struct{ method, uri, cookie, body, would, agrees string }{
		{"GET", "/a?1", "", "a page for visitor", "miss", "true"},
		{"GET", "/a?1", "", "a page for visitor", "hit", "true"},
		{"GET", "/a?1", "member=ann", "a page for ann", "hit", "false"},
		{"POST", "/a?1", "", "", "bypass", "true"},
		{"GET", "/a?1", "", "a page for visitor", "miss", "true"},
		{"HEAD", "/a?1", "", "", "hit", "true"},
	} {
		labels := fmt.Sprintf(`agrees=%q,outcome=%q`, tc.agrees, tc.would)
		before := in.metric("caddy_larder_observed_total", labels)
		header := []string{"X-N", fmt.Sprint(i)}
		if tc.cookie != "" {
			header = append(header, "Cookie", tc.cookie)
		}
		a := in.do(tc.method, tc.uri, "", header...)
		a.want(t, 200, tc.body, observing)
		if a.Header.Get("X-Would") != tc.would || a.Header.Get("Age") != "" || a.Header.Get("Surrogate-Key") != "page" {
			t.Errorf("%s %s: %v, want it to say %s", tc.method, tc.uri, a.Header, tc.would)
		}
		o.asked(t, i+1)
		eventually(t, labels, func() bool { return in.metric("caddy_larder_observed_total", labels) == before+1 })
	}
	if got := log.entry(t, "HEAD", "/a?1"); got["larder_status"] != "bypass" || got["larder_reason"] != "observe" || got["larder_would"] != "hit" {
		t.Errorf("access log: %v %v %v", got["larder_status"], got["larder_reason"], got["larder_would"])
	}
	s.site = strings.Replace(s.site, "observe", "", 1)
	in.load(s, o)
	if a := in.get("/a?1"); !a.isHit() || a.body != "a page for visitor" {
		t.Errorf("what was stored while observing: %q %q", a.body, a.cacheStatus())
	}
	if number != 6 {
		t.Errorf("the origin was asked %d times", number)
	}
}

// TestObserveStreams has a client read what the origin has flushed, although the answer goes on.
func TestObserveStreams(t *testing.T) {
	release := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n")
		w.(http.Flusher).Flush()
		<-release
	})
	in := start(t, proxied(block("observe")), o)
	resp := in.open(context.Background(), "/", "Accept", "text/event-stream")
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "data: 1\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	close(release)
	_ = resp.Body.Close()
}

// TestObserveAFailure has an error of the handlers reach the site's error routes, as without
// Larder.
func TestObserveAFailure(t *testing.T) {
	in := start(t, setup{site: block("observe") + `
	root * ` + t.TempDir() + `
	file_server
	handle_errors {
		respond "{err.status_code} {http.larder.status} {http.larder.would}"
	}`}, nil)
	for range 2 {
		in.get("/nothing").want(t, 404, "404 bypass miss", "")
	}
}

// TestObserveExample runs the two examples as the page about them tells: a blog whose origin lets
// pages for members be shared is observed, and then served as the report advised.
func TestObserveExample(t *testing.T) {
	site, port := freePort(t), freePort(t)
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", port), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		_, _ = io.WriteString(w, r.URL.Path)
		if member, err := r.Cookie("wordpress_logged_in_1"); err == nil && !strings.HasPrefix(r.URL.Path, "/wp-content/") {
			_, _ = io.WriteString(w, " for "+member.Value)
		}
	})
	member := []string{"Cookie", "_ga=2; wordpress_logged_in_1=ann"}
	in := loadExample(t, example(t, "observe"), site, port)
	for _, path := range []string{"/hello/", "/wp-content/style.css"} {
		for range 4 {
			in.get(path, "Cookie", "_ga=1").want(t, 200, path, observing)
		}
	}
	in.get("/hello/", member...).want(t, 200, "/hello/ for ann", observing)
	in.get("/wp-content/style.css", member...).want(t, 200, "/wp-content/style.css", observing)
	o.asked(t, 10)
	verdicts := map[string]string{}
	eventually(t, "the report has all requests", func() bool {
		var report struct {
			Groups []struct {
				Group, Verdict string
				Requests       int
				Advice         []string
			}
		}
		in.adminCall("GET", "/larder/observed", "", &report)
		requests := 0
		for _, g := range report.Groups {
			if _, path, ours := strings.Cut(g.Group, fmt.Sprintf("localhost:%d", site)); ours {
				requests += g.Requests
				verdicts[path] = g.Verdict + " " + strings.Join(g.Advice, " ")
			}
		}
		return requests == 10
	})
	if got := verdicts["/hello/*"]; !strings.HasPrefix(got, "wrong ") || !strings.Contains(got, "header Cookie *wordpress_logged_in_1=*") {
		t.Errorf("pages: %q", got)
	}
	if got := verdicts["/wp-content/*"]; got != "serve " {
		t.Errorf("files: %q", got)
	}
	in = loadExample(t, example(t, "observed"), site, port)
	for _, path := range []string{"/hello/", "/wp-content/style.css"} {
		if a := in.get(path, "Cookie", "_ga=1"); !a.isHit() || a.body != path {
			t.Errorf("%s after the switch: %q %q", path, a.body, a.cacheStatus())
		}
	}
	in.get("/hello/", member...).want(t, 200, "/hello/ for ann", "")
	in.do("POST", "/hello/", "", member...)
	if a := in.get("/hello/"); a.isHit() {
		t.Errorf("after a member's POST: %q", a.cacheStatus())
	}
}

// TestObserveLetsUpgradesThrough has client and origin speak another protocol.
func TestObserveLetsUpgradesThrough(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = io.WriteString(rw, "echo "+line)
		_ = rw.Flush()
	})
	in := start(t, proxied(block("observe")), o)
	c := in.dial()
	c.send("GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if resp := c.response(http.MethodGet); resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Cache-Status") != observing {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	c.send("hello\n")
	if line, err := c.r.ReadString('\n'); line != "echo hello\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}

// TestObserveIsAsWithoutLarder asks a site that observes, and the same site without Larder, and
// compares what client and origin get. Each is asked twice, so that the second would be a hit.
func TestObserveIsAsWithoutLarder(t *testing.T) {
	var seen []string
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Clone()
		header.Del("X-Forwarded-Host")
		seen = append(seen, fmt.Sprint(r.Method, r.URL, header, r.TransferEncoding))
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "a")
		w.Header().Set("Etag", `"1"`)
		http.ServeContent(w, r, "page.txt", time.Unix(1e9, 0), strings.NewReader(strings.Repeat("content ", 1000)))
	})
	site := "root * " + t.TempDir() + "\nheader X-Front yes\nreverse_proxy {{origin}}"
	ask := func(in *instance) (got []string) {
		for _, request := range [][]string{
			{"GET"},
			{"GET", "If-None-Match", `"1"`},
			{"GET", "If-None-Match", `"2"`},
			{"GET", "If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT"},
			{"GET", "Range", "bytes=10-19"},
			{"GET", "Range", "bytes=0-1,5-6"},
			{"GET", "Range", "bytes=90000-"},
			{"GET", "If-Match", `"9"`},
			{"GET", "Cache-Control", "no-cache"},
			{"GET", "Cache-Control", "only-if-cached"},
			{"GET", "Connection", "X-Hop", "X-Hop", "1"},
			{"HEAD"},
			{"OPTIONS"},
			{"POST"},
		} {
			for range 2 {
				a := in.do(request[0], "/page?b=2&a=1", "", request[1:]...)
				body := a.body
				for _, name := range []string{"Date", "Cache-Status"} {
					a.Header.Del(name)
				}
				if boundary, multipart := strings.CutPrefix(a.Header.Get("Content-Type"), "multipart/byteranges; boundary="); multipart {
					body = strings.ReplaceAll(body, boundary, "boundary")
					a.Header.Del("Content-Type")
				}
				got = append(got, fmt.Sprint(request, a.StatusCode, a.Header, a.ContentLength, body))
			}
		}
		return got
	}
	in := start(t, setup{site: block("observe", "key {\nquery sort\n}") + "\n" + site}, o)
	with, seenWith := ask(in), seen
	seen = nil
	in.load(setup{site: site}, o)
	without := ask(in)
	for i := range without {
		if with[i] != without[i] {
			t.Errorf("the client got\n%s\nand without Larder\n%s", with[i], without[i])
		}
		if seenWith[i] != seen[i] {
			t.Errorf("the origin got\n%s\nand without Larder\n%s", seenWith[i], seen[i])
		}
	}
}

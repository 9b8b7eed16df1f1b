package warm

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// caddyLine is a line of Caddy's access log.
func caddyLine(method, host, uri string, status int, more string) string {
	return fmt.Sprintf(`{"level":"info","ts":1795876641.2,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"192.0.2.1","remote_port":"5","client_ip":"192.0.2.1","proto":"HTTP/2.0","method":%q,"host":%q,"uri":%q,"headers":{"User-Agent":["curl/8"]%s},"bytes_read":0,"user_id":"","duration":0.0001,"size":12,"status":%d,"resp_headers":{"Server":["Caddy"]}}`,
		method, host, uri, more+"}", status)
}

func TestAccess(t *testing.T) {
	const time = "[29/Nov/2026:03:00:00 +0000]"
	for _, tc := range []struct{ name, line, url string }{
		{"Caddy", caddyLine("GET", "h.test", "/a?b=1", 200, ""), "http://h.test/a?b=1"},
		{"Caddy, a proxy in front", caddyLine("GET", "h.test", "/", 304, `,"X-Forwarded-Proto":["https"]`), "https://h.test/"},
		{"Caddy, TLS", `{"request":{"method":"GET","host":"h.test:8443","uri":"/","headers":{},"tls":{"resumed":false}},"status":200}`, "https://h.test:8443/"},
		{"Caddy, filtered", `{"request":{"method":"GET","host":"h.test","uri":"/","headers":"REDACTED"},"status":200}`, "http://h.test/"},
		{"Caddy, POST", caddyLine("POST", "h.test", "/", 200, ""), ""},
		{"Caddy, HEAD", caddyLine("HEAD", "h.test", "/", 200, ""), ""},
		{"Caddy, 404", caddyLine("GET", "h.test", "/", 404, ""), ""},
		{"Caddy, 206", caddyLine("GET", "h.test", "/", 206, ""), ""},
		{"Caddy, of this command", strings.Replace(caddyLine("GET", "h.test", "/", 200, ""), "curl/8", userAgent, 1), ""},
		{"Caddy, another line", `{"level":"info","msg":"serving initial configuration"}`, "-"},
		{"half a line of Caddy's", `{"request":{"method":"GET"`, "-"},
		{"common", `192.0.2.1 - frank ` + time + ` "GET /a%20b?c HTTP/1.1" 200 2326`, "https://base/a%20b?c"},
		{"combined", `2001:db8::1 - - ` + time + ` "GET / HTTP/1.1" 304 0 "https://x/ [1]" "Mozilla/5.0 (\"x\")"`, "https://base/"},
		{"with a virtual host", `h.test:443 192.0.2.1 - - ` + time + ` "GET /v HTTP/2.0" 200 1 "-" "-"`, "https://h.test:443/v"},
		{"with a virtual host, clear", `h.test:80 192.0.2.1 - - ` + time + ` "GET /v HTTP/1.1" 200 1`, "http://h.test:80/v"},
		{"common, of this command", `192.0.2.1 - - ` + time + ` "GET / HTTP/1.1" 200 1 "-" "` + userAgent + `"`, ""},
		{"a whole URL", `192.0.2.1 - - ` + time + ` "GET http://evil.test/ HTTP/1.1" 200 1`, ""},
		{"a quote in the request", `192.0.2.1 - - ` + time + ` "GET /\"x HTTP/1.1" 200 1`, "-"},
		{"TLS to a port in clear", `192.0.2.1 - - ` + time + ` "\x16\x03\x01" 400 157`, "-"},
		{"no status", `192.0.2.1 - - ` + time + ` "GET / HTTP/1.1" - 1`, "-"},
		{"text", "hello", "-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, err := parseAccess([]byte(tc.line))
			got := "-"
			switch {
			case err == nil && a.counts():
				got = a.url("https://base")
			case err == nil:
				got = ""
			}
			if got != tc.url {
				t.Errorf("%q of %+v, want %q", got, a, tc.url)
			}
		})
	}
}

func FuzzAccess(f *testing.F) {
	f.Add([]byte(caddyLine("GET", "h.test", "/a?b=1", 200, "")))
	f.Add([]byte(`h.test:443 192.0.2.1 - - [29/Nov/2026:03:00:00 +0000] "GET /v HTTP/2.0" 200 1 "-" "-"`))
	f.Add([]byte(`192.0.2.1 - - [x] "GET / HTTP/1.1" 200`))
	of, err := newSites([]string{"https://h.test"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		logs := newAccessLogs(of, false)
		_ = logs.read("log", bytes.NewReader(data))
		for _, url := range logs.urls.ranked() {
			if siteOf(url) != "h.test" {
				t.Errorf("%q is of another host", url)
			}
			if again, err := normalize(url); err != nil || again != url {
				t.Errorf("%q becomes %q, %v", url, again, err)
			}
		}
	})
}

// TestLogsByFrequency: rotated parts, one of them compressed, are counted together.
func TestLogsByFrequency(t *testing.T) {
	newer := caddyLine("GET", "h.test", "/rare", 200, "") + "\n" + caddyLine("GET", "h.test", "/often", 200, "") + "\nnonsense\n" +
		caddyLine("GET", "evil.test", "/", 200, "") + "\n"
	older := gzipped([]byte(strings.Repeat(caddyLine("GET", "h.test", "/often", 304, "")+"\n", 2) + caddyLine("GET", "h.test", "/also", 200, "")))
	logs := newAccessLogs(mustSites(t, "http://h.test"), false)
	for name, data := range map[string]io.Reader{"new": strings.NewReader(newer), "old": bytes.NewReader(older)} {
		if err := logs.read(name, data); err != nil {
			t.Fatal(err)
		}
	}
	p := newPlan(10)
	logs.into(p)
	if want := []string{"http://h.test/often", "http://h.test/also", "http://h.test/rare"}; !slices.Equal(p.urls, want) {
		t.Errorf("%q, want %q", p.urls, want)
	}
	if p.skipped.Lines != 1 || p.skipped.OtherHosts != 1 {
		t.Errorf("%+v", p.skipped)
	}
}

func TestLogsThatCannotBeRead(t *testing.T) {
	common := `192.0.2.1 - - [29/Nov/2026:03:00:00 +0000] "GET / HTTP/1.1" 200 1`
	for _, tc := range []struct{ text, want string }{
		{"hello\nworld\n", "x has no line of an access log"},
		{common, "give it as --site"},
	} {
		if err := newAccessLogs(mustSites(t), true).read("x", strings.NewReader(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
		}
	}
	if err := newAccessLogs(mustSites(t), true).read("x", strings.NewReader("")); err != nil {
		t.Errorf("an empty one: %v", err)
	}
}

// manyLines is a log of n lines, of which each fifth is of one of ten pages, the others each of a
// page of their own. One line is 3 MiB long.
type manyLines struct {
	n, i    int
	pending bytes.Reader
}

func (m *manyLines) Read(p []byte) (int, error) {
	if m.pending.Len() == 0 {
		if m.i == m.n {
			return 0, io.EOF
		}
		uri := fmt.Sprintf("/once/%d/%s", m.i, strings.Repeat("x", 100))
		switch {
		case m.i%5 == 0:
			uri = fmt.Sprintf("/often/%d", m.i/5%10)
		case m.i == 7:
			uri = "/" + strings.Repeat("y", 3<<20)
		}
		line := `h.test:80 192.0.2.1 - - [29/Nov/2026:03:00:00 +0000] "GET ` + uri + ` HTTP/1.1" 200 1 "-" "curl/8"`
		if m.i%20 == 0 { // which take their time under the race detector
			line = caddyLine("GET", "h.test", uri, 200, "")
		}
		m.pending.Reset([]byte(line + "\n"))
		m.i++
	}
	return m.pending.Read(p)
}

// TestALongLogTakesLittleMemory: of 100,000 lines of 80,000 pages those that are asked for often
// stand first, in the memory that is allowed.
func TestALongLogTakesLittleMemory(t *testing.T) {
	const texts = 256 << 10
	logs := newAccessLogs(mustSites(t, "http://h.test"), false)
	logs.urls = newFrequency(2000, texts)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	if err := logs.read("log", &manyLines{n: 100_000}); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	if logs.lines != 99_999 || logs.unread != 1 || logs.urls.bytes > texts {
		t.Errorf("%d lines, %d unread, %d bytes", logs.lines, logs.unread, logs.urls.bytes)
	}
	for i, url := range logs.urls.ranked()[:10] {
		if !strings.HasPrefix(url, "http://h.test/often/") {
			t.Errorf("at %d: %q", i, url)
		}
	}
}

// TestFrequency compares with exact counts: a count is never too high, and too low by the total
// divided by the number of places at most.
func TestFrequency(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	const places, total = 50, 20_000
	f, exact := newFrequency(places, 1<<20), make(map[string]int)
	for range total {
		text := fmt.Sprint(int(random.ExpFloat64() * 40))
		f.add(text)
		exact[text]++
	}
	for text, n := range exact {
		if got := f.counts[text]; got > n || got < n-total/places {
			t.Errorf("seed %d: %s is counted %d times, and occurs %d times", seed, text, got, n)
		}
	}
	size := 0
	for text := range f.counts {
		size += len(text)
	}
	if len(f.counts) > places || size != f.bytes {
		t.Errorf("seed %d: %d texts of %d bytes, counted as %d", seed, len(f.counts), size, f.bytes)
	}
}

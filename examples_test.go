package larder_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestExamples runs every example Caddyfile, with free ports in place of its own, and holds README to quoting it as it is.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("testdata/examples/*.Caddyfile")
	if err != nil || len(files) == 0 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(readme), string(text)) {
				t.Errorf("README.md does not quote %s as it is", file)
			}
			in := runExample(t, string(text))
			in.get("/").want(t, 200, "", "")
			hit := in.get("/")
			if !strings.HasPrefix(hit.cacheStatus(), "Larder; hit") {
				t.Errorf("the second request: Cache-Status %q", hit.cacheStatus())
			}
		})
	}
}

// TestLoginsExample has visitors and a member come to the site for which that example is.
func TestLoginsExample(t *testing.T) {
	text, err := os.ReadFile("testdata/examples/logins.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	in := runExample(t, string(text))
	member := []string{"Cookie", "_ga=3; wordpress_logged_in_0123=bob"}
	for _, step := range []struct {
		name, method string
		header       []string
		body, says   string
	}{
		{"a visitor", "GET", nil, "1", "Larder; fwd=uri-miss; stored"},
		{"one with analytics' cookie", "GET", []string{"Cookie", "_ga=1"}, "1", "Larder; hit; ttl=N"},
		{"a member", "GET", member, "2", ""},
		{"another visitor", "GET", []string{"Cookie", "_ga=2"}, "1", "Larder; hit; ttl=N"},
		{"a member posts", "POST", member, "3", "Larder; fwd=bypass; detail=method"},
		{"a visitor after that", "GET", nil, "4", "Larder; fwd=uri-miss; stored"},
	} {
		a := in.do(step.method, "/", "", step.header...)
		a.want(t, 200, step.body, "")
		if says := regexp.MustCompile(`ttl=\d+`).ReplaceAllString(a.cacheStatus(), "ttl=N"); says != step.says {
			t.Errorf("%s: Cache-Status %q, want %q", step.name, says, step.says)
		}
	}
}

func runExample(t *testing.T, text string) *instance {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // where the default disk tier goes
	site, admin, origin := freePort(t), freePort(t), freePort(t)
	text = strings.NewReplacer(
		"localhost:8080", fmt.Sprintf("localhost:%d", site),
		"localhost:9000", fmt.Sprintf("localhost:%d", origin),
		"localhost:2019", fmt.Sprintf("localhost:%d", admin),
		"./larder-quickstart", t.TempDir(),
		"output stderr", "output discard",
	).Replace(text)
	options := "persist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n"
	switch {
	case strings.Contains(text, "\tadmin "):
		text = strings.Replace(text, "\tadmin ", "\t"+options+"\tadmin ", 1)
	case regexp.MustCompile(`(?m)^\{$`).MatchString(text):
		text = strings.Replace(text, "{\n", fmt.Sprintf("{\n\tadmin localhost:%d\n\t%s", admin, options), 1)
	default:
		text = fmt.Sprintf("{\n\tadmin localhost:%d\n\t%s}\n", admin, options) + text
	}
	if !strings.Contains(text, fmt.Sprintf("http://localhost:%d {", origin)) {
		serveOn(t, origin)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	if err := loadCaddyfile(t, text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	in := &instance{t: t, port: site, client: &http.Client{Timeout: 10 * time.Second}}
	t.Cleanup(in.client.CloseIdleConnections)
	return in
}

// serveOn starts a cacheable upstream on a port.
func serveOn(t *testing.T, port int) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	o := httptest.NewUnstartedServer(numbered("Cache-Control", "max-age=60"))
	o.Listener.Close()
	o.Listener = l
	o.Start()
	t.Cleanup(o.Close)
}

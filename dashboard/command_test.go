package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// start runs the command before an admin API, and returns the URL that it prints.
func start(t *testing.T, adminAddress string) *url.URL {
	t.Helper()
	return startAt(t, adminAddress, "localhost:0", false)
}

func startAt(t *testing.T, adminAddress, listen string, remote bool) *url.URL {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, writer, adminAddress, listen, remote) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, printed, _ := strings.Cut(strings.TrimSpace(line), " at ")
	parsed, err := url.Parse(printed)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// stats asks for the statistics as the page does.
func stats(t *testing.T, page *url.URL) (status int, answer map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+page.Host+"/larder/stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimPrefix(page.Fragment, "token="))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

// strict answers as Caddy's admin listener does: it wants its own Host and Origin, and nothing that
// a browser adds.
func strict(host, origin string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host != "" && (r.Host != host || r.Header.Get("Origin") != origin) || r.Header.Get("Sec-Fetch-Mode") != "" || r.Header.Get("Referer") != "" {
			w.WriteHeader(http.StatusForbidden)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"host": r.Host, "path": r.URL.Path})
	})
}

func TestCommandBeforeTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: strict(listener.Addr().String(), "http://"+listener.Addr().String())}}
	server.Start()
	defer server.Close()
	page := start(t, listener.Addr().String())
	if address := net.ParseIP(page.Hostname()); !address.IsLoopback() {
		t.Errorf("it is at %s", page.Host)
	}
	if status, answer := stats(t, page); status != 200 || answer["path"] != "/larder/stats" {
		t.Errorf("%d %v", status, answer)
	}
}

func TestCommandBeforeUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Skipf("no sockets in the file system: %v", err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: strict("127.0.0.1", "")}}
	server.Start()
	defer server.Close()
	if status, answer := stats(t, start(t, "unix/"+path+"|0220")); status != 200 {
		t.Errorf("%d %v", status, answer)
	}
}

// TestCommandForOthers: the URL is one that can be opened here, and any address of this machine is
// an own one.
func TestCommandForOthers(t *testing.T) {
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: strict(listener.Addr().String(), "http://"+listener.Addr().String())}}
	server.Start()
	defer server.Close()
	page := startAt(t, listener.Addr().String(), ":0", true)
	if status, answer := stats(t, page); page.Hostname() != "127.0.0.1" || status != 200 {
		t.Errorf("at %s: %d %v", page.Host, status, answer)
	}
}

// TestCommandWithoutCaddy: where nothing answers, or something else than Larder, the command ends
// and says so.
func TestCommandWithoutCaddy(t *testing.T) {
	for name, answer := range map[string]struct {
		handler http.HandlerFunc // nil: nothing listens
		want    string
	}{
		"nothing": {nil, "no Caddy answers at ADDRESS; start it, or give the address of its admin API by --address ("},
		"another": {http.NotFound, "what is at ADDRESS answers 404 without a sentence; see whether it is a Caddy with Larder in it"},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"error":"no\tentry\u001b"}`, http.StatusForbidden)
		}, `no entry\x1b`},
		"a broken line": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "no Caddy answers at ADDRESS"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer.handler)
			defer server.Close()
			address := server.Listener.Addr().String()
			if answer.handler == nil {
				server.Close()
			}
			var out strings.Builder
			err := run(t.Context(), &out, address, "localhost:0", false)
			if want := strings.ReplaceAll(answer.want, "ADDRESS", address); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, want)
			}
			if out.Len() > 0 {
				t.Errorf("it printed %q", out.String())
			}
		})
	}
}

// TestCaddyThatHasEnded: the page is told.
func TestCaddyThatHasEnded(t *testing.T) {
	server := httptest.NewServer(strict("", ""))
	address := server.Listener.Addr().String()
	page := start(t, address)
	server.Close()
	if status, answer := stats(t, page); status != 502 || !strings.Contains(answer["error"].(string), address) {
		t.Errorf("%d %v", status, answer)
	}
}

// TestCaddyWithoutACache answers 503, and will have one after the next reload.
func TestCaddyWithoutACache(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":"no cache is running"}`, http.StatusServiceUnavailable)
	}))
	defer server.Close()
	if status, _ := stats(t, start(t, server.Listener.Addr().String())); status != 503 {
		t.Errorf("%d", status)
	}
}

func TestListen(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[2001:db8::1]:0"} {
		if listener, err := Listen(address, false); err == nil {
			listener.Close()
			t.Errorf("it listens on %s", address)
		} else if !strings.Contains(err.Error(), "--allow-remote") {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"localhost", "nowhere", "localhost:x"} {
		if listener, err := Listen(address, true); err == nil {
			listener.Close()
			t.Errorf("it listens on %s", address)
		}
	}
	for address, remote := range map[string]bool{"localhost:0": false, "127.0.0.1:0": false, ":0": true} {
		listener, err := Listen(address, remote)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		listener.Close()
	}
}

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/larder-cache/larder"
)

// The end-to-end tests start the real Caddy in this process, with the real bbolt file and a real upstream, and ask it over TCP. Caddy is
// one a process, so they do not run in parallel.

// origin is an upstream that counts what it is asked.
type origin struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
}

// newOrigin starts an upstream that answers by handler.
func newOrigin(t *testing.T, handler http.HandlerFunc) *origin {
	t.Helper()
	o := &origin{}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.seen = append(o.seen, r.Clone(context.Background()))
		o.mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(o.Close)
	return o
}

// newQuietOrigin starts an upstream that counts nothing and logs no panic of its handler.
func newQuietOrigin(t *testing.T, handler http.HandlerFunc) *origin {
	t.Helper()
	o := &origin{Server: httptest.NewUnstartedServer(handler)}
	o.Config.ErrorLog = log.New(io.Discard, "", 0)
	o.Start()
	t.Cleanup(o.Close)
	return o
}

// count returns how many requests have come.
func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen)
}

// asked fails the test unless n requests have come.
func (o *origin) asked(t *testing.T, n int) {
	t.Helper()
	if got := o.count(); got != n {
		t.Errorf("the origin was asked %d times, want %d", got, n)
	}
}

// last returns the request that came last.
func (o *origin) last() *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) == 0 {
		return nil
	}
	return o.seen[len(o.seen)-1]
}

// numbered answers with a body that is different each time: "1", "2", and so on.
func numbered(header ...string) http.HandlerFunc {
	var mu sync.Mutex
	n := 0
	return func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		n++
		body := fmt.Sprint(n)
		mu.Unlock()
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, body)
	}
}

// instance is a running Caddy with Larder.
type instance struct {
	t      *testing.T
	port   int
	admin  string
	disk   string // folder, "" for none
	client *http.Client
	file   string // the Caddyfile as it is loaded
}

// setup describes a Caddyfile with one site.
type setup struct {
	options string // inside the global larder block, besides disk
	disk    string // folder; "" means off
	budget  string // of the disk tier; "" means 64MiB
	global  string // further global options
	site    string // the site's body; {{origin}} stands for the upstream's address
	more    string // further sites
	routes  string // named routes, before the site
}

// start loads a Caddyfile and stops Caddy at the end of the test.
func start(t *testing.T, s setup, o *origin) *instance {
	t.Helper()
	in := &instance{t: t, port: freePort(t), admin: fmt.Sprintf("localhost:%d", freePort(t)), disk: s.disk}
	in.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second,
	}
	t.Cleanup(in.client.CloseIdleConnections)
	t.Cleanup(func() {
		_ = caddy.Stop()
		awaitClosedStores(t)
	})
	in.load(s, o)
	return in
}

// load replaces the configuration, as `caddy reload` does.
func (in *instance) load(s setup, o *origin) {
	in.t.Helper()
	if err := in.tryLoad(s, o); err != nil {
		in.t.Fatal(err)
	}
	in.client.CloseIdleConnections() // those of the configuration that has gone
}

func (in *instance) tryLoad(s setup, o *origin) error {
	in.t.Helper()
	disk := "off"
	if s.disk != "" {
		disk = s.disk + " " + cmp.Or(s.budget, "64MiB")
	}
	in.file = fmt.Sprintf(`{
	admin %s
	auto_https off
	persist_config off
	grace_period 2s
	log {
		level ERROR
	}
	larder {
		disk %s
		%s
	}
	%s
}
%s
http://localhost:%d {
	%s
}
%s
`, in.admin, disk, s.options, s.global, s.routes, in.port, s.site, s.more)
	if o != nil {
		in.file = strings.ReplaceAll(in.file, "{{origin}}", strings.TrimPrefix(o.URL, "http://"))
	}
	return loadCaddyfile(in.t, in.file)
}

func loadCaddyfile(t *testing.T, file string) error {
	t.Helper()
	config, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(file), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err
	}
	for _, w := range warnings {
		if !strings.Contains(w.Message, "not formatted") {
			t.Logf("adapt: %s", w.Message)
		}
	}
	return caddy.Load(config, true)
}

// handedOut are the ports that freePort has returned.
var handedOut sync.Map

// freePort returns a port that nobody listens at. It is none of those that the kernel gives to connections and to listeners at port 0: those
// are many, and one of them, or another test process, might have it before it is used.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if _, taken := handedOut.LoadOrStore(port, true); !taken {
			return port
		}
	}
	t.Fatal("no free port from 10000 to 29999")
	return 0
}

// answer is a whole response.
type answer struct {
	*http.Response
	body string
	err  error // of reading the body
}

// cacheStatus is our member of Cache-Status.
func (a *answer) cacheStatus() string { return a.Header.Get("Cache-Status") }

func (in *instance) url(path string) string {
	return fmt.Sprintf("http://localhost:%d%s", in.port, path)
}

// get asks for path with header fields given as pairs.
func (in *instance) get(path string, header ...string) *answer {
	in.t.Helper()
	return in.do(http.MethodGet, path, "", header...)
}

// do sends a request and fails the test if there is no response. At a reload the server that goes may take a connection and close it
// without a word; a browser asks again for what is safe to ask for, and so does this.
func (in *instance) do(method, path, body string, header ...string) *answer {
	in.t.Helper()
	a, err := in.try(context.Background(), method, path, body, header...)
	for attempt := 1; err != nil && attempt < 3 && (method == http.MethodGet || method == http.MethodHead) && droppedUnanswered(err); attempt++ {
		in.t.Logf("asking again for %s: %v", path, err)
		a, err = in.try(context.Background(), method, path, body, header...)
	}
	if err != nil {
		in.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func droppedUnanswered(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
}

// try sends a request. It may be called from any goroutine.
func (in *instance) try(ctx context.Context, method, path, body string, header ...string) (*answer, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, in.url(path), content)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := in.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &answer{Response: resp, body: string(b), err: err}, nil
}

// adminCall calls the admin API and decodes its JSON.
func (in *instance) adminCall(method, path, body string, into any) int {
	in.t.Helper()
	r, err := http.NewRequest(method, "http://"+in.admin+path, bytes.NewReader([]byte(body)))
	if err != nil {
		in.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		in.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		in.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode
}

// purge purges and returns how many responses matched.
func (in *instance) purge(body string) int {
	in.t.Helper()
	var answer struct {
		Matched int    `json:"matched"`
		Error   string `json:"error"`
	}
	if status := in.adminCall(http.MethodPost, "/larder/purge", body, &answer); status != http.StatusOK {
		in.t.Fatalf("purge %s: %d %s", body, status, answer.Error)
	}
	return answer.Matched
}

// want compares what a response is with what it should be; an empty string is not compared.
func (a *answer) want(t *testing.T, status int, body, cacheStatus string) {
	t.Helper()
	if a.err != nil {
		t.Errorf("reading the body: %v", a.err)
	}
	if a.StatusCode != status {
		t.Errorf("status %d, want %d (body %q)", a.StatusCode, status, a.body)
	}
	if body != "" && a.body != body {
		t.Errorf("body %q, want %q", a.body, body)
	}
	if cacheStatus != "" && a.cacheStatus() != cacheStatus {
		t.Errorf("Cache-Status %q, want %q", a.cacheStatus(), cacheStatus)
	}
}

// eventually waits until condition holds; it is for what happens behind an answer (the write-behind, a background refresh).
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if !within(10*time.Second, condition) {
		t.Fatalf("waited 10 s in vain: %s", what)
	}
}

// within polls until condition holds, and reports false when that takes longer than limit.
func within(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return condition()
}

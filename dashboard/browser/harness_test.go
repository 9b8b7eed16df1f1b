package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// deadline is how long a test waits for what is to happen. It bounds, it measures nothing.
const deadline = 2 * time.Minute

// binary is the Caddy with Larder that the tests run, and chromium the browser; TestMain finds
// both.
var binary, chromium string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	for _, name := range []string{"google-chrome", "chromium-browser", "chromium"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
		}
	}
	if chromium == "" {
		if os.Getenv("LARDER_CHROMIUM") == "required" {
			fmt.Fprintln(os.Stderr, "there is no chromium, and LARDER_CHROMIUM requires it")
			return 1
		}
		fmt.Println("SKIPPED: there is no chromium. Install it to test the dashboard.")
		return 0
	}
	folder, err := os.MkdirTemp("", "larder-browser")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "caddy")
	build := exec.Command("go", "build", "-o", binary, "./cmd/caddy")
	build.Dir, build.Stdout, build.Stderr = filepath.Join("..", ".."), os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building Caddy with Larder:", err)
		return 1
	}
	return m.Run()
}

// start runs the binary until the test ends, and returns its standard output. Ctrl-C is what ends
// it; it must then end without an error.
func start(t *testing.T, args ...string) *bufio.Reader {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Errorf("caddy %s ended before its time: %v", args[0], err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("caddy %s ended with %v:\n%s", strings.Join(args, " "), err, stderr.String())
		}
	})
	return bufio.NewReader(out)
}

// startDashboard runs the dashboard before an admin API and returns the URL that it prints.
func startDashboard(t *testing.T, admin string) string {
	t.Helper()
	line, err := start(t, "larder", "dashboard", "--address", admin).ReadString('\n')
	_, url, found := strings.Cut(strings.TrimSpace(line), " is at ")
	if err != nil || !found {
		t.Fatalf("it printed %q: %v", line, err)
	}
	return url
}

// freeAddress returns a loopback address that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startSite runs a Caddy with a site behind Larder, whose responses say how often it was asked, and
// returns the addresses of the admin API and of the site.
func startSite(t *testing.T) (admin, site string) {
	t.Helper()
	admin, site = freeAddress(t), freeAddress(t)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	config := fmt.Sprintf(`{
	admin %s
	auto_https off
	order larder before header
	larder {
		disk off
	}
}
http://%s {
	larder {
		origin api {
			max_concurrent 4
		}
	}
	header Cache-Control "max-age=600"
	header Surrogate-Key "quickstart <img/src=x/onerror=alert(1)>"
	respond "It is {time.now.unix_ms} at the origin."
}
`, admin, site)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "run", "--config", file)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", site)
		if err == nil {
			connection.Close()
			return admin, site
		}
		if ctx.Err() != nil {
			t.Fatalf("the site does not listen: %v", err)
		}
	}
}

// fetch gets a path of a site, as it is, and returns the answer's Cache-Status.
func fetch(t *testing.T, site, path string) string {
	t.Helper()
	connection, err := net.Dial("tcp", site)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, site)
	response, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Header.Get("Cache-Status")
}

// tab is a tab of a browser. What goes wrong in it fails the test.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// open starts a browser of its own, so that tests share neither storage nor a cache, and opens a
// URL.
func open(t *testing.T, url string, options ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	options = append(append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.WindowSize(1280, 900)), options...)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx}
	b.do(chromedp.Navigate("about:blank"))
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Navigate(url))
	return b
}

// listen notes errors of scripts, of the console, of the network and of the security policy, and
// dialogs: nothing of the page opens one, so a script that was smuggled in has.
func (b *tab) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.note("exception: " + e.ExceptionDetails.Text)
		if thrown := e.ExceptionDetails.Exception; thrown != nil {
			b.note("exception: " + thrown.Description)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			b.note(fmt.Sprintf("console: %s %s", e.Type, e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.note(fmt.Sprintf("log: %s (%s)", e.Entry.Text, e.Entry.URL))
		}
	case *page.EventJavascriptDialogOpening:
		b.note("a dialog opened: " + e.Message)
		go func() {
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

func (b *tab) note(problem string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, problem)
}

// quiet fails the test if anything has gone wrong in the tab, save what a test expects.
func (b *tab) quiet(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
problems:
	for _, problem := range b.problems {
		for _, text := range expected {
			if strings.Contains(problem, text) {
				continue problems
			}
		}
		b.t.Error(problem)
	}
}

// do runs actions, and fails the test if one fails.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.quiet()
		b.t.Fatal(err)
	}
}

// evaluate runs a script and returns its value, after a promise has been kept.
func evaluate[T any](b *tab, script string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.quiet()
		b.t.Fatalf("%s: %v", script[:min(len(script), 200)], err)
	}
	return value
}

// script runs a script for what it does.
func script(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](text)
}

// click clicks on the first element of a selector, wherever it is: the page may replace it at any
// time, and a test by coordinates would find another one in its place.
func click(selector string) chromedp.Action[chromedp.Void] {
	return script("document.querySelector(" + quote(selector) + ").click()")
}

// until waits until a script is true, if need be on the page that follows this one.
func (b *tab) until(condition string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, deadline/2)
	defer cancel()
	poll := fmt.Sprintf(`(async () => {
  for (let i = 0; i < 50; i++) {
    if (%s) return true
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  return false
})()`, condition)
	for ctx.Err() == nil {
		if holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool](poll, chromedp.EvalAwaitPromise)); err == nil && holds {
			return
		}
	}
	b.quiet()
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	b.t.Fatalf("never true: %s\nthe page:\n%s", condition, text)
}

// says waits until an element has a text in it.
func (b *tab) says(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%s)?.textContent.includes(%s)", quote(selector), quote(text)))
}

// quote returns a text as a script has it.
func quote(text string) string {
	quoted, _ := json.Marshal(text)
	return string(quoted)
}

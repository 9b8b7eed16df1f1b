package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// runWarm runs `caddy larder warm` in this process.
func (in *instance) runWarm(args ...string) (stdout, stderr string, err error) {
	in.t.Helper()
	adminapitest.Address = in.admin
	return adminapitest.Larder(in.t, append([]string{"warm"}, args...)...)
}

var (
	warmSeconds = regexp.MustCompile(`in \d+s\n`)
	warmBytes   = regexp.MustCompile(`; [0-9.]+ [KM]?i?B in`)
)

// TestWarmOfThePage: the transcript of docs/warming.md is what the command prints, but for times
// and bytes, and what it has warmed is a hit.
func TestWarmOfThePage(t *testing.T) {
	_, blocks := readPages(t, "docs/warming.md")[0].parts()
	command, want, _ := strings.Cut(blocks[0].text, "\n")
	const site = "https://example.com"
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		switch r.URL.Path {
		case "/sitemap.xml":
			host := "http://" + r.Host
			_, _ = fmt.Fprintf(w, `<sitemapindex><sitemap><loc>%s/pages.xml</loc></sitemap></sitemapindex>`, host)
		case "/pages.xml":
			_, _ = io.WriteString(w, "<urlset>")
			for loc := range strings.FieldsSeq("/ /a /b /b /known /cart /old") {
				_, _ = fmt.Fprintf(w, "<url><loc>http://%s%s</loc></url>", r.Host, loc)
			}
			_, _ = io.WriteString(w, "<url><loc>http://shop.example/</loc></url></urlset>")
		case "/old":
			w.WriteHeader(http.StatusNotFound)
		case "/cart":
			w.Header().Set("Cache-Control", "no-store")
			_, _ = io.WriteString(w, "a cart")
		default:
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		}
	})
	in := start(t, proxied(block("status full")), o)
	base := strings.TrimSuffix(in.url("/"), "/")
	in.get("/known", "Accept-Encoding", "gzip, deflate, br, zstd")
	args := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(command, "$ caddy larder warm "), site, base))
	out, stderr, err := in.runWarm(args...)
	if err == nil {
		t.Error("no error")
	}
	same := func(text string) string {
		return warmBytes.ReplaceAllString(warmSeconds.ReplaceAllString(text, "in 1s\n"), "; 5.0 KiB in")
	}
	if got := same(strings.ReplaceAll(out+stderr, base, site)); got != same(want) {
		t.Errorf("prints\n%s\nthe page has\n%s", got, want)
	}
	for path := range strings.FieldsSeq("/ /a /b /known") {
		if a := in.get(path); !a.isHit() {
			t.Errorf("%s is no hit: %s", path, a.cacheStatus())
		}
	}
	if out, stderr, err := in.runWarm("--urls", "-"); err != nil || !strings.HasPrefix(out, "0 of 0 requests") {
		t.Errorf("with an empty list: %q %q %v", out, stderr, err)
	}
}

// TestWarmAfterAKill kills the command with -9 while it runs, and has the same command go on: what
// was done is not asked for again.
func TestWarmAfterAKill(t *testing.T) {
	t.Parallel()
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	var hang atomic.Bool
	hang.Store(true)
	reached := make(chan struct{}, 10)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/5" && hang.Load() {
			reached <- struct{}{}
			<-r.Context().Done()
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Cache-Status", "Larder; fwd=uri-miss; stored")
	})
	dir := t.TempDir()
	list, done := filepath.Join(dir, "urls"), filepath.Join(dir, "done")
	var urls strings.Builder
	for i := range 10 {
		fmt.Fprintf(&urls, "%s/%d\n", o.URL, i)
	}
	if err := os.WriteFile(list, []byte(urls.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	command := func() *exec.Cmd {
		cmd := exec.Command(binary, "larder", "warm", "--urls", list, "--concurrency", "1", "--resume", done)
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
		return cmd
	}
	first := command()
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	_ = first.Process.Kill()
	_ = first.Wait()
	hang.Store(false)
	o.asked(t, 6)
	out, err := command().CombinedOutput()
	if err != nil || !strings.Contains(string(out), "10 of 10 requests: 5 stored, 0 stored before, 5 done before") {
		t.Errorf("%v: %s", err, out)
	}
	o.asked(t, 11)
	if _, err := os.Stat(done); !os.IsNotExist(err) {
		t.Errorf("the resume file: %v", err)
	}
}

// TestWarmWhatWasPurged: what a purge by tag has dropped is asked for again, the most popular
// first, and nothing else is; by a soft purge, too, and after a reload.
func TestWarmWhatWasPurged(t *testing.T) {
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Surrogate-Key", "warmed warmed-"+strings.Trim(r.URL.Path, "/"))
		_, _ = io.WriteString(w, "x")
	})
	const zone = "warmed"
	s := rankedIn(t, zone)
	in := start(t, s, o)
	for path := range strings.FieldsSeq("/a /a /b?x=1 /b?x=1 /b?x=1 /c") {
		in.get(path)
	}
	eventually(t, "the hits are counted", func() bool {
		count, _ := in.topOf(zone, "hits").count(in.url("/b?x=1"))
		other, _ := in.topOf(zone, "hits").count(in.url("/a"))
		return count == 2 && other == 1
	})
	// These are tags of no other test: the process remembers what was purged of each.
	for i, tc := range []struct{ purge, tag, want string }{
		{`{"tags":["warmed"]}`, "warmed", "/b?x=1 /a /c"},
		{`{"tags":["warmed-c"],"soft":true}`, "warmed-c", "/c"},
		{`{"hosts":["nowhere.test"]}`, "never", ""},
	} {
		in.purge(tc.purge)
		if i == 1 {
			in.load(s, o)
		}
		before := o.count()
		out, stderr, err := in.runWarm("--purged", tc.tag, "--concurrency", "1")
		if err != nil {
			t.Fatalf("%v %s", err, stderr)
		}
		var asked []string
		for _, r := range o.seen[before:] {
			asked = append(asked, r.RequestURI)
		}
		if got := strings.Join(asked, " "); got != tc.want {
			t.Errorf("--purged %s asks for %q, want %q: %s", tc.tag, got, tc.want, out)
		}
		for _, path := range asked {
			if a := in.get(path); !a.isHit() {
				t.Errorf("%s is no hit: %s", path, a.cacheStatus())
			}
		}
	}
}

// TestWarmFillsWhatALargeFileLacks: of many slices some are looked up before a hit is told. Those
// that are missing between them are fetched all the same.
func TestWarmFillsWhatALargeFileLacks(t *testing.T) {
	const slice, count = 64 << 10, 40
	film := largePart(0, slice*count)
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Etag", `"v1"`)
		http.ServeContent(w, r, "film.mp4", time.Time{}, bytes.NewReader(film))
	})
	in := start(t, withDisk(t, block("slice 64KiB")), o)
	lacks := []int{9, 20, 35}
	for n := range count {
		if !slices.Contains(lacks, n) {
			in.get("/film.mp4", "Range", fmt.Sprintf("bytes=%d-%d", n*slice, (n+1)*slice-1))
		}
	}
	whole := func() *answer { return in.get("/film.mp4", "Cache-Control", "only-if-cached") }
	if a := whole(); a.StatusCode != http.StatusGatewayTimeout {
		t.Fatalf("%d: nothing is missing", a.StatusCode)
	}
	list := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(list, []byte(in.url("/film.mp4")), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, stderr, err := in.runWarm("--urls", list); err != nil || !strings.HasPrefix(out, "1 of 1 request: 0 stored, 1 stored before") {
		t.Errorf("%q %q %v", out, stderr, err)
	}
	if a := whole(); a.StatusCode != http.StatusOK || a.body != string(film) {
		t.Errorf("%d with %d bytes, after it was warmed", a.StatusCode, len(a.body))
	}
}

// TestWarmWithinTheOriginsBudget: what is warmed goes through the same door as visitors' requests.
func TestWarmWithinTheOriginsBudget(t *testing.T) {
	var now, most atomic.Int64
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), now.Add(1))) // there is one at a time, or it fails
		defer now.Add(-1)
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "x")
	})
	in := start(t, proxied(block("origin {", "max_concurrent 1", "}")), o)
	list := filepath.Join(t.TempDir(), "urls")
	var urls strings.Builder
	for i := range 40 {
		fmt.Fprintln(&urls, in.url(fmt.Sprintf("/%d", i)))
	}
	if err := os.WriteFile(list, []byte(urls.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, stderr, err := in.runWarm("--urls", list, "--concurrency", "8")
	if err != nil || !strings.HasPrefix(out, "40 of 40 requests: 40 stored") || most.Load() != 1 {
		t.Errorf("%d at once: %q %q %v", most.Load(), out, stderr, err)
	}
}

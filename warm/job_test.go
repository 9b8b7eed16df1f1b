package warm

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testSite has pages that a Larder in front of it stores, and remembers what it is asked.
type testSite struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // host, URI and Accept-Language
	seen  map[string]bool
}

// newSite serves files by their path; a page that is none is stored at its first request.
func newSite(t *testing.T, files map[string]http.HandlerFunc) *testSite {
	t.Helper()
	s := &testSite{seen: make(map[string]bool)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := strings.TrimSpace(r.RequestURI + " " + r.Header.Get("Accept-Language"))
		s.mu.Lock()
		s.asked = append(s.asked, what)
		status := "Larder; fwd=uri-miss; stored"
		if s.seen[what] {
			status = "Larder; hit; ttl=60"
		}
		s.seen[what] = true
		s.mu.Unlock()
		if r.Header.Get("Cookie") != "" || r.Header.Get("Referer") != "" || r.Header.Get("User-Agent") != userAgent {
			t.Errorf("%s is asked for with %v", what, r.Header)
		}
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: "1"})
		if serve := files[r.URL.Path]; serve != nil {
			serve(w, r)
			return
		}
		w.Header().Set("Cache-Status", status)
		_, _ = io.WriteString(w, "0123456789")
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *testSite) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// newJob is a job with the command's defaults, and one request at a time.
func newJob(sources ...source) *job {
	return &job{sources: sources, concurrency: 1, limit: defaultLimit, timeout: time.Minute, maxTime: time.Hour, show: progress{out: io.Discard}}
}

func mustRun(t *testing.T, j *job) *Summary {
	t.Helper()
	sum, err := j.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestSitemaps: an index, compressed, names two sitemaps, one of them compressed under a name that
// says nothing of it, one that is broken, one that is missing and one of another host.
func TestSitemaps(t *testing.T) {
	files := make(map[string]http.HandlerFunc)
	s := newSite(t, files)
	entry := func(element string, paths ...string) (out string) {
		for _, path := range paths {
			if strings.HasPrefix(path, "/") {
				path = s.URL + path
			}
			out += "<" + element + "><loc>" + path + "</loc><lastmod>2026-11-29</lastmod></" + element + ">"
		}
		return out
	}
	index := "<sitemapindex " + sitemapSpace + ">" + entry("sitemap", "/a.xml", "/b.xml", "/broken.xml", "/gone.xml", "http://evil.test/c.xml", "/index.xml") + "</sitemapindex>"
	files["/sitemap.xml"] = status(http.StatusMovedPermanently, "Location", "/index.xml")
	files["/index.xml"] = text(string(gzipped([]byte(index))))
	files["/a.xml"] = text("<urlset>" + entry("url", "/1", "/2#top", "http://evil.test/x", "mailto:x") + "</urlset>")
	files["/b.xml"] = text(string(gzipped([]byte("<urlset>" + entry("url", "/2", "/3?x=1&amp;y=2") + "</urlset>"))))
	files["/broken.xml"] = text("<urlset>" + entry("url", "/4") + "<url>")
	files["/gone.xml"] = status(http.StatusGone)

	sum := mustRun(t, newJob(source{fromSitemap, s.URL + "/sitemap.xml"}))
	asked := s.requests()
	if pages := asked[len(asked)-4:]; !slices.Equal(pages, []string{"/1", "/2", "/3?x=1&y=2", "/4"}) {
		t.Errorf("asked for %q", asked)
	}
	if sum.URLs != 4 || sum.Stored != 4 || sum.Skipped != (Skipped{Duplicates: 1, OtherHosts: 2}) || sum.Bytes != 40 {
		t.Errorf("%+v", sum)
	}
	var reasons []string
	for _, f := range sum.Failures {
		reasons = append(reasons, strings.TrimPrefix(f.URL, s.URL)+" "+f.Reason)
	}
	if got := strings.Join(reasons, "\n"); sum.Failed != 3 || !strings.Contains(got, "mailto:x ") || !strings.Contains(got, "/broken.xml the sitemap is no sitemap, or a broken one") ||
		!strings.Contains(got, "/gone.xml the sitemap is answered with 410 Gone") {
		t.Errorf("%s", got)
	}
}

// TestSitemapsHaveBounds: an index that names itself under new names ends.
func TestSitemapsHaveBounds(t *testing.T) {
	files := make(map[string]http.HandlerFunc)
	s := newSite(t, files)
	files["/index"] = func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "<sitemapindex><sitemap><loc>%s/index?%s</loc></sitemap></sitemapindex>", s.URL, r.URL.RawQuery+"x")
	}
	sum := mustRun(t, newJob(source{fromSitemap, s.URL + "/index"}))
	if n := len(s.requests()); n != maxSitemapDepth || sum.Failed != 1 || !strings.Contains(sum.Failures[0].Reason, "stands in more than 2 indexes") {
		t.Errorf("%d requests, %+v", n, sum.Failures)
	}
}

// TestWarm: what fails does not end it, and each outcome is counted under its name.
func TestWarm(t *testing.T) {
	s := newSite(t, map[string]http.HandlerFunc{
		"/private":   status(200, "Cache-Status", "Larder; fwd=uri-miss; detail=private"),
		"/short":     status(200, "Cache-Status", "Larder; fwd=uri-miss"),
		"/pass":      status(200, "Cache-Status", "Larder; fwd=bypass; detail=method"),
		"/bare":      status(200),
		"/collapsed": status(200, "Cache-Status", "Larder; fwd=uri-miss; collapsed"),
		"/behind":    status(200, "Cache-Status", "Larder; hit, Edge; fwd=miss"),
		"/missing":   status(404, "Cache-Status", "Larder; hit"),
		"/down":      status(502, "Cache-Status", "Larder; fwd=uri-miss; detail=error"),
		"/moved":     status(301, "Location", "/target", "Cache-Status", "Larder; fwd=uri-miss; stored"),
		"/away":      status(302, "Location", "http://evil.test/", "Cache-Status", "Larder; fwd=uri-miss; stored"),
		"/toplanned": status(301, "Location", "/page", "Cache-Status", "Larder; hit"),
		"/loop":      status(302, "Location", "/loop2"),
		"/loop2":     status(302, "Location", "/loop3"),
		"/loop3":     status(302, "Location", "/loop2"),
		"/half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "x")
		},
	})
	var list strings.Builder
	for path := range strings.FieldsSeq("/half /missing /down /page /page /private /short /pass /bare /collapsed /behind /moved /away /toplanned /loop") {
		fmt.Fprintln(&list, s.URL+path)
	}
	j := newJob(source{fromList, "-"})
	j.stdin = strings.NewReader(list.String())
	sum := mustRun(t, j)
	want := map[string]int{"private": 1, "method": 1, reasonUntold: 1, reasonNoCache: 2}
	if sum.Stored != 3 || sum.Hits != 2 || sum.Collapsed != 1 || fmt.Sprint(sum.NotStored) != fmt.Sprint(want) || sum.Redirects != 1+maxRedirects {
		t.Errorf("%+v", sum)
	}
	reasons := make(map[string]string)
	for _, f := range sum.Failures {
		reasons[strings.TrimPrefix(f.URL, s.URL)] = f.Reason
	}
	if sum.Failed != 3 || reasons["/missing"] != "404 Not Found" || reasons["/down"] != "502 Bad Gateway, error" || reasons["/half"] != "unexpected EOF" {
		t.Errorf("%q", reasons)
	}
	if sum.Requests != 14 || sum.Done != 14 || sum.Skipped.Duplicates != 1 || sum.Err() == nil || sum.Err().Error() != "3 failed" {
		t.Errorf("%+v", sum)
	}
}

// TestTo: requests go to one address, and have the URL's host.
func TestTo(t *testing.T) {
	s := newSite(t, nil)
	hosts := make(chan string, 2)
	s.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host })
	j := newJob(source{fromList, "-"})
	j.stdin, j.to = strings.NewReader("http://example.test/\nhttp://example.test:81/\n"), s.Listener.Addr().String()
	mustRun(t, j)
	if a, b := <-hosts, <-hosts; a != "example.test" || b != "example.test:81" {
		t.Errorf("Host is %s and %s", a, b)
	}
	for to, want := range map[string]string{"h": "h|", "h:1": "h|1", "[::1]:2": "::1|2", "": "error", "http://h": "error", "h/x": "error", "h:x": "error", ":80": "error"} {
		got := "error"
		if host, port, err := splitTo(to); err == nil {
			got = host + "|" + port
		}
		if got != want {
			t.Errorf("--to %s is %s, want %s", to, got, want)
		}
	}
}

// TestToKeepsTheNameInTLS: the certificate is that of the URL's host.
func TestToKeepsTheNameInTLS(t *testing.T) {
	names := make(chan string, 1)
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { names <- r.TLS.ServerName + " " + r.Host }))
	defer s.Close()
	transport, err := newTransport(s.Listener.Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	transport.TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone() // whose roots know example.com
	j := newJob(source{fromList, "-"})
	j.stdin, j.transport = strings.NewReader("https://example.com/"), transport
	if sum := mustRun(t, j); sum.Failed > 0 {
		t.Fatalf("%+v", sum.Failures)
	}
	if got := <-names; got != "example.com example.com" {
		t.Errorf("%q", got)
	}
}

// TestResume: a run that is interrupted goes on where it stopped, and the file is gone at the end.
func TestResume(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	s := newSite(t, map[string]http.HandlerFunc{
		"/2": func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Language") == "de" && ctx.Err() == nil {
				interrupt()
				<-r.Context().Done() // so that the request ends by the interruption
			}
		},
		"/bad": status(500),
	})
	resume := filepath.Join(t.TempDir(), "done")
	list := s.URL + "/bad\n" + s.URL + "/1\n" + s.URL + "/2\n" + s.URL + "/3\n"
	run := func(ctx context.Context) *Summary {
		j := newJob(source{fromList, "-"})
		j.stdin, j.resume, j.fields = strings.NewReader(list), resume, []string{"Accept-Language: en", "Accept-Language: de"}
		sum, err := j.run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	sum := run(ctx)
	if !sum.Interrupted || sum.Done != 5 || !strings.Contains(sum.Err().Error(), "interrupted after 5 of 8 requests; the same command goes on there") {
		t.Errorf("%+v, %v", sum, sum.Err())
	}
	before := len(s.requests())
	sum = run(t.Context())
	if asked := s.requests()[before:]; !slices.Equal(asked, []string{"/bad en", "/bad de", "/2 de", "/3 en", "/3 de"}) {
		t.Errorf("the second run asked for %q", asked)
	}
	if sum.Interrupted || sum.Done != 8 || sum.Skipped.Resumed != 3 || sum.Failed != 2 || sum.Failures[1].Fields != "Accept-Language: de" {
		t.Errorf("%+v", sum)
	}
	if _, err := os.Stat(resume); !os.IsNotExist(err) {
		t.Errorf("the file: %v", err)
	}
}

// TestLogsNeedASite: the hosts in a log are the clients' words.
func TestLogsNeedASite(t *testing.T) {
	s := newSite(t, nil)
	log := filepath.Join(t.TempDir(), "access.log")
	ours := strings.TrimPrefix(s.URL, "http://")
	lines := caddyLine("GET", "169.254.169.254", "/secret", 200, "") + "\n" + caddyLine("GET", ours, "/a", 200, "") + "\n"
	if err := os.WriteFile(log, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	j := newJob(source{fromLog, log})
	if _, err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "give --site") {
		t.Errorf("%v", err)
	}
	j.sites = []string{s.URL}
	if sum := mustRun(t, j); sum.URLs != 1 || sum.Stored != 1 || sum.Skipped.OtherHosts != 1 {
		t.Errorf("%+v", sum)
	}
	j.sites, j.to = nil, ours
	if sum := mustRun(t, j); sum.URLs != 2 || sum.Failed != 0 {
		t.Errorf("with --to: %+v", sum)
	}
	if asked := s.requests(); !slices.Equal(asked, []string{"/a", "/secret", "/a"}) && !slices.Equal(asked, []string{"/a", "/a", "/secret"}) {
		t.Errorf("asked for %q", asked)
	}
}

// TestPurgedOfOtherHosts: what a site has stored that takes any host has the hosts that clients
// sent. With --site the others are left out; they were asked for.
func TestPurgedOfOtherHosts(t *testing.T) {
	s := newSite(t, nil)
	j := newJob(source{fromPurge, "a"})
	j.purged = func(context.Context, string) (PurgedURLs, error) {
		return PurgedURLs{URLs: []string{s.URL + "/a", "http://127.0.0.1:1/secret"}}, nil
	}
	j.sites = []string{s.URL}
	if sum := mustRun(t, j); sum.URLs != 1 || sum.Stored != 1 || sum.Skipped.OtherHosts != 1 {
		t.Errorf("%+v", sum)
	}
	j.sites = nil
	if sum := mustRun(t, j); sum.URLs != 2 || sum.Skipped.OtherHosts != 0 {
		t.Errorf("without --site: %+v", sum)
	}
}

func TestJobsThatAreRefused(t *testing.T) {
	list := source{fromList, "/nowhere/list"}
	for name, tc := range map[string]struct {
		change func(*job)
		want   string
	}{
		"no source":      {func(j *job) { j.sources = nil }, "nothing to warm"},
		"no file":        {func(*job) {}, "no such file"},
		"rate":           {func(j *job) { j.rate = "5" }, "give one such as 5/s"},
		"negative rate":  {func(j *job) { j.rate = "-5/s" }, "give one such as 5/s"},
		"infinite rate":  {func(j *job) { j.rate = "inf/s" }, "give one such as 5/s"},
		"no number":      {func(j *job) { j.rate = "nan/s" }, "give one such as 5/s"},
		"concurrency":    {func(j *job) { j.concurrency = 0 }, "from 1 to 1000"},
		"limit":          {func(j *job) { j.limit = 0 }, "from 1 to 1,000,000"},
		"timeout":        {func(j *job) { j.timeout = 0 }, "such as 30s"},
		"max-time":       {func(j *job) { j.maxTime = 0 }, "such as 10m"},
		"site":           {func(j *job) { j.sites = []string{"example.com"} }, "--site example.com is not an absolute URL"},
		"site with path": {func(j *job) { j.sites = []string{"https://example.com/a"} }, "has a path"},
		"to":             {func(j *job) { j.to = "http://h" }, "--to http://h is no address"},
		"field":          {func(j *job) { j.fields = []string{"Cookie: a"} }, "Cookie is not sent"},
		"resume":         {func(j *job) { j.sources[0].value, j.stdin, j.resume = "-", strings.NewReader(""), "/nowhere/done" }, "--resume: open /nowhere/done"},
	} {
		j := newJob(list)
		tc.change(j)
		if sum, err := j.run(t.Context()); sum != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestResumeFileOfAJobThatIsRefused: it keeps what is done, and none is left where nothing was.
func TestResumeFileOfAJobThatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "done")
	refused := func() {
		j := newJob(source{fromList, "/nowhere/list"})
		j.resume = path
		if _, err := j.run(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%v", err)
		}
	}
	if refused(); fileExists(path) {
		t.Error("a file is left")
	}
	done := mustOpen(t, path)
	done.add("http://h/1", &variant{})
	if err := done.close(false); err != nil {
		t.Fatal(err)
	}
	if refused(); !fileExists(path) {
		t.Error("what is done is gone")
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

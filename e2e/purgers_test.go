package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// purgerSite is the host that the senders in testdata/purgers purge.
const purgerSite = "www.example.com"

// exchange is a file of testdata/purgers: what some software sends to a cache, with the site that
// it is sent to and what is to become of it.
type exchange struct {
	name     string
	port     int
	sections map[string]string
	pages    map[string][2]string // the field that each has, with its value
}

func readExchanges(t *testing.T) (all []*exchange) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(treeRoot, "testdata/purgers/*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no exchanges: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		x := &exchange{
			name: strings.TrimSuffix(filepath.Base(file), ".txt"), port: freePort(t),
			sections: make(map[string]string), pages: make(map[string][2]string),
		}
		name := "source"
		for line := range strings.Lines(string(text)) {
			if heading, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-- "); ok {
				name = strings.TrimSuffix(heading, " --")
				continue
			}
			x.sections[name] += line
		}
		for line := range strings.Lines(x.sections["pages"]) {
			path, field, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			key, value, _ := strings.Cut(field, ": ")
			x.pages[path] = [2]string{key, value}
		}
		if lines := strings.Count(x.sections["source"], "\n"); lines != 3 {
			t.Errorf("%s begins with %d lines, want its source, where that is and what is sent", file, lines)
		}
		all = append(all, x)
	}
	return all
}

// TestPurgers sends what the plugins of WordPress, Drupal, TYPO3 and others send, to the letter, to
// sites that are set up for it. One Caddy has all of the sites.
func TestPurgers(t *testing.T) {
	exchanges := readExchanges(t)
	var sites strings.Builder
	for _, x := range exchanges {
		fmt.Fprintf(&sites, "http://:%d {\nrequest_header X-Exchange %s\n%s\nreverse_proxy {{origin}}\n}\n", x.port, x.name, x.sections["site"])
	}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		i := slices.IndexFunc(exchanges, func(x *exchange) bool { return x.name == r.Header.Get("X-Exchange") })
		page := exchanges[i].pages[r.URL.RequestURI()]
		w.Header().Set("Cache-Control", "max-age=600")
		if page[0] != "" {
			w.Header().Set(page[0], page[1])
		}
		w.Header().Set("X-Method", r.Method)
	})
	in := start(t, setup{site: "respond unused", more: sites.String()}, o)
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) {
			at := *in
			at.t, at.port = t, x.port
			x.run(t, &at)
			in.purge(`{"all":true}`)
		})
	}
}

func (x *exchange) run(t *testing.T, in *instance) {
	for path := range x.pages {
		x.get(in, path)
		if a := x.get(in, path); !a.isHit() {
			t.Fatalf("%s is not stored: %q", path, a.cacheStatus())
		}
	}
	a := in.raw(x.sections["request"])
	want := strings.TrimSpace(x.sections["answer"])
	if want == "passes" {
		if method, _, _ := strings.Cut(x.sections["request"], " "); a.Header.Get("X-Method") != method {
			t.Errorf("it did not pass: %d %q", a.StatusCode, a.body)
		}
	} else if got := fmt.Sprintf("%d %s", a.StatusCode, a.body); got != want+"\n" {
		t.Errorf("the answer is\n%swant\n%s", got, want)
	}
	gone := strings.Fields(x.sections["gone"])
	for path := range x.pages {
		if a := x.get(in, path); a.isHit() == slices.Contains(gone, path) {
			t.Errorf("%s afterwards: %q", path, a.cacheStatus())
		}
	}
}

// get asks for a page at the site's own host.
func (x *exchange) get(in *instance, path string) *answer {
	return in.raw(fmt.Sprintf("GET %s HTTP/1.1\nHost: %s\nConnection: close\n\n", path, purgerSite))
}

// TestPurgeExamples sends what is sent to the examples of the page by the software that they are
// for.
func TestPurgeExamples(t *testing.T) {
	t.Setenv("PURGE_TOKEN", "hush")
	for _, tc := range []struct{ name, field, request string }{
		{"purge-wordpress", "X-Cache-Tags", "PURGE / HTTP/1.1\nHost: localhost:%d\nX-Purge-Method: tags\nX-Cache-Tags-Pattern: one|two\n\n"},
		{"purge-wordpress", "X-Cache-Tags", "PURGE /page HTTP/1.1\nHost: localhost:%d\nX-Purge-Method: default\n\n"},
		{"purge-wordpress", "X-Cache-Tags", "PURGE /.* HTTP/1.1\nHost: localhost:%d\nX-Purge-Method: regex\n\n"},
		{"purge-drupal", "Purge-Cache-Tags", "PURGE / HTTP/1.1\nHost: localhost:%d\nCache-Tags: one\nX-Purge-Token: hush\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			site, origin, port := freePort(t), freePort(t), freePort(t)
			newOriginAt(t, fmt.Sprintf("localhost:%d", origin), answering(200, "Cache-Control", "max-age=60", tc.field, "one"))
			in := loadExample(t, strings.ReplaceAll(example(t, tc.name), "http://:8081", fmt.Sprintf("http://:%d", port)), site, origin)
			in.get("/page")
			if a := in.get("/page"); !a.isHit() {
				t.Fatalf("not stored: %q", a.cacheStatus())
			}
			at := *in
			if tc.name == "purge-wordpress" {
				at.port = port
			}
			at.raw(fmt.Sprintf(tc.request, site)).want(t, 200, "{\"matched\":1,\"soft\":false,\"dry_run\":false}\n", "")
			if a := in.get("/page"); a.isHit() {
				t.Error("the page is there still")
			}
		})
	}
}

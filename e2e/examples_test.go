package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larder-cache/larder/internal/advice"
)

// TestExamples runs every example Caddyfile, with free ports in place of its own, and holds the
// pages to quoting each as it is.
func TestExamples(t *testing.T) {
	var quoted []string
	for _, p := range readPages(t, pagePatterns...) {
		_, blocks := p.parts()
		for _, b := range blocks {
			quoted = append(quoted, b.text)
		}
	}
	for file, text := range exampleFiles(t) {
		t.Run(file, func(t *testing.T) {
			if !slices.Contains(quoted, text) {
				t.Errorf("no page quotes %s as it is", file)
			}
			in := runExample(t, text)
			in.get("/").want(t, 200, "", "")
			want := "Larder; hit"
			if strings.Contains(text, "\tobserve\n") {
				want = observing
			}
			if got := in.get("/").cacheStatus(); !strings.HasPrefix(got, want) {
				t.Errorf("the second request: Cache-Status %q, want %q", got, want)
			}
		})
	}
}

// exampleFiles are the examples by name.
func exampleFiles(t *testing.T) map[string]string {
	t.Helper()
	examples := make(map[string]string)
	for _, p := range readPages(t, "testdata/examples/*.Caddyfile") {
		examples[path.Base(p.path)] = p.text
	}
	return examples
}

// example is an example by its name.
func example(t *testing.T, name string) string {
	t.Helper()
	return readPages(t, "testdata/examples/"+name+".Caddyfile")[0].text
}

// TestLoginsExample has visitors and a member come to the site for which that example is.
func TestLoginsExample(t *testing.T) {
	text := example(t, "logins")
	in := runExample(t, text)
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

// TestLoginsExampleLeavesLoginsAlone: what the pages behind a login are asked with comes to them as
// it was sent, and what changes a page for its visitor is not taken away anywhere. The password
// reset of WordPress lives in a cookie.
func TestLoginsExampleLeavesLoginsAlone(t *testing.T) {
	text := example(t, "logins")
	origin := freePort(t)
	o := newOriginAt(t, fmt.Sprintf("localhost:%d", origin), func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("Cookie"))
	})
	in := loadExample(t, text, freePort(t), origin)
	const analytics = "_ga=1"
	for _, path := range []string{
		"/wp-login.php?action=rp", "/blog/wp-login.php", "//wp-login.php", "/wp-login.php/x", "/WP-Login.php", "/wp-activate.php",
		"/wp-signup.php", "/wp-admin", "/wp-admin/", "/wp-admin/profile.php", "/wp-cron.php",
	} {
		for range 2 {
			a := in.get(path, "Cookie", analytics)
			a.want(t, 200, analytics, "")
			if status := a.cacheStatus(); status != "" {
				t.Errorf("%s has to do with the cache: %q", path, status)
			}
		}
	}
	for _, cookie := range []string{
		"wp-resetpass-0123=bob", "wordpress_logged_in_0123=bob", "wp-postpass_0123=x", "comment_author_0123=bob",
		"wp_woocommerce_session_0123=x", "woocommerce_items_in_cart=1", "PHPSESSID=x", "_ga=1; wp-resetpass-0123=bob", "_ga=1;wp_lang=de",
	} {
		in.get("/?c", "Cookie", cookie).want(t, 200, cookie, "")
	}
	for _, cookie := range []string{analytics, "_my-wp-thing=1", "x=wp-resetpass-0123"} {
		if a := in.get("/?v", "Cookie", cookie); a.body != "" || a.cacheStatus() == "" {
			t.Errorf("a visitor with %s: %q %q", cookie, a.body, a.cacheStatus())
		}
	}
	o.asked(t, 22+9+1)
}

// TestMembersExample: cookies of analytics change nothing, any other one gets the pages of its own,
// also where they state a lifetime.
// What check and migrate say to write is what the example has.
func TestMembersExample(t *testing.T) {
	text := example(t, "members")
	for line := range strings.SplitSeq(advice.TakeOut(advice.Analytics), "`, and below it `") {
		if !strings.Contains(text, strings.Trim(line, "`")) {
			t.Errorf("the example lacks %s", line)
		}
	}
	origin := freePort(t)
	newOriginAt(t, fmt.Sprintf("localhost:%d", origin), func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Cookies())
	})
	in := loadExample(t, text, freePort(t), origin)
	in.get("/").want(t, 200, "[]", "Larder; fwd=uri-miss; stored")
	for cookie, seen := range map[string]string{
		"_ga=1": "", "_ga=1; _gid=2": "", "_ga_ABC=1;_fbp=x; _pk_id=3": "",
		"DokuWiki=abc": "[DokuWiki=abc]", "_ga=1; DokuWiki=abc": "[DokuWiki=abc]", "DokuWiki=abc; _ga=1; DWpass=x": "[DokuWiki=abc DWpass=x]",
		"my_ga=1": "[my_ga=1]",
	} {
		a := in.get("/", "Cookie", cookie)
		if seen == "" && !a.isHit() || seen != "" && a.body != seen {
			t.Errorf("%s: %q %q", cookie, a.body, a.cacheStatus())
		}
	}
}

// TestExamplesKnowMembers: where an example tells members by a cookie, or takes cookies out, a
// member gets pages of the origin's, which knows who asks. What a member posts reaches the origin
// with the cookie, and drops the page. No client gets the text of a placeholder.
func TestExamplesKnowMembers(t *testing.T) {
	const wordpress, session, lifetime = "wordpress_logged_in_1=bob", "session=bob", "max-age=300"
	for _, tt := range []struct{ name, cookie, lifetime string }{
		{"cloudflare", session, ""},
		{"cloudflare", session, lifetime},
		{"logins", wordpress, ""},
		{"logins", wordpress, lifetime},
		{"members", session, ""},
		{"members", session, lifetime},
		{"nginx", session, ""}, // as nginx does, it shares with all what states a lifetime
		{"observed", wordpress, lifetime},
		{"varnish-builtin", session, ""},
		{"varnish-builtin", session, lifetime},
		{"varnish-wordpress", wordpress, ""},
		{"varnish-wordpress", wordpress, lifetime},
	} {
		t.Run(tt.name+" "+tt.lifetime, func(t *testing.T) {
			origin := freePort(t)
			newOriginAt(t, fmt.Sprintf("localhost:%d", origin), func(w http.ResponseWriter, r *http.Request) {
				if tt.lifetime != "" {
					w.Header().Set("Cache-Control", tt.lifetime)
				}
				_, _ = io.WriteString(w, "for "+r.Header.Get("Cookie"))
			})
			in := loadExample(t, example(t, tt.name), freePort(t), origin)
			for _, step := range []struct {
				method, path, cookie, body string
				hit                        bool
			}{
				{"GET", "/", "", "for ", false},
				{"GET", "/", "", "for ", true},
				{"GET", "/", tt.cookie, "for " + tt.cookie, false},
				{"POST", "/", tt.cookie, "for " + tt.cookie, false},
				{"GET", "/", "", "for ", false},
				{"GET", "/admin/", tt.cookie, "for " + tt.cookie, false},
				{"POST", "/admin/", tt.cookie, "for " + tt.cookie, false},
				{"GET", "/admin/face.jpg", tt.cookie, "for " + tt.cookie, false},
				{"POST", "/face.jpg", tt.cookie, "for " + tt.cookie, false},
			} {
				var header []string
				if step.cookie != "" {
					header = []string{"Cookie", step.cookie}
				}
				a := in.do(step.method, step.path, "", header...)
				if a.body != step.body || a.isHit() != step.hit {
					t.Errorf("%s %s of %q: %q, %q", step.method, step.path, step.cookie, a.body, a.cacheStatus())
				}
				if said := fmt.Sprint(a.Header); strings.Contains(said, "{http.") {
					t.Errorf("%s %s of %q: %s", step.method, step.path, step.cookie, said)
				}
			}
		})
	}
}

// runExample runs an example, and an origin for it where it brings none.
func runExample(t *testing.T, text string) *instance {
	t.Helper()
	origin := freePort(t)
	if !strings.Contains(text, "http://localhost:19000 {") {
		newOriginAt(t, fmt.Sprintf("localhost:%d", origin), numbered("Cache-Control", "max-age=60"))
	}
	return loadExample(t, text, freePort(t), origin)
}

// loadExample runs an example with these ports for its site and origin.
func loadExample(t *testing.T, text string, site, origin int) *instance {
	t.Helper()
	t.Setenv("XDG_DATA_HOME", t.TempDir()) // where the default disk tier goes
	admin := freePort(t)
	text = strings.NewReplacer(
		"localhost:8080", fmt.Sprintf("localhost:%d", site),
		"localhost:9000", fmt.Sprintf("localhost:%d", origin),
		"localhost:18080", fmt.Sprintf("localhost:%d", site),
		"localhost:19000", fmt.Sprintf("localhost:%d", origin),
		"localhost:12019", fmt.Sprintf("localhost:%d", admin),
		"http://:8081", fmt.Sprintf("http://:%d", freePort(t)),
		"./larder-quickstart", t.TempDir(),
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
	stopAtEnd(t)
	loadOver(t, text, site)
	in := &instance{
		t: t, port: site, admin: fmt.Sprintf("localhost:%d", admin), client: &http.Client{Timeout: patience},
	}
	t.Cleanup(in.client.CloseIdleConnections)
	return in
}

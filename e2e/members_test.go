package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCookiesThatAreLeftAreRead: the example of a site with logins takes cookies away, and what is
// left of the field is as a client would send it. A strict parser finds no cookie in one that
// begins with a semicolon, so a client that has logged in would be a guest.
func TestCookiesThatAreLeftAreRead(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "examples", "members.Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	var site []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "request_header ") {
			site = append(site, line)
		}
	}
	o := newOrigin(t, func(http.ResponseWriter, *http.Request) {})
	in := start(t, proxied(strings.Join(append(site, "larder"), "\n")+"\n"), o)
	for sent, want := range map[string]string{
		"_ga=GA1; sid=alice": "sid=alice", "sid=alice; _ga=GA1": "sid=alice", "a=1; _ga=2; b=3": "a=1; b=3",
		"_ga=1;_gid=2;sid=alice": "sid=alice", "_ga=1; _gid=2": "", "sid=alice": "sid=alice",
	} {
		in.get("/", "Cookie", sent)
		if got := o.last().Header.Get("Cookie"); got != want {
			t.Errorf("%q reaches the origin as %q, want %q", sent, got, want)
		}
	}
}

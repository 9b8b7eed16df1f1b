package warm

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

func TestMain(m *testing.M) {
	adminapitest.Main(m, Feature(func() Cache {
		if purges == nil {
			return nil
		}
		return purgedCache{}
	}))
}

// listFile writes a list of paths of a site.
func listFile(t *testing.T, s *testSite, paths ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "urls")
	if err := os.WriteFile(name, []byte(s.URL+strings.Join(paths, "\n"+s.URL)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestCommand(t *testing.T) {
	s := newSite(t, map[string]http.HandlerFunc{
		"/private": status(200, "Cache-Status", "Larder; fwd=uri-miss; detail=private"),
		"/missing": status(404),
	})
	list := listFile(t, s, "/a", "/b", "/a", "/private")
	out, stderr, err := adminapitest.Larder(t, "warm", "--urls", list, "--rate", "1000/s", "--concurrency", "1")
	if err != nil || stderr != "" {
		t.Fatalf("%v, %q", err, stderr)
	}
	want := "3 of 3 requests: 2 stored, 0 stored before, 1 not stored; 20 B in 0s\nnot stored: 1 private\nleft out: 1 found twice\n"
	if out != want {
		t.Errorf("%q, want %q", out, want)
	}

	out, stderr, err = adminapitest.Larder(t, "warm", "--urls", listFile(t, s, "/missing", "/a"))
	if err == nil || stderr != "Error: 1 failed\n" {
		t.Errorf("%v, %q", err, stderr)
	}
	if !strings.HasSuffix(out, "failed:\n  "+s.URL+"/missing: 404 Not Found\n") {
		t.Errorf("%q", out)
	}

	out, _, err = adminapitest.Larder(t, "warm", "--json", "--urls", list, "--urls", listFile(t, s, "/missing"))
	var sum Summary
	if decoded := json.Unmarshal([]byte(out), &sum); err == nil || decoded != nil {
		t.Fatalf("%v, %v: %q", err, decoded, out)
	}
	if sum.Hits != 2 || sum.Failed != 1 || sum.NotStored["private"] != 1 || sum.Failures[0].Reason != "404 Not Found" {
		t.Errorf("%+v", sum)
	}
}

func TestCommandRefuses(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "nothing to warm; give at least one of --sitemap"},
		{[]string{"--urls", ""}, "it is empty"},
		{[]string{"--urls", "/nowhere/list"}, "no such file"},
		{[]string{"--urls", "-", "-H", "Cookie: a=b"}, "-H Cookie is not sent"},
		{[]string{"http://h/"}, `warm takes no "http://h/"; write caddy larder warm`},
	} {
		out, stderr, err := adminapitest.Larder(t, append([]string{"warm"}, tc.args...)...)
		adminapitest.ExpectOneLine(t, out, stderr, err, tc.want)
	}
}

// purges are what the endpoint of the tests answers, one after the other; nil while no cache runs.
var purges []PurgedURLs

type purgedCache struct{}

func (purgedCache) Purged(tag string) PurgedURLs {
	next := purges[0]
	if len(purges) > 1 {
		purges = purges[1:]
	}
	next.Tag = tag
	return next
}

// TestPurged: the command waits until the purge is swept, and tells what is not remembered of it.
func TestPurged(t *testing.T) {
	s := newSite(t, nil)
	purges = []PurgedURLs{{URLs: []string{}, Sweeping: true}, {URLs: []string{s.URL + "/a", s.URL + "/b"}, More: 7}}
	t.Cleanup(func() { purges = nil })
	out, stderr, err := adminapitest.Larder(t, "warm", "--purged", "product&7", "--concurrency", "1")
	if err != nil || stderr != "" || !strings.HasPrefix(out, "2 of 2 requests: 2 stored") || !strings.HasSuffix(out, "left out: 7 of a purge that are not remembered\n") {
		t.Errorf("%v %q %q", err, out, stderr)
	}
	response, body := adminapitest.Send(t, http.MethodGet, "/larder/purged?tag=x", "")
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(body, `{"tag":"x","urls":["`) {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	response, body = adminapitest.Send(t, http.MethodGet, "/larder/purged", "")
	adminapitest.ExpectFailure(t, response, body, http.StatusBadRequest, "send ?tag=")
	response, body = adminapitest.Send(t, http.MethodGet, "/larder/purged?tag=a%20b", "")
	adminapitest.ExpectFailure(t, response, body, http.StatusBadRequest, "is not a tag")
	response, body = adminapitest.Send(t, http.MethodPost, "/larder/purged?tag=a", "{}")
	adminapitest.ExpectFailure(t, response, body, http.StatusMethodNotAllowed, "send GET")
	purges = nil
	response, body = adminapitest.Send(t, http.MethodGet, "/larder/purged?tag=x", "")
	adminapitest.ExpectFailure(t, response, body, http.StatusServiceUnavailable, "no cache is running")
	out, stderr, err = adminapitest.Larder(t, "warm", "--purged", "x")
	adminapitest.ExpectOneLine(t, out, stderr, err, "--purged: ")
}

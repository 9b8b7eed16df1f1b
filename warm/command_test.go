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

func TestMain(m *testing.M) { adminapitest.Main(m, Feature()) }

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
		{[]string{"http://h/"}, "unknown command"},
	} {
		out, stderr, err := adminapitest.Larder(t, append([]string{"warm"}, tc.args...)...)
		adminapitest.ExpectOneLine(t, out, stderr, err, tc.want)
	}
}

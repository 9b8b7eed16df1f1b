package purge

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// larder runs `caddy larder` with the arguments, in this process and as Caddy builds it, against
// the admin listener of admin_test.go.
func larder(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	if registered := caddycmd.Commands()["larder"]; registered.CobraFunc == nil {
		t.Fatal("the command is not registered")
	}
	root := &cobra.Command{Use: "caddy", SilenceUsage: true} // as in caddycmd
	cmd := &cobra.Command{Use: "larder"}
	buildCommand(cmd)
	root.AddCommand(cmd)

	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(append([]string{"larder"}, args...))
	err = root.Execute()
	return out.String(), errOut.String(), err
}

func TestPurgeCommand(t *testing.T) {
	for _, tc := range []struct {
		name    string
		args    []string
		matched int
		asked   Selectors
		want    string
	}{
		{"a tag", []string{"--tag", "a"}, 3, Selectors{Tags: []string{"a"}}, "purged 3 responses\n"},
		{"one response", []string{"--tag", "a"}, 1, Selectors{Tags: []string{"a"}}, "purged 1 response\n"},
		{"no response", []string{"--all"}, 0, Selectors{All: true}, "purged 0 responses\n"},
		{"soft", []string{"--all", "--soft"}, 2, Selectors{All: true, Soft: true}, "marked 2 responses stale\n"},
		{"dry run", []string{"--all", "--dry-run"}, 2, Selectors{All: true, DryRun: true}, "would purge 2 responses\n"},
		{"soft dry run", []string{"--all", "--soft", "--dry-run"}, 2, Selectors{All: true, Soft: true, DryRun: true}, "would mark 2 responses stale\n"},
		{
			"every selector, repeated",
			[]string{"--tag", "a,b", "--tag", "c", "--url", "http://a/?x=1,2", "--url", "http://b", "--prefix", "http://c/d", "--host", "E", "--host", "f:81"},
			4,
			Selectors{Tags: []string{"a,b", "c"}, URLs: []string{"http://a/?x=1,2", "http://b/"}, Prefixes: []string{"http://c/d"}, Hosts: []string{"e", "f:81"}},
			"purged 4 responses\n",
		},
		{
			"bytes that are no UTF-8, as a shell passes them",
			[]string{"--url", "http://a/\xfc(?q=\xfc", "--prefix", "http://a/\xff", "--url", "http://a/ü("},
			3,
			Selectors{URLs: []string{"http://a/%FC(?q=%FC", "http://a/%C3%BC("}, Prefixes: []string{"http://a/%FF"}},
			"purged 3 responses\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cache := use(t, &fakeCache{matched: tc.matched})
			stdout, stderr, err := larder(t, append([]string{"purge", "--address", adminAddress}, tc.args...)...)
			if err != nil || stdout != tc.want || stderr != "" {
				t.Errorf("printed %q and %q, %v; want %q", stdout, stderr, err, tc.want)
			}
			if !reflect.DeepEqual(cache.purges, []Selectors{tc.asked}) {
				t.Errorf("the cache was asked for %+v, want %+v", cache.purges, tc.asked)
			}
		})
	}
}

// TestCommandFails holds every failure to an error (which makes Caddy exit with status 1), one line
// on standard error, and nothing on standard output.
func TestCommandFails(t *testing.T) {
	cache := use(t, &fakeCache{})
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"purge without a selector", []string{"purge"}, "nothing is selected"},
		{"purge with options only", []string{"purge", "--soft", "--dry-run"}, "nothing is selected"},
		{"purge with an argument", []string{"purge", "all"}, "unknown command"},
		{"purge with an unknown flag", []string{"purge", "--everything"}, "unknown flag"},
		{"purge of a relative URL", []string{"purge", "--url", "/a"}, "not an absolute URL"},
		{"purge of an empty tag", []string{"purge", "--tag", ""}, "an element is empty"},
		{"ls with a bad prefix", []string{"ls", "--prefix", "blog"}, "not an absolute URL"},
		{"ls with an empty tag", []string{"ls", "--tag", ""}, "the value is empty"},
		{"ls with a URL as its host", []string{"ls", "--host", "http://a"}, "a scheme or a path is no part of one"},
		{"ls of an unknown cursor", []string{"ls"}, "cursor"}, // the fake knows no page
		{"stats with an argument", []string{"stats", "all"}, "unknown command"},
		{"unknown subcommand", []string{"clear"}, "unknown command"},
		{"no such configuration", []string{"stats", "--address", "", "--config", "missing.json"}, "missing.json"},
		{"bad address", []string{"stats", "--address", "127.0.0.1:1-2"}, "invalid admin address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, err := larder(t, append([]string{"--address", adminAddress}, tc.args...)...)
			expectOneLine(t, stdout, stderr, err, tc.want)
		})
	}
	if len(cache.purges) > 0 {
		t.Errorf("a failed command purged %+v", cache.purges)
	}
}

func TestCommandTellsWhatTheServerSays(t *testing.T) {
	use(t, &fakeCache{err: errors.New("no space left on device")})
	stdout, stderr, err := larder(t, "purge", "--all", "--address", adminAddress)
	expectOneLine(t, stdout, stderr, err, "HTTP 503")
	expectOneLine(t, stdout, stderr, err, "no space left on device")
}

func expectOneLine(t *testing.T, stdout, stderr string, err error, want string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
	}
	if stdout != "" {
		t.Errorf("printed %q", stdout)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") || !strings.Contains(stderr, want) {
		t.Errorf("standard error is %q, want one line with %q", stderr, want)
	}
}

func TestStatsCommand(t *testing.T) {
	use(t, &fakeCache{})
	stdout, stderr, err := larder(t, "stats", "--address", adminAddress)
	const want = `{
  "in_flight": 0,
  "memory": {
    "budget": 3,
    "bytes": 2,
    "entries": 1
  }
}
`
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
}

func TestListCommand(t *testing.T) {
	cache := use(t, &fakeCache{pages: map[string]Listing{
		"":   {Entries: []Entry{{URL: "http://a/1", Status: 200, Size: 5, Age: 6, TTL: 7, Tags: []string{"t", "u"}, Tier: "memory"}}, Next: "p2"},
		"p2": {Next: "p3"}, // a page may be empty before the last
		"p3": {Entries: []Entry{{URL: "http://a/2", Status: 404, TTL: -1, Tier: "disk"}}},
	}})
	stdout, stderr, err := larder(t, "ls", "--tag", "t", "--prefix", "http://a", "--host", "A:80", "--address", adminAddress)
	const want = "http://a/1\t200\t5\t6\t7\tmemory\tt u\n" + "http://a/2\t404\t0\t0\t-1\tdisk\t\n"
	if err != nil || stdout != want || stderr != "" {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
	asked := []Query{
		{Tag: "t", Prefix: "http://a/", Host: "a:80", Limit: 1000},
		{Tag: "t", Prefix: "http://a/", Host: "a:80", Limit: 1000, Cursor: "p2"},
		{Tag: "t", Prefix: "http://a/", Host: "a:80", Limit: 1000, Cursor: "p3"},
	}
	if !reflect.DeepEqual(cache.queries, asked) {
		t.Errorf("the cache was asked for %+v, want %+v", cache.queries, asked)
	}
}

func TestListCommandEndsWhenCursorsDoNot(t *testing.T) {
	use(t, &fakeCache{pages: map[string]Listing{"": {Next: "p"}, "p": {Next: "p"}}})
	stdout, stderr, err := larder(t, "ls", "--address", adminAddress)
	expectOneLine(t, stdout, stderr, err, "does not advance")
}

func TestAddressFromConfiguration(t *testing.T) {
	use(t, &fakeCache{matched: 1})
	file := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(file, []byte(`{"admin":{"listen":"`+adminAddress+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, _, err := larder(t, "purge", "--all", "--config", file)
	if err != nil || stdout != "purged 1 response\n" {
		t.Errorf("printed %q, %v", stdout, err)
	}
}

func TestBareCommandPrintsHelp(t *testing.T) {
	stdout, _, err := larder(t)
	if err != nil || !strings.Contains(stdout, "Available Commands:") {
		t.Errorf("printed %q, %v", stdout, err)
	}
}

package purge

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/larder-cache/larder/adminapi/adminapitest"
)

// purgeCommands are what the command asks the cache for, and prints when so many responses matched.
var purgeCommands = []struct {
	name    string
	args    []string
	matched int
	asked   Selectors
	want    string
}{
	{"a tag", []string{"--tag", "a"}, 3, Selectors{Tags: []string{"a"}}, "purged 3 responses\n"},
	{"one response", []string{"--tag", "a"}, 1, Selectors{Tags: []string{"a"}}, "purged 1 response\n"},
	{"no response", []string{"--all"}, 0, Selectors{All: true}, "purged 0 responses\n"},
	{
		"a pattern that matches nothing",
		[]string{"--prefix", "http://a/static/*", "--tag", "page-*"},
		0,
		Selectors{Tags: []string{"page-*"}, Prefixes: []string{"http://a/static/*"}},
		"purged 0 responses; a * stands for itself: give --prefix without it for all URLs that begin so, and each tag whole\n",
	},
	{"a tag with an asterisk", []string{"--tag", "page-*"}, 1, Selectors{Tags: []string{"page-*"}}, "purged 1 response\n"},
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
		"ids, and a zone",
		[]string{"--id", "0006123456789abcfedcba9876543210", "--zone", "shop"},
		1,
		Selectors{IDs: []string{"0006123456789abcfedcba9876543210"}, Zones: []string{"shop"}},
		"purged 1 response\n",
	},
	{
		"bytes that are no UTF-8, as a shell passes them",
		[]string{"--url", "http://a/\xfc(?q=\xfc", "--prefix", "http://a/\xff", "--url", "http://a/ü("},
		3,
		Selectors{URLs: []string{"http://a/%FC(?q=%FC", "http://a/%C3%BC("}, Prefixes: []string{"http://a/%FF"}},
		"purged 3 responses\n",
	},
}

func TestPurgeCommand(t *testing.T) {
	for _, tc := range purgeCommands {
		t.Run(tc.name, func(t *testing.T) {
			cache := use(t, &fakeCache{matched: tc.matched})
			stdout, stderr, err := adminapitest.Larder(t, append([]string{"purge"}, tc.args...)...)
			if err != nil || stdout != tc.want || stderr != "" {
				t.Errorf("printed %q and %q, %v; want %q", stdout, stderr, err, tc.want)
			}
			if !reflect.DeepEqual(cache.purges, []Selectors{tc.asked}) {
				t.Errorf("the cache was asked for %+v, want %+v", cache.purges, tc.asked)
			}
		})
	}
}

// TestPurgeThatMustMatch: a deploy cannot tell a purge of a wrong port from one of nothing stored,
// unless it says that something is.
func TestPurgeThatMustMatch(t *testing.T) {
	cache := use(t, &fakeCache{})
	stdout, stderr, err := adminapitest.Larder(t, "purge", "--url", "http://a:81/", "--must-match")
	if err == nil || stdout != "" || !strings.HasPrefix(err.Error()+stderr, "purged 0 responses; `caddy larder ls` lists URLs") {
		t.Errorf("printed %q and %q, %v", stdout, stderr, err)
	}
	if len(cache.purges) != 1 {
		t.Errorf("%d purges, want 1", len(cache.purges))
	}
	use(t, &fakeCache{matched: 1})
	if stdout, _, err := adminapitest.Larder(t, "purge", "--url", "http://a/", "--must-match"); err != nil || stdout != "purged 1 response\n" {
		t.Errorf("printed %q, %v", stdout, err)
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
		{"purge with an argument", []string{"purge", "all"}, `purge takes no "all"; write caddy larder purge [--tag T]`},
		{"purge with an unknown flag", []string{"purge", "--everything"}, "has no flag"},
		{"purge of a relative URL", []string{"purge", "--url", "/a"}, "not an absolute URL"},
		{"purge of what is no id", []string{"purge", "--id", "a"}, "is not an id"},
		{"soft purge by id", []string{"purge", "--soft", "--id", "0006123456789abcfedcba9876543210"}, "without"},
		{"purge of a zone that there is not", []string{"purge", "--all", "--zone", "blog"}, "there is no zone"},
		{"purge of an empty tag", []string{"purge", "--tag", ""}, "an element is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stdout, stderr, err := adminapitest.Larder(t, tc.args...)
			adminapitest.ExpectOneLine(t, stdout, stderr, err, tc.want)
		})
	}
	if len(cache.purges) > 0 {
		t.Errorf("a failed command purged %+v", cache.purges)
	}
}

func TestCommandTellsWhatTheServerSays(t *testing.T) {
	use(t, &fakeCache{err: errors.New("no space left on device")})
	stdout, stderr, err := adminapitest.Larder(t, "purge", "--all")
	if strings.ContainsAny(stderr, "{}") {
		t.Errorf("standard error is %q, want a sentence", stderr)
	}
	adminapitest.ExpectOneLine(t, stdout, stderr, err, "no space left on device")
}

package caddyfile

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// jsonChecks are configurations in JSON, with what Check says of them.
var jsonChecks = []struct {
	name string
	json string
	want string // part of the error, or empty for none
}{
	{"nothing", `{}`, ""},
	{"zeros", `{"ttl":[],"max_ttl":0,"max_body":0,"max_variants":0,"set_cookie":"","coalesce":{"wait":0}}`, ""},
	{"empty groups", `{"key":{"query":{}},"tags":{},"coalesce":{}}`, ""},
	{"the contract's example", `{
		"ttl":[{"duration":"5m"},{"duration":"1m","status":[404,"5xx"]}], "force_ttl":[{"duration":60000000000}],
		"key":{"query":{"sort":true,"ignore":[],"only":[]},"header":[],"cookie":[],"add":[],"body":true},
		"tags":{"from":[],"add":[],"keep_headers":true},
		"invalidate":[{"match":[{"path":["/a"]}],"tags":["a"],"urls":["/b"],"soft":true}],
		"coalesce":{"wait":"10s"}, "heuristic":true, "deception_guard":true, "max_body":1024, "status":"short"}`, ""},

	{"ttl without duration", `{"ttl":[{"status":[404]}]}`, "ttl: a duration is not more than zero"},
	{"ttl with a class that is none", `{"ttl":[{"duration":"1m","status":["3xx"]}]}`, "ttl: 3xx is not a class"},
	{"ttl with a large number", `{"ttl":[{"duration":"1m","status":[600]}]}`, "ttl: 600 is not a final status"},
	{"force_ttl twice", `{"force_ttl":[{"duration":"1m"},{"duration":"2m"}]}`, "force_ttl: two rules without a status"},
	{"max_ttl", `{"max_ttl":-1}`, "max_ttl: the duration is negative"},
	{"ignore", `{"ignore":["Age"]}`, "ignore: Age cannot be ignored"},
	{"client_directives", `{"client_directives":"on"}`, "client_directives: unknown value"},
	{"stale_while_revalidate", `{"stale_while_revalidate":"-1s"}`, "stale_while_revalidate: the duration is negative"},
	{"stale_if_error", `{"stale_if_error":"-1s"}`, "stale_if_error: the duration is not more than zero"},
	{"stale_if_error of nothing", `{"stale_if_error":{"status":[503]}}`, "stale_if_error: the duration is not more than zero"},
	{"stale_if_error's status", `{"stale_if_error":{"duration":"1d","status":[200]}}`, "stale_if_error: 200 is no failure"},
	{"stale_if_error's statuses", `{"stale_if_error":{"duration":"1d","status":[503,503]}}`, "stale_if_error: status 503 stands twice"},
	{"keep", `{"keep":"-1s"}`, "keep: the duration is negative"},
	{"refresh_early", `{"refresh_early":10}`, ""},
	{"refresh_early below 0", `{"refresh_early":-0.1}`, "refresh_early: -0.1 is not between 0, which is off, and 10"},
	{"slice", `{"slice":65536}`, ""},
	{"slice off", `{"slice":0}`, ""},
	{"slice below 64KiB", `{"slice":65535}`, "slice: 65535 bytes are fewer than 64KiB"},
	{"slice below 0", `{"slice":-1}`, "slice: -1 bytes are fewer than 64KiB"},
	{"refresh_early above 10", `{"refresh_early":11}`, "refresh_early: 11 is not between"},
	{"key query", `{"key":{"query":{"ignore":["a"],"only":["b"]}}}`, "key query: both ignore and only"},
	{"key header", `{"key":{"header":[""]}}`, "key header: an element is empty"},
	{"key cookie", `{"key":{"cookie":["a;b"]}}`, "key cookie"},
	{"key add", `{"key":{"add":["a","a"]}}`, "key add: a stands twice"},
	{"key body", `{"key":{"body":true}}`, ""},
	{"methods unknown", `{"methods":["GET","DELETE"]}`, "methods: \"DELETE\" cannot be cached"},
	{"methods without GET", `{"methods":["HEAD"]}`, "methods: GET is missing"},
	{"methods POST", `{"methods":["GET","POST"],"key":{"body":true}}`, ""},
	{"methods POST without its body", `{"methods":["GET","POST"]}`, "methods: POST needs its body in the key"},
	{"safe_post", `{"methods":["GET","POST"],"key":{"body":true},"safe_post":true}`, ""},
	{"safe_post without POST", `{"safe_post":true}`, "safe_post: methods lacks POST"},
	{"methods QUERY", `{"methods":["GET","QUERY"]}`, ""},
	{"tags from", `{"tags":{"from":["a b"]}}`, "tags from"},
	{"tags add", `{"tags":{"add":["a b"]}}`, "tags add"},
	{"purge_method", `{"purge_method":{"allow":["192.0.2.7","10.0.0.1/8","2001:db8::/32"],"token":"{env.A}","tags":["xkey"]}}`, ""},
	{"purge_method for all", `{"purge_method":{"allow":[],"token":""}}`, "purge_method: every client could purge"},
	{"purge_method's address", `{"purge_method":{"allow":["::1%eth0"]}}`, "purge_method allow: \"::1%eth0\" is no address and no range"},
	{"purge_method's token", `{"purge_method":{"token":"a{http.request.host}"}}`, "purge_method token: a request says itself"},
	{"purge_method's token by a matcher", `{"purge_method":{"token":"{http.regexp.a.1}"}}`, "purge_method token: a request says itself"},
	{"purge_method's tags", `{"purge_method":{"token":"a","tags":[""]}}`, "purge_method tags: an element is empty"},
	{"repeats", `{"repeats":{"count":10,"within":"1m","by":"{http.request.header.X-Session}","refuse":true}}`, ""},
	{"repeats without a number", `{"repeats":{"within":"1m"}}`, "repeats: 0 is no number of requests"},
	{"repeats of too many", `{"repeats":{"count":65535,"within":"1m"}}`, "repeats: 65535 requests are more than are counted; write at most 65534"},
	{"repeats without a time", `{"repeats":{"count":10}}`, "repeats: the time is not more than zero"},
	{"repeats by a constant", `{"repeats":{"count":10,"within":"1m","by":"all}{"}}`, "repeats: \"all}{\" is the same for all clients"},
	{"invalidate nothing", `{"invalidate":[{}]}`, "invalidate: a rule names nothing"},
	{"invalidate same matcher", `{"invalidate":[{"tags":["a"]},{"urls":["/a"]}]}`, "invalidate: two rules with the same matcher"},
	{"invalidate one soft, one hard", `{"invalidate":[{"tags":["a"]},{"urls":["/a"],"soft":true}]}`, ""},
	{"invalidate tag", `{"invalidate":[{"tags":["é"]}]}`, "invalidate tags"},
	{"invalidate URL", `{"invalidate":[{"urls":["http://a/"]}]}`, "invalidate urls"},
	{"set_cookie", `{"set_cookie":"drop"}`, "set_cookie: unknown value"},
	{"max_body", `{"max_body":-1}`, "max_body: -1 bytes is negative"},
	{"max_variants", `{"max_variants":-1}`, "max_variants: -1 is negative"},
	{"coalesce both", `{"coalesce":{"off":true,"wait":"1s"}}`, "coalesce: it is off and has a wait"},
	{"coalesce wait", `{"coalesce":{"wait":"-1s"}}`, "coalesce wait: the duration is negative"},
	{"targeted", `{"targeted":["Cache-Control"]}`, "targeted: Cache-Control"},
	{"status", `{"status":"on"}`, "status: unknown value"},
}

// TestCheckJSON holds JSON to the rules that a Caddyfile is held to. What both can say is covered
// by the goldens; here stands what only JSON can say, and one row for each check to show that it is
// called for JSON at all.
func TestCheckJSON(t *testing.T) {
	for _, tc := range jsonChecks {
		t.Run(tc.name, func(t *testing.T) {
			var c HandlerConfig
			if err := caddy.StrictUnmarshalJSON([]byte(tc.json), &c); err != nil {
				t.Fatal(err)
			}
			expectError(t, c.Check(), tc.want)
		})
	}
}

func TestCheckAppJSON(t *testing.T) {
	for _, tc := range []struct {
		name string
		json string
		want string
	}{
		{"nothing", `{}`, ""},
		{"budget of the default folder", `{"disk":{"budget":1048576}}`, ""},
		{"all", `{"memory":65536,"disk":{"path":"/x","budget":1048576},"eviction":"none","max_body":1}`, ""},
		{"off", `{"disk":{"off":true}}`, ""},
		{"memory negative", `{"memory":-1}`, "memory: -1 bytes is negative"},
		{"memory small", `{"memory":1}`, "memory: 1 B is too small"},
		{"disk off with folder", `{"disk":{"off":true,"path":"/x"}}`, "disk: it is off and has a folder"},
		{"disk off with budget", `{"disk":{"off":true,"budget":1048576}}`, "disk: it is off and has a folder or a budget"},
		{"disk small", `{"disk":{"path":"/x","budget":4096}}`, "disk budget: 4.0 KiB is too small"},
		{"eviction", `{"eviction":"LRU"}`, "eviction: unknown value"},
		{"max_body", `{"max_body":-5}`, "max_body: -5 bytes is negative"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c AppConfig
			if err := caddy.StrictUnmarshalJSON([]byte(tc.json), &c); err != nil {
				t.Fatal(err)
			}
			expectError(t, c.Check(), tc.want)
		})
	}
}

// TestUnknownJSONIsRefused would fail if a type of the configuration got an UnmarshalJSON that
// hides Caddy's strictness.
func TestUnknownJSONIsRefused(t *testing.T) {
	for _, text := range []string{
		`{"ttls":[]}`,
		`{"ttl":[{"duration":"1m","stati":[404]}]}`,
		`{"key":{"headers":[]}}`,
		`{"key":{"query":{"drop":[]}}}`,
		`{"tags":{"to":[]}}`,
		`{"invalidate":[{"tag":"a"}]}`,
		`{"coalesce":{"on":true}}`,
	} {
		t.Run(text, func(t *testing.T) {
			if err := caddy.StrictUnmarshalJSON([]byte(text), new(HandlerConfig)); err == nil {
				t.Error("no error")
			}
		})
	}
}

func expectError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("unexpected error: %v", err)
	case want != "" && err == nil:
		t.Errorf("no error, want one with %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error %q, want one with %q", err, want)
	}
}

package purge

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestDecodeSelectors(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       Selectors
	}{
		{"tags", `{"tags":["a","B,c"]}`, Selectors{Tags: []string{"a", "B,c"}}},
		{"urls", `{"urls":["HTTP://Example.com:80/A?b"]}`, Selectors{URLs: []string{"http://example.com/A?b"}}},
		{"prefixes", `{"prefixes":["http://example.com/a"]}`, Selectors{Prefixes: []string{"http://example.com/a"}}},
		{"hosts", `{"hosts":["Example.com:443","[::1]:8080"]}`, Selectors{Hosts: []string{"example.com:443", "[::1]:8080"}}},
		{"all", `{"all":true}`, Selectors{All: true}},
		{"options", `{"all":true,"soft":true,"dry_run":true}`, Selectors{All: true, Soft: true, DryRun: true}},
		{"options off", `{"tags":["a"],"soft":false,"dry_run":false,"all":false}`, Selectors{Tags: []string{"a"}}},
		{"an empty list beside a selector", `{"tags":[],"hosts":["a"]}`, Selectors{Tags: []string{}, Hosts: []string{"a"}}},
		{"ids", `{"ids":["0006123456789abcfedcba9876543210"],"dry_run":true}`, Selectors{IDs: []string{"0006123456789abcfedcba9876543210"}, DryRun: true}},
		{"zones", `{"all":true,"zones":["shop"]}`, Selectors{All: true, Zones: []string{"shop"}}},
		{"white space", " \n{ \"all\" : true }\n", Selectors{All: true}},
		{
			"everything", `{"tags":["t"],"urls":["http://a/"],"prefixes":["http://a/"],"hosts":["a"],"all":true}`,
			Selectors{Tags: []string{"t"}, URLs: []string{"http://a/"}, Prefixes: []string{"http://a/"}, Hosts: []string{"a"}, All: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := decodeSelectors([]byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// badBodies are purge requests that must purge nothing. The admin API's test sends them too.
var badBodies = []struct{ name, body, want string }{
	{"nothing", ``, "not a JSON object"},
	{"not JSON", `tags=a`, "not a JSON object"},
	{"array", `["a"]`, "not a JSON object"},
	{"string", `"all"`, "not a JSON object"},
	{"null", `null`, "not a JSON object"},
	{"half an object", `{"tags":["a"]`, "not a JSON object"},
	{"data behind", `{"tags":["a"]}{"all":true}`, "not a JSON object"},
	{"text behind", `{"tags":["a"]} x`, "not a JSON object"},
	{"not UTF-8", "{\"tags\":[\"\xff\"]}", "not a JSON object"},
	{"empty object", `{}`, "nothing is selected"},
	{"empty lists", `{"tags":[],"urls":[],"prefixes":[],"hosts":[]}`, "nothing is selected"},
	{"all false", `{"all":false}`, "nothing is selected"},
	{"options only", `{"soft":true,"dry_run":true}`, "nothing is selected"},
	{"unknown field", `{"tags":["a"],"regex":".*"}`, "unknown field \"regex\""},
	{"field in capitals", `{"Tags":["a"]}`, "unknown field \"Tags\""},
	{"field twice", `{"tags":["a"],"tags":["b"]}`, "field \"tags\" stands twice"},
	{"tags a string", `{"tags":"a"}`, "tags: send a list of strings"},
	{"tags a number", `{"tags":[1]}`, "tags: send a list of strings"},
	{"tags null", `{"tags":null}`, "tags: send a list of strings"},
	{"tag null", `{"tags":[null]}`, "tags: an element is empty"},
	{"tag empty", `{"tags":["a",""]}`, "tags: an element is empty"},
	{"tag with a space", `{"tags":["a b"]}`, "is not a tag"},
	{"tag not ASCII", `{"tags":["é"]}`, "is not a tag"},
	{"tag too long", `{"tags":["` + strings.Repeat("x", 257) + `"]}`, "a tag of 257 bytes is too long"},
	{"all a string", `{"all":"true"}`, "all: send true or false"},
	{"all a number", `{"all":1}`, "all: send true or false"},
	{"all null", `{"all":null}`, "all: send true or false"},
	{"soft a string", `{"all":true,"soft":"yes"}`, "soft: send true or false"},
	{"dry_run a string", `{"all":true,"dry_run":"yes"}`, "dry_run: send true or false"},
	{"relative URL", `{"urls":["/a"]}`, "urls: \"/a\" is not an absolute URL"},
	{"URL without scheme", `{"urls":["example.com/a"]}`, "is not an absolute URL"},
	{"one good URL, one bad", `{"urls":["http://a/","b"]}`, "is not an absolute URL"},
	{"empty URL", `{"urls":[""]}`, "urls: an element is empty"},
	{"relative prefix", `{"prefixes":["/blog/"]}`, "prefixes: \"/blog/\" is not an absolute URL"},
	{"prefix of a scheme", `{"prefixes":["http"]}`, "is not an absolute URL"},
	{"host with scheme", `{"hosts":["http://example.com"]}`, "hosts: \"http://example.com\" is not an authority: a scheme or a path is no part of one; send one such as example.com"},
	{"a short id", `{"ids":["0006123456789abc"]}`, "ids: \"0006123456789abc\" is not an id; send the 32 hexadecimal digits"},
	{"an id in capitals", `{"ids":["0006123456789ABCFEDCBA9876543210"]}`, "is not an id"},
	{"ids with soft", `{"ids":["0006123456789abcfedcba9876543210"],"soft":true}`, "send \"ids\" without \"soft\""},
	{"zones alone", `{"zones":["default"]}`, "nothing is selected"},
	{"no zones", `{"all":true,"zones":[]}`, "zones: the list is empty"},
	{"zone empty", `{"all":true,"zones":[""]}`, "zones: an element is empty"},
	{"host with path", `{"hosts":["example.com/a"]}`, "is not an authority"},
	{"host with a star", `{"hosts":["*.example.com"]}`, "is not an authority"},
}

func TestDecodeSelectorsRefuses(t *testing.T) {
	for _, tc := range badBodies {
		t.Run(tc.name, func(t *testing.T) {
			got, err := decodeSelectors([]byte(tc.body))
			if err == nil {
				t.Fatalf("got %+v", got)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want one with %q", err, tc.want)
			}
			if !got.Empty() {
				t.Errorf("selectors %+v beside an error", got)
			}
		})
	}
}

// FuzzDecodeSelectors holds that what is accepted selects something, and means the same when it is
// sent again.
func FuzzDecodeSelectors(f *testing.F) {
	for _, tc := range badBodies {
		f.Add([]byte(tc.body))
	}
	f.Add([]byte(`{"tags":["a"],"urls":["http://a/b?c"],"prefixes":["https://a:8443/b"],"hosts":["a:1"],"all":true,"soft":true,"dry_run":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := decodeSelectors(body)
		if err != nil {
			return
		}
		if s.Empty() {
			t.Fatalf("%q selects nothing", body)
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeSelectors(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		twice, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		if string(twice) != string(again) {
			t.Errorf("%s came back as %s", again, twice)
		}
	})
}

package caddyfile

import (
	"fmt"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestWarnings has a row for each warning, and one for what stands beside it and is meant.
func TestWarnings(t *testing.T) {
	for _, tc := range []struct {
		name, json string
		want       string // the words and arguments that are warned of
	}{
		{"nothing", `{}`, `[]`},
		{"ttl above max_ttl", `{"ttl":[{"duration":"1h"},{"duration":"1m","status":[404]}],"max_ttl":"10m"}`, `["ttl" "1h0m0s"]`},
		{"force_ttl above max_ttl", `{"force_ttl":[{"duration":"1h"}],"max_ttl":"10m"}`, `["force_ttl" "1h0m0s"]`},
		{"ttl at max_ttl", `{"ttl":[{"duration":"10m"}],"max_ttl":"10m"}`, `[]`},
		{"ttl beside force_ttl", `{"ttl":[{"duration":"1h"}],"force_ttl":[{"duration":"2h"}]}`, `["ttl" "1h0m0s"]`},
		{"for other statuses", `{"ttl":[{"duration":"1h"}],"force_ttl":[{"duration":"2h","status":[404]}]}`, `[]`},
		{"no lifetimes", `{"ignore":["cache-control","Expires"]}`, `["ignore" ""]`},
		{"the operator's instead", `{"ignore":["cache-control","Expires"],"heuristic":true}`, `[]`},
		{"Expires is left", `{"ignore":["Cache-Control"]}`, `[]`},
		{"expressions", `{"key":{"query":{"ignore":["utm_.*","a[0-9]","filter[*]","a.b"]}}}`, `["key query ignore" "utm_.*"] ["key query ignore" "a[0-9]"]`},
		{"only all", `{"key":{"query":{"only":["*"]}}}`, `["key query only" "*"]`},
		{"ignore all", `{"key":{"query":{"ignore":["*"]}}}`, `[]`},
		{"body without POST", `{"key":{"body":true}}`, `["key body" ""]`},
		{"body without POST, with QUERY", `{"methods":["GET","QUERY"],"key":{"body":true}}`, `["key body" ""]`},
		{"json with QUERY", `{"methods":["GET","QUERY"],"key":{"json":true}}`, `[]`},
		{"json without both", `{"key":{"json":true}}`, `["key json" ""]`},
		{"graphql is read of GET", `{"key":{"graphql":true}}`, `[]`},
		{"tags with a star", `{"tags":{"add":["a","b*"]}}`, `["tags add" "b*"]`},
		{"invalidate with stars", `{"invalidate":[{"tags":["p-*"],"urls":["/a/*","/b"]}]}`, `["invalidate tags" "p-*"] ["invalidate urls" "/a/*"]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c HandlerConfig
			if err := caddy.StrictUnmarshalJSON([]byte(tc.json), &c); err != nil {
				t.Fatal(err)
			}
			expectError(t, c.Check(), "")
			got := ""
			for _, w := range c.Warnings() {
				got += fmt.Sprintf(" [%q %q]", w.Words, w.Value)
			}
			if got = got + " []"; len(got) > len(" []") {
				got = got[:len(got)-len(" []")]
			}
			if got[1:] != tc.want {
				t.Errorf("warnings %s, want %s", got[1:], tc.want)
			}
		})
	}
}

// TestTextForSize: sizes in JSON are numbers or texts with a unit. The error to another text names
// the field.
func TestTextForSize(t *testing.T) {
	var app AppConfig
	if err := caddy.StrictUnmarshalJSON([]byte(`{"memory":"256MiB","disk":{"budget":1024},"max_body":"1GiB"}`), &app); err != nil ||
		app.Memory != 256<<20 || app.Disk.Budget != 1024 || app.MaxBody != 1<<30 {
		t.Errorf("%+v, %v", app, err)
	}
	var c HandlerConfig
	if err := caddy.StrictUnmarshalJSON([]byte(`{"max_body":1024,"slice":"64KiB"}`), &c); err != nil || c.MaxBody != 1024 || *c.Slice != 65536 {
		t.Errorf("%d, %v", c.MaxBody, err)
	}
	err := caddy.StrictUnmarshalJSON([]byte(`{"max_body":"much"}`), new(AppConfig))
	want := `json: cannot unmarshal the text "much" ("much" is not a size; write one such as 512KiB, 64MiB or 1GiB) into Go struct field AppConfig.max_body of type caddyfile.Size`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

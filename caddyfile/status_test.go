package caddyfile

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestStatusMatchJSON(t *testing.T) {
	const text = `[200,404,"4xx","5xx"]`
	var list []StatusMatch
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if string(back) != text {
		t.Errorf("%s came back as %s", text, back)
	}
}

func TestStatusMatchJSONRefuses(t *testing.T) {
	for _, text := range []string{`null`, `4`, `99`, `-404`, `404.5`, `"404"`, `"xx"`, `"0xx"`, `"40x"`, `"4XX"`, `true`, `[404]`, `{}`} {
		t.Run(text, func(t *testing.T) {
			var s StatusMatch
			if err := json.Unmarshal([]byte(text), &s); err == nil {
				t.Errorf("%s was read as %s", text, s)
			}
		})
	}
}

// TestJSONAsACaddyfileHasIt: the error says what to write in JSON.
func TestJSONAsACaddyfileHasIt(t *testing.T) {
	for _, tc := range []struct {
		text string
		into any
		want string
	}{
		{`{"ttl":"5m"}`, new(HandlerConfig), `the text "5m" (write [{"duration":"5m"}])`},
		{`{"force_ttl":"1h"}`, new(HandlerConfig), `the text "1h" (write [{"duration":"1h"}])`},
		{`{"disk":"off"}`, new(AppConfig), `the text "off" (write {"off":true})`},
		{`{"disk":"/var/cache"}`, new(AppConfig), `the text "/var/cache" (write {"path":"/var/cache"})`},
		{`{"ttl":[{"durations":"5m"}]}`, new(HandlerConfig), `unknown field "durations"`},
		{`{"disk":{"of":true}}`, new(AppConfig), `unknown field "of"`},
		{`{"ttl":null}`, new(HandlerConfig), ""},
		{`{"disk":null}`, new(AppConfig), ""},
		{`{"disk":{"path":"/a","budget":"1GiB"}}`, new(AppConfig), ""},
	} {
		err := caddy.StrictUnmarshalJSON([]byte(tc.text), tc.into)
		if got := fmt.Sprint(err); tc.want == "" && err != nil || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.text, got, tc.want)
		}
	}
}

package caddyfile

import (
	"encoding/json"
	"testing"
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

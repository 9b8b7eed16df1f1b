package caddyfile

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/larder-cache/larder/internal/golden"
)

// FuzzParse feeds the tokens of any text to both parsers. Neither may panic, and what a parser
// accepts must pass Check and survive the way through JSON that every adapted configuration takes.
func FuzzParse(f *testing.F) {
	for _, file := range golden.Read(f, goldens) {
		f.Add(file.Input)
	}
	f.Add("larder {\n\tttl 1m 404 5xx\n\tkey {\n\t\tquery sort\n\t}\n\tinvalidate /a {\n\t\ttags a\n\t}\n}")
	f.Add("larder {\n\tmemory 1GiB\n\tdisk /x 1GiB\n\teviction lfu\n}")
	f.Add("larder {")
	f.Add("larder { } x")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil {
			return
		}
		d := caddyfile.NewDispenser(tokens)
		if c, err := parseHandler(httpcaddyfile.Helper{Dispenser: d}); err == nil {
			expectNoError(t, c.Check())
			expectRoundTrip(t, c)
		}
		d.Reset()
		if c, err := parseApp(d, nil); err == nil {
			expectNoError(t, c.Check())
			expectRoundTrip(t, c)
		}
	})
}

func expectNoError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

func expectRoundTrip[T any](t *testing.T, config T) {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := caddy.StrictUnmarshalJSON(data, &back); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	again, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, again) {
		t.Errorf("%s came back as %s", data, again)
	}
}

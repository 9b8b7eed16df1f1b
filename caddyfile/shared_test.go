package caddyfile

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// What only JSON can say, and one row for each check to show that it is called for JSON at all.
func TestCheckSharedJSON(t *testing.T) {
	for _, tc := range []struct{ name, json, want string }{
		{"an address", `{"urls":["redis://localhost"]}`, ""},
		{"zeros", `{"urls":["redis://localhost"],"name":"","fence":0,"lost":{},"replicas":0,"timeout":0,"max_body":0,"ttl":0,"history":0}`, ""},
		{"the contract's words", `{"urls":["rediss://user:pass@host:6379/0"],"sentinel":"main","name":"larder","fence":"10s","lost":{"serve":"1m"},
			"replicas":1,"timeout":"100ms","max_body":4194304,"ttl":"24h","history":100000,"store":true,"secret":"s","tls":{"ca":"{env.CA}"}}`, ""},
		{"Valkey", `{"urls":["valkey://a"]}`, ""},
		{"Valkey with TLS", `{"urls":["valkeys://a"],"tls":{"ca":"{env.CA}"}}`, ""},
		{"no address", `{}`, "shared: no address"},
		{"an empty address", `{"urls":[""]}`, "is no scheme"},
		{"a placeholder for all of it", `{"urls":["{env.REDIS_URL}"]}`, ""},
		{"placeholders for its parts", `{"urls":["redis://{env.USER}:{env.PASS}@{env.HOST}:{env.PORT}/{env.DB}"]}`, ""},
		{"placeholders for two hosts", `{"urls":["redis://{env.A}","redis://{env.B}"]}`, ""},
		{"a Cluster's database", `{"urls":["redis://a/1","redis://b/1"]}`, "a Cluster has none"},
		{"Sentinels and a database", `{"urls":["redis://a/1","redis://b/1"],"sentinel":"main"}`, ""},
		{"name", `{"urls":["redis://a"],"name":"a:b"}`, "name: \"a:b\" is no name"},
		{"fence", `{"urls":["redis://a"],"fence":-1}`, "fence: -1ns is too short"},
		{"lost", `{"urls":["redis://a"],"lost":{"validate":true,"serve":"1s"}}`, "lost: both"},
		{"lost serve", `{"urls":["redis://a"],"lost":{"serve":-1}}`, "lost serve: the duration is negative"},
		{"the longest", `{"urls":["redis://a"],"fence":"24h","lost":{"serve":"24h"},"timeout":"1h","ttl":"8760h"}`, ""},
		{"fence, long", `{"urls":["redis://a"],"fence":9223372036854775807}`, "fence: 2562047h47m16.854775807s is too long"},
		{"lost serve, long", `{"urls":["redis://a"],"lost":{"serve":"24h1ns"}}`, "lost serve: 24h0m0.000000001s is too long"},
		{"timeout, long", `{"urls":["redis://a"],"timeout":"1h1ns"}`, "timeout: 1h0m0.000000001s is too long"},
		{"ttl, long", `{"urls":["redis://a"],"ttl":"8760h1ns"}`, "ttl: 8760h0m0.000000001s is too long"},
		{"replicas", `{"urls":["redis://a"],"replicas":-1}`, "replicas: -1"},
		{"timeout", `{"urls":["redis://a"],"timeout":-1}`, "timeout: the duration is negative"},
		{"max_body", `{"urls":["redis://a"],"max_body":-1}`, "max_body: -1 bytes"},
		{"ttl", `{"urls":["redis://a"],"ttl":-1}`, "ttl: the duration is negative"},
		{"history", `{"urls":["redis://a"],"history":-1}`, "history: -1"},
		{"tls", `{"urls":["redis://a"],"tls":{}}`, "an address without TLS"},
		{"tls key", `{"urls":["rediss://a"],"tls":{"key":"{env.KEY}"}}`, "of cert and key one is missing"},
		{"tls ca", `{"urls":["rediss://a"],"tls":{"ca":"/nonexistent/larder"}}`, "tls ca: stat"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c RedisConfig
			if err := caddy.StrictUnmarshalJSON([]byte(tc.json), &c); err != nil {
				t.Fatal(err)
			}
			expectError(t, c.Check(), tc.want)
		})
	}
}

// A file that is there is accepted, and nothing that is said of an address tells its password.
func TestCheckSharedFilesAndPasswords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expectError(t, (&RedisConfig{URLs: []string{"rediss://a"}, TLS: &TLSConfig{CA: file}}).Check(), "")
	for _, urls := range [][]string{
		{"redis://:pa55w0rd@"},
		{"redis://:pa55w0rd@a:0"},
		{"redis://:pa55w0rd@a:port"},
		{"redis://:pa55w0rd@a/x"},
		{"redis://:pa55w0rd@a?x"},
		{"redis://:pa55w0rd%@a"},
		{"redis://:pa55w0rd@a", "redis://:0ther@b"},
		{"redis://:pa55w0rd@a/1", "redis://:pa55w0rd@b/1"},
	} {
		err := (&RedisConfig{URLs: urls}).Check()
		if err == nil {
			t.Errorf("%q is accepted", urls)
			continue
		}
		if text := err.Error(); strings.Contains(text, "pa55w0rd") {
			t.Errorf("%q: the error has the password: %s", urls, text)
		}
	}
}

func TestSharedDefaults(t *testing.T) {
	on := true
	want := SharedConfig{
		Name: "larder", Fence: caddy.Duration(10 * time.Second), Lost: &LostConfig{Validate: true},
		Timeout: caddy.Duration(100 * time.Millisecond), MaxBody: 4 << 20, TTL: caddy.Duration(24 * time.Hour),
		History: 100_000, Store: &on,
	}
	got := SharedConfig{}.WithDefaults()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	expectError(t, got.Check(), "")
	off := false
	said := SharedConfig{Name: "a", Lost: &LostConfig{Serve: 1}, Store: &off}
	if got := said.WithDefaults(); got.Name != "a" || *got.Store || got.Lost.Validate || got.Lost.Serve != 1 {
		t.Errorf("what is said is not kept: %+v", got)
	}
	if said.Fence != 0 {
		t.Error("the original was changed")
	}
}

package caddyfile

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/larder-cache/larder/internal/golden"
)

const goldens = "../testdata/adapt"

// TestAdapt adapts the Caddyfile at the top of every golden and compares the JSON, or the error,
// with what stands under the dashes, to the letter.
func TestAdapt(t *testing.T) {
	for _, file := range golden.Read(t, goldens) {
		t.Run(file.Name, func(t *testing.T) { file.Expect(t, adapt(t, file.Input)) })
	}
}

// adapt returns the indented JSON of a Caddyfile, or the text of its error, and holds the JSON to
// what the module that loads it will ask.
func adapt(t *testing.T, input string) string {
	t.Helper()
	result, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
	if err != nil {
		return err.Error() + "\n"
	}
	for _, w := range warnings {
		t.Errorf("warning in line %d: %s", w.Line, w.Message) // that it is not formatted, for one
	}
	checkAdapted(t, result)
	var indented bytes.Buffer
	if err := json.Indent(&indented, result, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String() + "\n"
}

// checkAdapted loads every larder module in the configuration as strictly as Caddy will.
func checkAdapted(t *testing.T, config []byte) {
	t.Helper()
	var loaded caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &loaded); err != nil {
		t.Fatalf("adapted JSON: %v", err)
	}
	if raw, ok := loaded.AppsRaw["larder"]; ok {
		var app AppConfig
		if err := caddy.StrictUnmarshalJSON(raw, &app); err != nil {
			t.Errorf("app: %v", err)
		}
		if err := app.Check(); err != nil {
			t.Errorf("app: %v", err)
		}
		checkShared(t, app.Shared)
	}
	var parsed any
	if err := json.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	eachHandler(parsed, func(handler map[string]any) {
		delete(handler, "handler")
		raw, err := json.Marshal(handler)
		if err != nil {
			t.Fatal(err)
		}
		var c HandlerConfig
		if err := caddy.StrictUnmarshalJSON(raw, &c); err != nil {
			t.Errorf("handler: %v", err)
		}
		if err := c.Check(); err != nil {
			t.Errorf("handler: %v", err)
		}
	})
}

// checkShared loads what is adapted of the fleet as the module that engine names will.
func checkShared(t *testing.T, raw json.RawMessage) {
	t.Helper()
	if raw == nil {
		return
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil || fields["engine"] != RedisEngine {
		t.Fatalf("shared: engine %v, %v", fields["engine"], err)
	}
	delete(fields, "engine")
	rest, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	var c RedisConfig
	if err := caddy.StrictUnmarshalJSON(rest, &c); err != nil {
		t.Errorf("shared: %v", err)
	}
	if err := c.Check(); err != nil {
		t.Errorf("shared: %v", err)
	}
}

func eachHandler(value any, visit func(map[string]any)) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			eachHandler(element, visit)
		}
	case map[string]any:
		if v["handler"] == "larder" {
			visit(v)
			return
		}
		for _, member := range v {
			eachHandler(member, visit)
		}
	}
}

// TestEveryWordHasGoldens holds the goldens to the grammar: each word stands in one that adapts and
// in one that does not.
func TestEveryWordHasGoldens(t *testing.T) {
	good, bad := goldenLines(t)
	for _, line := range []string{
		"memory", "disk", "disk off", "eviction", "debug",
		"ttl", "force_ttl", "max_ttl", "ignore", "client_directives", "heuristic", "deception_guard", "stale_while_revalidate",
		"stale_if_error", "keep", "refresh_early", "slice", "key", "query sort", "query ignore", "query only", "header", "cookie", "add", "methods", "safe_post", "observe", "repeats",
		"batch", "url", "join", "window", "max", "items", "id", "missing",
		"tags", "from", "keep_headers", "invalidate", "urls", "soft", "set_cookie", "max_body", "max_variants",
		"coalesce off", "coalesce wait", "targeted", "status", "shared",
		"sentinel", "name", "fence", "lost validate", "lost serve", "replicas", "timeout", "ttl", "history", "store", "secret",
		"tls", "ca", "cert", "key",
	} {
		if !hasLine(good, line) {
			t.Errorf("no golden adapts %q", line)
		}
		if !hasLine(bad, line) {
			t.Errorf("no golden refuses %q", line)
		}
	}
}

// refusedAt finds the line at which an adapter's error says the fault is.
var refusedAt = regexp.MustCompile(`at Caddyfile:(\d+)`)

// goldenLines returns all lines of the Caddyfiles that adapt, and of each of the others the one at
// which it is refused.
func goldenLines(t *testing.T) (good, bad []string) {
	t.Helper()
	for _, file := range golden.Read(t, goldens) {
		want := file.Want[0]
		lines := strings.Split(file.Input, "\n")
		for i, line := range lines {
			lines[i] = strings.TrimSpace(line)
		}
		if strings.HasPrefix(want, "{") {
			good = append(good, lines...)
			continue
		}
		position := refusedAt.FindStringSubmatch(want)
		if position == nil {
			t.Errorf("%s: the error names no line", file.Name)
			continue
		}
		n, err := strconv.Atoi(position[1])
		if err != nil || n < 1 || n > len(lines) {
			t.Errorf("%s: the error names line %s", file.Name, position[1])
			continue
		}
		bad = append(bad, lines[n-1])
	}
	return good, bad
}

func hasLine(lines []string, words string) bool {
	for _, line := range lines {
		if line == words || strings.HasPrefix(line, words+" ") {
			return true
		}
	}
	return false
}

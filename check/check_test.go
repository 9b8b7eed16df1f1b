package check

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/zstd"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	"github.com/larder-cache/larder/caddyfile/caddyfiletest"
	"github.com/larder-cache/larder/internal/golden"
	"github.com/larder-cache/larder/internal/machine"
)

func TestMain(m *testing.M) {
	caddyfiletest.Register()
	os.Exit(m.Run())
}

// testMachine has a gigabyte of memory, and ten on disk.
var testMachine = Machine{Memory: 1 << 30, TooLarge: func(files []machine.File) []machine.Full {
	full := machine.Full{Room: 10 << 30}
	for _, file := range files {
		full.Files = append(full.Files, file.Path)
		full.Budget += file.Budget
	}
	if full.Budget > full.Room {
		return []machine.Full{full}
	}
	return nil
}}

// found returns what is found in a file, a line a finding.
func found(t *testing.T, name, text, adapter string) string {
	t.Helper()
	source := &Source{JSON: []byte(text)}
	if adapter != "" {
		var err error
		if source, err = adapt(name, []byte(text), adapter); err != nil {
			return err.Error() + "\n"
		}
	}
	findings, err := Findings(source, testMachine)
	if err != nil {
		return err.Error() + "\n"
	}
	var lines strings.Builder
	for _, f := range findings {
		lines.WriteString(f.String() + "\n")
	}
	return lines.String()
}

// TestFindings compares what is found in the Caddyfile at the top of every golden with what stands
// under the dashes, to the letter.
func TestFindings(t *testing.T) {
	t.Setenv("LARDER_TEST_FOLDER", "/var/lib/a")
	for _, file := range golden.Read(t, "testdata") {
		t.Run(file.Name, func(t *testing.T) {
			adapter := "caddyfile"
			if strings.HasPrefix(file.Input, "{\"") {
				adapter = ""
			}
			file.Expect(t, found(t, "Caddyfile", file.Input, adapter))
		})
	}
}

// TestPlacesInJSON: the other places of what is told once stood in its text alone.
func TestPlacesInJSON(t *testing.T) {
	var text strings.Builder
	for _, host := range []string{"a", "b", "c"} {
		text.WriteString("https://" + host + ".example {\n\tlarder {\n\t\tttl 5m\n\t}\n\treverse_proxy localhost:9000\n}\n")
	}
	source, err := adapt("Caddyfile", []byte(text.String()), "caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	findings, err := Findings(source, testMachine)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(findings)
	if err != nil || strings.Count(string(got), `"places":["Caddyfile:9","Caddyfile:15"]`) != 1 || strings.Count(string(got), "places") != 1 {
		t.Errorf("%s, %v", got, err)
	}
}

// TestExamples: what the documentation shows is without findings, but for what it is about. Those
// with ttl are of sites whose clients send no cookies.
func TestExamples(t *testing.T) {
	const cookies = "a cookie that is not in the key"
	about := map[string]string{"observe.Caddyfile": "take observe out"}
	var withCookies []string
	files, err := filepath.Glob(filepath.Join("..", "testdata", "examples", "*.Caddyfile"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		got := found(t, name, string(data), "caddyfile")
		if strings.Contains(got, cookies) {
			withCookies = append(withCookies, strings.TrimSuffix(name, ".Caddyfile"))
		}
		for line := range strings.Lines(got) {
			said, isAbout := about[name]
			isMeant := strings.Contains(line, cookies) || isAbout && strings.Contains(line, said)
			if !isMeant && strings.TrimSpace(line) != "" {
				t.Error(line)
			}
		}
	}
	if want := []string{"cache-handler", "maintenance", "outage", "purge-wordpress", "scraper", "zones"}; !slices.Equal(withCookies, want) {
		t.Errorf("%q are told of cookies, want %q", withCookies, want)
	}
}

// TestRunOfThePage: docs/configuration.md shows what the command prints.
func TestRunOfThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, begins := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "$ cat -n Caddyfile\n")
	listing, text, runs := strings.Cut(text, "$ caddy larder check Caddyfile\n")
	shown, _, ends := strings.Cut(text, "Error: 7 findings in Caddyfile\n")
	if !begins || !runs || !ends {
		t.Fatal("the page shows no run")
	}
	var file strings.Builder
	for line := range strings.Lines(listing) {
		_, line, _ := strings.Cut(line, "\t")
		file.WriteString(line)
	}
	got := found(t, "Caddyfile", file.String(), "caddyfile")
	if got != shown || strings.Count(got, "\n") != 7 {
		t.Errorf("got\n%s\nthe page shows\n%s", got, shown)
	}
}

// TestRead: which form a file has.
func TestRead(t *testing.T) {
	const caddyfile, json = "localhost {\n\tlarder\n\trespond hi\n}\n", `{"apps":{}}`
	for _, tt := range []struct {
		name, text, adapter string
		file, err           string
	}{
		{"Caddyfile", caddyfile, "", "Caddyfile", ""},
		{"Caddyfile.dev", caddyfile, "", "Caddyfile.dev", ""},
		{"site.caddyfile", caddyfile, "", "site.caddyfile", ""},
		{"site.conf", caddyfile, "caddyfile", "site.conf", ""},
		{"site.conf", caddyfile, "", "", "the file is not JSON; give --adapter"},
		{"caddy.json", json, "", "", ""},
		{"Caddyfile.json", json, "", "", ""},
		{"caddy.json", json, "nginx", "", `there is no adapter "nginx"`},
		{"Caddyfile", "localhost {\n\tlarder {\n\t\ttll 5m\n\t}\n}\n", "", "", "did you mean ttl?"},
	} {
		t.Run(tt.name+tt.adapter, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), tt.name)
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			source, err := Read(path, tt.adapter)
			if err != nil || tt.err != "" {
				if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if file := filepath.Base(source.File); file != tt.file && source.File != tt.file {
				t.Errorf("file %q, want %q", file, tt.file)
			}
		})
	}
	if _, err := Read(filepath.Join(t.TempDir(), "Caddyfile"), ""); err == nil {
		t.Error("a file that there is not is read")
	}
}

func TestOverlap(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"/a", "/a", true},
		{"/a", "/A", true},
		{"/a", "/b", false},
		{"/a*", "/ab", true},
		{"/a/*", "/a", false},
		{"/a*", "/ab/*", true},
		{"/a/*", "/b/*", false},
		{"*.css", "/b/*", true},
		{"*", "/b", true},
		{"/{http.request.host}", "/b", true},
	} {
		for range 2 {
			if got := overlap(tt.a, tt.b); got != tt.want {
				t.Errorf("%s and %s: %v", tt.a, tt.b, got)
			}
			tt.a, tt.b = tt.b, tt.a
		}
	}
}

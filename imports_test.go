package larder

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/larder-cache/larder"

// TestImportsPointOneWay holds the shape of the house: what each package imports from outside the
// standard library, to the letter. The root package may import what it needs, but of ours all and
// no more than is said here.
func TestImportsPointOneWay(t *testing.T) {
	const caddy = "github.com/caddyserver/caddy/v2"
	want := map[string][]string{
		"rfc9111":  {"github.com/dunglas/httpsfv", "github.com/pquerna/cachecontrol/cacheobject"},
		"coalesce": {},
		"store": {
			"github.com/google/btree", modulePath + "/internal/frames", modulePath + "/store/internal/arena", modulePath + "/store/internal/boltcheck",
			modulePath + "/store/internal/pagein", modulePath + "/store/internal/slots", modulePath + "/store/internal/wire",
			"go.etcd.io/bbolt", "go.etcd.io/bbolt/errors",
		},
		"internal/machine":         {"github.com/KimMachineGun/automemlimit/memlimit", "golang.org/x/sys/unix"},
		"internal/golden":          {},
		"internal/advice":          {},
		"internal/spelling":        {"github.com/agnivade/levenshtein"},
		"internal/frames":          {"github.com/klauspost/compress/zstd"},
		"store/internal/arena":     {"golang.org/x/sys/unix"},
		"store/internal/boltcheck": {},
		"store/internal/pagein":    {modulePath + "/store/internal/boltcheck", "go.etcd.io/bbolt"},
		"store/internal/slots":     {},
		"store/internal/wire":      {},
		"urlform":                  {modulePath + "/rfc9111"},
		"origin":                   {"golang.org/x/time/rate"},
		"batch":                    {"github.com/go-json-experiment/json/jsontext"},
		"canonjson":                {"github.com/go-json-experiment/json/jsontext"},
		"graphql": {
			"github.com/go-json-experiment/json/jsontext", modulePath + "/canonjson",
			"github.com/vektah/gqlparser/v2/ast", "github.com/vektah/gqlparser/v2/lexer", "github.com/vektah/gqlparser/v2/parser",
		},
		"httpcache": {
			"github.com/hashicorp/golang-lru/v2", "github.com/klauspost/compress/zstd", modulePath + "/batch", modulePath + "/canonjson",
			modulePath + "/coalesce", modulePath + "/graphql", modulePath + "/internal/advice", modulePath + "/origin", modulePath + "/rfc9111", modulePath + "/store", modulePath + "/urlform",
		},
		"fleet":           {modulePath + "/internal/frames", modulePath + "/store", "golang.org/x/sys/unix"},
		"fleet/fleettest": {modulePath + "/fleet"},
		"fleet/redis":     {modulePath + "/fleet", "github.com/redis/rueidis"},
		"adminapi": {
			caddy, caddy + "/cmd", modulePath + "/internal/spelling", modulePath + "/rfc9111", modulePath + "/urlform", "github.com/spf13/cobra", "github.com/spf13/pflag", "go.uber.org/zap",
		},
		"adminapi/adminapitest": {caddy, caddy + "/cmd", modulePath + "/adminapi", "github.com/spf13/cobra"},
		"stats":                 {},
		"check": {
			caddy, caddy + "/caddyconfig", caddy + "/caddyconfig/caddyfile", caddy + "/modules/caddyhttp", "github.com/dustin/go-humanize",
			modulePath + "/adminapi", modulePath + "/caddyfile", modulePath + "/internal/advice", modulePath + "/internal/machine", modulePath + "/store", "github.com/spf13/cobra",
		},
		"migrate/rewrite": {caddy + "/caddyconfig/caddyfile", modulePath + "/internal/advice", "golang.org/x/net/http/httpguts"},
		"dashboard":       {modulePath + "/adminapi", "github.com/spf13/cobra"},
		"migrate":         {modulePath + "/adminapi", modulePath + "/migrate/rewrite", "github.com/spf13/cobra"},
		"inspect":         {"github.com/dustin/go-humanize", modulePath + "/adminapi", modulePath + "/internal/advice", modulePath + "/stats", "github.com/spf13/cobra", "golang.org/x/net/http/httpguts"},
		"purge":           {modulePath + "/adminapi", modulePath + "/rfc9111", modulePath + "/urlform", "github.com/spf13/cobra", "go.uber.org/zap"},
		"warm": {
			"github.com/dunglas/httpsfv", "github.com/dustin/go-humanize", modulePath + "/adminapi", modulePath + "/rfc9111", modulePath + "/urlform",
			"github.com/schollz/progressbar/v3", "github.com/spf13/cobra", "golang.org/x/net/http/httpguts", "golang.org/x/term", "golang.org/x/time/rate",
		},
		"caddyfile": {
			caddy, caddy + "/caddyconfig", caddy + "/caddyconfig/caddyfile", caddy + "/caddyconfig/httpcaddyfile",
			caddy + "/modules/caddyhttp", "github.com/dustin/go-humanize", modulePath + "/batch", modulePath + "/httpcache", modulePath + "/internal/spelling", modulePath + "/origin", modulePath + "/rfc9111", modulePath + "/urlform", "golang.org/x/net/http/httpguts",
		},
		"caddyfile/caddyfiletest": {caddy, caddy + "/modules/caddyhttp", modulePath + "/caddyfile"},
	}
	for folder, imports := range want {
		t.Run(folder, func(t *testing.T) {
			if got := outside(goList(t, "-f", `{{join .Imports "\n"}}`, "./"+folder)); !slices.Equal(got, imports) {
				t.Errorf("imports\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(imports, "\n"))
			}
		})
	}
	t.Run("root", func(t *testing.T) {
		var ours []string
		for _, path := range goList(t, "-f", `{{join .Imports "\n"}}`, ".") {
			if rest, found := strings.CutPrefix(path, modulePath+"/"); found {
				ours = append(ours, rest)
			}
		}
		if want := []string{
			"adminapi", "caddyfile", "check", "dashboard", "fleet", "fleet/redis", "httpcache", "inspect", "internal/machine", "migrate", "origin", "purge", "rfc9111", "stats", "store", "urlform", "warm",
		}; !slices.Equal(ours, want) {
			t.Errorf("of ours it imports %q, want %q", ours, want)
		}
	})
}

// TestTheCoreKnowsNoCaddy looks through what they import, all the way down.
func TestTheCoreKnowsNoCaddy(t *testing.T) {
	for _, folder := range []string{"rfc9111", "coalesce", "store", "urlform", "origin", "batch", "stats", "canonjson", "graphql", "httpcache", "fleet", "fleet/fleettest", "fleet/redis"} {
		for _, path := range goList(t, "-deps", "-f", "{{.ImportPath}}", "./"+folder) {
			if strings.HasPrefix(path, "github.com/caddyserver/") {
				t.Errorf("%s depends on %s", folder, path)
			}
		}
	}
}

// TestNothingImportsTheRoot but programs.
func TestNothingImportsTheRoot(t *testing.T) {
	for _, line := range goList(t, "-f", `{{.Name}} {{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		if fields[0] != "main" && slices.Contains(fields[2:], modulePath) {
			t.Errorf("%s imports the root package", fields[1])
		}
	}
}

// TestPureHasNoClock: time is a parameter there.
func TestPureHasNoClock(t *testing.T) {
	clocks := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
	var files []string
	for _, folder := range []string{"rfc9111", "stats"} {
		found, err := filepath.Glob(folder + "/*.go")
		if err != nil || len(found) == 0 {
			t.Fatalf("no files in %s: %v", folder, err)
		}
		files = append(files, found...)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" && slices.Contains(clocks, sel.Sel.Name) {
					t.Errorf("%s: time.%s", set.Position(sel.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
}

// goList returns the lines that go list prints.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// outside leaves out the standard library, whose paths have no dot in front.
func outside(paths []string) []string {
	out := []string{}
	for _, path := range paths {
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			out = append(out, path)
		}
	}
	return out
}

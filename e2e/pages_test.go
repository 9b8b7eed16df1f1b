package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// treeRoot is the folder of the repository, seen from these tests.
const treeRoot = ".."

// pagePatterns are the pages for users. What they show to paste is executed.
var pagePatterns = []string{"README.md", "SECURITY.md", "CHANGELOG.md", "docs/*.md", "docs/migrating/*.md"}

// docPage is a Markdown file, by its path from treeRoot.
type docPage struct{ path, text string }

// fencedBlock is a fenced block of a page, without the indentation of its fence.
type fencedBlock struct {
	page           string
	line           int
	language, text string
}

func readPages(t *testing.T, patterns ...string) []docPage {
	t.Helper()
	var pages []docPage
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(treeRoot, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			path, err := filepath.Rel(treeRoot, file)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, docPage{filepath.ToSlash(path), string(text)})
		}
	}
	if len(pages) == 0 {
		t.Fatalf("no page matches %v", patterns)
	}
	return pages
}

// parts are the fenced blocks of a page, and its text with these left empty, line by line.
func (p docPage) parts() (prose []string, blocks []fencedBlock) {
	var open *fencedBlock
	var indent string
	for i, line := range strings.Split(p.text, "\n") {
		before, fence, isFence := strings.Cut(line, "```")
		switch isFence = isFence && strings.TrimSpace(before) == ""; {
		case isFence && open == nil:
			open, indent = &fencedBlock{page: p.path, line: i + 1, language: strings.TrimSpace(fence)}, before
		case isFence:
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		default:
			prose = append(prose, line)
			continue
		}
		prose = append(prose, "")
	}
	return prose, blocks
}

// section is what stands below the only heading of the pages with these words, up to the next
// heading of its rank.
func section(t *testing.T, pages []docPage, heading string) string {
	t.Helper()
	begin := regexp.MustCompile(`^(#+) ` + regexp.QuoteMeta(heading) + `$`)
	var found []string
	for _, p := range pages {
		prose, _ := p.parts()
		for i, line := range prose {
			rank := begin.FindStringSubmatch(line)
			if rank == nil {
				continue
			}
			end := slices.IndexFunc(prose[i+1:], func(line string) bool {
				marks, _, ok := strings.Cut(line, " ")
				return ok && strings.Trim(marks, "#") == "" && marks != "" && len(marks) <= len(rank[1])
			})
			if end < 0 {
				end = len(prose) - i - 1
			}
			found = append(found, strings.Join(prose[i+1:i+1+end], "\n"))
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d headings %q, want one", len(found), heading)
	}
	return found[0]
}

// TestSnippetsOfThePages runs each Caddyfile block of the pages that is not an example. A route
// with the directive goes before an origin and has to store and to answer. A whole Caddyfile, which
// names hosts and folders of its own, is one that Caddy takes.
func TestSnippetsOfThePages(t *testing.T) {
	examples := slices.Collect(maps.Values(exampleFiles(t)))
	var run int
	for _, p := range readPages(t, pagePatterns...) {
		_, blocks := p.parts()
		for _, b := range blocks {
			if b.language == "" && directiveLine.MatchString(b.text) && !strings.Contains(b.text, "order cache") {
				t.Errorf("%s:%d: a block with the directive that is not marked as caddyfile", b.page, b.line)
			}
			if b.language != "caddyfile" || slices.Contains(examples, b.text) {
				continue
			}
			run++
			t.Run(b.page+":"+strconv.Itoa(b.line), func(t *testing.T) {
				if formatted := caddyfile.Format([]byte(b.text)); string(formatted) != b.text {
					t.Errorf("not formatted as `caddy fmt` does, which gives\n%s", formatted)
				}
				if wholeFile.MatchString(b.text) {
					validates(t, b.text)
					return
				}
				answersFromStore(t, b.text)
			})
		}
	}
	if run == 0 {
		t.Error("the pages have no such block")
	}
}

var (
	directiveLine = regexp.MustCompile(`(?m)^\s*larder( @\S+)?( \{)?$`)
	wholeFile     = regexp.MustCompile(`^(\{|[a-z.:/]+\.[a-z.:/]+ \{|:\d+ \{)\n`) // global options or an address
)

// validates has Caddy take the Caddyfile of a page, as `caddy validate` does.
func validates(t *testing.T, text string) {
	t.Helper()
	t.Setenv("LARDER_SECRET", "secret")
	t.Setenv("REDIS_PASSWORD", "secret")
	text = strings.ReplaceAll(text, "{file./run/secrets/larder}", "secret")
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatal(err)
	}
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&config); err != nil {
		t.Fatal(err)
	}
}

// answersFromStore runs the route of a page before an origin: its second answer is a hit. The
// requests are those of a session, for a route that is for sessions alone.
func answersFromStore(t *testing.T, route string) {
	t.Helper()
	o := newOrigin(t, numbered("Cache-Control", "max-age=60"))
	if !directiveLine.MatchString(route) { // lines that are added to an example
		if route += "\nlarder"; strings.Contains(route, "@shared {") {
			route += " @shared"
		}
	}
	if !strings.Contains(route, "localhost:9000") {
		route += "\n\treverse_proxy localhost:9000"
	}
	in := start(t, setup{site: strings.ReplaceAll(route, "localhost:9000", "{{origin}}")}, o)
	session := []string{"Mcp-Session-Id", "1"}
	in.get("/products/7", session...).want(t, 200, "1", "")
	if hit := in.get("/products/7", session...); !hit.isHit() {
		t.Errorf("the second request: Cache-Status %q", hit.cacheStatus())
	}
}

// TestBlocksOfThePagesCanBeTyped: Caddy refuses a block on one line, so that no sentence shows one.
// In the examples of ideas.md a brace ends a line, as that page says. SECURITY.md is not read: its
// tables name options as `key { header … }`. A block with … in it passes in the other pages too.
func TestBlocksOfThePagesCanBeTyped(t *testing.T) {
	block := regexp.MustCompile("`[^`…]*\\b(key|tags|origin|purge_method|invalidate|zone|shared|batch|tls|servers|route|format \\w+) \\{ [^`…]*\\}`")
	for _, p := range readPages(t, "README.md", "docs/*.md", "docs/migrating/*.md") {
		if p.path == "docs/ideas.md" {
			continue
		}
		prose, _ := p.parts()
		for i, line := range prose {
			if found := block.FindString(line); found != "" {
				t.Errorf("%s:%d: Caddy does not take %s", p.path, i+1, found)
			}
		}
	}
}

// TestREADMEIsOnePage: what is longer belongs into docs.
func TestREADMEIsOnePage(t *testing.T) {
	if lines := strings.Count(readPages(t, "README.md")[0].text, "\n"); lines > 170 {
		t.Errorf("README.md has %d lines, want at most 170", lines)
	}
}

// TestFaultTable holds the pages' table of faults to the tree: every row names a test, and every
// test of a fault is in a row.
func TestFaultTable(t *testing.T) {
	table := section(t, readPages(t, pagePatterns...), "What the disk can do to you")
	existing := declaredTests(t)
	name := regexp.MustCompile("`(Test\\w+)`")
	listed, rows := make(map[string]bool), 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Fault") {
			continue
		}
		rows++
		names := name.FindAllStringSubmatch(line, -1)
		if len(names) == 0 {
			t.Errorf("no test in the row %s", line)
		}
		for _, match := range names {
			if listed[match[1]] = true; !existing[match[1]] {
				t.Errorf("the table names %s, which is not in the tree", match[1])
			}
		}
	}
	if rows == 0 {
		t.Error("the table has no rows")
	}
	for test := range existing {
		if strings.HasPrefix(test, "TestFault") && test != "TestFaultTable" && !listed[test] {
			t.Errorf("the table does not list %s", test)
		}
	}
}

// TestSecurityTable holds SECURITY.md to the tree: every row names a test, every test it names
// exists, and every fuzz target is listed.
func TestSecurityTable(t *testing.T) {
	page := readPages(t, "SECURITY.md")[0].text
	existing := declaredTests(t)
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	listed := make(map[string]bool)
	for _, match := range names.FindAllStringSubmatch(page, -1) {
		name := match[1]
		if listed[name] = true; !existing[name] {
			t.Errorf("SECURITY.md names %s, which is not in the tree", name)
		}
	}
	for name := range existing {
		if strings.HasPrefix(name, "Fuzz") && !listed[name] {
			t.Errorf("SECURITY.md does not list %s", name)
		}
	}
	for row := 1; row <= 24; row++ {
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^\| C%d \|.*$`, row)).FindString(page)
		if !names.MatchString(line) {
			t.Errorf("row C%d names no test", row)
		}
	}
}

// declaredTests are the names of the tests and fuzz targets in the tree, of all packages.
func declaredTests(t *testing.T) map[string]bool {
	t.Helper()
	existing := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(treeRoot, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range declared.FindAllSubmatch(source, -1) {
			existing[string(match[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return existing
}

// TestJSONOfThePages: a whole configuration in JSON is one that Caddy takes.
func TestJSONOfThePages(t *testing.T) {
	var run int
	for _, p := range readPages(t, pagePatterns...) {
		_, blocks := p.parts()
		for _, b := range blocks {
			if b.language != "json" || !strings.Contains(b.text, `"apps"`) {
				continue
			}
			run++
			var config caddy.Config
			if err := json.Unmarshal([]byte(b.text), &config); err != nil {
				t.Errorf("%s:%d: %v", b.page, b.line, err)
			} else if err := caddy.Validate(&config); err != nil {
				t.Errorf("%s:%d: %v", b.page, b.line, err)
			}
		}
	}
	if run == 0 {
		t.Error("the pages have no configuration in JSON")
	}
}

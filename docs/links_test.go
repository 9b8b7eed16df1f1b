// Package docs has the pages for users. Its tests hold their links.
package docs

import (
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// page is a Markdown file of the tree, parsed as forges do.
type page struct {
	source  []byte
	root    ast.Node
	anchors []string // the names of its headings
}

func parse(source []byte) page {
	parser := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser()
	p := page{source: source, root: parser.Parse(text.NewReader(source))}
	p.anchors = p.headings()
	return p
}

// readPages are all pages of the tree, by their paths from the top.
func readPages(t *testing.T) map[string]page {
	t.Helper()
	pages, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// parsed reads and parses every Markdown file of the tree, once.
var parsed = sync.OnceValues(func() (map[string]page, error) {
	pages := make(map[string]page)
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "node_modules"):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		source, err := os.ReadFile(filepath.Join("..", name))
		pages[name] = parse(source)
		return err
	})
	return pages, err
})

// links are what a page leads to, images and bare addresses included.
func (p page) links() []string {
	var found []string
	_ = ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			switch n := n.(type) {
			case *ast.Link:
				found = append(found, string(n.Destination))
			case *ast.Image:
				found = append(found, string(n.Destination))
			case *ast.AutoLink:
				found = append(found, string(n.URL(p.source)))
			case *ast.RawHTML:
				found = append(found, attributes(n.Segments.Value(p.source))...)
			case *ast.HTMLBlock:
				found = append(found, attributes(n.Lines().Value(p.source))...)
			}
		}
		return ast.WalkContinue, nil
	})
	return found
}

var attribute = regexp.MustCompile(`\b(?:src|srcset|href)="([^"]*)"`)

// attributes are what HTML in a page leads to.
func attributes(html []byte) (found []string) {
	for _, match := range attribute.FindAllSubmatch(html, -1) {
		found = append(found, string(match[1]))
	}
	return found
}

// words are the text below a node, as readers see it; without what stands in it as code, where that
// is left out.
func (p page) words(n ast.Node, code bool) string {
	var words strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if n.Kind() == ast.KindCodeSpan && !code {
			return ast.WalkSkipChildren, nil
		}
		if leaf, ok := n.(*ast.Text); ok && entering {
			words.Write(leaf.Segment.Value(p.source))
		}
		return ast.WalkContinue, nil
	})
	return words.String()
}

// headings are the names that GitHub gives to the headings of a page.
func (p page) headings() []string {
	var names []string
	for n := p.root.FirstChild(); n != nil; n = n.NextSibling() {
		if n.Kind() != ast.KindHeading {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, p.words(n, true))
		unique := name
		for again := 1; slices.Contains(names, unique); again++ {
			unique = name + "-" + strconv.Itoa(again)
		}
		names = append(names, unique)
	}
	return names
}

// fault says what is wrong with a link of the page from, or nothing. What is on other hosts is not
// asked for.
func fault(pages map[string]page, from, link string) string {
	to, err := url.Parse(link)
	switch {
	case err != nil:
		return err.Error()
	case to.Scheme == "mailto" && strings.Contains(to.Opaque, "@"):
		return ""
	case to.Scheme == "http" || to.Scheme == "https":
		if to.Hostname() == "" || strings.ContainsAny(link, " <>\"") {
			return "it is no URL"
		}
		return ""
	case to.Scheme != "" || to.Host != "" || strings.HasPrefix(to.Path, "/"):
		return "it is neither relative nor a URL of the web"
	}
	file := from
	if to.Path != "" {
		file = path.Join(path.Dir(from), to.Path)
	}
	if !fs.ValidPath(file) {
		return "it leads out of the tree"
	}
	if _, err := os.Stat(filepath.Join("..", file)); err != nil {
		return "it leads to no file"
	}
	if to.Fragment != "" && !slices.Contains(pages[file].anchors, to.Fragment) {
		return "it leads to no heading"
	}
	return ""
}

// TestLinks: a relative link of any page leads to a file that is there and, where it names one, to
// a heading in it. A link to another host is a URL.
func TestLinks(t *testing.T) {
	pages, links := readPages(t), 0
	for name, p := range pages {
		for _, link := range p.links() {
			links++
			if fault := fault(pages, name, link); fault != "" {
				t.Errorf("%s: the link %s: %s", name, link, fault)
			}
		}
	}
	if links < 500 {
		t.Errorf("%d links in %d pages", links, len(pages))
	}
}

// TestWrongLinks has links that are wrong, each in one way.
func TestWrongLinks(t *testing.T) {
	pages := readPages(t)
	for link, want := range map[string]string{
		"zones.md":                 "",
		"zones.md#what-a-zone-has": "",
		"#to-begin":                "",
		"../testdata/examples":     "",
		"https://example.com/a":    "",
		"mailto:a@example.com":     "",
		"zone.md":                  "it leads to no file",
		"Zones.md":                 "it leads to no file",
		"zones.md#zone":            "it leads to no heading",
		"#zone":                    "it leads to no heading",
		"links_test.go#L1":         "it leads to no heading",
		"../../README.md":          "it leads out of the tree",
		"/docs/zones.md":           "it is neither relative nor a URL of the web",
		"//example.com":            "it is neither relative nor a URL of the web",
		"htps://example.com":       "it is neither relative nor a URL of the web",
		"https:///a":               "it is no URL",
	} {
		if got := fault(pages, "docs/README.md", link); got != want {
			t.Errorf("%s: %q, want %q", link, got, want)
		}
	}
	if fault(pages, "docs/README.md", "https://exa mple.com/") == "" {
		t.Error("a host with a space is taken")
	}
}

// TestNoLinkIsText: what was meant as a link and is none, by a space in it or by a reference that
// is not there, stands in the page as brackets.
func TestNoLinkIsText(t *testing.T) {
	looksLike := regexp.MustCompile(`\]\(|\]\[`)
	for name, p := range readPages(t) {
		_ = ast.Walk(p.root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
			if !entering || n.Type() == ast.TypeInline || n.FirstChild() == nil || n.FirstChild().Type() != ast.TypeInline {
				return ast.WalkContinue, nil
			}
			if words := p.words(n, false); looksLike.MatchString(words) {
				t.Errorf("%s: a link that is none: %s", name, words)
			}
			return ast.WalkSkipChildren, nil
		})
	}
}

// TestEveryPageIsListed: README leads to the table of all pages, and that to each of them.
func TestEveryPageIsListed(t *testing.T) {
	pages := readPages(t)
	if !slices.Contains(pages["README.md"].links(), "docs/README.md") {
		t.Error("README.md does not lead to docs/README.md")
	}
	var listed []string
	for _, link := range pages["docs/README.md"].links() {
		file, _, _ := strings.Cut(link, "#")
		listed = append(listed, path.Join("docs", file))
	}
	for name := range pages {
		if name != "docs/README.md" && !strings.HasPrefix(name, "testdata/") && !slices.Contains(listed, name) {
			t.Errorf("docs/README.md does not lead to %s", name)
		}
	}
}

package larder

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// parseTree parses every Go file of the module.
func parseTree(t *testing.T) (*token.FileSet, []*ast.File) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata":
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fset, files
}

// otherNames are words of comments that look like names of the code and are not.
var otherNames = []string{
	"EventSource", "GitHub", "HttpClient", "MariaDB", "PromQL", "StringArray", "StringSlice", "StripPrefix", "WebAssembly", "WebDAV",
}

// TestCommentsNameWhatIsThere: what a comment calls by a name in mixed case is declared or used in
// the code. A name that was changed in the code alone leads its reader astray.
func TestCommentsNameWhatIsThere(t *testing.T) {
	fset, files := parseTree(t)
	inCode, word := make(map[string]bool), regexp.MustCompile(`\w+`)
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				inCode[n.Name] = true
			case *ast.BasicLit: // fields of JSON, units, what other programs print
				for _, w := range word.FindAllString(n.Value, -1) {
					inCode[w] = true
				}
			}
			return true
		})
	}
	// A name behind a package may be another module's.
	name := regexp.MustCompile(`(\b[a-z]\w*\.)?\b([a-z]+[A-Z]\w*|[A-Z][a-z0-9]+[A-Z]\w*)\b`)
	for _, file := range files {
		for _, group := range file.Comments {
			for _, c := range group.List {
				for _, n := range name.FindAllStringSubmatch(c.Text, -1) {
					if n[1] == "" && !inCode[n[2]] && !slices.Contains(otherNames, n[2]) {
						t.Errorf("%s: there is no %s", fset.Position(c.Pos()), n[2])
					}
				}
			}
		}
	}
}

// TestCommentsBeginWithTheName: a comment that begins with a small letter begins with the name of
// what it is about.
func TestCommentsBeginWithTheName(t *testing.T) {
	fset, files := parseTree(t)
	check := func(doc *ast.CommentGroup, name string) {
		first, _, _ := strings.Cut(strings.TrimSpace(doc.Text()), " ")
		if r, _ := utf8.DecodeRuneInString(first); unicode.IsLower(r) && strings.TrimRight(first, ",:") != name {
			t.Errorf("%s: the comment of %s begins with %q", fset.Position(doc.Pos()), name, first)
		}
	}
	for _, file := range files {
		for _, decl := range file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				check(d.Doc, d.Name.Name)
			case *ast.GenDecl:
				if spec, ok := d.Specs[0].(*ast.TypeSpec); ok && len(d.Specs) == 1 {
					check(d.Doc, spec.Name.Name)
				}
			}
		}
	}
}

// TestCommentsEndAtColumn100, pictures and what stands behind code apart. A tab takes four columns.
func TestCommentsEndAtColumn100(t *testing.T) {
	fset, files := parseTree(t)
	directive := regexp.MustCompile(`^//(\t|\w+:\w)`)
	for _, file := range files {
		for _, group := range file.Comments {
			for _, c := range group.List {
				at := fset.Position(c.Pos())
				indent := (at.Column - 1) * 4 // in tabs alone, or the comment stands behind code
				if width := indent + utf8.RuneCountInString(c.Text); width > 100 && at.Column < 8 && !directive.MatchString(c.Text) {
					t.Errorf("%s: the comment ends at column %d", at, width)
				}
			}
		}
	}
}

package httpcache

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// unicodeReaders are the functions of packages strings and bytes that go by Unicode's white space,
// letters or case.
var unicodeReaders = map[string]bool{
	"TrimSpace": true, "TrimFunc": true, "TrimLeftFunc": true, "TrimRightFunc": true, "EqualFold": true, "ToLower": true, "ToUpper": true,
	"ToTitle": true, "Title": true, "ToLowerSpecial": true, "ToUpperSpecial": true, "Fields": true, "FieldsSeq": true, "FieldsFunc": true,
	"FieldsFuncSeq": true, "Map": true, "IndexFunc": true, "ContainsFunc": true,
}

// unicodeReadersAllowed are the calls that may stay, each with the reason.
var unicodeReadersAllowed = map[string]string{
	"rfc9111/lists.go strings.FieldsFuncSeq":    "by a function that knows ASCII alone",
	"rfc9111/tags.go strings.FieldsFuncSeq":     "by a function that knows ASCII alone",
	"rfc9111/deception.go strings.FieldsSeq":    "of a constant",
	"httpcache/explaintexts.go strings.ToUpper": "of a constant",
	"httpcache/explain.go strings.Map":          "of what is shown",
}

// TestFieldsAreReadAsASCII holds that nothing that a client or an origin sends is read by Unicode's
// white space, letters or case: an origin that reads it as ASCII would see something else.
func TestFieldsAreReadAsASCII(t *testing.T) {
	unused := maps.Clone(unicodeReadersAllowed)
	for _, folder := range []string{"rfc9111", "httpcache", "urlform"} {
		files, err := filepath.Glob("../" + folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", folder, err, len(files))
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for call, at := range unicodeCalls(t, file) {
				call = folder + "/" + filepath.Base(file) + " " + call
				if delete(unused, call); unicodeReadersAllowed[call] == "" {
					t.Errorf("%s: %s reads Unicode; rfc9111 has TrimOWS, EqualFold and ToLower", at, call)
				}
			}
		}
	}
	for call := range unused {
		t.Errorf("%s is allowed and not there", call)
	}
}

// unicodeCalls are the functions in a file that go by Unicode, each with a place where it stands.
func unicodeCalls(t *testing.T, file string) map[string]token.Position {
	t.Helper()
	files := token.NewFileSet()
	tree, err := parser.ParseFile(files, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(map[string]token.Position)
	ast.Inspect(tree, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		from, ok := selector.X.(*ast.Ident)
		if ok && (from.Name == "unicode" || (from.Name == "strings" || from.Name == "bytes") && unicodeReaders[selector.Sel.Name]) {
			calls[from.Name+"."+selector.Sel.Name] = files.Position(n.Pos())
		}
		return true
	})
	return calls
}

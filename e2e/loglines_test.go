package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logMethods write a line to the log of Caddy, with the message among their arguments.
var logMethods = []string{"Info", "Warn", "Error", "LogAttrs", "tell", "logPanic"}

// logged returns the messages of Larder's log with their places. What is no part of a server is
// left out.
func logged(t *testing.T) map[string]string {
	t.Helper()
	messages := make(map[string]string)
	err := filepath.WalkDir(treeRoot, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() {
			if strings.HasSuffix(name, "test") || slices.Contains([]string{"bench", "cmd", "conformance", "e2e", "dashboard", "migrate"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if message := messageOf(call); message != "" {
					messages[message] = files.Position(call.Pos()).String()
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// messageOf returns the message of a call that logs, empty for any other.
func messageOf(call *ast.CallExpr) string {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(logMethods, method.Sel.Name) {
		return ""
	}
	for _, arg := range call.Args {
		for sum, ok := arg.(*ast.BinaryExpr); ok; sum, ok = arg.(*ast.BinaryExpr) {
			arg = sum.X
		}
		if literal, ok := arg.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			text, _ := strconv.Unquote(literal.Value)
			return sameInEach(text)
		}
	}
	return ""
}

// tierName begins the lines of a tier, which have a colon behind it.
var tierName = regexp.MustCompile(`^(?:(?:disk|memory) tier|shared): `)

// sameInEach returns what a message begins with in each line, without what it explains further.
func sameInEach(text string) string {
	from := len(tierName.FindString(text))
	if at := strings.IndexAny(text[from:], ":;"); at >= 0 {
		text = text[:from+at]
	}
	return strings.TrimRight(text, " ,")
}

// Each line that Larder writes to the log of Caddy is explained, and no other.
func TestLogLinesAreDocumented(t *testing.T) {
	messages := logged(t)
	if len(messages) < 30 {
		t.Fatalf("only %d messages: %v", len(messages), messages)
	}
	listed := make(map[string]bool)
	table := section(t, readPages(t, "docs/operating.md"), "What the log says")
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (?:debug|info|warn|error) \\|").FindAllStringSubmatch(table, -1) {
		listed[row[1]] = true
		if _, there := messages[row[1]]; !there {
			t.Errorf("no code logs %q", row[1])
		}
	}
	for message, place := range messages {
		if !listed[message] {
			t.Errorf("%s: docs/operating.md does not explain %q", place, message)
		}
	}
}

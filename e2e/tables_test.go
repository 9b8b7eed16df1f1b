package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFaultTable holds the pages' table of faults to the tree: every row names a test, and every test of a fault is in a row.
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

// TestSecurityTable holds SECURITY.md to the tree: every row names a test, every test it names exists, and every fuzz target is listed.
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
		if row == 23 {
			continue // a shared store, which there is not
		}
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

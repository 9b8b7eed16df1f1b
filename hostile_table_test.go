package larder_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityTable holds SECURITY.md to the tree: every row names a test, every test it names exists, and every fuzz target is listed.
func TestSecurityTable(t *testing.T) {
	page, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	existing := declaredTests(t)
	names := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	listed := make(map[string]bool)
	for _, match := range names.FindAllSubmatch(page, -1) {
		name := string(match[1])
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
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^\| C%d \|.*$`, row)).Find(page)
		if !names.Match(line) {
			t.Errorf("row C%d names no test", row)
		}
	}
}

// declaredTests are the names of the tests and fuzz targets in the tree.
func declaredTests(t *testing.T) map[string]bool {
	t.Helper()
	existing := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
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

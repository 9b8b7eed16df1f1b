package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestNamesOfTheArchitecture: a name of the code that docs/architecture.md gives stands in a file
// that the same step or row links to, so that whoever opens the link finds it there.
func TestNamesOfTheArchitecture(t *testing.T) {
	name := regexp.MustCompile("`([A-Za-z]+\\.)?([A-Za-z]+)`")
	link := regexp.MustCompile(`\]\(\.\./([^)#\s]+\.go)\)`)
	step := regexp.MustCompile(`\n(?:\d+\. |\| |\n)`)
	prose, _ := readPages(t, "docs/architecture.md")[0].parts()
	checked := 0
	for _, text := range step.Split(strings.Join(prose, "\n"), -1) {
		links := link.FindAllStringSubmatch(text, -1)
		if len(links) == 0 {
			continue
		}
		var code strings.Builder
		for _, l := range links {
			file, err := os.ReadFile(filepath.Join(treeRoot, l[1]))
			if err != nil {
				t.Fatal(err)
			}
			code.Write(file)
		}
		for _, n := range name.FindAllStringSubmatch(text, -1) {
			if isFolder(n[2]) || n[2] == "ttl" { // a package, and a word of the configuration
				continue
			}
			checked++
			if !regexp.MustCompile(`\b` + n[2] + `\b`).MatchString(code.String()) {
				t.Errorf("%s stands in none of the files that are linked beside it: %s", n[0], strings.TrimSpace(text))
			}
		}
	}
	if checked == 0 {
		t.Error("the page gives no name")
	}
}

func isFolder(name string) bool {
	info, err := os.Stat(filepath.Join(treeRoot, name))
	return err == nil && info.IsDir()
}

package migrate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/larder-cache/larder/migrate/rewrite"
)

// mostImports is how many files are read to know whether they have a cache.
const mostImports = 1000

// migrated reports whether no file that the file imports has a `cache` any more, nor one that these
// import. What cannot be read may have one.
func (of files) migrated(imports []string) bool {
	if of.name == "-" {
		return false
	}
	text, err := os.ReadFile(of.name)
	if err != nil {
		return false
	}
	own, err := rewrite.Survey(text)
	if err != nil {
		return false
	}
	return (&importedFiles{seen: make(map[string]bool), snippets: own.Snippets}).migrated(of.name, imports)
}

type importedFiles struct {
	seen map[string]bool
	// snippets are names of those that have been met. As in Caddy they come before files, also in
	// other files than the one that defines them.
	snippets []string
}

func (i *importedFiles) migrated(by string, imports []string) bool {
	for _, name := range imports {
		if slices.Contains(i.snippets, name) {
			continue
		}
		files, ok := matching(by, name)
		if !ok {
			return false
		}
		for _, file := range files {
			if i.seen[file] {
				continue
			}
			if i.seen[file] = true; len(i.seen) > mostImports || !i.isMigrated(file) {
				return false
			}
		}
	}
	return true
}

// isMigrated is migrated for one file.
func (i *importedFiles) isMigrated(file string) bool {
	text, err := os.ReadFile(file) //nolint:gosec // G304: the operator's file names it
	if err != nil {
		return false
	}
	has, err := rewrite.Survey(text)
	if err != nil || has.Cache {
		return false
	}
	i.snippets = append(i.snippets, has.Snippets...)
	return i.migrated(file, has.Imports)
}

// matching are the files that an import names, as Caddy reads it: beside the file that has it, and
// without those whose names begin with a dot, unless it names these. ok is false where that is not
// known.
func matching(by, name string) (files []string, ok bool) {
	if name == "" || strings.ContainsAny(name, "{}") {
		return nil, false
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(by), name)
	}
	found, err := filepath.Glob(name)
	if err != nil || len(found) == 0 { // the file may be elsewhere when Caddy reads it
		return nil, false
	}
	for _, file := range found {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		if !strings.HasPrefix(filepath.Base(file), ".") || strings.HasPrefix(filepath.Base(name), ".") {
			files = append(files, file)
		}
	}
	return files, true
}

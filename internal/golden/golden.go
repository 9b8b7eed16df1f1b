// Package golden has what tests share that hold what comes of a text, to the letter, to a file that
// has both: the text, and what is expected of it under lines of dashes.
package golden

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expected parts of the goldens anew")

const dashes = "----------\n"

// File is a golden.
type File struct {
	Name  string   // of the file, without .caddyfiletest
	Input string   // what stands above the first line of dashes
	Want  []string // what stands under each
	path  string
}

// Read reads the goldens of a folder, in the order of their names. There must be some.
func Read(tb testing.TB, folder string) (files []File) {
	tb.Helper()
	const extension = ".caddyfiletest"
	paths, err := filepath.Glob(filepath.Join(folder, "*"+extension))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no goldens in %s: %v", folder, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path) //nolint:gosec // G304: a test names it
		if err != nil {
			tb.Fatal(err)
		}
		if bytes.Contains(text, []byte("-\r\n")) { // git may check out with either
			text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
		}
		parts := strings.Split(string(text), dashes)
		if len(parts) < 2 {
			tb.Fatalf("%s has no line of dashes", path)
		}
		files = append(files, File{strings.TrimSuffix(filepath.Base(path), extension), parts[0], parts[1:], path})
	}
	return files
}

// Expect compares what has come of the input, a part for each line of dashes, with what is
// expected. With -update it writes that into the file instead.
func (f *File) Expect(t *testing.T, got ...string) {
	t.Helper()
	if *update {
		text := strings.Join(append([]string{f.Input}, got...), dashes)
		if err := os.WriteFile(f.path, []byte(text), 0o644); err != nil { //nolint:gosec // G306: as git checks out
			t.Fatal(err)
		}
		return
	}
	if len(got) != len(f.Want) {
		t.Fatalf("%s has %d parts under dashes, and %d came", f.path, len(f.Want), len(got))
	}
	for i := range got {
		if got[i] != f.Want[i] {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", f.path, got[i], f.Want[i])
		}
	}
}

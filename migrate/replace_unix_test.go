//go:build unix

package migrate

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplaceFile: a reader of the old file reads it to its end, mode and link stay, and nothing
// else is left in the folder.
func TestReplaceFile(t *testing.T) {
	sites, folder := testFolder(t), testFolder(t)
	name, link := filepath.Join(sites, "site"), filepath.Join(folder, "Caddyfile")
	write(t, name, "old text")
	if err := os.Chmod(name, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := replaceFile(link, []byte("old text"), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(reader); err != nil || string(text) != "old text" {
		t.Errorf("who had the file open read %q (%v)", text, err)
	}
	expectFile(t, link, "new")
	expectFile(t, name, "new")
	expectFile(t, backupOf(name), "old text")
	if to, err := os.Readlink(link); err != nil || to != name {
		t.Errorf("the link leads to %q (%v)", to, err)
	}
	for _, file := range []string{name, backupOf(name)} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o604 {
			t.Errorf("%s: %v (%v)", file, info, err)
		}
	}
	expectFolder(t, sites, backupOf("site"), "site")
	expectFolder(t, folder, "Caddyfile")
}

// TestReplaceFileFails: an error leaves the file, and nothing beside it.
func TestReplaceFileFails(t *testing.T) {
	folder := testFolder(t)
	long := strings.Repeat("n", 250) // with what a backup has behind it it is too long
	write(t, filepath.Join(folder, long), "old text")
	if err := replaceFile(filepath.Join(folder, long), []byte("old text"), []byte("new")); err == nil {
		t.Error("a backup with too long a name is written")
	}
	expectFile(t, filepath.Join(folder, long), "old text")
	expectFolder(t, folder, long)

	if err := replaceFile(folder, nil, []byte("new")); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a folder: %v", err)
	}
	if err := replaceFile(filepath.Join(folder, "none"), nil, []byte("new")); !os.IsNotExist(err) {
		t.Errorf("a file that there is not: %v", err)
	}
	expectFolder(t, folder, long)
}

func expectFolder(t *testing.T, folder string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("%s has %q, want %q", folder, names, want)
	}
}

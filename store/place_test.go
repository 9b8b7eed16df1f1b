package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A copy with the size and the time of the file takes its place. What a purge wrote went into the
// file that had lost its name, and a crash brought back what was purged.
func TestFaultCopyInPlaceOfTheFile(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Path: dir, Required: true}, bothTiers)
	const url = "http://example.com/"
	s.Put(testEntry(s, url, []byte("old")), 0)
	must(t, s.Sync())
	replaceByCopy(t, s.disk.path)
	if n, err := s.Purge(Selectors{URLs: []string{url}}, PurgeOptions{}); n != 1 || err != nil {
		t.Errorf("Purge = %d, %v", n, err)
	}
	crashed := t.TempDir() // what is left after a crash
	data, err := os.ReadFile(s.disk.path)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(crashed, FileName), data, 0o600))
	again := openStore(t, Config{Path: crashed, Required: true}, bothTiers)
	if n := hits(t, again, []string{url}); n != 0 {
		t.Error("what was purged is back after a crash")
	}
}

// replaceByCopy is `cp -p file copy; mv copy file`.
func replaceByCopy(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	must(t, err)
	data, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file+".copy", data, 0o600))
	must(t, os.Chtimes(file+".copy", info.ModTime(), info.ModTime()))
	must(t, os.Rename(file+".copy", file))
}

// The folder is replaced by something that is none. That said nothing, so the store went on writing
// into a file that was gone.
func TestFaultFolderIsNoneAnyMore(t *testing.T) {
	for name, replace := range map[string]func(folder string) error{
		"a file":              func(folder string) error { return os.WriteFile(folder, []byte("x"), 0o600) },
		"a link to itself":    func(folder string) error { return os.Symlink(folder, folder) },
		"a link into nowhere": func(folder string) error { return os.Symlink(folder+".none", folder) },
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "larder")
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Path: folder, Required: true}, bothTiers)
				must(t, s.Open())
				must(t, os.RemoveAll(folder))
				must(t, replace(folder))
				time.Sleep(10 * time.Second)
				st := s.Stats()
				if st.Errors[DiskTier] == 0 {
					t.Errorf("after 10 s nothing is counted: %+v", st.Disk)
				}
				_, err := s.Purge(Selectors{All: true}, PurgeOptions{})
				if notDurable := errors.Is(err, ErrNotDurable); notDurable == (st.Disk.State == "open") {
					t.Errorf("Purge: %v while the disk is %s", err, st.Disk.State)
				}
				must(t, s.Close())
			})
		})
	}
}

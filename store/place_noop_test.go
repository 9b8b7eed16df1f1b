package store

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// TestFaultCopyIsNoticedWithoutAWrite: an operator puts back a copy of the file, which has what our
// file has lost since. A purge of that, which matches nothing here and writes nothing, notices it
// before it answers; so does an unsafe request, and the end of the store. What was named is not
// there after a restart.
func TestFaultCopyIsNoticedWithoutAWrite(t *testing.T) {
	const url = "http://example.com/"
	sel := Selectors{URLs: []string{url}}
	for _, tt := range []struct {
		name   string
		notice func(t *testing.T, s *Store)
	}{
		{"by a purge", func(t *testing.T, s *Store) {
			if n, err := s.Purge(sel, PurgeOptions{}); n != 0 || err != nil {
				t.Errorf("Purge = %d, %v", n, err)
			}
			if n := s.Stats().Errors[DiskTier]; n == 0 {
				t.Error("the purge has answered, and nothing is noticed")
			}
		}},
		{"by an unsafe request", func(t *testing.T, s *Store) {
			if s.PurgeIsNoop(&sel, func() bool { return false }) {
				t.Error("a purge counts as one that would change nothing")
			}
			if _, err := s.Purge(sel, PurgeOptions{}); err != nil {
				t.Errorf("Purge: %v", err)
			}
			if !s.PurgeIsNoop(&sel, func() bool { return false }) {
				t.Error("a purge does not count as one that would change nothing")
			}
		}},
		{"at the end", func(*testing.T, *Store) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Path: t.TempDir(), Required: true}
			synctest.Test(t, func(t *testing.T) {
				s := New(cfg, bothTiers)
				must(t, s.Open())
				s.Put(testEntry(s, url, []byte("old")), 0)
				must(t, s.Close())
				backup := filepath.Join(t.TempDir(), "backup")
				copyTo(t, s.disk.path, backup)

				s = New(cfg, bothTiers)
				must(t, s.Open())
				if n, err := s.Purge(sel, PurgeOptions{}); n != 1 || err != nil {
					t.Errorf("Purge = %d, %v", n, err)
				}
				must(t, s.Sync())
				synctest.Wait()
				must(t, os.Rename(backup, s.disk.path))
				tt.notice(t, s)
				must(t, s.Close())
				synctest.Wait()
			})
			cfg.Now = bubbleTime
			if got := hits(t, openStore(t, cfg, diskTier), []string{url}); got != 0 {
				t.Error("what was purged is served after a restart")
			}
		})
	}
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.Create(to)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}

package store

import (
	"fmt"
	"testing"
)

// putParted stores an entry of three parts.
func putParted(t *testing.T, s *Store, url string, tags ...string) {
	t.Helper()
	if got := s.Put(testEntry(s, url, []byte("head"), tags...), 0); got != Stored {
		t.Fatal(got)
	}
	for n := range 3 {
		part := testEntry(s, url, make([]byte, 1000+50_000*n), tags...)
		part.Key, part.Flags = keyOf(fmt.Sprint("part ", n, " of ", url)), FlagPart
		if got := s.Put(part, 0); got != Stored {
			t.Fatal(got)
		}
	}
}

// A purge takes the parts of what it names and does not count them, whether they are in memory,
// queued, or on disk; nor do listings and statistics, before a restart and after it.
func TestPartsAreNeitherCountedNorListed(t *testing.T) {
	const url = "http://example.com/film"
	for name, selectors := range map[string]Selectors{
		"url":    {URLs: []string{url}},
		"tag":    {Tags: []string{"film"}},
		"prefix": {Prefixes: []string{"http://example.com/"}},
		"host":   {Hosts: []string{"example.com"}},
		"all":    {All: true},
		"both":   {URLs: []string{url}, Tags: []string{"film"}},
	} {
		for _, where := range []string{"memory", "queue", "disk", "disk after a restart"} {
			t.Run(name+" in "+where, func(t *testing.T) {
				config, settings := Config{}, Settings{Memory: 16 << 20}
				if where != "memory" {
					config, settings.Disk = Config{Path: t.TempDir(), Required: true}, 16<<20
				}
				s := openStore(t, config, settings)
				putParted(t, s, url, "film")
				if where == "disk" || where == "disk after a restart" {
					must(t, s.Sync())
				}
				if where == "disk after a restart" {
					must(t, s.Close())
					s = openStore(t, config, settings)
				}
				wantOne(t, s, where)
				if matched, err := s.Purge(selectors, PurgeOptions{}); err != nil || matched != 1 {
					t.Errorf("%d matched, %v; want 1", matched, err)
				}
				for n := range 3 {
					r := s.Lookup(keyOf(fmt.Sprint("part ", n, " of ", url)), matchAny)
					if r.Entry != nil {
						t.Errorf("part %d is still found", n)
					}
					r.Release()
				}
			})
		}
	}
}

// wantOne checks that one entry is listed, and one is counted where it is.
func wantOne(t *testing.T, s *Store, where string) {
	t.Helper()
	items, next, err := s.List(Filter{}, 100, "")
	if err != nil || len(items) != 1 || next != "" {
		t.Errorf("%d are listed, %q, %v; want 1", len(items), next, err)
	}
	items, _, err = s.List(Filter{Tag: "film"}, 100, "")
	if err != nil || len(items) != 1 {
		t.Errorf("%d are listed by tag, %v; want 1", len(items), err)
	}
	st := s.Stats()
	if where != "disk after a restart" && st.Memory.Entries != 1 {
		t.Errorf("memory counts %d entries, want 1", st.Memory.Entries)
	}
	if (where == "disk" || where == "disk after a restart") && st.Disk.Entries != 1 {
		t.Errorf("the disk counts %d entries, want 1", st.Disk.Entries)
	}
}

// What removes a part takes it out of the numbers, too.
func TestPartsThatGoAreNotCounted(t *testing.T) {
	const url = "http://example.com/film"
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 16 << 20, Disk: 16 << 20})
	putParted(t, s, url)
	must(t, s.Sync())
	for n := range 2 {
		r := s.Lookup(keyOf(fmt.Sprint("part ", n, " of ", url)), matchAny)
		s.Remove(r.Entry)
		r.Release()
	}
	must(t, s.Sync())
	if got := s.Stats(); got.Disk.Entries != 1 || got.Memory.Entries != 1 {
		t.Errorf("%d and %d entries, want 1", got.Memory.Entries, got.Disk.Entries)
	}
	if got := s.disk.parts.Load(); got != 1 {
		t.Errorf("%d parts on disk, want 1", got)
	}
}

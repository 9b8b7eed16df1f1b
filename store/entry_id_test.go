package store

import (
	"errors"
	"testing"
)

// dropWorld has three variants of each of two pages, and the ids of all by URL and coding.
func dropWorld(t *testing.T, config Config, settings Settings) (*Store, map[string]EntryID) {
	t.Helper()
	s := openStore(t, config, settings)
	for _, url := range []string{"http://a.example/1", "http://a.example/2"} {
		for _, coding := range []string{"", "gzip", "br"} {
			e := testEntry(s, url, []byte(coding), "tag"+url[len(url)-1:])
			e.Variant.Coding = coding
			s.Put(e, 0)
		}
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	items, _, err := s.List(Filter{}, 100, "")
	if err != nil || len(items) != 6 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	ids := make(map[string]EntryID)
	for _, item := range items {
		ids[item.URL+" "+item.Variant.Coding] = item.EntryID()
	}
	return s, ids
}

// stored counts the entries that are listed, and checks that look-ups find as many.
func stored(t *testing.T, s *Store) int {
	t.Helper()
	items, _, err := s.List(Filter{}, 100, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		r := s.Lookup(item.Key, func(v *Variant) int {
			if v.Coding == item.Variant.Coding {
				return 1
			}
			return 0
		})
		if r.Entry == nil || r.Entry.ID != item.ID {
			t.Errorf("%s %q is listed and not found: %+v", item.URL, item.Variant.Coding, r.Entry)
		}
		r.Release()
	}
	return len(items)
}

func TestDrop(t *testing.T) {
	for name, settings := range map[string]Settings{
		"memory":         {Memory: 1 << 20},
		"disk":           {Memory: 1, Disk: 64 << 20},
		"memory on disk": {Memory: 1 << 20, Disk: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Required: true}
			if settings.Disk > 0 {
				config.Path = t.TempDir()
			}
			s, ids := dropWorld(t, config, settings)
			one, two := ids["http://a.example/1 gzip"], ids["http://a.example/2 "]
			others := Selectors{Tags: []string{"tag2"}}
			drop := func(want int, dryRun bool, others Selectors, ids ...EntryID) {
				t.Helper()
				if n, err := s.Drop(ids, dryRun, others); n != want || err != nil {
					t.Errorf("%d dropped, %v; want %d", n, err, want)
				}
			}
			drop(2, true, Selectors{}, one, two, one)
			drop(1, true, others, one, two)
			drop(0, false, Selectors{}, EntryID{one.id, two.key}, EntryID{one.id + 1<<40, one.key})
			if n := stored(t, s); n != 6 {
				t.Fatalf("%d stored after dry runs", n)
			}
			drop(2, false, Selectors{}, one, two, one)
			drop(0, false, Selectors{}, one, two)
			for range 2 {
				if n := stored(t, s); n != 4 {
					t.Errorf("%d stored, want the 4 others", n)
				}
				for _, id := range []EntryID{one, two} {
					if item, err := s.Find(id); item != nil || err != nil {
						t.Errorf("%v is %+v, %v", id, item, err)
					}
				}
				if config.Path == "" {
					break
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = openStore(t, config, settings)
			}
		})
	}
}

// TestDropAndValidation: a validation that was under way does not bring the entry back.
func TestDropAndValidation(t *testing.T) {
	for _, memory := range []int64{1, 1 << 20} {
		s, ids := dropWorld(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: memory, Disk: 64 << 20})
		id := ids["http://a.example/1 gzip"]
		found := s.Lookup(keyOf("http://a.example/1"), func(v *Variant) int { return len(v.Coding) })
		if found.Entry == nil || found.Entry.ID != id.id {
			t.Fatalf("found %+v", found.Entry)
		}
		renewal := found.Entry.Renewal()
		if n, err := s.Drop([]EntryID{id}, false, Selectors{}); n != 1 || err != nil {
			t.Fatalf("%d dropped, %v", n, err)
		}
		renewal.RequestTime, renewal.Generation = s.now(), s.purges.last.Load()
		s.Put(renewal, 0)
		found.Release()
		if n := stored(t, s); n != 5 {
			t.Errorf("memory %d: %d stored, want 5", memory, n)
		}
	}
}

// TestDropNotWritten: where the file cannot be written to, a drop says so.
func TestDropNotWritten(t *testing.T) {
	s, ids := dropWorld(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1 << 20, Disk: 64 << 20})
	s.queue.setOpen(false)
	if _, err := s.Drop([]EntryID{ids["http://a.example/1 gzip"]}, false, Selectors{}); !errors.Is(err, ErrNotDurable) {
		t.Errorf("without a place in the queue: %v", err)
	}
	s.queue.setOpen(true)
}

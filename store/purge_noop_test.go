package store

import (
	"testing"
)

func TestUntouched(t *testing.T) {
	const url, other, tag = "http://example.com/a", "http://example.com/b", "t"
	none, some := func() bool { return false }, func() bool { return true }
	put := func(t *testing.T, s *Store) { s.Put(testEntry(s, url, []byte("x"), tag), 0) }
	sync := func(t *testing.T, s *Store) {
		t.Helper()
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		disk     bool
		settings Settings // bothTiers where there are none
		before   func(t *testing.T, s *Store)
		sel      Selectors
		fetching func() bool
		want     bool
	}{
		"empty":                    {sel: Selectors{URLs: []string{url}}, fetching: none, want: true},
		"empty, a fetch":           {sel: Selectors{URLs: []string{url}}, fetching: some},
		"in memory":                {before: put, sel: Selectors{URLs: []string{url}}, fetching: none},
		"in memory, by tag":        {before: put, sel: Selectors{Tags: []string{tag}}, fetching: none},
		"in memory, another":       {before: put, sel: Selectors{URLs: []string{other}, Tags: []string{"u"}}, fetching: none, want: true},
		"disk, empty":              {disk: true, sel: Selectors{URLs: []string{url}}, fetching: none, want: true},
		"disk, queued":             {disk: true, before: put, sel: Selectors{URLs: []string{url}}, fetching: none},
		"disk, another is queued":  {disk: true, before: put, sel: Selectors{URLs: []string{other}}, fetching: none, want: true},
		"disk, queued, by tag":     {disk: true, before: put, sel: Selectors{Tags: []string{tag}}, fetching: none},
		"disk, another tag queued": {disk: true, before: put, sel: Selectors{Tags: []string{"u"}}, fetching: none, want: true},
		"disk, queued only":        {disk: true, settings: diskTier, before: put, sel: Selectors{Tags: []string{tag}}, fetching: none},
		"disk, queued only, other": {disk: true, settings: diskTier, before: put, sel: Selectors{URLs: []string{other}, Tags: []string{"u"}}, fetching: none, want: true},
		"disk, in both, by tag":    {disk: true, before: func(t *testing.T, s *Store) { put(t, s); sync(t, s) }, sel: Selectors{Tags: []string{tag}}, fetching: none},
		"disk, another is on disk": {disk: true, before: func(t *testing.T, s *Store) { put(t, s); sync(t, s) }, sel: Selectors{URLs: []string{other}}, fetching: none, want: true},
		"disk alone": {
			disk: true, settings: diskTier, sel: Selectors{URLs: []string{url}}, fetching: none,
			before: func(t *testing.T, s *Store) { put(t, s); sync(t, s) },
		},
		"a look-up in the file": {
			disk: true, sel: Selectors{URLs: []string{url}}, fetching: none,
			before: func(t *testing.T, s *Store) {
				gen := s.tickets.begin(s.purges)
				t.Cleanup(func() { s.tickets.end(gen) })
			},
		},
		"a look-up began meanwhile": {
			disk: true, sel: Selectors{URLs: []string{url}},
			fetching: nil, // set below: it is called between the two looks at the tickets
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.settings.Memory == 0 {
				c.settings = bothTiers
			}
			config := Config{}
			if c.disk {
				config = Config{Path: t.TempDir(), Required: true}
			}
			s := openStore(t, config, c.settings)
			if c.before != nil {
				c.before(t, s)
			}
			if c.fetching == nil {
				c.fetching = func() bool { s.tickets.end(s.tickets.begin(s.purges)); return false }
			}
			if got := s.PurgeIsNoop(&c.sel, c.fetching); got != c.want {
				t.Errorf("PurgeIsNoop = %v, want %v", got, c.want)
			}
		})
	}
}

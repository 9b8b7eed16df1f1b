package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/larder-cache/larder/store"
)

// siteURLs are stored by the purge and listing tests, with these tags.
var siteURLs = map[string][]string{
	"http://a.example/":       {"home", "all"},
	"http://a.example/p/1":    {"p1", "all"},
	"http://a.example/p/2":    {"p2", "all", "\x00secret"},
	"https://a.example/p/1":   {"p1"},
	"http://a.example:81/p/1": {"p1"},
	"http://a.example.org/":   nil,
}

func fillSite(t *testing.T, s *store.Store) {
	t.Helper()
	for url, tags := range siteURLs {
		put(t, s, NewEntry(s, url, []byte(url), tags...))
	}
}

func purgeSelectors(t *testing.T, s *store.Store) {
	for _, tt := range []struct {
		name string
		sel  store.Selectors
		gone []string
	}{
		{"tag", store.Selectors{Tags: []string{"all"}}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2"}},
		{"internal tag", store.Selectors{Tags: []string{"\x00secret"}}, []string{"http://a.example/p/2"}},
		{"unknown tag", store.Selectors{Tags: []string{"ALL"}}, nil},
		{"URL", store.Selectors{URLs: []string{"http://a.example/p/1"}}, []string{"http://a.example/p/1"}},
		{"prefix", store.Selectors{Prefixes: []string{"http://a.example/p"}}, []string{"http://a.example/p/1", "http://a.example/p/2"}},
		{"host", store.Selectors{Hosts: []string{"a.example"}}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1"}},
		{"host and port", store.Selectors{Hosts: []string{"a.example:81"}}, []string{"http://a.example:81/p/1"}},
		{
			"any of several",
			store.Selectors{Tags: []string{"p1", "home"}, URLs: []string{"http://a.example/"}, Prefixes: []string{"http://a.example/"}},
			[]string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1", "http://a.example:81/p/1"},
		},
		{"all", store.Selectors{All: true}, []string{
			"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1", "http://a.example:81/p/1", "http://a.example.org/",
		}},
	} {
		for _, synced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, synced %v", tt.name, synced), func(t *testing.T) {
				fillSite(t, s)
				if synced {
					sync(t, s)
				}
				for _, opts := range []store.PurgeOptions{{DryRun: true}, {}} {
					if n, err := s.Purge(tt.sel, opts); n != len(tt.gone) || err != nil {
						t.Errorf("Purge(%+v) = %d, %v; want %d", opts, n, err, len(tt.gone))
					}
				}
				for url := range siteURLs {
					if got, want := found(s, url), !slices.Contains(tt.gone, url); got != want {
						t.Errorf("%s found: %v, want %v", url, got, want)
					}
				}
			})
		}
	}
}

func purgeCounts(t *testing.T, s *store.Store) {
	for i := range 50 {
		put(t, s, NewEntry(s, fmt.Sprintf("http://example.com/%d", i), []byte("x"), "t", fmt.Sprintf("odd%d", i%2)))
	}
	sync(t, s)
	for _, step := range []struct {
		name string
		sel  store.Selectors
		want int
	}{
		{"half", store.Selectors{Tags: []string{"odd1"}}, 25},
		{"the same half again", store.Selectors{Tags: []string{"odd1"}}, 0},
		{"the rest", store.Selectors{Tags: []string{"t"}}, 25},
		{"nothing left", store.Selectors{All: true}, 0},
	} {
		if n, err := s.Purge(step.sel, store.PurgeOptions{}); n != step.want || err != nil {
			t.Errorf("%s: %d, %v; want %d", step.name, n, err, step.want)
		}
	}
}

// marking is a purge that leaves entries where they are. A severer one hits them again, a milder
// one changes nothing.
func marking(t *testing.T, s *store.Store) {
	sel := store.Selectors{Tags: []string{"p1"}}
	for _, settled := range []bool{true, false} { // on disk, or on its way
		fillSite(t, s)
		if settled {
			sync(t, s)
		}
		for _, step := range []struct {
			severity, left store.Severity
			want           int
		}{
			{store.Soft, store.Soft, 3},
			{store.Soft, store.Soft, 0},
			{store.Invalid, store.Invalid, 3},
			{store.Soft, store.Invalid, 0},
			{store.Invalid, store.Invalid, 0},
		} {
			if n, err := s.Purge(sel, store.PurgeOptions{Severity: step.severity}); n != step.want || err != nil {
				t.Errorf("%v: %d, %v; want %d", step.severity, n, err, step.want)
			}
			for url, tags := range siteURLs {
				want := store.NotPurged
				if slices.Contains(tags, "p1") {
					want = step.left
				}
				r := s.Lookup(KeyOf(url), Any)
				if r.Entry == nil || r.Severity != want {
					t.Errorf("%s after %v: found %v, %v; want %v", url, step.severity, r.Entry != nil, r.Severity, want)
				}
				r.Release()
			}
		}
		put(t, s, NewEntry(s, "http://a.example/p/1", []byte("renewed"), "p1"))
		if r := s.Lookup(KeyOf("http://a.example/p/1"), Any); r.Entry == nil || r.Severity != store.NotPurged {
			t.Errorf("renewed: found %v, %v", r.Entry != nil, r.Severity)
		} else {
			r.Release()
		}
		if n, err := s.Purge(sel, store.PurgeOptions{}); n != 3 || err != nil {
			t.Errorf("hard after that: %d, %v; want 3", n, err)
		}
	}
}

func purgeOlderFetch(t *testing.T, s *store.Store) {
	const url = "http://example.com/race"
	older := s.Begin()
	if _, err := s.Purge(store.Selectors{URLs: []string{url}}, store.PurgeOptions{}); err != nil {
		t.Fatal(err)
	}
	newer := s.Begin()
	if severity := s.Purged(url, nil, older.Generation()); severity != store.Hard {
		t.Errorf("older flight: %v", severity)
	}
	if severity := s.Purged(url, nil, newer.Generation()); severity != store.NotPurged {
		t.Errorf("newer flight: %v", severity)
	}
	e := NewEntry(s, url, []byte("old"))
	e.Generation = older.Generation()
	if r := s.Put(e, 0); r != store.RefusedPurged {
		t.Errorf("Put of an older fetch = %v", r)
	}
	older.End()
	older.End()
	if found(s, url) {
		t.Error("an older fetch is served")
	}
	e = NewEntry(s, url, []byte("new"))
	e.Generation = newer.Generation()
	put(t, s, e)
	newer.End()
	if !found(s, url) {
		t.Error("a newer fetch is not served")
	}
}

func purgeNothing(t *testing.T, s *store.Store) {
	put(t, s, NewEntry(s, "http://example.com/", nil))
	for _, sel := range []store.Selectors{{}, {Tags: []string{}}, {Prefixes: []string{""}}, {Tags: []string{"a", ""}}} {
		if _, err := s.Purge(sel, store.PurgeOptions{}); !errors.Is(err, store.ErrNoSelector) {
			t.Errorf("Purge(%+v): %v", sel, err)
		}
	}
	if !found(s, "http://example.com/") {
		t.Error("purged by nothing")
	}
}

package store

import (
	"fmt"
	"testing"
)

// TestURLAtOneListener: a purge of a URL at one listener leaves the others alone, in memory, on its
// way to the disk, on disk and after a restart, and a purge of the URL takes them all. Listeners
// and URLs of which one begins like another are told apart.
func TestURLAtOneListener(t *testing.T) {
	const url = "http://example.com/a"
	places := []string{
		URLAt(url, "80"), URLAt(url, "8080"), URLAt(url, "808"), URLAt(url+"b", "80"), URLAt(url+"/b", "80"), URLAt("http://example.com/", "80"), URLAt(url, "/run/web.sock"),
	}
	purgeInEveryTier(t, places, []purgeCase{
		{Selectors{URLs: []string{URLAt(url, "80")}}, 1},
		{Selectors{URLs: []string{URLAt(url, "808")}}, 1},
		{Selectors{URLs: []string{URLAt(url, "8")}}, 0},
		{Selectors{URLs: []string{url}}, 4},
		{Selectors{URLs: []string{url + "b"}}, 1},
		{Selectors{Prefixes: []string{url}}, 6},
		{Selectors{Hosts: []string{"example.com"}}, 7},
	})
}

// TestPurgeElsewhere: a purge of a URL, or of a tag, at all servers but some leaves theirs alone,
// whatever the port, and takes those of every other.
func TestPurgeElsewhere(t *testing.T) {
	const url = "http://example.com/a"
	places := []string{
		URLAt(url, "one:80"), URLAt(url, "one:81."), URLAt(url, "two:80"), URLAt(url, "twofold:80"), URLAt(url, ":80"),
		URLAt(url+"b", "gone:80"), URLAt(url+"?b", "gone:80"), URLAt(url, "/run/web:80"),
	}
	at := func(servers ...string) Selectors {
		return Selectors{URLs: []string{URLElsewhere(url, ServersOf(servers))}}
	}
	tag := func(servers ...string) Selectors {
		return Selectors{Tags: []string{TagElsewhere("all", ServersOf(servers))}}
	}
	purgeInEveryTier(t, places, []purgeCase{
		{at("one"), 4},
		{at("two", "one"), 3},
		{at("two", "one", "", "twofold", "/run/web"), 0},
		{at("none"), 6},
		{tag("one"), 6},
		{tag("gone", "two", "one"), 3},
		{tag("gone", "two", "one", "", "twofold", "/run/web"), 0},
		{Selectors{URLs: []string{URLAt(url, "one:80"), URLElsewhere(url, ServersOf([]string{"one", "two"}))}}, 4},
		{Selectors{URLs: []string{URLElsewhere(url, ServersOf([]string{"one"})), URLElsewhere(url, ServersOf([]string{"two"}))}}, 6},
		{Selectors{URLs: []string{URLElsewhere(url, ServersOf([]string{"one"}))}, Tags: []string{TagElsewhere("all", ServersOf([]string{"two"}))}}, 8},
	})
}

// TestAnyQuery: a purge of a path with any query, at one listener, at all servers but some or at
// all, takes that of the path and nothing that begins like it.
func TestAnyQuery(t *testing.T) {
	const url = "http://example.com/a"
	places := []string{
		url, URLAt(url, "one:80"), URLAt(url+"?", "one:80"), URLAt(url+"?b=1", "one:80"), URLAt(url+"?b=1", "two:80"), URLAt(url+"?c?d", "two:80"),
		url + "?b=1", URLAt(url+"b?b=1", "one:80"), URLAt(url+"/?b=1", "one:80"), URLAt(url+"!", "one:80"), URLAt("http://example.com/?b=1", "one:80"),
	}
	elsewhere := func(servers ...string) string { return URLElsewhere(url, ServersOf(servers)) }
	purgeInEveryTier(t, places, []purgeCase{
		{Selectors{URLs: []string{AnyQuery(url + "?b=2")}}, 7},
		{Selectors{URLs: []string{AnyQuery(URLAt(url+"?b=2", "one:80"))}}, 3},
		{Selectors{URLs: []string{AnyQuery(URLAt(url, "two:80"))}}, 2},
		{Selectors{URLs: []string{AnyQuery(URLAt(url, "two:8"))}}, 0},
		{Selectors{URLs: []string{AnyQuery(elsewhere("one"))}}, 2},
		{Selectors{URLs: []string{AnyQuery(elsewhere("one", "two"))}}, 0},
		{Selectors{URLs: []string{AnyQuery(URLAt(url, "one:80")), AnyQuery(elsewhere("one")), URLAt(url+"?b=1", "one:80")}}, 5},
		{Selectors{URLs: []string{AnyQuery("http://example.com/")}}, 1},
	})
}

// TestHostWithADefaultPort is the purge of a:443 that left http://a:443 and took http://a.
func TestHostWithADefaultPort(t *testing.T) {
	places := []string{
		"http://a/", "https://a/", "http://a:443/", "https://a:80/x", "http://a:8080/", "http://a:4433/", "https://a.b/", "https://[::1]/", "http://b:443/",
	}
	purgeInEveryTier(t, places, []purgeCase{
		{Selectors{Hosts: []string{"a"}}, 2},
		{Selectors{Hosts: []string{"a:443"}}, 2},
		{Selectors{Hosts: []string{"a:80", "a"}}, 3},
		{Selectors{Hosts: []string{"a:8080"}}, 1},
		{Selectors{Hosts: []string{"[::1]:443"}}, 1},
		{Selectors{Hosts: []string{"[::1]:80"}}, 0},
	})
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, diskTier)
	for _, place := range places {
		s.Put(testEntry(s, place, []byte(place)), 0)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "https://"} {
		items, _, err := s.List(Filter{Host: "a:443", Prefixes: []string{prefix}}, 10, "")
		if want := 2 - min(len(prefix), 1); err != nil || len(items) != want || items[want-1].URL != "https://a/" {
			t.Errorf("listed are %v, %v", items, err)
		}
	}
}

// purgeCase is a purge of places.
type purgeCase struct {
	sel  Selectors
	gone int // how many of places
}

// purgeInEveryTier makes each purge where the places are in memory, on their way to the disk, on
// disk, and after a restart.
func purgeInEveryTier(t *testing.T, places []string, cases []purgeCase) {
	for name, tc := range map[string]struct {
		disk, synced, reopened bool
		settings               Settings
	}{
		"memory":          {settings: Settings{Memory: 64 << 20}},
		"queued":          {disk: true, settings: bothTiers},
		"both":            {disk: true, synced: true, settings: bothTiers},
		"disk":            {disk: true, synced: true, settings: diskTier},
		"after a restart": {disk: true, synced: true, reopened: true, settings: bothTiers},
	} {
		for _, sel := range cases {
			for _, severity := range []Severity{Soft, Invalid, Hard} {
				t.Run(fmt.Sprintf("%s, %+v, %v", name, sel.sel, severity), func(t *testing.T) {
					cfg := Config{}
					if tc.disk {
						cfg = Config{Path: t.TempDir(), Required: true}
					}
					s := openStore(t, cfg, tc.settings)
					for _, place := range places {
						e := testEntry(s, place, []byte(place))
						e.Tags = []string{"all"}
						s.Put(e, 0)
					}
					if tc.synced {
						if err := s.Sync(); err != nil {
							t.Fatal(err)
						}
					}
					if tc.reopened {
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
						s = openStore(t, cfg, tc.settings)
					}
					if untouched := s.PurgeIsNoop(&sel.sel, func() bool { return false }); untouched && sel.gone > 0 {
						t.Error("nothing would change, it says")
					}
					before := s.Begin()
					defer before.End()
					if n, err := s.Purge(sel.sel, PurgeOptions{Severity: severity}); n != sel.gone || err != nil {
						t.Errorf("Purge = %d, %v, want %d", n, err, sel.gone)
					}
					gone := 0
					for _, place := range places {
						ofFlight := s.Purged(place, []string{"all"}, before.Generation())
						r := s.Lookup(keyOf(place), matchAny)
						hit := r.Entry == nil || r.Severity == severity
						if r.Entry != nil && r.Entry.URL != place {
							t.Errorf("the URL of %q is %q", place, r.Entry.URL)
						}
						r.Release()
						if hit != (ofFlight == severity) || !hit && ofFlight != NotPurged {
							t.Errorf("%q: hit %v, for a flight %v", place, hit, ofFlight)
						}
						if hit {
							gone++
						}
					}
					if gone != sel.gone {
						t.Errorf("%d are hit, want %d", gone, sel.gone)
					}
				})
			}
		}
	}
}

func TestListingTellsTheURLAlone(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk %v", disk), func(t *testing.T) {
			cfg, settings := Config{}, Settings{Memory: 64 << 20}
			if disk {
				cfg, settings = Config{Path: t.TempDir(), Required: true}, diskTier
			}
			s := openStore(t, cfg, settings)
			for i := range 30 {
				place := URLAt(fmt.Sprintf("http://example.com/%d", i/3), []string{"80", "8080", "443"}[i%3])
				s.Put(testEntry(s, place, []byte(place)), 0)
			}
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
			seen, cursor := map[string]int{}, ""
			for {
				items, next, err := s.List(Filter{Prefixes: []string{"http://example.com/"}}, 7, cursor)
				if err != nil {
					t.Fatal(err)
				}
				for _, it := range items {
					seen[it.URL]++
				}
				if cursor = next; cursor == "" {
					break
				}
			}
			for i := range 10 {
				if url := fmt.Sprintf("http://example.com/%d", i); seen[url] != 3 {
					t.Errorf("%s is listed %d times", url, seen[url])
				}
			}
			if len(seen) != 10 {
				t.Errorf("listed are %v", seen)
			}
		})
	}
}

package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// listWorld is a store with n entries of one host, in the tiers that settings allow, and others
// around them.
func listWorld(t *testing.T, n int, disk bool, settings Settings) *Store {
	t.Helper()
	config := Config{Required: true}
	if disk {
		config.Path = t.TempDir()
	}
	s := openStore(t, config, settings)
	for i := range n {
		s.Put(testEntry(s, fmt.Sprintf("http://a.example/%05d", i), nil, "all", fmt.Sprint("own-", i)), 0)
		s.Put(testEntry(s, fmt.Sprintf("http://a.example.org/%05d", i), nil, "other"), 0)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestListingCostsWhatItsLimitSays: what a page of one entry allocates does not grow with what is
// stored.
func TestListingCostsWhatItsLimitSays(t *testing.T) {
	few, many := 100, 3000
	for _, tiers := range []struct {
		name     string
		disk     bool
		settings Settings
	}{
		{"memory", false, Settings{Memory: 64 << 20}},
		{"disk", true, Settings{Memory: 1, Disk: 256 << 20}},
		{"both", true, Settings{Memory: 64 << 20, Disk: 256 << 20}},
	} {
		stores := [2]*Store{listWorld(t, few, tiers.disk, tiers.settings), listWorld(t, many, tiers.disk, tiers.settings)}
		for _, f := range []Filter{
			{},
			{Tag: "all"},
			{Prefixes: []string{"http://a.example/"}},
			{Host: "a.example"},
			{Tag: "all", Host: "a.example"},
			{Tag: "own-7"},
			{Host: "a.example", Prefixes: []string{"http://a.example/0"}},
			{Prefixes: []string{"http://b.example/", "http://a.example/0", "http://a.example/01"}},
			{Host: "a.example", Prefixes: []string{"http://b.example/", "http://a.example/1", "http://a.example/0"}},
		} {
			t.Run(fmt.Sprintf("%s, %+v", tiers.name, f), func(t *testing.T) {
				var allocs [2]float64
				for i, s := range stores {
					allocs[i] = testing.AllocsPerRun(20, func() {
						if items, _, err := s.List(f, 1, ""); len(items) != 1 || err != nil {
							t.Fatalf("%d items, %v", len(items), err)
						}
					})
				}
				if allocs[1] > 2*allocs[0]+50 {
					t.Errorf("%v allocations with %d entries, %v with %d", allocs[0], few, allocs[1], many)
				}
			})
		}
	}
}

// TestListingOfWhatNothingPasses: a page has an end although nothing passes its filters, and its
// last one too.
func TestListingOfWhatNothingPasses(t *testing.T) {
	const n = 3 * lookedAt
	for _, disk := range []bool{false, true} {
		settings := Settings{Memory: 64 << 20}
		if disk {
			settings = Settings{Memory: 1, Disk: 256 << 20}
		}
		s := listWorld(t, n, disk, settings)
		last := fmt.Sprintf("http://a.example/%05d", n-1)
		f := Filter{Tag: "all", Prefixes: []string{last}}
		pages, found := 0, 0
		for cursor := ""; ; {
			items, next, err := s.List(f, 10, cursor)
			if err != nil {
				t.Fatal(err)
			}
			pages, found = pages+1, found+len(items)
			if next == "" {
				break
			}
			if cursor == next || pages > 100 {
				t.Fatal("the listing does not advance")
			}
			cursor = next
		}
		if found != 1 || disk && pages < 3 {
			t.Errorf("disk %v: %d found in %d pages", disk, found, pages)
		}
	}
}

// TestListingOfATagIsByAge: in pages of any size, over both tiers and the queue, each entry once.
func TestListingOfATagIsByAge(t *testing.T) {
	rng := seeded(t)
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 256 << 10, Disk: 64 << 20})
	var want []string
	for i := range 600 {
		url := fmt.Sprintf("http://example.com/%d", rng.Uint64())
		tags := []string{"t"}
		if rng.IntN(3) == 0 {
			tags = []string{"u"}
		} else {
			want = append(want, url)
		}
		s.Put(testEntry(s, url, make([]byte, 2000), tags...), 0)
		if i == 400 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if i > 500 && i%7 == 0 { // what comes back from the disk is not the latest
			r := s.Lookup(keyOf(want[rng.IntN(100)]), matchAny)
			r.Release()
		}
	}
	for _, limit := range []int{1, 7, 100, 1000} {
		var got []string
		for cursor := ""; ; {
			items, next, err := s.List(Filter{Tag: "t"}, limit, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				got = append(got, it.URL)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %d: %d entries, want %d", limit, len(got), len(want))
		}
	}
	_, next, err := s.List(Filter{}, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.List(Filter{Tag: "t"}, 1, next); err == nil || !strings.Contains(err.Error(), "cursor") {
		t.Errorf("the cursor of another listing: %v", err)
	}
}

// BenchmarkListTag lists one of many entries with a tag.
func BenchmarkListTag(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := openStore(b, Config{Path: b.TempDir(), Required: true}, Settings{Memory: 256 << 20, Disk: 4 << 30})
			for i := range n {
				s.Put(siteEntry(s, i), 0)
				s.Put(testEntry(s, fmt.Sprintf("http://example.com/%d", i), nil, "all"), 0)
				drainQueue(b, s, queueBytes/2)
			}
			drainQueue(b, s, 0)
			b.ReportAllocs()
			for b.Loop() {
				if items, _, err := s.List(Filter{Tag: "all"}, 1, ""); len(items) != 1 || err != nil {
					b.Fatal(len(items), err)
				}
			}
		})
	}
}

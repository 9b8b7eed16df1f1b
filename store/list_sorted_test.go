package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// sortedWorld is a store with n entries of random sizes, some of them in memory, some on disk.
func sortedWorld(t *testing.T, r *rand.Rand, n int) *Store {
	t.Helper()
	s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: 1 << 20, Disk: 64 << 20})
	for i := range n {
		body := []byte(strings.Repeat("x", r.IntN(5000)))
		s.Put(testEntry(s, fmt.Sprintf("http://%s.example/%d", []string{"a", "b"}[i%2], r.IntN(n)), body, fmt.Sprint("t", i%3)), 0)
		if i%100 == 0 {
			if err := s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

// allPages lists all by pages, sorted or not.
func allPages(t *testing.T, page func(cursor string) ([]Item, string, error)) (all []Item) {
	t.Helper()
	for cursor := ""; ; {
		items, next, err := page(cursor)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, items...)
		if next == "" {
			return all
		}
		cursor = next
	}
}

func TestListSorted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := sortedWorld(t, rand.New(rand.NewPCG(seed, 0)), 3000)
	for _, f := range []Filter{{}, {Tag: "t1"}, {Host: "b.example"}, {Prefixes: []string{"http://a.example/1"}}, {Prefixes: []string{"http://b.example/7", "http://a.example/1"}}, {URLs: []string{"http://b.example/7", "http://a.example/70"}}} {
		plain := allPages(t, func(cursor string) ([]Item, string, error) { return s.List(f, 700, cursor) })
		for name, by := range map[string]func(*Item) int64{
			"size": func(i *Item) int64 { return i.Size },
			"age":  func(i *Item) int64 { return i.StoredAt.UnixNano() },
			"url":  func(*Item) int64 { return 0 },
		} {
			for _, falling := range []bool{false, true} {
				t.Run(fmt.Sprintf("%+v by %s, falling %v", f, name, falling), func(t *testing.T) {
					want := slices.Clone(plain)
					slices.SortFunc(want, func(a, b Item) int {
						c := int(by(&a) - by(&b))
						if c == 0 {
							c = strings.Compare(a.URL, b.URL)
						}
						if falling {
							c = -c
						}
						return c
					})
					got := allPages(t, func(cursor string) ([]Item, string, error) {
						return s.ListSorted(t.Context(), f, Order{by, falling}, 450, cursor)
					})
					if len(got) != len(want) {
						t.Fatalf("%d items, want %d", len(got), len(want))
					}
					for i := range got {
						if got[i].ID != want[i].ID || got[i].URL != want[i].URL || len(got[i].Header) == 0 || got[i].Size != want[i].Size {
							t.Fatalf("item %d is %+v, want %+v", i, got[i], want[i])
						}
					}
				})
			}
		}
	}
}

func TestListSortedEnds(t *testing.T) {
	s := openStore(t, Config{Required: true}, Settings{Memory: 1 << 20})
	s.Put(testEntry(s, "http://a.example/", nil), 0)
	order := Order{By: func(*Item) int64 { return 0 }}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if _, _, err := s.ListSorted(ctx, Filter{}, order, 1, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("of a caller that has gone: %v", err)
	}
	_, plain, err := s.List(Filter{}, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, cursor := range []string{"!", "AAAA", "_wAAAAAAAAAA", plain + "x"} {
		if _, _, err := s.ListSorted(t.Context(), Filter{}, order, 1, cursor); !errors.Is(err, ErrCursor) {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
}

// TestBestItemsHoldFew: a sorted listing holds as many as it returns, and one more.
func TestBestItemsHoldFew(t *testing.T) {
	b := &bestItems{order: Order{By: func(i *Item) int64 { return i.Size }}, most: 11}
	for i := range 10_000 {
		b.add(&Item{ID: uint64(i), Size: int64(i * 7919 % 10_000)})
		if len(b.items) > 11 || cap(b.items) > 32 {
			t.Fatalf("it holds %d of %d", len(b.items), cap(b.items))
		}
	}
	for i := range b.items {
		if b.items[i].Size != int64(i) {
			t.Errorf("item %d has %d", i, b.items[i].Size)
		}
	}
}

// TestFind finds every entry that is listed, in whatever tier, and nothing by another id.
func TestFind(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := sortedWorld(t, rand.New(rand.NewPCG(seed, 0)), 1000)
	tiers := make(map[Tier]int)
	for _, want := range allPages(t, func(cursor string) ([]Item, string, error) { return s.List(Filter{}, 700, cursor) }) {
		id, err := ParseEntryID(want.EntryID().String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Find(id)
		if err != nil || got == nil || got.ID != want.ID || got.Key != want.Key || got.URL != want.URL || len(got.Header) == 0 {
			t.Fatalf("%v is %+v, %v; want %+v", id, got, err, want)
		}
		tiers[got.Tier]++
		for _, other := range []EntryID{{id.id + 1<<40, id.key}, {id.id, id.key ^ 1}} {
			if got, err := s.Find(other); got != nil || err != nil {
				t.Fatalf("%v is %+v, %v", other, got, err)
			}
		}
	}
	if tiers[MemoryTier] == 0 || tiers[DiskTier] == 0 {
		t.Errorf("not of both tiers: %v", tiers)
	}
}

// TestFindNothingPurged: what a purge has hit has no entry any more, and what a soft one has is
// stale.
func TestFindNothingPurged(t *testing.T) {
	for _, memory := range []int64{1, 1 << 20} {
		s := openStore(t, Config{Path: t.TempDir(), Required: true}, Settings{Memory: memory, Disk: 64 << 20})
		s.Put(testEntry(s, "http://a.example/soft", nil, "soft"), 0)
		s.Put(testEntry(s, "http://a.example/hard", nil, "hard"), 0)
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		items, _, err := s.List(Filter{}, 2, "")
		if err != nil || len(items) != 2 {
			t.Fatalf("%d items, %v", len(items), err)
		}
		for tag, severity := range map[string]Severity{"soft": Soft, "hard": Hard} {
			if _, err := s.Purge(Selectors{Tags: []string{tag}}, PurgeOptions{Severity: severity}); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, func() bool { return s.Stats().PurgesPending == 0 })
		for _, item := range items {
			got, err := s.Find(item.EntryID())
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(item.URL, "hard") && got != nil {
				t.Errorf("memory %d: found %+v", memory, got)
			}
			if strings.HasSuffix(item.URL, "soft") && (got == nil || got.Severity != Soft) {
				t.Errorf("memory %d: of what is stale %+v", memory, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseEntryID(t *testing.T) {
	good := EntryID{0x0006_1234_5678_9abc, 0xfedc_ba98_7654_3210}.String()
	if good != "000612345678"+"9abcfedcba9876543210" {
		t.Errorf("it is written %s", good)
	}
	for _, text := range []string{"", "1", good[1:], good + "0", strings.ToUpper(good), "+" + good[1:], good[:31] + "g", "http://a.example/"} {
		if e, err := ParseEntryID(text); !errors.Is(err, ErrEntryID) {
			t.Errorf("%q is %v, %v", text, e, err)
		}
	}
}

func BenchmarkListSorted(b *testing.B) {
	s := openStore(b, Config{Required: true}, Settings{Memory: 512 << 20})
	for i := range 100_000 {
		s.Put(testEntry(s, fmt.Sprintf("http://a.example/%d", i), make([]byte, i%1000)), 0)
	}
	order := Order{By: func(i *Item) int64 { return i.Size }, Falling: true}
	start, runs := time.Now(), 0
	for b.Loop() {
		runs++
		if items, _, err := s.ListSorted(context.Background(), Filter{}, order, 100, ""); len(items) != 100 || err != nil {
			b.Fatal(len(items), err)
		}
	}
	b.ReportMetric(float64(time.Since(start).Microseconds())/float64(runs)/100_000, "µs/entry")
}

// FuzzEntryID: what is taken for an id is written so.
func FuzzEntryID(f *testing.F) {
	f.Add("0006123456789abcfedcba9876543210")
	f.Add("0006123456789ABCFEDCBA9876543210")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := ParseEntryID(text); err == nil && e.String() != text {
			t.Errorf("%q is %v", text, e)
		}
	})
}

// FuzzSortedCursor: a cursor that is taken is one that a listing gives for the place it names.
func FuzzSortedCursor(f *testing.F) {
	f.Add(rank{-1, place{"http://a.example/", 7}}.cursor())
	f.Add("_wAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, cursor string) {
		r, err := decodeRank(cursor)
		if err != nil || r == nil {
			return
		}
		again, err := decodeRank(r.cursor())
		if err != nil || *again != *r {
			t.Errorf("%q is %+v, and that is %+v, %v", cursor, r, again, err)
		}
	})
}

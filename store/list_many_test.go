package store

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestListAll: page by page, in whatever size, several stores list everything that each lists,
// once, in the order of one.
func TestListAll(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	stores := []*Store{sortedWorld(t, r, 300), sortedWorld(t, r, 50), sortedWorld(t, r, 200)}
	bySize := Order{By: func(i *Item) int64 { return i.Size }}
	type row struct {
		of, size int64
		url      string
	}
	rowOf := func(i *Item, of int) row { return row{int64(of), i.Size, i.URL} }
	for _, f := range []Filter{{}, {Tag: "t1"}, {Host: "b.example"}, {URLs: []string{"http://b.example/7"}}} {
		var want []row
		for of, s := range stores {
			items, _, err := s.List(f, 1000, "")
			if err != nil {
				t.Fatal(err)
			}
			for i := range items {
				want = append(want, rowOf(&items[i], of))
			}
		}
		for name, page := range map[string]func(limit int, cursor string) ([]Listed, string, error){
			"by URL": func(limit int, cursor string) ([]Listed, string, error) { return ListAll(stores, f, limit, cursor) },
			"by size": func(limit int, cursor string) ([]Listed, string, error) {
				return ListAllSorted(t.Context(), stores, f, bySize, limit, cursor)
			},
		} {
			for _, limit := range []int{7, 100, 1000} {
				var got []row
				for cursor, first := "", true; first || cursor != ""; first = false {
					items, next, err := page(limit, cursor)
					if err != nil || len(items) > limit {
						t.Fatalf("%d items, %v", len(items), err)
					}
					for i := range items {
						got = append(got, rowOf(&items[i].Item, items[i].Of))
					}
					cursor = next
				}
				inOrder := slices.IsSortedFunc(got, func(a, b row) int {
					if name == "by size" {
						return cmp.Compare(a.size, b.size)
					}
					return strings.Compare(a.url, b.url)
				})
				if !inOrder && f.Tag == "" {
					t.Errorf("%s, %+v, pages of %d: not in order", name, f, limit)
				}
				all := func(a, b row) int {
					return cmp.Or(cmp.Compare(a.of, b.of), strings.Compare(a.url, b.url), cmp.Compare(a.size, b.size))
				}
				slices.SortFunc(got, all)
				slices.SortFunc(want, all)
				if !slices.Equal(got, want) {
					t.Errorf("%s, %+v, pages of %d: %d rows, want %d", name, f, limit, len(got), len(want))
				}
			}
		}
	}
}

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/larder-cache/larder/store"
)

func listing(t *testing.T, s *store.Store) {
	fillSite(t, s)
	sync(t, s)
	put(t, s, NewEntry(s, "http://b.example/queued", []byte("xyz"), "all"))
	for _, tt := range []struct {
		name   string
		filter store.Filter
		want   []string
	}{
		{"everything", store.Filter{}, []string{
			"http://a.example.org/", "http://a.example/", "http://a.example/p/1", "http://a.example/p/2",
			"http://a.example:81/p/1", "http://b.example/queued", "https://a.example/p/1",
		}},
		{"tag", store.Filter{Tag: "all"}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "http://b.example/queued"}},
		{"prefix", store.Filter{Prefixes: []string{"http://a.example/p"}}, []string{"http://a.example/p/1", "http://a.example/p/2"}},
		{"host", store.Filter{Host: "a.example"}, []string{"http://a.example/", "http://a.example/p/1", "http://a.example/p/2", "https://a.example/p/1"}},
		{"tag and host", store.Filter{Tag: "p1", Host: "a.example"}, []string{"http://a.example/p/1", "https://a.example/p/1"}},
		{"nothing", store.Filter{Tag: "none"}, nil},
	} {
		for _, limit := range []int{1, 2, 100} {
			t.Run(fmt.Sprintf("%s by %d", tt.name, limit), func(t *testing.T) {
				got, ids := listAll(t, s, tt.filter, limit)
				if tt.filter.Tag != "" { // by age
					if !slices.IsSorted(ids) {
						t.Errorf("not in the order of age: %d", ids)
					}
					slices.Sort(got)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			})
		}
	}
	if _, _, err := s.List(store.Filter{}, 1, "?"); !errors.Is(err, store.ErrCursor) {
		t.Errorf("bad cursor: %v", err)
	}
}

// listAll lists page after page, and looks at each.
func listAll(t *testing.T, s *store.Store, filter store.Filter, limit int) (urls []string, ids []uint64) {
	t.Helper()
	cursor := ""
	for range 100 {
		items, next, err := s.List(filter, limit, cursor)
		if err != nil || len(items) > limit {
			t.Fatalf("%d items, %v", len(items), err)
		}
		for _, it := range items {
			urls, ids = append(urls, it.URL), append(ids, it.ID)
			if slices.ContainsFunc(it.Tags, func(tag string) bool { return tag[0] == 0 }) {
				t.Errorf("%s lists internal tags %q", it.URL, it.Tags)
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	return urls, ids
}

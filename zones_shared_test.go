package larder

import (
	"context"
	"testing"
	"time"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// serverOfOne is what one server has, and the keys that it was asked for.
type serverOfOne struct {
	httpcache.RemoteFetch
	entries map[store.Key]*store.Entry
	asked   []store.Key
}

func (s *serverOfOne) Get(_ context.Context, key store.Key, _ func(*store.Variant) int) store.Result {
	return store.Result{Entry: s.entries[key]}
}

func (s *serverOfOne) Put(held store.Result, _ bool) { s.entries[held.Entry.Key] = held.Entry }

func (s *serverOfOne) Await(
	_ context.Context, lease store.Key, _ time.Time, _ time.Duration, _ bool, _ func(*store.Variant) bool,
) (again, late bool, failed int, answered bool, retryAfter string) {
	s.asked = append(s.asked, lease)
	return false, false, 0, false, ""
}

func (s *serverOfOne) Remove(key store.Key, _ *store.Variant, _ time.Time) {
	delete(s.entries, key)
}

// TestZonesAreApartInTheSharedTier: what one zone has put there under a key is found by that zone
// alone, under its own key, and removed by it alone.
func TestZonesAreApartInTheSharedTier(t *testing.T) {
	server := &serverOfOne{entries: make(map[store.Key]*store.Entry)}
	shop, blog := &zonedFetch{server, "shop"}, &zonedFetch{server, "blog"}
	key := store.Key{1, 2, 3}
	mine := &store.Entry{Key: key, URL: "http://example.com/", Status: 200}
	shop.Put(store.Result{Entry: mine}, false)
	if mine.Key != key {
		t.Error("the response that is stored here has another key now")
	}
	for name, f := range map[string]httpcache.RemoteFetch{"another zone": blog, "the default zone": server} {
		if f.Get(t.Context(), key, nil).Entry != nil {
			t.Errorf("%s finds it", name)
		}
		f.Remove(key, new(store.Variant), time.Now())
	}
	if found := shop.Get(t.Context(), key, nil).Entry; found == nil || found.Key != key || found.URL != mine.URL {
		t.Errorf("its own zone finds %+v", found)
	}
	for _, f := range []httpcache.RemoteFetch{shop, blog, server, shop} {
		f.Await(t.Context(), key, time.Now(), 0, false, nil)
	}
	if a := server.asked; a[0] == a[1] || a[1] == a[2] || a[0] == a[2] || a[0] != a[3] {
		t.Errorf("the leases are %x", a)
	}
	shop.Remove(key, new(store.Variant), time.Now())
	if len(server.entries) != 0 {
		t.Error("its own zone does not remove it")
	}
}

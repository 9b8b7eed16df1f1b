package larder

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// zonedFetch keeps the responses of a zone apart from those of others that have the same key, on
// the server that the fleet shares: they stand there under a key of the zone's own. Those of the
// default zone stand there under their key, as for nodes that know of no zones.
type zonedFetch struct {
	httpcache.RemoteFetch
	zone string
}

// keyInZone is the key of a zone's own.
func keyInZone(zone string, key store.Key) store.Key {
	return sha256.Sum256(append([]byte("larder zone\n"+zone+"\n"), key[:]...))
}

// Get implements httpcache.RemoteFetch.
func (f *zonedFetch) Get(ctx context.Context, key store.Key, selects func(*store.Variant) int) store.Result {
	found := f.RemoteFetch.Get(ctx, keyInZone(f.zone, key), selects)
	if found.Entry != nil {
		found.Entry = found.Entry.Clone()
		found.Entry.Key = key
	}
	return found
}

// Await implements httpcache.RemoteFetch.
func (f *zonedFetch) Await(
	ctx context.Context, lease store.Key, until time.Time, lasts time.Duration, waited bool, selected func(*store.Variant) bool,
) (again, late bool, failed int, answered bool, retryAfter string) {
	return f.RemoteFetch.Await(ctx, keyInZone(f.zone, lease), until, lasts, waited, selected)
}

// Put implements httpcache.RemoteFetch.
func (f *zonedFetch) Put(held store.Result, renews bool) {
	held.Entry = held.Entry.Clone()
	held.Entry.Key = keyInZone(f.zone, held.Entry.Key)
	f.RemoteFetch.Put(held, renews)
}

// Remove implements httpcache.RemoteFetch.
func (f *zonedFetch) Remove(key store.Key, v *store.Variant, before time.Time) {
	f.RemoteFetch.Remove(keyInZone(f.zone, key), v, before)
}

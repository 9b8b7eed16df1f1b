package httpcache

import (
	"slices"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A 404 or 410 is the latest word about its resource. What the same request selects of what is
// stored goes, whether the answer itself is stored or not. A response that goes may have superseded
// older ones for other requests, by another Vary. Those would be answers again, so they go too.

// removeGone removes the stored responses if the origin says to any client that the resource is
// gone. Such an answer to one user, or to a cookie, says nothing about the response that is for all
// clients. Nor does any other answer that may not be stored.
func (x *Fetch) removeGone(status int) {
	if !rfc9111.Gone(status) {
		return
	}
	if !x.personal() { // first, so that what is stored at this moment has heard of it
		x.cache.removals.note(x.key)
	}
	keys := []store.Key{x.key, x.asked, x.hintedKey()}
	if x.stale != nil && x.speaksFor(&x.stale.Variant) {
		x.remove(x.stale)
		keys = append(keys, x.stale.Key)
	}
	for i, key := range keys {
		if !slices.Contains(keys[:i], key) {
			x.removeOlder(key)
		}
	}
}

// removeOlder removes what is stored of key and was asked for before this fetch, as far as its
// request selects that, and what the removed ones had superseded. A response that is newer may be
// there: another fetch may have stored it since.
//
// A look-up gives the latest of what is wanted. So whatever has superseded a response is removed
// before that one is found.
func (x *Fetch) removeOlder(key store.Key) {
	if x.cache.store.Absent(key) {
		return
	}
	var removed, seen []*store.Entry
	if x.stale != nil && x.stale.Key == key && x.speaksFor(&x.stale.Variant) {
		removed = append(removed, x.stale)
	}
	for {
		found := x.cache.store.Lookup(key, func(v *store.Variant) int {
			wanted := x.selected(v) || slices.ContainsFunc(removed, func(e *store.Entry) bool { return overlap(&e.Variant, v) })
			if !wanted || !x.speaksFor(v) || slices.ContainsFunc(seen, func(e *store.Entry) bool { return e.Variant.Equal(v) }) {
				return 0
			}
			return 1
		})
		e := found.Entry
		if e == nil {
			return
		}
		defer found.Release() // its variant is compared with those that follow
		seen = append(seen, e)
		if x.isGone(e, removed) {
			removed = append(removed, e)
			x.remove(e)
		}
	}
}

// isGone reports whether e goes, because this fetch's request selects it, or because one of those
// removed had superseded it.
func (x *Fetch) isGone(e *store.Entry, removed []*store.Entry) bool {
	if x.selected(&e.Variant) && askedBefore(e, x.begun) {
		return true
	}
	return slices.ContainsFunc(removed, func(r *store.Entry) bool {
		return overlap(&r.Variant, &e.Variant) && askedBefore(e, r.RequestTime)
	})
}

// askedBefore reports whether a response was asked for before a time. One from the future is from
// before the clock was set back, and counts as the earliest, as in the store.
func askedBefore(e *store.Entry, at time.Time) bool {
	return e.RequestTime.Before(at) || e.RequestTime.After(time.Now())
}

// overlap reports whether a request may select both variants. By Accept-Encoding it may, as a coded
// response suits all requests that name its coding.
func overlap(a, b *store.Variant) bool {
	for i, name := range a.Names {
		j, common := slices.BinarySearch(b.Names, name)
		if common && name != "Accept-Encoding" && a.Values[i] != b.Values[j] {
			return false
		}
	}
	return true
}

// speaksFor reports whether the fetch's answer speaks for those who may have a stored response of a
// variant. To credentials or a cookie it speaks for what these have selected.
func (x *Fetch) speaksFor(v *store.Variant) bool {
	return (!x.authorized || slices.Contains(v.Names, "Authorization")) && (!x.unkeyedCookie || slices.Contains(v.Names, "Cookie"))
}

// remove removes what is stored.
func (x *Fetch) remove(e *store.Entry) {
	x.cache.removals.note(e.Key) // first, so that what is stored at this moment has heard of it
	if x.remote != nil {
		x.remote.Remove(e.Key, &e.Variant, x.begun)
	}
	if e != x.stale || !x.elsewhere {
		x.cache.store.Remove(e)
	}
}

// removalsKeep is how long a 404 or 410 is remembered at least. It has to outlast the fetches that
// had begun before.
const removalsKeep = 10 * time.Minute

func newRemovals() *recentKeys { return newRecentKeys(maxRecentKeys, removalsKeep, 0) }

package httpcache

import (
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Of what a request selects, a look-up takes what the client prefers by Accept-Encoding, and of
// equals the latest (RFC 9111 4.1 allows the first and asks for the second). That alone is not
// enough: when the latest expires or is evicted, an older response of another Vary is found again,
// fresh by its own word, although the origin has said something newer to the same request. So what
// a new response outdates is removed when that is stored, and a response is not stored if one that
// outdates it is there already. A response outdates an older one
//
//   - that the fetch's own request selects too, by another Vary;
//   - that is of the same Vary and would be preferred by the request for the new one: as when the
//     origin answers a reload with gzip and had answered with br before;
//   - if every request that selects the older selects the new one and prefers neither.
//
// What is left are responses that some other request may select both of, each fetched by a request
// that does not select the other. While both are stored the latest is the answer. When it has gone
// the older is, which RFC 9111 allows: to such a request the origin has given neither.
//
// Responses of one Vary that differ in their coding alone stay beside each other. Each is for the
// clients that prefer it.

// outdates removes what a response that has just been stored outdates, and reports false if what is
// stored outdates that one. By another key, to which another No-Vary-Search leads, a response that
// the request selects is one of another Vary.
func (x *Fetch) outdates(entry *store.Entry) bool {
	var room [maxKeys]store.Key
	keys := x.hintedKeys(room[:0])
	keys = slices.DeleteFunc(keys, func(key store.Key) bool {
		return key == entry.Key && x.cache.store.Alone(key) || x.cache.store.Absent(key)
	})
	if len(keys) == 0 {
		return true
	}
	own, stored, variant, asked := x.selector(), entry.Key, entry.Variant, entry.RequestTime
	outdates := func(key store.Key, newer, older *store.Variant) bool {
		if key != stored {
			return own(newer) > 0 && own(older) > 0
		}
		return !newer.Equal(older) && outdated(older, newer, own)
	}
	var outdatedIn []store.Key
	for _, key := range keys {
		some := false // of what is stored may be outdated
		later := x.cache.store.Lookup(key, func(v *store.Variant) int {
			some = some || outdates(key, &variant, v)
			if outdates(key, v, &variant) {
				return 1
			}
			return 0
		})
		e := later.Entry
		isOlder := e != nil && askedBefore(entry, e.RequestTime) && !askedBefore(e, asked)
		if isOlder && key != stored {
			x.hint(x.route.evaluated(e).search, e.RequestTime) // the path may not be known for it
		}
		if later.Release(); isOlder {
			return false
		}
		if some {
			outdatedIn = append(outdatedIn, key)
		}
	}
	for _, key := range outdatedIn {
		r := removal{
			cache: x.cache, remote: x.remote, asked: asked,
			outdated: func(v *store.Variant) bool { return outdates(key, &variant, v) },
		}
		r.removeFrom(key)
	}
	return true
}

// outdated reports whether a response outdates an older one. own scores variants for a request that
// was answered with one of the two.
func outdated(older, newer *store.Variant, own func(*store.Variant) int) bool {
	if slices.Equal(older.Names, newer.Names) {
		return isPreferred(older, newer)
	}
	return own(older) > 0 && own(newer) > 0 || covers(newer, older)
}

// isPreferred reports whether of two responses of one Vary the request for the newer prefers the
// older. The values by which it was selected are all that counts of that request.
func isPreferred(older, newer *store.Variant) bool {
	i, negotiated := slices.BinarySearch(newer.Names, "Accept-Encoding")
	if !negotiated || !overlap(older, newer) {
		return false
	}
	request := make(http.Header, 1)
	if value := newer.Values[i]; value != "" {
		request["Accept-Encoding"] = []string{value}
	}
	score := func(v *store.Variant) int {
		return rfc9111.VariantScore(v.Names[i:i+1], v.Values[i:i+1], v.Coding, request)
	}
	return score(older) > score(newer)
}

// covers reports whether every request that selects the older response selects the newer one too.
// If only the older was selected by Accept-Encoding, it is still preferred to the newer.
func covers(newer, older *store.Variant) bool {
	if !writtenAlike(newer, older) {
		return false
	}
	for i, name := range newer.Names {
		j, common := slices.BinarySearch(older.Names, name)
		if !common || newer.Values[i] != older.Values[j] {
			return false
		}
	}
	_, negotiated := slices.BinarySearch(older.Names, "Accept-Encoding")
	_, alike := slices.BinarySearch(newer.Names, "Accept-Encoding")
	return !negotiated || alike && newer.Coding == older.Coding
}

// removal removes what an answer of the origin's has outdated. A response that goes may have
// superseded older ones for other requests, by another Vary. Those would be answers again, so they
// go too.
type removal struct {
	cache    *Cache
	remote   RemoteFetch // nil: other machines have no part in it
	asked    time.Time   // when that answer was asked for
	outdated func(*store.Variant) bool
	spares   func(*store.Variant) bool // whatever it has superseded; nil: nothing
	gone     bool                      // no fetch that began before now brings anything back
}

// removeFrom removes what is stored of key and is outdated, and what that and others removed had
// superseded. A response that is newer may be there: another fetch may have stored it since.
//
// A look-up gives the latest of what is wanted. So whatever has superseded a response is removed
// before that one is found.
func (r *removal) removeFrom(key store.Key, removed ...*store.Entry) {
	if r.cache.store.Absent(key) {
		return
	}
	wanted := func(v *store.Variant) bool {
		return (r.spares == nil || !r.spares(v)) && (r.outdated(v) || overlapsAny(v, removed))
	}
	for found := range r.cache.storedVariants(key, wanted) {
		if e := found.Entry; r.reaches(e, removed) {
			removed = append(removed, e)
			r.remove(e)
		}
	}
}

// storedVariants yields what is stored of key and wanted, each variant once, the latest first. All
// are held until the walk is over: what is wanted may depend on those before. It is no use of them.
func (c *Cache) storedVariants(key store.Key, wanted func(*store.Variant) bool) iter.Seq[*store.Result] {
	return func(yield func(*store.Result) bool) {
		var seen []*store.Entry
		for {
			found := c.store.Peek(key, func(v *store.Variant) int {
				if !wanted(v) || slices.ContainsFunc(seen, func(e *store.Entry) bool { return e.Variant.Equal(v) }) {
					return 0
				}
				return 1
			})
			if found.Entry == nil {
				return
			}
			defer found.Release()
			if seen = append(seen, found.Entry); !yield(&found) {
				return
			}
		}
	}
}

func overlapsAny(v *store.Variant, entries []*store.Entry) bool {
	return slices.ContainsFunc(entries, func(e *store.Entry) bool { return overlap(&e.Variant, v) })
}

// reaches reports whether e goes, because it is outdated, or because one of those removed had
// superseded it.
func (r *removal) reaches(e *store.Entry, removed []*store.Entry) bool {
	if askedBefore(e, r.asked) && r.outdated(&e.Variant) {
		return true
	}
	return slices.ContainsFunc(removed, func(o *store.Entry) bool {
		return overlap(&o.Variant, &e.Variant) && askedBefore(e, o.RequestTime)
	})
}

// remove removes what is stored.
func (r *removal) remove(e *store.Entry) {
	if r.gone {
		r.cache.removals.note(e.Key, time.Now()) // first, so that what is stored at this moment has heard of it
	}
	r.removeRemote(e)
	r.cache.store.Remove(e)
}

func (r *removal) removeRemote(e *store.Entry) {
	if r.remote != nil {
		r.remote.Remove(e.Key, &e.Variant, r.asked)
	}
}

// askedBefore reports whether a response was asked for before a time. One from the future is from
// before the clock was set back, and counts as the earliest, as in the store.
func askedBefore(e *store.Entry, at time.Time) bool {
	return e.RequestTime.Before(at) || e.RequestTime.After(time.Now())
}

// overlap reports whether a request may select both variants. By Accept-Encoding it may, as a coded
// response suits all requests that name its coding.
func overlap(a, b *store.Variant) bool {
	if !writtenAlike(a, b) {
		return false
	}
	for i, name := range a.Names {
		j, common := slices.BinarySearch(b.Names, name)
		if common && name != "Accept-Encoding" && a.Values[i] != b.Values[j] {
			return false
		}
	}
	return true
}

package httpcache

import (
	"maps"
	"net/http"
	"slices"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// confirm takes a 304 to the fetch's validation (RFC 9111 4.3.4). The stored response with its
// header updated is the answer. It is judged as a new response would be:
//
//	                ┌─ storable ─► it replaces the old one, and is the answer for all who wait
//	update ─ judge ─┤
//	                └─ else ─────► the answer for the leader alone; the stored one stays unchanged
func (x *Fetch) confirm(ex *rfc9111.Exchange) {
	update, added := x.update(ex.Header)
	entry := x.updated(ex, update, added)
	now := exchangeOf(entry)
	now.Authorized, now.UnkeyedCookie = now.Authorized || x.authorized, now.UnkeyedCookie || x.unkeyedCookie
	now.VaryUnseen = !x.seesAll(entry.Header)
	freshness := x.route.Policy.Freshness(&now)
	own := rfc9111.Merge(entry.Header, update) // with the fields for one client only
	entry.Tags = x.tags(own)                   // a 304 need not repeat what carried them
	if freshness.Reason == rfc9111.Storable {
		x.noteVariance(entry.Header)
		// Together: a purge finds by its URL what is found by its key.
		entry.Key, entry.URL = x.key, x.url
	}
	shared := &sharedResponse{
		key: entry.Key, search: x.says(entry.Header),
		source: fromValidation, entry: entry, freshness: &freshness, variant: entry.Variant, tags: entry.Tags, was: x.stale,
		elsewhere: x.elsewhere, exchange: now, originStatus: http.StatusNotModified, own: x.route.withoutTags(fieldsOf(own, entry.Notes)),
	}
	switch {
	case freshness.Reason != rfc9111.Storable:
		x.countNotStored(freshness.Reason)
		x.backOff()
		x.updateHitForMiss(http.StatusNotModified, &freshness)
	case x.speaksForAll(entry, &freshness):
		shared.stored = x.renew(entry, &freshness)
	default:
		x.backOff()
	}
	x.share(shared, 0)
}

// update returns the header of a 304, and which of its fields are added. A field that an outer
// handler set counts if it decides about storing the response. Fields that say how to read a body
// do not count: the stored response came with its own.
func (x *Fetch) update(header http.Header) (update http.Header, added []string) {
	changed := withoutTrailers(changes(x.seed, header, x.route.decisive))
	update = x.provided(changed)
	for _, name := range [...]string{"Content-Type", "Last-Modified"} {
		if !slices.ContainsFunc(changed, func(f field) bool { return f.name == name }) {
			delete(update, name)
		}
	}
	return update, addedNames(changed)
}

// updated returns the stored response, updated by the 304. A session that this begins is for its
// client alone, as a Set-Cookie is: a 200 with one would not have been shared.
func (x *Fetch) updated(ex *rfc9111.Exchange, update http.Header, added []string) *store.Entry {
	if ex.BeginsSession {
		update = maps.Clone(update)
		delete(update, rfc9111.SessionField)
	}
	entry := x.stale.Renewal()
	entry.Header = x.route.Policy.MergeStorable(x.stale.Header, update)
	entry.Notes = mergeAdded(x.stale.Notes, update, added)
	entry.RequestTime, entry.ResponseTime = ex.RequestTime, ex.ResponseTime
	entry.FetchTime = x.averageFetchTime()
	entry.Generation = x.ticket.Generation()
	entry.Variant = x.renewedVariant(entry.Header)
	if o := objectOf(entry); o != nil && !selectsAlike(&x.stale.Variant, &entry.Variant) {
		// As for a 206 with another Vary: the slices stored so far were selected by other fields,
		// and requests that still have the old head would store slices for those of the new one.
		entry.Notes = o.replacedIn(entry.Notes)
	}
	if entry.Flags |= x.flags; x.noStore {
		entry.Flags |= flagNoStore
	}
	if len(x.stale.Header["Set-Cookie"]) > 0 {
		// An earlier 304 may have set it, and this one removes it.
		entry.Flags |= flagSetCookie
	}
	return entry
}

// speaksForAll reports whether the updated response has its lifetime from the same source for the
// request that validated it as for the one that fetched it. The operator's lifetimes do not apply
// to a request with Authorization or a cookie outside of the key, so a 304 to it may lack one.
func (x *Fetch) speaksForAll(entry *store.Entry, freshness *rfc9111.Freshness) bool {
	if !x.authorized && !x.unkeyedCookie {
		return true
	}
	fetched := exchangeOf(entry)
	f := x.route.Policy.Freshness(&fetched)
	return f.Source == freshness.Source
}

// renew replaces the stored response with the updated one and reports whether it is stored.
func (x *Fetch) renew(entry *store.Entry, freshness *rfc9111.Freshness) bool {
	x.updateHitForMiss(entry.Status, freshness)
	if !x.elsewhere && !x.staleIsStored() {
		x.countNotStored(reasonOf(store.RefusedPurged))
		return false
	}
	stored := x.putHere(entry, freshness, nil) == store.Stored
	if stored {
		x.offer(entry, true)
	}
	if stored && !x.elsewhere && (entry.Key != x.stale.Key || !entry.Variant.Equal(&x.stale.Variant)) {
		// A new Vary or No-Vary-Search selects it by other values, and the old one would be found
		// beside it.
		x.cache.store.Remove(x.stale)
	}
	return stored
}

// staleIsStored reports whether the response that a 304 is about is still stored. If another fetch
// has replaced it meanwhile, or removed it by a 404, the 304 answers only the requests that wait
// for it. Where the renewed response takes the old one's place, the store asks that again.
func (x *Fetch) staleIsStored() bool {
	now := x.cache.lookUpVariant(x.stale.Key, x.stale.Variant)
	defer now.Release()
	return now.Entry != nil && now.Entry.ID == x.stale.ID
}

// lookUpVariant looks up the stored response of exactly this variant.
func (c *Cache) lookUpVariant(key store.Key, variant store.Variant) store.Result {
	return c.store.Lookup(key, func(v *store.Variant) int {
		if v.Equal(&variant) {
			return 1
		}
		return 0
	})
}

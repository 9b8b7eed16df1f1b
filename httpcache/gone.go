package httpcache

import (
	"net/http"
	"slices"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A 404 or 410 is the latest word about its resource. What the same request selects of what is
// stored goes, whether the answer itself is stored or not, and what that had superseded (removal).

// removeGone removes the stored responses if the origin says to any client that the resource is
// gone. Such an answer to one user, or to a cookie, says nothing about the response that is for all
// clients. Nor does any other answer that may not be stored. asked is when it was asked for, which
// another machine may have done before this fetch began.
func (x *Fetch) removeGone(status int, asked time.Time) {
	if !rfc9111.Gone(status) || x.flags&flagObserved != 0 {
		return
	}
	var room [maxKeys]store.Key
	keys, r := x.hintedKeys(room[:0]), x.presented.goneRemoval(x.cache, x.selector())
	if x.cache.inFlight.of(x.url).Load() > 1 {
		// This fetch is one, as long as its answer may be stored.
		x.noteGone(x.cache, keys)
	}
	r.remote, r.asked = x.remote, asked
	var removed []*store.Entry
	if e := x.stale; e != nil && !r.spares(&e.Variant) && askedBefore(e, asked) {
		if removed = append(removed, e); x.elsewhere {
			r.removeRemote(e)
		} else {
			r.remove(e)
		}
		keys = append(keys, e.Key)
	}
	for i, key := range keys {
		switch {
		case slices.Contains(keys[:i], key):
		case x.stale != nil && x.stale.Key == key:
			r.removeFrom(key, removed...)
		default:
			r.removeFrom(key)
		}
	}
}

// goneRemoval is the removal by an answer to the request that says that the resource is gone.
func (p *presented) goneRemoval(cache *Cache, own func(*store.Variant) int) removal {
	return removal{
		cache: cache, gone: true,
		outdated: func(v *store.Variant) bool { return own(v) > 0 },
		spares:   func(v *store.Variant) bool { return !p.speaksFor(v) },
	}
}

// noteGone remembers that there is nothing under keys, if the answer is for any client. It comes
// before the removal, so that what is stored at this moment has heard of it. It is for fetches
// under way, which began before, and is called where there are some. A flood of 404s pushes out
// what is remembered. The fetches that began before what is pushed out store nothing then (C21d).
func (p *presented) noteGone(cache *Cache, keys []store.Key) {
	if p.personal() {
		return
	}
	for _, key := range keys {
		cache.removals.note(key, time.Now())
	}
}

// goneOnPass returns removeGone for an answer that is passed to the client of this request, which
// is about to be made. Handlers rewrite it in place. It is nil where nothing is stored and no fetch
// is under way that may bring what is older, and for HEAD: the answer to GET may differ.
//
// What only other machines have stored stays. Nothing is known of it here, and a request that is
// passed on does not wait for them.
func (q *Request) goneOnPass() func(status int) {
	if q.r.Method == http.MethodHead {
		return nil
	}
	var room [maxKeys]store.Key
	keys := q.hints.appendKeys(append(room[:0], q.key), &q.route.Key, &q.keyed)
	fetched := q.cache().inFlight.total.Load() > 0 && q.cache().inFlight.of(q.storedURL()).Load() > 0
	if !fetched && !slices.ContainsFunc(keys, func(key store.Key) bool { return !q.cache().store.Absent(key) }) {
		return nil
	}
	removed := slices.Clone(keys) // so that those are on the stack
	asked, r := time.Now(), q.presented.goneRemoval(q.cache(), q.route.selector(q.r, headerOf(snapshot(q.r.Header))))
	return func(status int) {
		if !rfc9111.Gone(status) {
			return
		}
		q.noteGone(q.cache(), removed)
		if r.asked = asked; q.cache().remote != nil {
			if r.remote = q.beginRemote(); r.remote != nil {
				defer r.remote.End()
			}
		}
		for _, key := range removed {
			r.removeFrom(key)
		}
	}
}

// hasOwnQuery reports whether the query rules leave out or reorder parameters of the request.
// Passed on, it asks the origin for another URL than a fetch for its key does. The answer says
// nothing about what others with the key get: `/p?id=1&page=9999` may be gone where `/p?id=1` is
// not.
func (q *Request) hasOwnQuery() bool {
	rules := &q.route.Key.Query
	return rules.Applied(q.r.URL) != q.r.URL || rules.Applied(q.keyed.URL) != q.keyed.URL
}

// speaksFor reports whether an answer to the request speaks for those who may have a stored
// response of a variant. To credentials or a cookie it speaks for what these have selected.
func (p *presented) speaksFor(v *store.Variant) bool {
	return (!p.authorized || slices.Contains(v.Names, "Authorization")) && (!p.unkeyedCookie || slices.Contains(v.Names, "Cookie"))
}

// removalsKeep is how long a 404 or 410 is remembered at least, unless a flood pushes it out. The
// fetches that had begun before what is forgotten store nothing.
const removalsKeep = time.Hour

func newRemovals() *recentKeys { return newRecentKeys(maxRecentKeys, removalsKeep, 0) }

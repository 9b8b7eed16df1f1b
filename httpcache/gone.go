package httpcache

import (
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
	if !rfc9111.Gone(status) {
		return
	}
	if !x.personal() { // first, so that what is stored at this moment has heard of it
		x.cache.removals.note(x.key)
	}
	own := x.selector()
	r := removal{
		cache: x.cache, remote: x.remote, asked: asked, gone: true,
		outdated: func(v *store.Variant) bool { return own(v) > 0 },
		spares:   func(v *store.Variant) bool { return !x.speaksFor(v) },
	}
	keys := x.hintedKeys()
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

// speaksFor reports whether an answer to the request speaks for those who may have a stored
// response of a variant. To credentials or a cookie it speaks for what these have selected.
func (p *presented) speaksFor(v *store.Variant) bool {
	return (!p.authorized || slices.Contains(v.Names, "Authorization")) && (!p.unkeyedCookie || slices.Contains(v.Names, "Cookie"))
}

// removalsKeep is how long a 404 or 410 is remembered at least. It has to outlast the fetches that
// had begun before.
const removalsKeep = 10 * time.Minute

func newRemovals() *recentKeys { return newRecentKeys(maxRecentKeys, removalsKeep, 0) }

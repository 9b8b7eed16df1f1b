package httpcache

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// source is where the answer of a shared flight comes from.
type source uint8

const (
	fromOrigin       source = iota // the streaming body of the flight
	fromValidation                 // the store: a 304 renewed the stored response
	fromStore                      // the store: it was stored before the fetch began
	fromStaleOnError               // the store: stale, because the origin failed
)

// sharedResponse is what a flight decided at the response header, for all requests that wait. Only
// purged and untyped change after that.
type sharedResponse struct {
	source       source
	elsewhere    bool             // the response, or the one that was renewed, is another machine's
	exchange     rfc9111.Exchange // without its header if fromOrigin
	originStatus int              // the origin's if the answer has another, else 0
	failure      int              // if fromStaleOnError: the status for which it stands in, or rfc9111.NoAnswer
	status       int
	seed         []field         // the header as the leader's outer handlers had filled it
	own          []field         // for the leader: what the origin changed in seed
	header       http.Header     // as stored
	added        []string        // of its fields, see addedNames
	length       int64           // of the body, -1 if not known yet
	over         <-chan struct{} // closed when the response has been stored
	tags         []string
	was          *store.Entry // what was stored before, if the answer is that response or renews it
	purged       atomic.Bool  // it was, before the ticket ended: see Fetch.endTicket
	untyped      atomic.Bool  // set by the first byte of the body: see fetchWriter.untyped
	variant      store.Variant
	search       rfc9111.SearchVariance // which queries it answers (No-Vary-Search)
	key          store.Key              // that of the fetch, made under search

	slice     *sliceOf      // its body is that of a slice, and header that of the head
	ahead     *aheadOfWhole // of what is fetched whole, or nil
	entry     *store.Entry  // nil if fromOrigin
	freshness *rfc9111.Freshness
	severity  store.Severity
	stored    bool

	route     *Route // if fromOrigin: the route that found it storable and strips its tags
	once      sync.Once
	followers []field // see forFollowers; made once
}

// forFollowers returns the header as a follower at rt gets it. For the route that fetched it the
// header is made once.
func (sr *sharedResponse) forFollowers(rt *Route) []field {
	if sr.route != rt { // the rules of rt may leave out more
		return rt.withoutTags(fieldsOf(rfc9111.StorableHeader(&rfc9111.Exchange{Header: sr.header}, &rt.Policy), sr.added))
	}
	sr.once.Do(func() { sr.followers = rt.withoutTags(fieldsOf(sr.header, sr.added)) })
	return sr.followers
}

// storable reports whether the response is stored when it is whole. Otherwise it is for the
// requests that wait, or for the leader alone.
func (sr *sharedResponse) storable() bool { return sr.freshness.Reason == rfc9111.Storable }

// purgedSince reports whether the answer to a fetch for url was purged, however severely, since the
// generation in which the fetch began. A purge also reaches a renewed response by the URL and tags
// that it was stored with: a purge that has returned found it by these.
func (sr *sharedResponse) purgedSince(s *store.Store, url string, generation uint64) bool {
	if s.Purged(url, sr.tags, generation) != store.NotPurged {
		return true
	}
	return sr.was != nil && s.Purged(sr.was.URL, sr.was.Tags, generation) != store.NotPurged
}

// flags returns the flags that are stored with the response.
func (sr *sharedResponse) flags() store.Flags {
	f := flagsOf(&sr.exchange)
	if sr.untyped.Load() {
		f |= flagUntyped
	}
	return f
}

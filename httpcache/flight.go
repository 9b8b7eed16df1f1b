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
	source   source
	exchange rfc9111.Exchange // without its header if fromOrigin
	origin   int              // the origin's status if the answer has another, else 0
	status   int
	seed     []field         // the header as the leader's outer handlers had filled it
	own      []field         // for the leader: what the origin changed in seed
	header   http.Header     // as stored
	length   int64           // of the body, -1 if not known yet
	over     <-chan struct{} // closed when the response has been stored
	tags     []string
	was      *store.Entry // the response stored before, if the answer is that or renews it
	purged   atomic.Bool  // before the ticket ended, see Fetch.endTicket
	untyped  atomic.Bool  // set by the first byte of the body: see fetchWriter.untyped
	variant  store.Variant
	search   rfc9111.SearchVariance // what the answer says of queries
	key      store.Key              // under search

	entry     *store.Entry // nil if fromOrigin
	freshness *rfc9111.Freshness
	severity  store.Severity
	stored    bool

	route  *Route // if fromOrigin: the route that found it storable and strips its tags
	once   sync.Once
	shared []field
}

// forFollowers returns the header as a follower at rt gets it. For the route that fetched it the
// header is made once.
func (hd *sharedResponse) forFollowers(rt *Route) []field {
	if hd.route != rt { // the rules of rt may leave out more
		return rt.withoutTags(fieldsOf(rfc9111.StorableHeader(&rfc9111.Exchange{Header: hd.header}, &rt.Policy)))
	}
	hd.once.Do(func() { hd.shared = rt.withoutTags(fieldsOf(hd.header)) })
	return hd.shared
}

// kept reports whether the response is stored when it is whole. Otherwise it is for the requests
// that wait, or for the leader alone.
func (hd *sharedResponse) kept() bool { return hd.freshness.Reason == rfc9111.Storable }

// purgedSince reports whether the answer to a fetch for url was purged, however severely, since the
// generation in which the fetch began. A purge also reaches a renewed response by the URL and tags
// that it was stored with: a purge that has returned found it by these.
func (hd *sharedResponse) purgedSince(s *store.Store, url string, generation uint64) bool {
	if s.Purged(url, hd.tags, generation) != store.NotPurged {
		return true
	}
	return hd.was != nil && s.Purged(hd.was.URL, hd.was.Tags, generation) != store.NotPurged
}

// flags returns the flags that are stored with the response.
func (hd *sharedResponse) flags() store.Flags {
	f := flagsOf(&hd.exchange)
	if hd.untyped.Load() {
		f |= flagUntyped
	}
	return f
}

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
	fromValidation                 // the store: a 304 renewed what was there
	fromStore                      // the store: it had arrived before the fetch began
	fromStaleOnError               // the store: stale, because the origin failed
)

// sharedResponse is what a flight decided at the response header, for all who wait. It is not changed after
// that, but for purged.
type sharedResponse struct {
	source   source
	exchange rfc9111.Exchange // for headFetched without its header
	origin   int              // the origin's status where the answer has another, else 0
	status   int
	seed     []field         // the header as the leader's outer handlers had filled it
	own      []field         // for the leader: what the inner handlers changed of that
	header   http.Header     // as stored
	length   int64           // of the body, -1 if not known yet
	over     <-chan struct{} // closed when the response has been stored
	tags     []string
	was      *store.Entry // what was stored before, where the answer is that or a renewal of it
	purged   atomic.Bool  // before the ticket ended, see fetch.endTicket
	untyped  atomic.Bool  // set by the first byte of the body: see fetchWriter.untyped
	variant  store.Variant
	search   rfc9111.SearchVariance // what the answer says of queries
	key      store.Key              // by that

	entry     *store.Entry // for all kinds but headFetched
	freshness *rfc9111.Freshness
	soft      bool
	stored    bool

	route  *Route // for headFetched: which found it storable, and whose tags clients do not get
	once   sync.Once
	shared []field
}

// forFollowers is the header as a follower at h gets it. For those at the handler that fetched it
// is made once.
func (hd *sharedResponse) forFollowers(rt *Route) []field {
	if hd.route != rt { // whose rules leave out more, maybe
		return rt.withoutTags(fieldsOf(rfc9111.StorableHeader(&rfc9111.Exchange{Header: hd.header}, &rt.Policy)))
	}
	hd.once.Do(func() { hd.shared = rt.withoutTags(fieldsOf(hd.header)) })
	return hd.shared
}

// kept reports whether the response is stored when it is whole; else it is for those who wait, or
// for its leader alone.
func (hd *sharedResponse) kept() bool { return hd.freshness.Reason == rfc9111.Storable }

// purgedSince reports whether the answer to a fetch for url was purged, hard or soft, since the
// generation in which that began. A renewed response is purged by what it was stored with, too: a
// purge that has answered found it by that.
func (hd *sharedResponse) purgedSince(s *store.Store, url string, generation uint64) bool {
	if hard, soft := s.Purged(url, hd.tags, generation); hard || soft {
		return true
	}
	if hd.was == nil {
		return false
	}
	hard, soft := s.Purged(hd.was.URL, hd.was.Tags, generation)
	return hard || soft
}

// flags are what is stored with the response beside its header.
func (hd *sharedResponse) flags() store.Flags {
	f := flagsOf(&hd.exchange)
	if hd.untyped.Load() {
		f |= flagUntyped
	}
	return f
}

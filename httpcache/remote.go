package httpcache

import (
	"context"
	"log/slog"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Remote is a store that several machines share. It is asked inside a flight, before the origin:
// one question for any number of requests.
type Remote interface {
	// Get returns the response to key that selects scores highest, nil if there is none. selects
	// returns 0 for a variant that does not match (RFC 9111 4.1). The entry's body is whole.
	Get(ctx context.Context, key store.Key, selects func(*store.Variant) int) (*store.Entry, error)
	// Put offers a copy of a response that has been fetched and stored here. Its body may be read
	// until Put returns. Clients wait for Put, so it must not wait for a network.
	Put(entry *store.Entry)
}

// answerFromRemote answers a flight from the Remote, if that has a response which may be used
// unchanged. Otherwise the origin is asked. It is asked too if the Remote fails, which is logged.
func (x *Fetch) answerFromRemote() bool {
	if x.forward == rfc9111.ForwardRequest || x.mustValidate { // it is wanted from the origin
		return false
	}
	entry, err := x.cache.remote.Get(x.flight.Context(), x.key, x.selects)
	if err != nil {
		x.cache.logger.Warn("the remote store does not answer; the origin is asked", slog.Any("error", err))
		return false
	}
	if entry == nil || !varianceAgrees(entry.Header, x.keyed.variance) {
		return false
	}
	freshness := x.route.evaluateFor(entry, x.personal())
	if use, _ := freshness.UseFor(x.directives, x.begun, time.Now(), false); use != rfc9111.UseFresh {
		return false
	}
	entry.Generation = x.ticket.Generation()
	if !x.putHere(entry, freshness, nil) { // it may have been purged since the fetch began
		return false
	}
	x.share(&sharedResponse{
		source: fromStore, entry: entry, freshness: freshness, variant: entry.Variant, was: entry,
	}, 0)
	x.flight.Finish(nil)
	return true
}

// selects scores a variant by RFC 9111 4.1 for the leader's request.
func (x *Fetch) selects(v *store.Variant) int {
	header := headerOf(x.clientHeader)
	for _, name := range v.Names {
		if !x.route.Behind.Sees(x.request(), name, header[name]) {
			return 0
		}
	}
	return x.route.variantScore(v, header)
}

package httpcache

import (
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

const (
	// loopToken is this cache's name in CDN-Loop (RFC 8586).
	loopToken = "larder"
	// maxLoops is how often a request may have come by already.
	maxLoops = 10
	// maxRounds bounds how often a request is sorted anew because a flight's response turned out not to be for it.
	maxRounds = 4
)

// Serve answers r, which q is to be the request of, from the cache or from o. Its error is one of o's,
// or an [Error] of its own; then no response has been written.
func (rt *Route) Serve(q *Request, w http.ResponseWriter, r *http.Request, id Identity, o Origin) error {
	if len(r.Header["Cdn-Loop"]) > 0 && rfc9111.CDNLoopCount(r.Header, loopToken) >= maxLoops {
		return loopError()
	}
	q.route, q.cache, q.w, q.r, q.origin, q.now = rt, rt.cache, w, r, o, time.Now()
	q.keyed.Identity = id
	if why := q.classify(); why != NotBypassed {
		return q.bypass(why)
	}
	q.cache.acquire()
	defer q.cache.release()
	q.readKey()
	return q.answer()
}

func loopError() error {
	return fail(http.StatusLoopDetected,
		fmt.Errorf("the request has passed %d times: CDN-Loop names %s as often", maxLoops, loopToken))
}

// answer goes round until the request has its answer. One round is enough but where a flight's response turns out to be for others:
// selected by other values of its Vary, or purged since.
func (q *Request) answer() error {
	for round := range maxRounds {
		if round > 0 {
			q.updateNow() // it has waited for a flight
		}
		if answered, err := q.round(); answered {
			return err
		}
	}
	return q.passUncached(q.forward, rfc9111.Storable)
}

// round answers the request from the store, or fetches. answered is false when it has to be sorted anew.
func (q *Request) round() (answered bool, err error) {
	use := q.lookUp()
	held := q.found // a flight's answer may take its place
	defer held.Release()
	switch use {
	case rfc9111.UseFresh:
		return true, q.respondStored(OutcomeHit, NoDetail)
	case rfc9111.UseStale:
		return true, q.respondStored(OutcomeStale, NoDetail)
	case rfc9111.UseRefresh:
		if q.sharing() != sharingHitForMiss {
			q.refreshInBackground()
			return true, q.respondStored(OutcomeStale, DetailSWR)
		}
		q.forward = rfc9111.ForwardStale // a refresh has brought what may not replace it, so it stands in for a failure only
	case rfc9111.UseValidate, rfc9111.UseNever:
	}
	if q.directives.OnlyIfCached {
		return true, q.refuse()
	}
	return q.fetch()
}

// refuse is the answer to only-if-cached where nothing stored will do (RFC 9111 5.2.1.7).
func (q *Request) refuse() error {
	q.decide(Decision{Outcome: OutcomeMiss, Detail: DetailOnlyIfCached})
	return fail(http.StatusGatewayTimeout, errOnlyIfCached)
}

// lookUp finds what is stored for the request and decides what may be done with it.
func (q *Request) lookUp() rfc9111.Use {
	q.found = q.cache.store.Lookup(q.key, q.selects)
	q.freshness = nil
	if e := q.found.Entry; e != nil && !varianceAgrees(e.Header, q.keyed.variance) {
		q.found.Entry = nil
	}
	if q.found.Entry == nil {
		q.forward = rfc9111.ForwardURIMiss
		if known := q.found.Known; known != nil {
			q.forward = rfc9111.ForwardVaryMiss
			q.varyNames = known.Names
		}
		return rfc9111.UseNever
	}
	if q.varyNames = q.found.Entry.Variant.Names; isVaryIgnored(&q.found.Entry.Variant) {
		q.varyNames = nil // who ignores Vary is of one kind
	}
	q.freshness = q.evaluate(q.found.Entry)
	use, forward := q.freshness.UseFor(q.directives, q.arrivedAt(), q.now, q.found.Soft)
	q.forward = forward
	if use == rfc9111.UseNever { // today's rules would not have let it in
		q.found.Entry, q.freshness = nil, nil
	}
	if use != rfc9111.UseNever && use != rfc9111.UseValidate && !q.bodyReady() {
		q.dropFound()
		q.varyNames = nil
		return rfc9111.UseNever
	}
	return use
}

// selects is the match of RFC 9111 4.1.
func (q *Request) selects(v *store.Variant) int {
	if !isVaryIgnored(v) && !q.seesAll(v.Names) {
		return 0
	}
	return q.route.variantScore(v, q.r.Header)
}

// fetch gets the response from the origin, alone or together with others. answered is false when what came is not for this request, which
// then has to be sorted anew.
func (q *Request) fetch() (answered bool, err error) {
	switch {
	case q.directives.NoStore:
		// RFC 9111 5.2.1.5: neither this request nor any response to it is stored, so nobody can share it.
		return true, q.passUncached(q.forward, rfc9111.ReasonRequestNoStore)
	case wantsEvents(q.r.Header):
		return q.fetchAlone(q.forward)
	case q.sharing() == sharingHitForMiss:
		return q.fetchAlone(rfc9111.ForwardMiss)
	case q.r.Method == http.MethodHead && q.found.Entry == nil:
		// A cold HEAD is not worth a body. If the body is on its way, its header will do.
		return q.joinRunning()
	case q.route.CoalesceOff || q.freshness != nil && q.freshness.NoCache:
		// no-cache (RFC 9111 5.2.2.4) asks for a validation of each request's own.
		return q.serveFrom(q.solo())
	default:
		return q.serveFrom(q.join())
	}
}

// fetchAlone asks the origin for a request that waits for nobody: as it came where nothing is
// stored, else with the question whether that still holds, so that a 304 renews it and a failure
// may be answered with it.
func (q *Request) fetchAlone(forward rfc9111.Forward) (answered bool, err error) {
	if q.found.Entry == nil {
		return true, q.passUncached(forward, rfc9111.Storable)
	}
	return q.serveFrom(q.solo())
}

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
	// maxLoops is how often a request may have passed this cache already.
	maxLoops = 10
	// maxRounds bounds how often a request starts again because a flight's response was not for it.
	maxRounds = 4
)

// The frames from Serve down to the look-up in the store are kept few and small. A server of
// HTTP/2 answers each request on a goroutine of its own, which begins with a short stack, and
// copies that each time it has to grow. See TestHitStack.

// Serve answers r from the cache or from o. q becomes the request of r, and has a copy of id, which
// may be its own. The error is one of o's or an [Error] of the cache; then no response has been
// written.
func (rt *Route) Serve(
	q *Request, w http.ResponseWriter, r *http.Request, id *Identity, o Origin,
) error {
	q.receive(rt, w, r, id, o)
	defer q.count()
	if q.loops() {
		return q.refuseLoop()
	}
	if why := q.classify(); why != NotBypassed {
		if q.trace.bypassed(q, why) {
			return nil
		}
		return q.bypass(why)
	}
	q.cache().acquire()
	defer q.cache().release()
	q.readPass() // before any look-up
	q.readKey()
	q.trace.keyed(q)
	if answered, err := q.checkRepeats(); answered {
		return err
	}
	return q.answer()
}

// receive makes q the request of r.
func (q *Request) receive(rt *Route, w http.ResponseWriter, r *http.Request, id *Identity, o Origin) {
	q.route, q.w, q.r, q.origin, q.now = rt, w, r, o, time.Now()
	q.keyed.Identity = *id
	if rt.Observe {
		q.origin = newObserved(q)
	}
}

// count counts the request when its answer has ended, also by a panic, which is how one breaks off.
func (q *Request) count() {
	if q.decided {
		q.cache().metrics.Request(q)
	}
}

// loops reports whether the request has passed this cache too often.
func (q *Request) loops() bool {
	return len(q.r.Header["Cdn-Loop"]) > 0 && rfc9111.CDNLoopCount(q.r.Header, loopToken) >= maxLoops
}

func (q *Request) refuseLoop() error {
	if q.trace.looped() {
		return nil
	}
	d := Decision{Outcome: OutcomeMiss, Detail: DetailError}
	if q.observed() != nil {
		return q.observe(d)
	}
	q.decide(d)
	return loopError()
}

func loopError() error {
	return fail(http.StatusLoopDetected,
		fmt.Errorf("the request has passed %d times: CDN-Loop names %s as often", maxLoops, loopToken))
}

// answer repeats rounds until the request has its answer. One round is enough unless the response
// of a flight is not for this request: it was selected by other values of its Vary, or purged
// since.
func (q *Request) answer() error {
	for round := range maxRounds {
		q.rounds = maxRounds - 1 - uint8(round)
		if round > 0 {
			q.updateNow() // it has waited for a flight
		}
		use := q.lookUp() // not in round, whose frame would be below the look-up on the stack
		if answered, err := q.round(use); answered {
			return err
		}
	}
	return q.passUncached(q.forward, rfc9111.Storable)
}

// round answers the request from the store, where what was found may be used so, or fetches.
// answered is false if the request needs another round.
func (q *Request) round(use rfc9111.Use) (answered bool, err error) {
	q.gaveBack = false
	defer q.giveBack(q.found.Hold)                 // a flight's answer may take the place of what was found
	if use == rfc9111.UseFresh && q.trace == nil { // a hit, as choose says, without proceed's frame
		q.refreshIfDue()
		return q.respondHit()
	}
	return q.proceed(use)
}

// giveBack gives back what the look-up has found, unless letGo has.
func (q *Request) giveBack(held store.Hold) {
	if !q.gaveBack {
		held.Release()
	}
}

// proceed chooses a way and follows it. Its frame has room for all ways, which a hit needs not.
func (q *Request) proceed(use rfc9111.Use) (answered bool, err error) {
	return q.follow(q.choose(use))
}

// letGo gives back what the look-up has found, because the answer comes from a fetch instead. Its
// body may be large and deleted by now, and the client may take long.
func (q *Request) letGo() {
	if q.found.IsHeld() {
		q.found.Release()
		q.gaveBack = true
	}
}

// follow goes the way that was chosen.
func (q *Request) follow(way way) (answered bool, err error) {
	if q.trace.chosen(q, way) {
		return true, nil
	}
	switch way.course {
	case courseHit:
		q.refreshIfDue()
		return q.respondHit()
	case courseStale:
		return true, q.respondStored(OutcomeStale, NoDetail)
	case courseRefresh:
		return q.refresh(way)
	case courseRefuse:
		return true, q.refuse()
	case courseSpare:
		return true, q.spareOrigin(way.standing, way.key)
	case courseUnstored:
		// RFC 9111 5.2.1.5: neither this request nor any response to it is stored, so none can be
		// shared.
		return true, q.passUncached(q.forward, rfc9111.ReasonRequestNoStore)
	case courseForced:
		return true, q.passUncached(q.forward, rfc9111.Storable)
	case courseEvents:
		return q.fetchAlone(q.forward)
	case courseHitForMiss:
		return q.fetchAlone(rfc9111.ForwardMiss)
	case courseHead:
		return q.joinRunning(way.key)
	case courseSolo:
		return q.serveFrom(q.solo(way.key))
	case courseDecided:
		return q.joinDecided(way.key)
	case courseJoin:
	}
	return q.serveFrom(q.join(way.key))
}

// refuse answers only-if-cached where no stored response may be used (RFC 9111 5.2.1.7).
func (q *Request) refuse() error {
	d := Decision{Outcome: OutcomeMiss, Detail: DetailOnlyIfCached}
	if q.observed() != nil {
		return q.observe(d)
	}
	q.decide(d)
	return fail(http.StatusGatewayTimeout, errOnlyIfCached)
}

// lookUp finds the stored response for the request and decides how it may be used.
func (q *Request) lookUp() rfc9111.Use {
	q.find()
	return q.useOfFound()
}

// useOfFound decides how what was found may be used.
func (q *Request) useOfFound() rfc9111.Use {
	q.trace.found(q)
	if q.found.Entry == nil {
		q.forward = rfc9111.ForwardURIMiss
		if known := q.found.Known; known != nil {
			q.forward = rfc9111.ForwardVaryMiss
			q.varyNames = known.Names
		}
		return rfc9111.UseNever
	}
	if q.varyNames = q.found.Entry.Variant.Names; isVaryIgnored(&q.found.Entry.Variant) {
		q.varyNames = nil // requests that ignore Vary are all alike
	}
	q.freshness = q.evaluate(q.found.Entry)
	use, forward := q.validated(q.freshness.UseFor(q.directives, q.arrivedAt(), q.now, validityOf(q.found.Severity)))
	q.forward = forward
	if use == rfc9111.UseNever { // today's rules would not have stored it
		q.found.Entry, q.freshness = nil, nil
	}
	if (use == rfc9111.UseStale || use == rfc9111.UseRefresh) && q.lacksSlices() {
		// What is missing would have to come from the origin, which may have another version.
		use, q.forward = rfc9111.UseValidate, rfc9111.ForwardStale
	}
	if use != rfc9111.UseNever && q.isSliced() && q.isMixed(q.now) && q.lacksSlices() {
		q.treatAsMiss() // the whole is fetched in its place
		return rfc9111.UseNever
	}
	answers := use != rfc9111.UseNever && use != rfc9111.UseValidate
	// A refresh by 304 would renew a damaged body, whatever part of it this request needs.
	damaged := use == rfc9111.UseRefresh && q.found.Ready(0) != nil
	if damaged || answers && !q.bodyReady() {
		q.treatAsMiss()
		q.varyNames = nil
		return rfc9111.UseNever
	}
	return use
}

// find finds the stored response that the request selects.
func (q *Request) find() {
	q.lookUpKey(&q.key, &q.found)
	q.freshness = nil
	if e := q.found.Entry; e != nil && !q.route.varianceAgrees(e, &q.keyed, q.keyed.variance) {
		q.found.Entry = nil
	}
	if len(q.hints.all()) > 1 {
		q.lookUpOthers()
	}
}

// lookUpKey looks a key up.
func (q *Request) lookUpKey(key *store.Key, found *store.Result) {
	if q.trace.only() {
		q.cache().store.PeekInto(found, key, q.selects)
		return
	}
	q.cache().store.LookupInto(found, key, q.selects)
}

// selects scores a variant by RFC 9111 4.1.
func (q *Request) selects(v *store.Variant) int {
	return q.route.variantScore(v, q.r, q.r.Header)
}

// fetchAlone asks the origin for a request that waits for no other. Without a stored response the
// request is passed as it came. Otherwise the fetch validates the stored one, so a 304 renews it
// and it may stand in for a failure.
func (q *Request) fetchAlone(forward rfc9111.Forward) (answered bool, err error) {
	if q.found.Entry == nil {
		return true, q.passUncached(forward, rfc9111.Storable)
	}
	return q.serveFrom(q.solo(q.flightKey()))
}

package httpcache

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// errBrokenEarly says that a flight broke off before this client had a byte of it. The client can
// still wait for another flight.
var errBrokenEarly = errors.New("the fetch broke off")

// errStalled says that a flight sent a header and then, for too long, no byte. The client can still
// be answered otherwise.
var errStalled = errors.New("the fetch stands still")

// respondShared answers from a flight that shares its response. answered is false if the response
// is not for this request.
func (q *Request) respondShared(s membership) (answered bool, err error) {
	shared := s.flight.Shared().(*sharedResponse)
	q.updateNow() // it has waited
	leads := s.fetch != nil
	if !leads {
		switch {
		case shared.slice != nil:
			return false, nil // what it needs itself may be other slices
		case shared.source == fromStore:
			// Whether it may be used depends on the request: look it up.
			return false, nil
		case !q.sameVariance(shared):
			return false, nil
		case q.selects(&shared.variant) == 0:
			q.varyNames = shared.variant.Names // now known: the next flight is for its own values
			q.forward = rfc9111.ForwardVaryMiss
			return false, nil
		case q.unsafe() && (shared.source == fromStaleOnError || !shared.storable()):
			// A failure, or no answer for all.
			q.leave(s, false)
			return q.fetchAlone(q.forward)
		case !q.mayShare(shared):
			q.leave(s, false)
			return true, q.passUncached(q.forward, rfc9111.Storable)
		case !q.usable(s.flight):
			return false, nil
		}
	}
	switch shared.source {
	case fromOrigin:
		if shared.slice != nil {
			return q.respondFirstPart(s, shared)
		}
		if !leads && q.liesAhead(s.flight, shared) {
			return q.respondAhead(s, shared)
		}
		if !leads && q.isForced() && q.wantsPartBehind(max(nearPart, s.flight.Received())) {
			q.leave(s, false)
			return true, q.passUncached(q.forward, rfc9111.Storable)
		}
		err := q.respondFlight(s, shared, leads)
		return !errors.Is(err, errStalled), err
	case fromStaleOnError:
		return true, q.respondStaleOnError(shared, leads)
	case fromStore:
		q.found, q.freshness = store.Result{Entry: shared.entry}, shared.freshness
		return q.respondHit()
	case fromValidation:
		q.found, q.freshness = store.Result{Entry: shared.entry}, shared.freshness
		return q.respondRenewed(shared, leads)
	}
	return false, fmt.Errorf("flight with an answer of unknown kind %d", shared.source)
}

// respondStaleOnError answers from what a flight has found stored when the origin failed.
func (q *Request) respondStaleOnError(shared *sharedResponse, leads bool) error {
	q.found, q.freshness = store.Result{Entry: shared.entry, Severity: shared.severity}, shared.freshness
	if !leads {
		q.freshness = q.evaluate(shared.entry) // its own route may allow less
	}
	if !leads && (!q.usableOnError(q.freshness, q.now, validityOf(q.found.Severity), shared.failure) || q.lacksSlices()) {
		return q.failFollowers(&originError{status: shared.originStatus}, shared.failure)
	}
	return q.respondStored(OutcomeStale, DetailSIE)
}

// mayShare reports whether a follower's own route would have stored or shared the response, and
// whether the response is for more than one request at all.
func (q *Request) mayShare(shared *sharedResponse) bool {
	if shared.source == fromStaleOnError {
		return true
	}
	if shared.freshness.NoCache || !shared.storable() && !shared.freshness.UsableByFollowers() {
		return false
	}
	if shared.route == q.route && !q.personal() {
		return true
	}
	ex := shared.exchange
	ex.Personal = q.personal()
	if shared.source == fromOrigin {
		ex.Header = headerOf(shared.seed)
		overlay(ex.Header, shared.own, nil)
	}
	own := q.route.Policy.Freshness(&ex)
	return own.Reason == rfc9111.Storable || own.UsableByFollowers()
}

// respondHit answers from the store, with what is fresh. answered is false if that is a file in
// slices which turns out to be outdated: the request begins again.
func (q *Request) respondHit() (answered bool, err error) {
	if q.isSliced() && q.observed() == nil {
		return q.respondObject(OutcomeHit, NoDetail)
	}
	return true, q.respondStored(OutcomeHit, NoDetail)
}

// respondStored answers from the store, in place of the origin where that was to be asked.
func (q *Request) respondStored(outcome Outcome, detail Detail) error {
	if q.observed() != nil {
		return q.observeStored(outcome, detail)
	}
	if q.isSliced() {
		answered, err := q.respondObject(outcome, detail)
		if !answered {
			return q.passUncached(rfc9111.ForwardPartial, rfc9111.Storable)
		}
		return err
	}
	q.decide(Decision{Outcome: outcome, Detail: detail})
	q.beginSending()
	defer q.endSending()
	a := q.stored(q.now)
	if whole, err := q.sendStoredHeader(a, detail); !whole {
		return err
	}
	return q.sendStored(a)
}

// sendStoredHeader is sendHeader for what is stored.
func (q *Request) sendStoredHeader(a *delivery, detail Detail) (whole bool, err error) {
	cs := q.hitStatus(detail)
	return q.sendHeader(a, &cs)
}

// observeStored passes a request that would have been answered from the store.
func (q *Request) observeStored(outcome Outcome, detail Detail) error {
	switch {
	case !q.isSliced():
		q.observed().compareWith(q.found.Share(), q.freshness)
	case q.lacksSlices():
		return q.observe(Decision{Outcome: OutcomeMiss, Forward: rfc9111.ForwardPartial})
	}
	return q.observe(Decision{Outcome: outcome, Detail: detail})
}

// hitStatus is the Cache-Status of an answer from the store.
func (q *Request) hitStatus(detail Detail) rfc9111.CacheStatus {
	now := q.now
	cs := rfc9111.CacheStatus{Hit: true, Detail: detail.String()}
	ttl := q.freshness.TTL(now)
	if q.found.Severity != store.NotPurged {
		ttl = min(ttl, 0) // purged, so stale
	}
	cs.SetTTL(ttl)
	return cs
}

// respondRenewed answers with the stored response that the origin has just confirmed.
func (q *Request) respondRenewed(shared *sharedResponse, leads bool) (answered bool, err error) {
	if shared.elsewhere && leads {
		q.forward = rfc9111.ForwardStale // it was not known when the request began to wait
	}
	cs := rfc9111.CacheStatus{Forward: q.forward, FwdStatus: shared.originStatus, Stored: shared.stored && leads, Collapsed: !leads}
	a, d := q.stored(q.now), Decision{Outcome: OutcomeCollapsed, Forward: q.forward}
	if leads {
		a.fields = shared.own
		d = Decision{Outcome: OutcomeRevalidated, Forward: q.forward, NotStored: shared.freshness.Reason}
		cs.Detail = d.Reason()
	}
	if q.isSliced() {
		return q.respondSlices(a, &cs, d, membership{}, 0)
	}
	q.decide(d)
	return true, q.send(a, &cs)
}

// stored returns the entry that was found as a delivery.
func (q *Request) stored(now time.Time) *delivery {
	e := q.found.Entry
	c := q.route.evaluated(e)
	a := q.newDelivery()
	*a = delivery{
		status: e.Status, header: c.header, fields: c.fields, length: c.bodyLen(e), lengthText: c.length,
		age: q.freshness.Age(now), aged: true,
		stored: e.Body, trailer: c.trailer, untyped: e.Flags&flagUntyped != 0,
	}
	return a
}

// newDelivery returns an empty delivery. The header values that it sets have their room in the same
// allocation.
func (q *Request) newDelivery() *delivery {
	a := new(struct {
		delivery
		room deliveryRoom
	})
	q.room = &a.room
	return &a.delivery
}

// respondFlight answers from the streaming body.
func (q *Request) respondFlight(s membership, shared *sharedResponse, leads bool) error {
	cs := rfc9111.CacheStatus{Forward: q.forward, Stored: leads && shared.storable(), Collapsed: !leads}
	if !leads || q.forward == rfc9111.ForwardStale {
		cs.FwdStatus = shared.status
	}
	a := q.newDelivery()
	*a = delivery{status: shared.status, header: shared.header, length: shared.length, leads: leads}
	switch {
	case shared.elsewhere:
		cs = rfc9111.CacheStatus{Hit: true}
		cs.SetTTL(shared.freshness.TTL(q.now))
		a.leads, a.age, a.aged = false, shared.freshness.Age(q.now), true
		a.fields, a.streaming = shared.forFollowers(q.route), new(flightBody)
	case leads:
		a.fields, a.streaming = shared.own, &s.fetch.body
		s.fetch.expose(q.origin)
	default:
		a.fields, a.streaming = shared.forFollowers(q.route), new(flightBody)
	}
	*a.streaming = flightBody{flight: s.flight, reader: s.member.Reader(), ctx: q.r.Context(), length: shared.length, over: shared.over}
	if !leads {
		a.streaming.announced = linesOf(shared.own, "Trailer")
	}
	// The header goes out with the first byte. Until then another fetch can make up for a failed
	// one.
	reason := shared.freshness.Reason
	if !q.headerIsEnough(shared) {
		if err := q.awaitFirst(a.streaming, s, shared); err != nil && !errors.Is(err, io.EOF) {
			if answered, err := q.respondUnbegun(s, err); answered {
				return err
			}
			reason, cs.Stored = rfc9111.ReasonIncomplete, false // the header goes out, and no body
		}
	}
	a.untyped = shared.untyped.Load()
	q.letGo()
	s.member.Reader().OnDrop(q.breakWrite)
	switch {
	case shared.elsewhere:
		q.decide(Decision{Outcome: OutcomeHit})
	case leads:
		cs.Detail = reason.String()
		q.decide(Decision{Outcome: OutcomeMiss, Forward: q.forward, NotStored: reason})
	default:
		q.decide(Decision{Outcome: OutcomeCollapsed, Forward: q.forward})
	}
	return q.send(a, &cs)
}

// awaitFirst waits for the first byte that the client is to get of a shared body. A follower that
// wants a part waits while the fetch comes to it, and no longer than that may be silent.
func (q *Request) awaitFirst(b *flightBody, s membership, shared *sharedResponse) error {
	if s.fetch == nil && q.isDoubtful(s.flight.Tag().(*flightTag).page) {
		if f := q.follower(); !f.withheld { // once, and its wait begins anew: that for the header was for no body
			f.withheld, f.deadline = true, time.Now().Add(q.route.Wait)
		}
		if err := q.awaitWhole(b, withheld, q.following.deadline); err != nil {
			return err
		}
	}
	parts, _, ok := q.ranges(shared.status, shared.header, shared.length)
	if s.fetch != nil || !ok || len(parts) == 0 {
		return b.first(q.byteWait(s))
	}
	return b.firstAt(parts[0].Start, q.route.Wait)
}

// byteWait returns how long the request waits for the first byte of a shared body. A follower waits
// as long as it could still join.
func (q *Request) byteWait(s membership) time.Duration {
	if s.fetch != nil {
		return 0 // as long as it takes
	}
	return max(1, s.flight.TimeLeft(q.route.Wait))
}

// respondUnbegun answers if err came in place of the first byte of a shared body, when nothing has
// gone out yet. It does not answer the client whose own fetch that was: this one gets what it would
// get without a cache, the header and a body that breaks off.
func (q *Request) respondUnbegun(s membership, err error) (answered bool, _ error) {
	switch {
	case q.r.Context().Err() != nil:
		return true, q.respondGone()
	case errors.Is(err, coalesce.ErrSpill), errors.Is(err, coalesce.ErrTooSlow):
		// The flight goes on for others.
		q.leave(s, false)
		return true, q.passUncached(q.forward, rfc9111.Storable)
	case errors.Is(err, errStalled):
		return true, err
	case errors.Is(err, errDoubtful):
		q.leave(s, false)
		return true, q.respondLate()
	}
	if e, ok := q.staleOnError(rfc9111.NoAnswer); ok {
		return true, e
	}
	if s.owesHeader() {
		return false, nil
	}
	return true, errBrokenEarly
}

// statusClientGone is the status that nginx and Caddy's proxy log for a client that left before its
// answer.
const statusClientGone = 499

// respondGone answers a client that has gone. Mostly only the access log sees it. But a client that
// has closed only its own side of the connection reads it, and must not take an empty 200 for the
// response.
func (q *Request) respondGone() error {
	d := Decision{Outcome: OutcomeMiss, Forward: q.forward, Detail: DetailClientGone}
	q.decide(d)
	q.sendStatus(q.w.Header(), &rfc9111.CacheStatus{Forward: d.Forward, Detail: d.Reason()})
	q.w.WriteHeader(statusClientGone)
	return nil
}

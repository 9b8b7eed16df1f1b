package httpcache

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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
	hd := s.flight.Head().(*sharedResponse)
	q.updateNow() // it has waited
	leads := s.fetch != nil
	if !leads {
		switch {
		case hd.source == fromStore: // whether it may be used depends on the request: look it up
			return false, nil
		case !q.sameVariance(hd):
			return false, nil
		case q.selects(&hd.variant) == 0:
			q.varyNames = hd.variant.Names // now known: the next flight is for its own values
			q.forward = rfc9111.ForwardVaryMiss
			return false, nil
		case q.unsafe() && (hd.source == fromStaleOnError || !hd.kept()): // a failure, or no answer for all
			return q.fetchAlone(q.forward)
		case !q.mayShare(hd):
			return true, q.passUncached(q.forward, rfc9111.Storable)
		case !q.usable(s.flight):
			return false, nil
		}
	}
	switch hd.source {
	case fromOrigin:
		err := q.respondFlight(s, hd, leads)
		return !errors.Is(err, errStalled), err
	case fromStaleOnError:
		q.found, q.freshness = store.Result{Entry: hd.entry, Severity: hd.severity}, hd.freshness
		if !leads {
			q.freshness = q.evaluate(hd.entry) // its own route may allow less
		}
		if !leads && !q.usableOnError(q.freshness, q.now, validityOf(q.found.Severity)) {
			return true, q.failFollowers(&originError{status: hd.origin})
		}
		return true, q.respondStored(OutcomeStale, DetailSIE)
	case fromStore:
		q.found, q.freshness = store.Result{Entry: hd.entry}, hd.freshness
		return true, q.respondStored(OutcomeHit, NoDetail)
	case fromValidation:
		q.found, q.freshness = store.Result{Entry: hd.entry}, hd.freshness
		return true, q.respondRenewed(hd, leads)
	}
	return false, fmt.Errorf("flight with an answer of unknown kind %d", hd.source)
}

// mayShare reports whether a follower's own route would have stored or shared the response, and
// whether the response is for more than one request at all.
func (q *Request) mayShare(hd *sharedResponse) bool {
	if hd.source == fromStaleOnError {
		return true
	}
	if hd.freshness.NoCache || !hd.kept() && !hd.freshness.UsableByFollowers() {
		return false
	}
	if hd.route == q.route && !q.personal() {
		return true
	}
	x := hd.exchange
	x.Personal = q.personal()
	if hd.source == fromOrigin {
		x.Header = headerOf(hd.seed)
		overlay(x.Header, hd.own, nil)
	}
	own := q.route.Policy.Freshness(&x)
	return own.Reason == rfc9111.Storable || own.UsableByFollowers()
}

// respondStored answers from the store.
func (q *Request) respondStored(outcome Outcome, detail Detail) error {
	now := q.now
	cs := rfc9111.CacheStatus{Hit: true, Detail: detail.String()}
	ttl := q.freshness.TTL(now)
	if q.found.Severity != store.NotPurged {
		ttl = min(ttl, 0) // purged, so stale
	}
	cs.SetTTL(ttl)
	q.decide(Decision{Outcome: outcome, Detail: detail})
	return q.send(q.stored(now), &cs)
}

// respondRenewed answers with the stored response that the origin has just confirmed.
func (q *Request) respondRenewed(hd *sharedResponse, leads bool) error {
	cs := rfc9111.CacheStatus{Forward: q.forward, FwdStatus: hd.origin, Stored: hd.stored && leads, Collapsed: !leads}
	a := q.stored(q.now)
	if leads {
		a.fields = hd.own
		d := Decision{Outcome: OutcomeRevalidated, Forward: q.forward, NotStored: hd.freshness.Reason}
		cs.Detail = d.Reason()
		q.decide(d)
	} else {
		q.decide(Decision{Outcome: OutcomeCollapsed, Forward: q.forward})
	}
	return q.send(a, &cs)
}

// stored returns the entry that was found as a delivery.
func (q *Request) stored(now time.Time) *delivery {
	e := q.found.Entry
	c := q.route.evaluated(e)
	a := q.newDelivery()
	*a = delivery{
		status: e.Status, header: c.header, fields: c.fields, length: e.Body.Len(), lengthText: c.length,
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
		room [scratchSize]string
	})
	q.scratch = a.room[:]
	return &a.delivery
}

// respondFlight answers from the streaming body.
func (q *Request) respondFlight(s membership, hd *sharedResponse, leads bool) error {
	cs := rfc9111.CacheStatus{Forward: q.forward, Stored: leads && hd.kept(), Collapsed: !leads}
	if !leads || q.forward == rfc9111.ForwardStale {
		cs.FwdStatus = hd.status
	}
	a := q.newDelivery()
	*a = delivery{status: hd.status, header: hd.header, length: hd.length, leads: leads}
	if leads {
		a.fields, a.streaming = hd.own, &s.fetch.body
		s.fetch.expose(q.origin)
	} else {
		a.fields, a.streaming = hd.forFollowers(q.route), new(flightBody)
	}
	*a.streaming = flightBody{flight: s.flight, reader: s.member.Reader(), ctx: q.r.Context(), length: hd.length, over: hd.over}
	if !leads {
		a.streaming.announced = linesOf(hd.own, "Trailer")
	}
	// The header goes out with the first byte. Until then another fetch can make up for a failed
	// one.
	reason := hd.freshness.Reason
	if !q.headerIsEnough(hd) {
		if err := a.streaming.first(q.byteWait(s)); err != nil && !errors.Is(err, io.EOF) {
			if answered, err := q.respondUnbegun(s, err); answered {
				return err
			}
			reason, cs.Stored = rfc9111.ReasonIncomplete, false // the header goes out, and no body
		}
	}
	a.untyped = hd.untyped.Load()
	s.member.Reader().OnDrop(q.breakWrite)
	if leads {
		cs.Detail = reason.String()
		q.decide(Decision{Outcome: OutcomeMiss, Forward: q.forward, NotStored: reason})
	} else {
		q.decide(Decision{Outcome: OutcomeCollapsed, Forward: q.forward})
	}
	return q.send(a, &cs)
}

// byteWait returns how long the request waits for the first byte of a shared body. A follower waits
// as long as it could still join.
func (q *Request) byteWait(s membership) time.Duration {
	if s.fetch != nil {
		return 0 // as long as it takes
	}
	return max(1, q.route.Wait-s.flight.Silent())
}

// respondUnbegun answers if err came in place of the first byte of a shared body, when nothing has
// gone out yet. It does not answer the client whose own fetch that was: this one gets what it would
// get without a cache, the header and a body that breaks off.
func (q *Request) respondUnbegun(s membership, err error) (answered bool, _ error) {
	switch {
	case q.r.Context().Err() != nil:
		return true, q.respondGone()
	case errors.Is(err, coalesce.ErrSpill), errors.Is(err, coalesce.ErrTooSlow): // the flight goes on for others
		return true, q.passUncached(q.forward, rfc9111.Storable)
	case errors.Is(err, errStalled):
		return true, err
	}
	if e, ok := q.staleOnError(); ok {
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
	q.sendStatus(q.w.Header(), rfc9111.CacheStatus{Forward: d.Forward, Detail: d.Reason()})
	q.w.WriteHeader(statusClientGone)
	return nil
}

// breakWrite ends a write that hangs, so that it does not keep its goroutine. It runs on a
// goroutine of neither the client nor the fetch, where a panic of the writer would end the process.
func (q *Request) breakWrite() {
	err := guarded(func() error { return http.NewResponseController(q.w).SetWriteDeadline(time.Now()) })
	if p, ok := errors.AsType[*coalesce.PanicError](err); ok {
		q.route.Logger.Error("panic of a response writer at SetWriteDeadline", slog.Any("panic", p.Value), slog.String("stack", string(p.Stack)))
	}
}

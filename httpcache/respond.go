package httpcache

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/coalesce"
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

// errBrokenEarly says that a flight broke off before this client had a byte of it, so that it can still wait for another.
var errBrokenEarly = errors.New("the fetch broke off")

// errStalled says that a flight has a header and then, for too long, no byte, so that this client
// can still be answered otherwise.
var errStalled = errors.New("the fetch stands still")

// respondShared answers from a flight that shares its response. answered is false when that is not for this request.
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
			q.varyNames = hd.variant.Names // now that they are known, it is sorted among its like
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
		q.found, q.freshness = store.Result{Entry: hd.entry, Soft: hd.soft}, hd.freshness
		if !leads {
			q.freshness = q.evaluate(hd.entry) // its own handler may allow less
		}
		if !leads && !q.freshness.UsableOnError(q.directives, q.now, hd.soft) {
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

// mayShare reports whether a follower's own handler would have let the response in, and whether it is for more than one request at all.
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
	if q.found.Soft {
		ttl = min(ttl, 0) // purged softly: stale, whatever is left
	}
	cs.SetTTL(ttl)
	q.decide(Decision{Outcome: outcome, Detail: detail})
	return q.send(q.stored(now), &cs)
}

// respondRenewed answers from the store what the origin has just said still holds.
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

// stored is the entry found as an answer.
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

// newDelivery returns an empty answer. With it comes the room for the header values that it sets, so that it takes one allocation.
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
	*a.streaming = flightBody{flight: s.flight, reader: s.party.Reader(), ctx: q.r.Context(), length: hd.length, over: hd.over}
	if !leads {
		a.streaming.announced = linesOf(hd.own, "Trailer")
	}
	// The header goes out with the first byte: until then a failed fetch can still be made good by another.
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
	s.party.Reader().OnDrop(q.breakWrite)
	if leads {
		cs.Detail = reason.String()
		q.decide(Decision{Outcome: OutcomeMiss, Forward: q.forward, NotStored: reason})
	} else {
		q.decide(Decision{Outcome: OutcomeCollapsed, Forward: q.forward})
	}
	return q.send(a, &cs)
}

// byteWait is how long the request waits for the first byte of a shared body: a follower, until it
// would not come aboard any more.
func (q *Request) byteWait(s membership) time.Duration {
	if s.fetch != nil {
		return 0 // as long as it takes
	}
	return max(1, q.route.Wait-s.flight.Silent())
}

// respondUnbegun answers where err has come in place of the first byte of a shared body, so that
// nothing has gone out yet. It does not answer the client whose own fetch that was: this one sees
// what it would see without Larder, the header and a body that breaks off.
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

// statusClientGone is nginx's status for a client that has gone before its answer, and
// reverse_proxy's.
const statusClientGone = 499

// respondGone answers a client that has gone. As a rule nobody but the access log sees it; but a
// client that has closed only its own side of the connection reads it, and must not take an empty
// 200 for the response.
func (q *Request) respondGone() error {
	d := Decision{Outcome: OutcomeMiss, Forward: q.forward, Detail: DetailClientGone}
	q.decide(d)
	q.sendStatus(q.w.Header(), rfc9111.CacheStatus{Forward: d.Forward, Detail: d.Reason()})
	q.w.WriteHeader(statusClientGone)
	return nil
}

// breakWrite ends a write that hangs, so that it does not keep its goroutine. It runs on neither
// the client's goroutine nor the fetch's, while the handler waits for it: a panic of the writer
// would end the process.
func (q *Request) breakWrite() {
	err := guarded(func() error { return http.NewResponseController(q.w).SetWriteDeadline(time.Now()) })
	if p, ok := errors.AsType[*coalesce.PanicError](err); ok {
		q.route.Logger.Error("panic of a response writer at SetWriteDeadline", slog.Any("panic", p.Value), slog.String("stack", string(p.Stack)))
	}
}

// delivery is a whole response to be given to one client, as its own conditionals, range and method ask for it. Its body is either stored,
// with trailer behind it, or streaming, whose trailers come with its end.
type delivery struct {
	status     int
	header     http.Header // as stored
	fields     []field     // of header, as the client gets them; see changes
	length     int64       // of the body, -1 if not known yet
	lengthText string      // length as text, where it has been written before
	age        time.Duration
	aged       bool // it comes from the store, so it has an Age

	stored    store.Body
	trailer   http.Header
	streaming *flightBody
	leads     bool // streaming was fetched for this client
	untyped   bool // it has no Content-Type, and net/http is not to guess one
}

// sendBody writes n bytes of the body from off to w, all that there are if n is negative. Its
// errors are those of w, for a client that has gone, and the body's.
func (a *delivery) sendBody(w http.ResponseWriter, off, n int64) error {
	if a.streaming != nil {
		return a.streaming.send(w, off, n)
	}
	return store.WriteBody(w, a.stored, off, n)
}

// trailers returns the fields behind the body, as this client gets them. Those of a streaming one are
// known when it has been sent.
func (q *Request) trailers(a *delivery) http.Header {
	if a.streaming == nil {
		return a.trailer
	}
	trailer, _ := a.streaming.flight.Trailer().(http.Header)
	if !a.leads {
		trailer = q.route.Policy.StorableTrailer(a.header, trailer)
	}
	return q.route.trailersWithoutTags(trailer)
}

// send writes the answer. That the header has a function of its own keeps the stack below the body's writes shallow: in HTTP/2 each request
// has a new goroutine, and to grow its stack there costs more than the rest of a hit.
func (q *Request) send(a *delivery, cs *rfc9111.CacheStatus) error {
	if whole, err := q.sendHeader(a, cs); !whole {
		return err
	}
	if err := a.sendBody(q.w, 0, -1); err != nil {
		return q.brokenOff(a, err)
	}
	q.sendTrailers(q.trailers(a))
	return nil
}

// sendHeader writes the header, and all of an answer that is not a whole body: 304, parts, and what has none. whole says that the whole
// body is to follow.
func (q *Request) sendHeader(a *delivery, cs *rfc9111.CacheStatus) (whole bool, err error) {
	h := q.w.Header()
	overlay(h, a.fields, q.scratch)
	q.route.stripTags(h) // of outer handlers
	if a.aged {
		h["Age"] = q.scratch.one(scratchAge, strconv.FormatInt(int64(a.age/time.Second), 10))
	}
	if rfc9111.Precondition(q.r.Method, q.r.Header, a.status, a.header, q.received(a)) == rfc9111.NotModified {
		overwriteWithNotModified(h)
		if !cs.Hit && cs.FwdStatus == 0 {
			cs.FwdStatus = a.status
		}
		q.sendStatus(h, *cs)
		q.w.WriteHeader(http.StatusNotModified)
		return false, nil
	}
	if a.status == http.StatusOK && a.length >= 0 && len(q.r.Header["Range"]) > 0 && q.r.Method == http.MethodGet {
		ranges, unsatisfiable, ok := rfc9111.ParseRange(q.r.Header, a.header, a.length)
		if ok {
			return false, q.sendRanges(a, cs, ranges, unsatisfiable)
		}
	}
	// Trailers need a body without Content-Length in HTTP/1.1.
	if a.length >= 0 && bodyAllowed(a.status) && len(a.trailer) == 0 {
		if a.lengthText == "" {
			a.lengthText = strconv.FormatInt(a.length, 10)
		}
		h["Content-Length"] = q.scratch.one(scratchLength, a.lengthText)
	}
	if bodyAllowed(a.status) {
		a.announce(h)
	}
	if a.untyped {
		leaveUntyped(h)
	}
	q.sendStatus(h, *cs)
	q.w.WriteHeader(a.status)
	return q.r.Method != http.MethodHead && bodyAllowed(a.status), nil
}

// received is when the response that is the answer arrived.
func (q *Request) received(a *delivery) time.Time {
	if a.streaming != nil {
		return a.streaming.flight.Head().(*sharedResponse).exchange.ResponseTime
	}
	return q.found.Entry.ResponseTime
}

// sendTrailers sends the fields behind the body. The header is flushed before: net/http would else give a short body a Content-Length,
// which leaves no place for them.
func (q *Request) sendTrailers(trailers http.Header) {
	if len(trailers) == 0 || http.NewResponseController(q.w).Flush() != nil {
		return
	}
	setTrailers(q.w.Header(), trailers)
}

// announce says which fields come behind the body (RFC 9110 6.6.2): of a stored answer those that
// are there, of a streaming one those that the inner handlers announced. The leader has that field
// from them; Trailer is hop by hop, so the stored header goes without.
func (a *delivery) announce(h http.Header) {
	switch {
	case a.streaming != nil && len(a.streaming.announced) > 0:
		h["Trailer"] = slices.Clone(a.streaming.announced)
	case len(a.trailer) > 0:
		names := make([]string, 0, len(a.trailer))
		for name := range a.trailer {
			names = append(names, http.CanonicalHeaderKey(strings.TrimPrefix(name, http.TrailerPrefix)))
		}
		slices.Sort(names)
		h["Trailer"] = []string{strings.Join(slices.Compact(names), ", ")}
	}
}

// bodyAllowed is RFC 9110 6.4.1.
func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// brokenOff ends an answer that its source or its client has left unfinished, so that it does not
// look like a clean end: a client that has closed only its own side of the connection reads on. What
// there is of a response from the origin reaches the client before, as with reverse_proxy alone.
func (q *Request) brokenOff(a *delivery, err error) error {
	// Not where the client is at fault: of a reader that was dropped another goroutine sets the deadline at this moment.
	if a.streaming != nil {
		if failure := a.streaming.flight.Err(); failure != nil && errors.Is(err, failure) {
			_ = http.NewResponseController(q.w).Flush() // the client may have gone
		}
	}
	abort(err)
	return err
}

// abort breaks the client's connection, with the panic of the inner handlers if that is the cause.
func abort(err error) {
	if p, ok := errors.AsType[*coalesce.PanicError](err); ok {
		panic(p.Value)
	}
	panic(http.ErrAbortHandler)
}

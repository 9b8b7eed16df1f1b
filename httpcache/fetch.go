package httpcache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
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

// Fetch runs the handlers for a flight. It belongs to no client: it has its own goroutine,
// request, context and header map (subrequest.go), and what it decides at the response header holds for
// all who wait:
//
//	                 ┌─ storable ──────────► share     everybody streams from the streaming body; stored when whole
//	                 ├─ 304 to our question ► confirm  the stored response, its header updated, is everybody's answer, or its own client's
//	WriteHeader ─────┼─ failure ────────────► fail     a stale answer, or the leader's own and one more fetch for the others
//	                 └─ else ───────────────► release  the leader's real writer takes over, the others fetch for themselves
type Fetch struct {
	route     *Route
	cache     *Cache
	origin    OriginRequest
	flight    *coalesce.Flight
	ticket    ticket
	ticketEnd sync.Once

	hitForMissKey store.Key // of the leader's request

	// Facts of the leader's request; the request itself may be over before the fetch is.
	keyed         keyed   // but for its header, which is
	clientHeader  []field // this
	inner         url.URL // of keyed: an inner rewrite changes the request's own
	key           store.Key
	url           string // with the listener, see Request.storedURL
	method        string
	directives    rfc9111.RequestDirectives
	authorized    bool
	unkeyedCookie bool
	noStore       bool // it says so, whether that is obeyed or not
	wantsPart     bool // it has Range
	forward       rfc9111.Forward

	stale     *store.Entry // to be validated, nil if nothing is stored
	freshness *rfc9111.Freshness
	soft      bool
	renews    bool // something is stored, whatever becomes of the question about it

	call       int     // which of the origin's requests is asked, from 0
	seed       []field // the header as the leader's outer handlers had filled it
	writer     *fetchWriter
	first      fetchWriter // of the first call; here to spare allocations, as what follows
	response   sharedResponse
	body       flightBody        // as the leader reads it
	bodyWriter *store.BodyWriter // nil unless the body is so large that it goes to disk while it arrives

	begun      time.Time
	foreign304 bool        // the validation was answered by a 304 for something else: ask again without
	returned   atomic.Bool // the handlers have, for good
	leaderGone atomic.Bool
	over       chan struct{} // closed when what is to be stored is stored
}

// originError is a response that says the origin failed.
type originError struct {
	status     int
	retryAfter string
}

// Error implements error.
func (e *originError) Error() string { return fmt.Sprintf("the origin answered %d", e.status) }

var (
	errIncomplete   = errors.New("the body ended before its Content-Length")
	errOverlong     = errors.New("the body goes on past its Content-Length")
	errNotShareable = errors.New("the response is not for sharing and nobody is left to have it")
	errForeign304   = errors.New("the origin answered a validation with 304 for another response")
)

// newFetch prepares the fetch on the goroutine of the request that leads it.
func (q *Request) newFetch(f *coalesce.Flight, ticket ticket) *Fetch {
	tag := f.Tag().(*flightTag)
	copies := 1
	if q.found.Entry != nil && rfc9111.Validates(q.keyed.method) {
		copies = 2 // see Fetch.copies
	}
	origin := q.origin.Detach(f.Context(), q.r, copies)
	x := origin.Fetch()
	*x = Fetch{
		route: q.route, cache: q.cache, origin: origin, flight: f, ticket: ticket, hitForMissKey: q.hitForMissKey(),
		keyed: q.keyed, clientHeader: snapshot(q.r.Header), inner: *q.r.URL,
		key: q.key, url: tag.url, method: q.keyed.method, directives: q.directives,
		authorized: q.authorized, unkeyedCookie: q.unkeyedCookie, noStore: q.saysNoStore(),
		wantsPart: len(q.r.Header["Range"]) > 0 && !q.unsafe(), forward: q.forward,
		stale: q.found.Entry, freshness: q.freshness, soft: q.found.Soft, renews: q.found.Entry != nil,
		seed: snapshot(q.w.Header()), begun: time.Now(), over: make(chan struct{}),
	}
	x.keyed.header, x.keyed.inner = nil, &x.inner
	x.writer = &x.first
	x.writer.begin(x)
	if q.found.Entry != nil {
		x.hold(q.found.Share()) // it may be answered from when the request that found it is over
	}
	for n := range x.copies() {
		x.prepare(origin.Request(n))
	}
	x.cache.acquire()
	f.OnUnstorable(x)
	return x
}

// hold keeps what a look-up found until the fetch is over and nobody answers from its flight any more.
func (x *Fetch) hold(found store.Result) { x.flight.OnEmpty(func() { found.Release() }) }

// run fetches until the flight has ended. Nothing may leave its goroutine by panic: it would end the process, and reverse_proxy panics at every
// body that breaks off.
func (x *Fetch) run() {
	defer func() {
		x.cache.metrics.FetchDone(time.Since(x.begun))
		x.end()
	}()
	err := guarded(x.fill)
	if err == nil {
		return
	}
	x.backOff()
	x.flight.Fail(err) // where the panic is not one of the inner handlers, which the writer has heard of
	p, panicked := errors.AsType[*coalesce.PanicError](err)
	if !panicked || errors.Is(err, http.ErrAbortHandler) {
		return
	}
	if x.leaderGone.Load() || x.flight.Err() == nil { // otherwise the leader panics with it
		x.route.Logger.Error("panic in a fetch that no client hears of", slog.Any("panic", p.Value), slog.String("stack", string(p.Stack)))
	}
}

// fill calls the inner handlers and ends the flight with what they return.
func (x *Fetch) fill() error {
	err := guarded(x.callNext)
	if x.foreign304 && x.writer.mode == modeUndecided {
		x.refetch()
		err = guarded(x.callNext)
	}
	x.returned.Store(true)
	x.writer.finish(err)
	return err
}

// refetch makes the fetch one that validates nothing. Its request was made with the first: handlers
// will have read the body, rewritten the URL and satisfied route groups, and the client may have
// left.
func (x *Fetch) refetch() {
	x.stale, x.freshness, x.foreign304 = nil, nil, false
	x.call = 1
	rfc9111.ClearConditions(x.request().Header)
	x.writer = new(fetchWriter)
	x.writer.begin(x)
}

func (x *Fetch) callNext() error { return x.origin.Do(x.call, x.writer) }

// copies is how many requests the origin has made for it.
func (x *Fetch) copies() int {
	if x.renews && rfc9111.Validates(x.method) {
		return 2 // the answer to the first may be a foreign 304
	}
	return 1
}

// request is what the origin is asked with. Its header has what handlers have written into it.
func (x *Fetch) request() *http.Request { return x.origin.Request(x.call) }

// prepare makes a copy of the leader's request one that is for all.
func (x *Fetch) prepare(r *http.Request) {
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // it answers everybody
	}
	r.Body, r.ContentLength = http.NoBody, int64(len(x.keyed.body))
	if len(x.keyed.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(x.keyed.body))
	}
	r.Trailer, r.TransferEncoding = nil, nil
	if u := x.route.Key.Query.Applied(r.URL); u != r.URL {
		r.URL = u
		r.RequestURI = u.RequestURI()
	}
	x.condition(r.Header)
	rfc9111.AppendCDNLoop(r.Header, loopToken)
}

// condition takes out of a request's header what would make the answer one for its client alone, and
// asks whether what is stored still holds.
func (x *Fetch) condition(h http.Header) {
	if x.validates() {
		rfc9111.MakeConditional(h, x.stale.Header)
		return
	}
	rfc9111.ClearConditions(h)
}

// expose has the leader's server see what the handlers have set so far.
func (x *Fetch) expose(leader Origin) { x.origin.Expose(leader, x.returned.Load()) }

// guarded turns a panic of f into an error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = coalesce.NewPanicError(v)
		}
	}()
	return f()
}

// end gives back all that the fetch holds, whether it has run or not.
func (x *Fetch) end() {
	x.flight.Settle()
	x.endTicket()
	close(x.over)
	x.cache.release()
}

// Unstorable implements coalesce.Storer.
func (x *Fetch) Unstorable() { x.endTicket() }

// endTicket ends the ticket, so that purges need not be remembered for this fetch any more: it is
// over, or its response will not be stored. It may then go on for long, as an event stream does.
// Those who are aboard and have yet to look whether the response was purged find it noted in the
// head. It may be called by any goroutine, and more than once.
func (x *Fetch) endTicket() {
	x.ticketEnd.Do(func() {
		if hd, ok := x.flight.Head().(*sharedResponse); ok {
			hd.purged.Store(hd.purgedSince(x.cache.store, x.url, x.ticket.Generation()))
		}
		x.ticket.End()
	})
}

// exchange is the response with what decides about storing it.
func (x *Fetch) exchange(status int, header http.Header) rfc9111.Exchange {
	return rfc9111.Exchange{
		Method: x.method, URL: store.BareURL(x.url), Status: status, Header: header,
		RequestTime: x.begun, ResponseTime: x.writer.headerAt,
		Authorized: x.authorized, UnkeyedCookie: x.unkeyedCookie, RequestNoStore: x.noStore,
		HadSetCookie: len(header["Set-Cookie"]) > 0, VaryUnseen: !x.seesAll(header),
	}
}

// decide settles at the response header what becomes of the flight.
func (x *Fetch) decide(status int, header http.Header) {
	ex := x.exchange(status, header)
	if x.validates() && status == http.StatusNotModified {
		if !rfc9111.Selects(x.stale.Header, header) || store.IsDamaged(x.stale.Body) {
			// RFC 9111 4.3.4: it speaks of none of ours, so it updates nothing; or of one whose body is lost.
			x.foreign304 = true
			return
		}
		x.confirm(&ex)
		return
	}
	freshness := x.route.judge(&ex, x.writer.declared)
	switch {
	case rfc9111.OriginFailed(status) && x.staleStandsIn(): // even if it may be stored: what it would replace is what visitors came for
		x.backOff()
		x.share(x.staleOnError(status), 0)
	case rfc9111.OriginFailed(status) && x.staleIsKept(): // its client would have no stale answer, and gets the failure
		x.fail(status, header.Get("Retry-After"))
	case freshness.Reason == rfc9111.Storable:
		x.shareFetched(&ex, &freshness)
	case freshness.UsableByFollowers():
		x.backOff()
		x.cache.metrics.NotStored(freshness.Reason)
		x.shareFetched(&ex, &freshness)
	case x.mayBreakOff(status):
		x.writer.postpone(func() { x.decideUnshared(status, &freshness) })
	default:
		x.decideUnshared(status, &freshness)
	}
}

// mayBreakOff reports whether a response that is not for all should have its first byte before its
// leader's client gets the header: what breaks off before that is a failure, which a stale response
// stands in for.
func (x *Fetch) mayBreakOff(status int) bool {
	return x.writer.declared != 0 && bodyAllowed(status) && status >= http.StatusOK && !rfc9111.IsEventStream(x.writer.header) && x.staleStandsIn()
}

// decideUnshared settles what becomes of a response that is not for all.
func (x *Fetch) decideUnshared(status int, freshness *rfc9111.Freshness) {
	if status >= http.StatusInternalServerError {
		x.fail(status, x.writer.header.Get("Retry-After"))
		return
	}
	x.release(freshness)
}

// judge says whether a response may be stored, with a body of length (-1 if that is not known), and
// how long it is fresh. It judges what a fetch brings and what is passed on alike: were a slow
// answer too old by one and not by the other, requests would wait for each other in vain for ever.
func (rt *Route) judge(x *rfc9111.Exchange, length int64) rfc9111.Freshness {
	f := rt.Policy.Freshness(x)
	if f.Reason == rfc9111.Storable && length > rt.largestBody() {
		f.Reason = rfc9111.ReasonTooLarge
	}
	return f
}

// shareFetched shares a response that may be stored, or is for those who wait alone.
func (x *Fetch) shareFetched(ex *rfc9111.Exchange, freshness *rfc9111.Freshness) {
	// What the inner handlers go on to write into their map are trailers. What is shared and stored is a copy.
	own := withoutTrailers(changes(x.seed, ex.Header, x.route.decisive))
	hd := &x.response
	*hd = sharedResponse{
		source: fromOrigin, route: x.route, status: ex.Status, exchange: *ex, freshness: freshness,
		header: x.storable(own, freshness), variant: x.variant(ex.Header),
		seed: x.seed, own: x.route.withoutTags(own),
		length: x.writer.declared, over: x.over,
		tags: x.tags(ex.Header),
	}
	hd.exchange.Header = nil
	x.noteVariance(ex.Header)
	hd.key, hd.search = x.key, x.keyed.variance
	x.cache.updateHitForMiss(x.hitForMissKey, ex.Status, freshness)
	if x.writer.declared >= 0 {
		x.flight.Expect(x.writer.declared)
	}
	x.writer.shared = hd
	if hd.kept() {
		x.flight.SpillTo(x)
	}
	x.share(hd, x.route.MaxBody)
	if !hd.kept() { // nobody joins for this answer any more
		x.endTicket()
	}
}

// share hands hd to all who wait. The fetch goes on when they leave, but where it is for them
// alone: the response is worth storing.
func (x *Fetch) share(hd *sharedResponse, limit int64) {
	x.writer.mode = modeShared
	x.flight.Keep(hd.source != fromOrigin || hd.kept())
	x.flight.Share(hd, limit)
}

// storable is the header as it is stored.
func (x *Fetch) storable(changed []field, freshness *rfc9111.Freshness) http.Header {
	header := x.provided(changed)
	x.route.Policy.MakeStorable(header, freshness)
	return header
}

// provided is the response's header: what the inner handlers changed, and of what they left as it
// was that which decides about storing it.
func (x *Fetch) provided(changed []field) http.Header {
	header := make(http.Header, len(changed)+1) // and Date
	for _, f := range x.seed {
		if slices.Contains(x.route.decisive, f.name) {
			header[f.name] = f.values
		}
	}
	for _, f := range changed {
		header[f.name] = f.values
	}
	noteAdded(header, changed)
	if len(header["Date"]) == 0 { // RFC 9110 6.6.1; a handler may have put nil there, to keep net/http from adding one
		header["Date"] = []string{x.writer.headerAt.UTC().Format(http.TimeFormat)}
	}
	return header
}

// validates reports whether the fetch asks if what is stored still holds.
func (x *Fetch) validates() bool { return x.stale != nil && rfc9111.Validates(x.method) }

// store keeps the response, now that it is whole.
func (x *Fetch) store(hd *sharedResponse, trailer http.Header) {
	body, whole := x.wholeBody()
	if !whole {
		reason := rfc9111.ReasonTooLarge
		if x.flight.Overflow() == coalesce.NoRoom {
			reason = rfc9111.ReasonFull
		}
		x.backOff()
		x.cache.metrics.NotStored(reason)
		return
	}
	entry := &store.Entry{
		Key: x.key, URL: x.url, Variant: hd.variant, Method: x.method, Flags: hd.flags(),
		Status: hd.status, Header: hd.header, Trailer: x.route.Policy.StorableTrailer(hd.header, trailer),
		RequestTime: hd.exchange.RequestTime, ResponseTime: hd.exchange.ResponseTime,
		Tags: hd.tags, Generation: x.ticket.Generation(), Body: body,
	}
	if body.Len() <= smallBody || x.flight.Spilled() {
		x.put(entry, hd.freshness, nil)
		return
	}
	var held store.Result
	if x.put(entry, hd.freshness, &held); held.Entry != nil {
		x.flight.MoveTo(&heldBody{Body: held.Entry.Body, held: held})
	} else {
		x.flight.TakeBack()
	}
}

// smallBody is how much of a body that is stored may be in memory a second time, uncounted, while its clients take their time: what the
// kernel holds for a connection is more. Of larger bodies they read the store's copy.
const smallBody = 64 << 10

// heldBody is a stored body that those read who came for it while it was on its way.
type heldBody struct {
	store.Body
	held store.Result
}

// Close implements coalesce.BodySource.
func (b *heldBody) Close() { b.held.Release() }

// put stores an entry and reports whether it went in. Where hold is not nil, that has it then.
func (x *Fetch) put(entry *store.Entry, freshness *rfc9111.Freshness, hold *store.Result) bool {
	entry.FreshUntil = freshness.ResponseTime.Add(freshness.Lifetime - freshness.InitialAge)
	entry.KeepUntil = freshness.KeepUntil(rfc9111.HasValidator(entry.Header) && rfc9111.Validates(entry.Method))
	refusal := store.RefusedPurged
	if !x.overtaken(entry) {
		if hold == nil {
			refusal = x.cache.store.Put(entry, x.route.MaxVariants)
		} else {
			*hold, refusal = x.cache.store.PutHeld(entry, x.route.MaxVariants)
		}
	}
	if refusal == store.Stored {
		x.cache.refreshBackoff.forget(x.hitForMissKey)
		return true
	}
	if refusal != store.RefusedPurged { // no failure: what is purged softly meanwhile is to be refreshed at once
		x.backOff()
	}
	x.cache.metrics.NotStored(reasonOf(refusal))
	return false
}

// overtaken reports whether what is stored may be newer than what this fetch has brought, which may
// not take its place then: the URL was softly purged while the fetch was under way, or another fetch
// began later and was faster. Fetches of one key run side by side where one stood still, or where
// requests do not wait for each other: with Authorization, say, or without coalescing.
func (x *Fetch) overtaken(entry *store.Entry) bool {
	if _, soft := x.cache.store.Purged(entry.URL, entry.Tags, entry.Generation); soft {
		return true
	}
	if x.cache.store.Absent(entry.Key) { // as a rule; the look-up costs an allocation
		return false
	}
	now := x.stored(entry.Key, entry.Variant)
	defer now.Release()
	// A request time to come is of before the clock was set back.
	return now.Entry != nil && now.Entry.RequestTime.After(entry.RequestTime) && !now.Entry.RequestTime.After(time.Now())
}

// stored looks up what is stored of exactly this variant.
func (x *Fetch) stored(key store.Key, variant store.Variant) store.Result {
	return x.cache.store.Lookup(key, func(v *store.Variant) int {
		if v.Equal(&variant) {
			return 1
		}
		return 0
	})
}

func reasonOf(refusal store.PutResult) rfc9111.Reason {
	switch refusal {
	case store.RefusedFull, store.RefusedClosed:
		return rfc9111.ReasonFull
	case store.RefusedTooLarge:
		return rfc9111.ReasonTooLarge
	case store.RefusedPurged:
		return rfc9111.ReasonPurged
	case store.RefusedDamaged:
		return rfc9111.ReasonIncomplete
	case store.RefusedExpired:
		return rfc9111.ReasonNoValidator // one would have kept it
	case store.Stored:
	}
	return rfc9111.Storable
}

// declaredLength is Content-Length, -1 where there is none or it cannot be read.
func declaredLength(h http.Header) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(h.Get("Content-Length")), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

package httpcache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Fetch runs the handlers for a flight. It belongs to no client: it has its own goroutine, request,
// context and header map. What it decides at the response header holds for all requests that wait:
//
//	            ┌─ may be stored, or shared ► share    all stream from the body; it is stored when
//	            │                                      whole, if it may be
//	            ├─ 304 to a validation ─────► confirm  the stored response, its header updated, is
//	            │                                      the answer for all, or for the leader alone
//	            ├─ 304 about another one ───► refetch  the origin is asked again, unconditionally
//	WriteHeader ┼─ failure ──┬─ stale may ──► stale    the stored response is the answer for all
//	            │            └─ else ───────► fail     the leader gets it, the others another fetch
//	            └─ else ────────────────────► release  the leader's client gets it, the others fetch
//	                                                   for themselves
//
// decide.go has the verdicts. The last two may wait for the first byte of the body (postpone).
type Fetch struct {
	route     *Route
	cache     *Cache
	origin    OriginRequest
	flight    *coalesce.Flight
	ticket    ticket
	ticketEnd sync.Once

	hitForMissKey store.Key // of the leader's request

	presented              // of the leader, but for its keyed.header, which is clientHeader
	asked        store.Key // key as it was when the fetch began: the answer may change it
	clientHeader []field
	came         []field // that header as it came, which clientHeader may be without some of
	inner        url.URL // of keyed: handlers may rewrite the request's own
	url          string  // with the listener, see Request.storedURL
	method       string
	varyNames    []string  // what was known of the URL's Vary
	lease        store.Key // see leaseKey
	noStore      bool      // the request has no-store, whether the route obeys that or not
	wantsPart    bool      // the request has Range

	invalidation *invalidation // of an unsafe request, nil for others
	unstored     atomic.Pointer[unstored]

	// flags are stored with the response, beside those of its exchange.
	flags store.Flags
	// observes says that the fetch copies the answer to its client's own request, see observe.go.
	observes bool

	stale     *store.Entry // to be validated, nil if nothing is stored
	freshness *rfc9111.Freshness
	severity  store.Severity
	renews    bool // a response is stored, even if refetch drops its validation
	lacking   bool // stale lacks slices that its leader needs
	forced    bool // what is stored is fresh, see forced.go
	farPart   bool // it is forced, and its leader wants a part that lies far in the whole
	// objectChanged says that its leader has found a head to be outdated, which other machines may
	// not have heard of yet.
	objectChanged bool
	elsewhere     bool // stale is another machine's, and not stored here
	copies        int  // of the origin's requests

	// What it asks for, see firstpart.go; its Size is 0 if that is the whole.
	firstPart  rfc9111.Slice
	wantsWhole bool         // what came cannot be stored in slices, so the whole is asked for
	slice      *sliceOf     // what it brings, if that is one; see slicefetch.go
	member     *batchMember // its place among those that ask together, see batch.go

	trace *Trace // of its leader, nil unless that is explained

	remote RemoteFetch // nil: other machines have no part in it
	// othersUntil is until when it waits for fetches of other machines. See lateremote.go for both.
	othersUntil time.Time
	lateKey     store.Key // where it is remembered that one was late
	// remoteSlice is for the slice that a first part brings, where remote is for the head.
	remoteSlice RemoteFetch
	// remoteLimit is how long a body may be for them, negative if it is too long already.
	remoteLimit int64
	background  bool    // it is a refresh that no client waits for
	place       *holder // of the one that it has among those, or nil
	// letGo gives back what the request had found, nil where that is nothing; see hold.
	letGo func()
	// hadSetCookie says that the answer for many came with a Set-Cookie, of which it has its item.
	hadSetCookie bool
	visit        visit
	call         int     // which of the origin's requests is asked, from 0
	seed         []field // the header as the leader's outer handlers had filled it
	writer       *fetchWriter
	first        fetchWriter // of the first call; here to spare allocations, as what follows
	response     sharedResponse
	body         flightBody // as the leader reads it
	// Nil unless the body goes to disk while it arrives.
	bodyWriter atomic.Pointer[store.BodyWriter]

	begun       time.Time
	usually     time.Duration          // the FetchTime of the stored response
	freshUntil  time.Time              // until when that is fresh, if it is refreshed early
	searchLines []string               // No-Vary-Search as it was read last
	searchSays  rfc9111.SearchVariance // what it says
	// A 304 for another response came: ask again without a validation.
	foreign304 bool
	returned   atomic.Bool // the handlers have returned, for good
	leaderGone atomic.Bool
	over       chan struct{} // closed when the fetch is over and its response stored, if it may be
}

// leader is what a fetch knows of the request that it was begun for. The request lends itself to
// the flight while it waits. The fetch calls it on its own goroutine then.
type leader interface {
	// inform sends a 1xx to the client.
	inform(status int, header http.Header)
	// passResponse returns the writer by which a response with this header goes to the client.
	passResponse(x *Fetch, header http.Header, reason rfc9111.Reason) *passWriter
}

// originError is a response that says the origin failed.
type originError struct {
	status     int
	retryAfter string
	elsewhere  bool // to other machines
}

// Error implements error.
func (e *originError) Error() string { return fmt.Sprintf("the origin answered %d", e.status) }

var (
	errIncomplete   = errors.New("the body ended before its Content-Length")
	errOverlong     = errors.New("the body goes on past its Content-Length")
	errNotShareable = errors.New("the response is for one client, which does not wait for it any more")
	errForeign304   = errors.New("the origin answered a validation with 304 for another response")
)

// newFetch prepares the fetch on the goroutine of the request that leads it.
func (q *Request) newFetch(f *coalesce.Flight, ticket ticket) *Fetch {
	tag := f.Tag().(*flightTag)
	remote := q.beginRemoteFor(tag)
	copies := q.copies(remote)
	hitForMissKey := q.hitForMissKeyOf(tag.key)
	firstPart, asksPart := q.firstPart(hitForMissKey)
	var remoteSlice RemoteFetch
	if asksPart {
		copies = 2 // the answer to the first may have to be asked for whole
		remoteSlice = q.beginRemoteFor(tag)
	}
	member := q.batchMember(f)
	ctx, copies := member.requests(f, copies)
	origin := q.detach(ctx, copies)
	forced := q.isForced() && q.observed() == nil // there its client reads its own answer
	x := origin.Fetch()
	*x = Fetch{
		route: q.route, cache: q.cache(), origin: origin, flight: f, ticket: ticket, hitForMissKey: hitForMissKey, member: member,
		presented: q.presented, asked: q.key, clientHeader: snapshot(q.r.Header), inner: *q.r.URL,
		varyNames: q.varyNames, trace: q.trace, firstPart: firstPart,
		url: tag.url, method: q.keyed.method, noStore: q.saysNoStore(),
		wantsPart: len(q.r.Header["Range"]) > 0 && !q.unsafe(),
		stale:     q.found.Entry, freshness: q.freshness, severity: q.found.Severity, renews: q.found.Entry != nil, lacking: q.lacksSlices(),
		forced: forced, farPart: forced && q.wantsFarPart(),
		remote: remote, remoteSlice: remoteSlice, objectChanged: q.objectChanged,
		remoteLimit: -1, copies: copies, seed: snapshot(q.w.Header()), begun: time.Now(), over: make(chan struct{}),
	}
	x.keyed.header, x.keyed.inner, x.came = nil, &x.inner, x.clientHeader
	tag.begins(x.came)
	x.writer = &x.first
	x.writer.init(x)
	q.entrust(x)
	if q.isSliced() {
		x.askForCoding(q.found.Entry)
	}
	for n := range x.copies {
		x.prepare(origin.Request(n))
	}
	member.serve(x)
	if asksPart {
		origin.Request(0).Header["Range"] = []string{firstPart.Range()}
	}
	if x.route.Policy.IgnoreClientDirectives {
		x.removeDirectives(q.varyNames)
	}
	x.cache.beginFetch()
	f.OnUnstorable(x)
	f.Attend(x)
	return x
}

// entrust gives a fetch what the request has for it: the lease, what an unsafe request invalidates,
// the entry that is validated, and where it is noted if that fails.
func (q *Request) entrust(x *Fetch) {
	if x.remote != nil {
		x.lease = q.leaseBase()
		q.limitWait(x, x.tag().key)
	}
	if q.unsafe() {
		if in := q.invalidation(); in != nil {
			x.invalidation = in.beforehand()
		}
	}
	if q.found.Entry != nil {
		x.usually = q.found.Entry.FetchTime
		x.letGo = x.hold(q.found.Share()) // it may be answered from when the request that found it is over
	}
}

// URL implements Subject.
func (x *Fetch) URL() string { return store.BareURL(x.url) }

// Route implements Subject.
func (x *Fetch) Route() *Route { return x.route }

// kind is what the fetch is in the metrics.
func (x *Fetch) kind() FetchKind {
	switch {
	case x.background:
		return FetchRefresh
	case x.slice != nil || x.firstPart.Size > 0 && x.call == 0:
		return FetchSlice
	}
	return FetchMiss
}

// detach makes the requests of a fetch. One that only copies what its client gets makes none.
func (q *Request) detach(ctx context.Context, copies int) OriginRequest {
	if q.observed() != nil {
		return &ownRequest{q: q}
	}
	return q.origin.Detach(ctx, q.r, copies)
}

// hold keeps what a look-up found until the fetch is over and no request is answered from its
// flight any more, or until letGo.
func (x *Fetch) hold(found store.Result) (letGo func()) {
	letGo = sync.OnceFunc(func() { found.Release() })
	x.flight.OnEmpty(letGo)
	return letGo
}

// run fetches until the flight has ended. No panic may leave its goroutine: it would end the
// process, and proxies panic at every body that breaks off.
func (x *Fetch) run() {
	defer x.end()
	err := guarded(x.fill)
	if err == nil {
		return
	}
	if refusalOf(err) == nil {
		x.backOff()
	}
	// No change if the writer has failed the flight already.
	x.flight.Fail(err)
	if x.leaderGone.Load() || x.flight.Err() == nil { // otherwise the leader panics with it
		x.logOwnPanic(err)
	}
}

// logOwnPanic logs a panic of the handlers that no client is told of, but none that aborts an
// answer on purpose.
func (x *Fetch) logOwnPanic(err error) {
	if p, panicked := errors.AsType[*coalesce.PanicError](err); panicked && !errors.Is(err, http.ErrAbortHandler) {
		x.route.logPanic("panic in a fetch that no client hears of", p)
	}
}

// fill calls the handlers and ends the flight with what they return.
func (x *Fetch) fill() error {
	if x.answerFromRemote() {
		return nil
	}
	err := x.askOrigin()
	x.returned.Store(true)
	x.writer.finish(err)
	return err
}

// askOrigin asks the origin, together with others if it may. On its own it asks twice if the first
// answer was a foreign 304, or a part of which no use can be made.
func (x *Fetch) askOrigin() error {
	if x.member != nil {
		if answered, err := x.askTogether(); answered {
			return err
		}
	}
	err := x.visitOrigin()
	if (x.foreign304 || x.wantsWhole) && x.writer.mode == modeUndecided {
		x.refetch()
		x.tellWaits() // for a place at the origin, which it has given back
		err = x.visitOrigin()
	}
	return err
}

// asksOnceMore reports whether the answer that comes is of no use, so that another is asked for.
func (x *Fetch) asksOnceMore() bool { return x.call == 0 && x.wantsWhole }

// visitOrigin calls the handlers when the origin has a place for the fetch.
func (x *Fetch) visitOrigin() error {
	x.flight.SetQueued(true)
	x.visit.place.Page, x.visit.fetch = pageOf(x.tag().key), x
	if x.background {
		x.visit.noteKind() // only a refresh is told by it whether it may go
	}
	if err := x.visit.enter(x.flight.Context(), x, x.kind(), x.admissionClass()); err != nil {
		return err
	}
	x.flight.SetQueued(false)
	x.tellAsked()
	x.tag().asked.Store(true)
	// It may have waited. To count that as the response's age would be too much.
	x.begun = x.visit.place.Begun()
	err := guarded(x.callNext)
	if x.asksOnceMore() {
		x.logOwnPanic(err)
		err = nil // the fetch has broken the answer off itself
	}
	x.visit.leave(x, err, x.writer.Header())
	return err
}

// refetch makes the fetch one that validates nothing. Its request was made together with the first.
// By now handlers have read the body, rewritten the URL and satisfied route groups, and the client
// may have left. What is stored may still stand in for a failure, unless a 304 was about another
// response: then it is not what the origin has.
func (x *Fetch) refetch() {
	if x.foreign304 {
		x.stale, x.freshness, x.foreign304 = nil, nil, false
	}
	x.call = 1
	rfc9111.ClearConditions(x.request().Header)
	x.writer = new(fetchWriter)
	x.writer.init(x)
}

func (x *Fetch) callNext() error { return x.origin.Do(x.call, x.writer) }

// copies returns how many requests the origin makes for the fetch.
func (q *Request) copies(remote RemoteFetch) int {
	if q.observed() != nil {
		return 0
	}
	if rfc9111.Validates(q.keyed.method) && (q.found.Entry != nil || remote != nil) {
		return 2 // the answer to the first may be a foreign 304
	}
	return 1
}

// request returns the request that the origin is asked. Its header has what handlers have written
// into it.
func (x *Fetch) request() *http.Request { return x.origin.Request(x.call) }

// prepare changes a copy of the leader's request so that the answer can be for all requests.
func (x *Fetch) prepare(r *http.Request) {
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // its answer is for GET as well
	}
	r.Body, r.ContentLength = http.NoBody, int64(len(x.keyed.content.sent()))
	if r.ContentLength > 0 {
		r.Body = x.keyed.content.reader()
	}
	r.Trailer, r.TransferEncoding = nil, nil
	if u := OriginForm(x.route.Key.Query.Applied(r.URL)); u != r.URL {
		r.URL = u
		r.RequestURI = u.RequestURI()
	}
	x.condition(r.Header)
	rfc9111.AppendCDNLoop(r.Header, loopToken)
}

// OriginForm returns a URL without scheme, user and host, u itself where it has none of them. A
// client may send them in the request target (absolute-form, RFC 9112 3.2.2). The host is in the
// key as Host is; how it was spelt and who the user is are not, so handlers of a fetch are not
// shown them (C1).
func OriginForm(u *url.URL) *url.URL {
	if isOriginForm(u) {
		return u
	}
	origin := *u
	origin.Scheme, origin.Host, origin.User = "", "", nil
	return &origin
}

// condition removes the conditions that would make the answer one for its client alone. It adds
// those that validate the stored response.
func (x *Fetch) condition(h http.Header) {
	if x.validates() {
		rfc9111.MakeConditional(h, x.stale.Header)
		return
	}
	rfc9111.ClearConditions(h)
}

// expose shows the leader's server what the handlers have set so far.
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

// rethrow panics on this goroutine if err is a panic of another, or of guarded.
func rethrow(err error) {
	if p, ok := errors.AsType[*coalesce.PanicError](err); ok {
		panic(p.Value)
	}
}

// logPanic logs a panic that ends nothing, with its stack. No client is told of it, and its value
// seldom says where it comes from.
func (rt *Route) logPanic(text string, p *coalesce.PanicError) {
	rt.Logger.Error(text, slog.Any("panic", p.Value), slog.String("stack", string(p.Stack)))
}

// end releases all that the fetch holds, whether it has run or not.
func (x *Fetch) end() {
	if shared := x.writer.shared; shared != nil && shared.ahead != nil {
		shared.ahead.end(x.cache)
	}
	x.flight.Settle()
	x.endTicket()
	x.endBodyWriter()
	x.endRemote()
	if x.remoteSlice != nil {
		x.remoteSlice.End()
	}
	x.cache.endRefresh(x.place)
	if x.member != nil {
		x.member.cancel(nil)
	}
	close(x.over)
	x.cache.endFetch()
}

// Unstorable implements coalesce.Storer.
func (x *Fetch) Unstorable() {
	x.endTicket()
	x.notStored()
	x.endBodyWriter()
}

// endBodyWriter says of a body that went to disk, and of which there is no entry by now, that there
// will be none. Its readers may take as long as they like.
func (x *Fetch) endBodyWriter() {
	if bodyWriter := x.bodyWriter.Load(); bodyWriter != nil {
		bodyWriter.Unstorable()
	}
}

// Unattended implements coalesce.Attendant.
func (x *Fetch) Unattended(answered bool) {
	var grace time.Duration
	if x.background || answered {
		grace = unattendedGrace
	}
	if x.member.setAlone(true) {
		return // it has no place of its own
	}
	x.route.Budget.Unattended(&x.visit.place, time.Now().Add(grace), x.flight.GiveUp)
}

// Attended implements coalesce.Attendant.
func (x *Fetch) Attended() {
	if !x.member.setAlone(false) {
		x.route.Budget.Attended(&x.visit.place)
	}
}

// endTicket ends the ticket, so that purges need not be remembered for this fetch any more. Either
// it is over, or its response will not be stored; then it may go on for long, as an event stream
// does. Members that have yet to check whether the response was purged find that in the shared
// response. Any goroutine may call it, more than once.
func (x *Fetch) endTicket() {
	x.ticketEnd.Do(func() {
		if shared, ok := x.flight.Shared().(*sharedResponse); ok {
			shared.purged.Store(shared.purgedSince(x.cache.store, x.url, x.ticket.Generation()))
		}
		x.ticket.End()
	})
}

// validates reports whether the fetch validates the stored response. Without a validator it asks
// unconditionally: a 304 to that answers nothing (RFC 9110 15.4.5).
func (x *Fetch) validates() bool {
	return x.stale != nil && x.call == 0 && rfc9111.Validates(x.method) && rfc9111.HasValidator(x.stale.Header)
}

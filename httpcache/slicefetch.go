package httpcache

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// sliceOf names a slice that a fetch brings.
type sliceOf struct {
	object *object
	number int64
	head   *store.Entry // as it was when the fetch began
	goesOn bool         // an answer goes on with it, whose header has gone out
	alone  bool         // it is for such an answer alone, and used if only its request keeps it unstored
	gaveUp bool         // its request has given up a fetch of it that was late, see late.go

	ahead *aheadOfWhole // that it is read ahead of, or nil: its head is not stored then
}

// storedHead is the head under which a slice may be stored, nil if there is none any more.
func (s *sliceOf) storedHead(c *Cache) *store.Entry {
	if s.ahead == nil {
		return c.storedHead(s.head, s.object)
	}
	if s.ahead.isOver() {
		return nil
	}
	return s.head
}

// isFound reports whether a slice that has just been stored can be found by its head.
func (s *sliceOf) isFound(c *Cache, slice *store.Entry) bool {
	if s.ahead == nil {
		return c.isStored(s.head, s.object)
	}
	return s.ahead.note(slice)
}

// noRoomKeep is how long a short part of what a slice could not be stored of is asked for by
// itself: its slice would be fetched by each request.
const noRoomKeep = 10 * time.Second

func newNoRoom() *recentKeys { return newRecentKeys(maxRecentKeys/16, noRoomKeep, 0) }

// noRoom notes that the store has no room for the slice.
func (x *Fetch) noRoom(reason rfc9111.Reason) {
	x.countNotStored(reason)
	x.cache.noRoom.note(x.hitForMissKey, time.Now())
}

// lacksRoom reports whether a slice could not be stored a moment ago.
func (q *Request) lacksRoom() bool { return q.cache().noRoom.lately(q.hitForMissKey(), time.Now()) }

var (
	// errObjectChanged ends the fetch of a slice that is not one of the stored object: the origin
	// has another version by now, or does not answer in parts any more.
	errObjectChanged = errors.New("the origin has another version than the one that is stored in slices")
	// errSliceStored ends a flight that was begun for a slice which had just been stored, or had
	// come to its header on another flight.
	errSliceStored = errors.New("the slice is stored by now, or on its way by another fetch")
	// errSliceRefused ends the fetch of a slice whose answer is for one client: it may not be
	// stored, or came to credentials or a cookie and is not of the stored version.
	errSliceRefused = errors.New("the origin's answer for the slice is for one client")
)

// beginSlice joins the flight of a slice, or begins one. It begins one in any case if it is to be
// alone on it. seed is the header as the outer handlers had filled it, before the answer.
func (q *Request) beginSlice(s sliceOf, seed []field, alone bool) membership {
	key := s.object.key(s.number)
	lease := q.sliceFlightKey(key, q.route.cookiesApart)
	tag := &flightTag{
		key: q.route.byRules(lease), page: q.lateSliceKey(s.object), url: s.head.URL, begun: time.Now(),
		client: q.origin.ClientAddr(), followsLate: s.gaveUp,
	}
	t := q.cache().begin(tag.url)
	tag.generation = t.Generation()
	var f *coalesce.Flight
	var m *coalesce.Member
	var joined bool
	if alone || q.route.CoalesceOff {
		tag.solo = true
		f, m = q.cache().flights.Solo(tag)
	} else {
		f, m, joined = q.joinSlice(key, tag)
	}
	if joined {
		t.End()
		return membership{flight: f, member: m}
	}
	x := q.newSliceFetch(f, t, s, seed, lease)
	tag.begins(x.came)
	if q.route.hasSlice(s.object, s.head, s.number, q.personal()) { // stored between the look-up and the joining
		f.Fail(errSliceStored)
		x.end()
	} else {
		q.cache().workers.run(x)
	}
	return membership{flight: f, member: m, fetch: x}
}

// joinSlice joins a flight for the slice with a key. joined is false if it has begun it.
func (q *Request) joinSlice(key store.Key, tag *flightTag) (f *coalesce.Flight, m *coalesce.Member, joined bool) {
	if apart := q.keepApart(tag); tag.apart {
		f, m, started := q.cache().flights.Join(apart, tag, func(f *coalesce.Flight) bool { return q.sendsSlice(f, tag.followsLate) })
		return f, m, !started
	}
	if f, m, joined = q.joinSharedSlice(key, tag); joined {
		return f, m, true
	}
	return q.joinOrBeginSlice(key, tag)
}

// joinOrBeginSlice is joinSlice where no flight has come to its header, at the first look.
func (q *Request) joinOrBeginSlice(key store.Key, tag *flightTag) (f *coalesce.Flight, m *coalesce.Member, joined bool) {
	f, m, started := q.cache().flights.Join(tag.key, tag, func(f *coalesce.Flight) bool { return q.sendsSlice(f, tag.followsLate) })
	if !started {
		return f, m, true
	}
	if other, place, joined := q.joinSharedSlice(key, tag); joined { // it has moved there between the two
		f.Fail(errSliceStored)
		f.Settle()
		m.Leave()
		return other, place, true
	}
	return f, m, false
}

// joinSharedSlice joins a flight that has come to its header, if it has another key than tag's.
func (q *Request) joinSharedSlice(key store.Key, tag *flightTag) (f *coalesce.Flight, m *coalesce.Member, joined bool) {
	shared := q.route.byRules(q.sharedSliceKey(key))
	if shared == tag.key {
		return nil, nil, false
	}
	return q.cache().flights.JoinRunning(shared, func(f *coalesce.Flight) bool {
		return f.Shared() != nil && q.sendsSlice(f, tag.followsLate)
	})
}

// sliceFlightKey is the key of the flight of a slice that this request can share, see flightKeyFor.
// Machines share it as it is, since their rules may differ; here Route.byRules is added.
func (p *presented) sliceFlightKey(key store.Key, cookiesApart bool) store.Key {
	return p.flightKeyOfClass(key, classOf(p.authorized, p.unkeyedCookie && cookiesApart))
}

// sharedSliceKey is the key of the flight of a slice that has come to its header, and is for all.
func (p *presented) sharedSliceKey(key store.Key) store.Key { return p.flightKeyOfClass(key, ordinary) }

// sharedFlightKey is the key here, by this fetch's rules.
func (x *Fetch) sharedFlightKey(s *sliceOf) store.Key {
	return x.route.byRules(x.sharedSliceKey(s.object.key(s.number)))
}

func (p *presented) flightKeyOfClass(key store.Key, class string) store.Key {
	if class == ordinary && p.hops == 0 {
		return key
	}
	return variantKey(key, []string{class}, []string{strconv.Itoa(int(p.hops))})
}

// newSliceFetch prepares the fetch on the goroutine of the request that leads it. That is none of a
// route that observes: such a request is answered by the origin, whatever is stored or shared.
func (q *Request) newSliceFetch(
	f *coalesce.Flight, ticket ticket, s sliceOf, seed []field, lease store.Key,
) *Fetch {
	origin := q.detach(f.Context(), 1)
	origin.Unexposed(q.origin)
	askAlike(origin.Request(0).Header, s.head)
	client := snapshot(origin.Request(0).Header)
	x := origin.Fetch()
	*x = Fetch{
		route: q.route, cache: q.cache(), origin: origin, flight: f, ticket: ticket, hitForMissKey: q.hitForMissKey(),
		presented: q.presented, asked: q.key, clientHeader: client, came: snapshot(q.r.Header), inner: *q.r.URL, varyNames: q.varyNames,
		url: s.head.URL, method: q.keyed.method, noStore: q.saysNoStore(), slice: &s,
		remoteLimit: -1, lease: lease,
		copies: 1, seed: append([]field(nil), seed...), begun: time.Now(), over: make(chan struct{}),
	}
	if !x.tag().apart {
		x.remote = q.beginRemoteSlice(&s)
	}
	if x.remote != nil {
		q.limitWait(x, q.lateSliceKey(s.object))
	}
	x.leaderGone.Store(true) // no client hears of its panics
	x.keyed.header, x.keyed.inner = nil, &x.inner
	x.writer = &x.first
	x.writer.init(x)
	x.prepare(origin.Request(0))
	origin.Request(0).Header["Range"] = []string{"bytes=" + s.object.span(s.number).String()}
	x.removeDirectives(q.varyNames)
	x.cache.beginFetch()
	f.OnUnstorable(x)
	f.Attend(x)
	return x
}

// isSliceFetch reports whether the fetch was begun for a slice of what is stored.
func (x *Fetch) isSliceFetch() bool { return x.slice != nil && x.firstPart.Size == 0 }

// takeSlice takes the header of an answer for a slice of what is stored. To credentials or a cookie
// it says nothing of what is stored for all, as everywhere else (see speaksFor).
func (x *Fetch) takeSlice(status int, header http.Header) {
	o := x.slice.object
	part, ok := rfc9111.ParsePart(header)
	if status == http.StatusPartialContent && ok && part.Complete == o.total &&
		part.ByteRange == o.span(x.slice.number) && rfc9111.Combinable(x.slice.head.Header, header) {
		x.shareSliceOf(header, part)
		return
	}
	x.takeNoSlice(status, status, header, &originError{status: status, retryAfter: header.Get("Retry-After")})
}

// takeNoSlice takes an answer that is not the slice that was asked for: a status that handlers have
// written, with its header, or returned as an error. failure is as for noteFailure.
//
// Any client can bring about an answer to how it has asked: a redirect, a notice for robots, a page
// of its own. As with a page, only what could be stored in place of the object removes it, or says
// to anybody that the resource is gone.
func (x *Fetch) takeNoSlice(status, failure int, header http.Header, err error) {
	switch {
	case !speaksOfObject(status):
		x.tellFailure(status, failure)
		x.noteFailure(failure)
		x.failSlice(err)
	case x.speaksFor(&x.slice.head.Variant) && x.replacesObject(status, header):
		x.dropObject(x.slice.head, x.slice.object)
		if part, ok := rfc9111.ParsePart(header); ok && part.Complete == x.slice.object.total {
			x.noteMixed(x.slice.head.Header, header)
		}
		x.failSlice(errObjectChanged)
	default:
		x.refuseSlice()
	}
}

// speaksOfObject reports whether an answer with this status, which is not the slice that was asked
// for, says something of the representation. Any other is a failure, or about the request.
func speaksOfObject(status int) bool {
	return status < http.StatusBadRequest || rfc9111.Gone(status) || status == http.StatusRequestedRangeNotSatisfiable
}

// replacesObject reports whether the origin has something else than the object by now, or nothing.
func (x *Fetch) replacesObject(status int, header http.Header) bool {
	switch {
	case rfc9111.Gone(status):
		return true
	case status == http.StatusRequestedRangeNotSatisfiable:
		return x.slice.object.isUnsatisfied(header)
	}
	length := int64(-1)
	if part, ok := rfc9111.ParsePart(header); ok {
		header, length = rfc9111.WholeHeader(header, part), part.Complete
	}
	if status == http.StatusPartialContent {
		status = http.StatusOK
	}
	ex := x.exchange(status, header)
	freshness := x.route.judge(&ex, length)
	return freshness.Reason == rfc9111.Storable || freshness.Reason == rfc9111.ReasonTooLarge
}

// isUnsatisfied reports whether a 416 to the range of a slice says that the length is another.
func (o *object) isUnsatisfied(header http.Header) bool {
	total, known := rfc9111.UnsatisfiedLength(header)
	return known && total != o.total
}

// newRefusedSlices remembers for as long as what could not be shared is.
func newRefusedSlices() *recentKeys { return newRecentKeys(maxRecentKeys/16, hitForMissKeep, 0) }

// newSharedSlices remembers for as long as a refusal that follows says nothing about other clients.
func newSharedSlices() *recentKeys {
	return newRecentKeys(maxRecentKeys/16, sharedSliceKeep, time.Second)
}

// sharedSliceKeep is short: slices that have become private break off all answers meanwhile.
const sharedSliceKeep = 10 * time.Second

// refuseSlice ends the flight of a slice whose answer is for one client. Where an answer breaks off
// for that, the next ones of its kind are to know it before they begin. If a slice could be stored
// lately, a field of the client may be why: then the next ones with its fields alone. That is
// remembered apart from what can be shared: the whole, for which the client's own request is then
// passed on, may be storable while a slice is not.
func (x *Fetch) refuseSlice() {
	if x.slice.goesOn {
		now := time.Now()
		x.cache.refusedSlices.note(withFields(x.hitForMissKey, x.fieldsSum()), now)
		if !x.cache.sharedSlices.lately(x.hitForMissKey, now) {
			x.cache.refusedSlices.note(x.hitForMissKey, now)
		}
	}
	x.failSlice(errSliceRefused)
}

// acceptSlice forgets what refuseSlice has noted.
func (x *Fetch) acceptSlice() {
	x.cache.refusedSlices.forget(withFields(x.hitForMissKey, x.fieldsSum()))
	x.cache.refusedSlices.forget(x.hitForMissKey)
	x.cache.sharedSlices.note(x.hitForMissKey, time.Now())
}

// failSlice ends the flight of a slice without one.
func (x *Fetch) failSlice(err error) {
	x.keepFromOthers()
	x.writer.mode = modeDiscarded
	x.flight.Fail(err)
}

// shareSliceOf shares a slice with all who wait for it, if it may be stored. If it may not, what is
// stored stays: the slice is of the same version, and how it was asked for may be why.
func (x *Fetch) shareSliceOf(header http.Header, part rfc9111.Part) {
	ex := x.exchange(http.StatusOK, rfc9111.WholeHeader(header, part))
	freshness := x.route.judge(&ex, part.Complete)
	if freshness.Reason == rfc9111.Storable && isStricter(&freshness, x.route.evaluateFor(x.slice.head, false)) {
		freshness.Reason = rfc9111.ReasonPartial
	}
	names, _ := rfc9111.VaryNames(header)
	selects := x.route.selectsAsHead(x.slice.head, names)
	switch {
	case !selects:
		x.refuseSlice()
		return
	case freshness.Reason == rfc9111.Storable:
		x.updateHitForMiss(http.StatusOK, &freshness)
		x.acceptSlice()
	default:
		if x.countNotStored(freshness.Reason); !x.slice.alone || !x.isForAll(ex, part.Complete) {
			x.refuseSlice()
			return
		}
	}
	x.writer.declared = part.Length
	x.shareSlice(x.newShared(&ex, &freshness), 0)
}

// isForAll reports whether an answer could be stored if its request had no credentials, cookie and
// no-store, and the answer set no cookie and began no session: the origin does not say that the
// body is for one client. Bytes of an answer that is do not go out under the header of one that is
// for all.
func (x *Fetch) isForAll(ex rfc9111.Exchange, length int64) bool {
	ex.Authorized, ex.UnkeyedCookie, ex.RequestNoStore, ex.HadSetCookie, ex.BeginsSession = false, false, false, false, false
	ex.Header = maps.Clone(ex.Header)
	delete(ex.Header, "Set-Cookie")
	freshness := x.route.judge(&ex, length)
	return freshness.Reason == rfc9111.Storable
}

// shareSlice shares the slice x.slice, which begins so many bytes behind the beginning of the
// origin's body.
func (x *Fetch) shareSlice(shared *sharedResponse, skip int64) {
	s := x.slice
	shared.slice, shared.length = s, s.object.span(s.number).Length
	x.writer.shared, x.writer.skip = shared, skip
	x.flight.Expect(shared.length)
	if !shared.storable() {
		x.flight.SpillPartsTo(x)
		x.share(shared, x.route.MaxBody)
		x.endTicket()
		return
	}
	if x.remote != nil && x.isSliceFetch() {
		x.remoteLimit = x.remote.Storable(new(store.Variant), shared.length)
	}
	x.flight.SpillTo(x)
	if x.tag().apart {
		x.share(shared, x.route.MaxBody)
		return
	}
	x.cache.flights.Move(x.flight, x.sharedFlightKey(s), func() bool {
		x.share(shared, x.route.MaxBody)
		return true
	})
}

// storeSlice stores a slice that has come whole, if its head is still stored.
func (x *Fetch) storeSlice(shared *sharedResponse) {
	body, whole := x.wholeBody()
	if !whole {
		x.noRoom(rfc9111.ReasonFull)
		return
	}
	s := x.slice
	head, span := s.storedHead(x.cache), s.object.span(s.number)
	if head == nil {
		if x.flight.TakeBack(); s.ahead == nil {
			x.countNotStored(rfc9111.ReasonPurged)
		}
		return
	}
	entry := &store.Entry{
		Key: s.object.key(s.number), URL: head.URL, Method: http.MethodGet, Flags: store.FlagPart | flagsOf(&shared.exchange) | x.flags,
		Status: http.StatusPartialContent, Header: sliceHeader(shared.header, span.ContentRange(s.object.total)), Of: head.Header,
		RequestTime: shared.exchange.RequestTime, ResponseTime: shared.exchange.ResponseTime,
		FreshUntil: head.FreshUntil, KeptFrom: head.KeptFrom, KeepUntil: head.KeepUntil,
		Tags: head.Tags, Generation: x.ticket.Generation(), Body: body,
	}
	if x.cache.store.Purged(entry.URL, entry.Tags, entry.Generation) != store.NotPurged {
		x.flight.TakeBack()
		x.countNotStored(rfc9111.ReasonPurged)
		return
	}
	held, refusal := x.cache.store.PutHeld(entry, 0)
	if held.Entry != nil {
		x.flight.MoveTo(&heldBody{Body: held.Entry.Body, held: held})
	} else if !x.flight.Spilled() {
		x.flight.TakeBack()
	}
	if reason := reasonOf(refusal); reason == rfc9111.ReasonFull || reason == rfc9111.ReasonTooLarge {
		x.noRoom(reason)
		return
	} else if reason != rfc9111.Storable {
		x.countNotStored(reason)
		return
	}
	if !s.isFound(x.cache, entry) { // it has gone meanwhile
		x.cache.store.Remove(entry)
		return
	}
	x.offerSlice(entry)
}

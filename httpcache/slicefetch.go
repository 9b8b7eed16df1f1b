package httpcache

import (
	"errors"
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
	alone  bool         // it is for such an answer alone, and used although it may not be stored
}

var (
	// errObjectChanged ends the fetch of a slice that is not one of the stored object: the origin
	// has another version by now, or does not answer in parts any more.
	errObjectChanged = errors.New("the origin has another version than the one that is stored in slices")
	// errSliceStored ends a flight that was begun for a slice which had just been stored.
	errSliceStored = errors.New("the slice is stored by now")
	// errSliceRefused ends the fetch of a slice whose answer is for one client: it may not be
	// stored, or came to credentials or a cookie and is not of the stored version.
	errSliceRefused = errors.New("the origin's answer for the slice is for one client")
)

// beginSlice joins the flight of a slice, or begins one. It begins one in any case if it is to be
// alone on it. seed is the header as the outer handlers had filled it, before the answer.
func (q *Request) beginSlice(s sliceOf, seed []field, alone bool) membership {
	key := s.object.key(s.number)
	tag := &flightTag{key: q.sliceFlightKey(key, q.route.cookiesApart), url: s.head.URL, begun: time.Now()}
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
	x := q.newSliceFetch(f, t, s, seed)
	if q.cache().hasSlice(s.object, s.number) { // stored between the look-up and the joining
		f.Fail(errSliceStored)
		x.end()
	} else {
		q.cache().workers.run(x)
	}
	return membership{flight: f, member: m, fetch: x}
}

// joinSlice joins a flight for the slice with a key. joined is false if it has begun it.
func (q *Request) joinSlice(key store.Key, tag *flightTag) (f *coalesce.Flight, m *coalesce.Member, joined bool) {
	flights := q.cache().flights
	sends := func(f *coalesce.Flight) bool { return f.Silent() < q.route.Wait } // as for a page, see joinable
	if shared := q.sharedSliceKey(key); shared != tag.key {
		f, m, joined = flights.JoinRunning(shared, func(f *coalesce.Flight) bool { return f.Shared() != nil && sends(f) })
		if joined {
			return f, m, true
		}
	}
	f, m, started := flights.Join(tag.key, tag, sends)
	return f, m, !started
}

// sliceFlightKey is the key of the flight of a slice that this request can share, see flightKeyFor.
func (p *presented) sliceFlightKey(key store.Key, cookiesApart bool) store.Key {
	return p.flightKeyOfClass(key, classOf(p.authorized, p.unkeyedCookie && cookiesApart))
}

// sharedSliceKey is the key of the flight of a slice that has come to its header, and is for all.
func (p *presented) sharedSliceKey(key store.Key) store.Key { return p.flightKeyOfClass(key, ordinary) }

func (p *presented) flightKeyOfClass(key store.Key, class string) store.Key {
	if class == ordinary && p.hops == 0 {
		return key
	}
	return variantKey(key, []string{class}, []string{strconv.Itoa(int(p.hops))})
}

// newSliceFetch prepares the fetch on the goroutine of the request that leads it.
func (q *Request) newSliceFetch(f *coalesce.Flight, ticket ticket, s sliceOf, seed []field) *Fetch {
	odd := q.oddFields(s.head)
	copies := 1 + min(len(odd), 1)
	origin := q.detach(f.Context(), copies)
	origin.Unexposed(q.origin)
	for n := range copies {
		askAlike(origin.Request(n).Header, s.head)
	}
	client := snapshot(origin.Request(0).Header)
	x := origin.Fetch()
	*x = Fetch{
		route: q.route, cache: q.cache(), origin: origin, flight: f, ticket: ticket, hitForMissKey: q.hitForMissKey(),
		presented: q.presented, asked: q.key, clientHeader: client, inner: *q.r.URL, varyNames: q.varyNames,
		url: s.head.URL, method: q.keyed.method, noStore: q.saysNoStore(), slice: &s,
		oddFields: odd, remoteLimit: -1, copies: copies, seed: append([]field(nil), seed...), begun: time.Now(), over: make(chan struct{}),
	}
	x.leaderGone.Store(true) // no client hears of its panics
	x.keyed.header, x.keyed.inner = nil, &x.inner
	x.writer = &x.first
	x.writer.init(x)
	for n := range copies {
		x.prepare(origin.Request(n))
		origin.Request(n).Header["Range"] = []string{"bytes=" + s.object.span(s.number).String()}
	}
	x.removeDirectives(q.varyNames)
	x.cache.acquire()
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
	x.takeNoSlice(status, status, &originError{status: status, retryAfter: header.Get("Retry-After")})
}

// takeNoSlice takes an answer that is not the slice that was asked for: a status that handlers have
// written, or returned as an error. failure is as for noteFailure.
func (x *Fetch) takeNoSlice(status, failure int, err error) {
	switch {
	case speaksOfObject(status) && !x.speaksFor(&x.slice.head.Variant):
		x.failSlice(errSliceRefused)
	case speaksOfObject(status) && len(x.oddFields) > 0 && x.call == 0:
		x.wantsPlain = true
		x.visit.cutShort()
	case speaksOfObject(status):
		x.cache.dropObject(x.slice.head, x.slice.object)
		x.failSlice(errObjectChanged)
	default:
		x.noteFailure(failure)
		x.failSlice(err)
	}
}

// speaksOfObject reports whether an answer with this status, which is not the slice that was asked
// for, says something of the representation. Any other is about the request, or a failure.
func speaksOfObject(status int) bool {
	return status < http.StatusBadRequest || rfc9111.Gone(status) || status == http.StatusRequestedRangeNotSatisfiable
}

// failSlice ends the flight of a slice without one.
func (x *Fetch) failSlice(err error) {
	x.writer.mode = modeDiscarded
	x.flight.Fail(err)
}

// shareSliceOf shares a slice with all who wait for it, if it may be stored. If it may not, what is
// stored stays: the slice is of the same version, and how it was asked for may be why.
func (x *Fetch) shareSliceOf(header http.Header, part rfc9111.Part) {
	ex := x.exchange(http.StatusOK, rfc9111.WholeHeader(header, part))
	freshness := x.route.judge(&ex, part.Complete)
	if freshness.Reason != rfc9111.Storable {
		if x.countNotStored(freshness.Reason); !x.slice.alone {
			x.failSlice(errSliceRefused)
			return
		}
	}
	x.writer.declared = part.Length
	x.shareSlice(x.newShared(&ex, &freshness), 0)
}

// shareSlice shares the slice x.slice, which begins so many bytes behind the beginning of the
// origin's body.
func (x *Fetch) shareSlice(shared *sharedResponse, skip int64) {
	s := x.slice
	shared.slice, shared.length = s, s.object.span(s.number).Length
	x.writer.shared, x.writer.skip = shared, skip
	x.flight.Expect(shared.length)
	if !shared.storable() {
		x.share(shared, x.route.MaxBody)
		x.endTicket()
		return
	}
	x.flight.SpillTo(x)
	x.cache.flights.Move(x.flight, x.sharedSliceKey(s.object.key(s.number)))
	x.share(shared, x.route.MaxBody)
}

// storeSlice stores a slice that has come whole, if its head is still stored.
func (x *Fetch) storeSlice(shared *sharedResponse) {
	body, whole := x.wholeBody()
	if !whole {
		x.countNotStored(rfc9111.ReasonFull)
		return
	}
	s := x.slice
	head, span := x.cache.storedHead(s.head, s.object), s.object.span(s.number)
	if head == nil {
		if x.flight.TakeBack(); s.head.ID > 0 { // otherwise it has been read ahead of the whole
			x.countNotStored(rfc9111.ReasonPurged)
		}
		return
	}
	entry := &store.Entry{
		Key: s.object.key(s.number), URL: head.URL, Method: http.MethodGet, Flags: store.FlagPart,
		Status: http.StatusPartialContent, Header: http.Header{"Content-Range": {span.ContentRange(s.object.total)}}, Of: head.Header,
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
	if refusal != store.Stored {
		x.countNotStored(reasonOf(refusal))
		return
	}
	if !x.cache.isStored(s.head, s.object) { // it has gone meanwhile
		x.cache.store.Remove(entry)
	}
}

package httpcache

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// The fetch of a first part asks for one slice where nothing is known yet, or what is known may be
// outdated. The request for it has the key's own flight, so whatever the origin answers, there is
// one such request for all who wait:
//
//	304                        the head is confirmed, as any other stored response
//	206, the slice that was    the flight gets the key of the slice, a head is stored, and all who
//	asked for, or the whole    wait look up again. Where it is the whole, it is stored as a 200
//	206, anything else         the whole is asked for, once, and for a while at once: no strong
//	                           validator, another part, an unknown length, several parts, or what
//	                           would come compressed without Range
//	206 that may not be        released: each asks for what it wants. max_body is compared with the
//	stored, 416                length of the whole
//	any other                  as without slices: a 200 is the whole
//
// A suffix of unknown length is asked for by the size of a slice, which contains the last slice.

// unslicedKeep is how long an origin is not asked for slices of what it does not answer in slices.
const unslicedKeep = 10 * time.Minute

func newUnsliced() *recentKeys { return newRecentKeys(maxRecentKeys/16, unslicedKeep, 0) }

// unslicedKey is where it is noted of a URL that its file is not asked for in slices: machines of
// the origin give it validators of their own. Each slice would then be of the file of one machine,
// and an answer break off where the next one comes from another.
func (rt *Route) unslicedKey(key store.Key) store.Key {
	key = rt.byRules(key)
	key[1] ^= 1
	return key
}

// isMixed reports whether that is noted of the request's URL at now.
func (q *Request) isMixed(now time.Time) bool {
	return q.cache().unsliced.lately(q.route.unslicedKey(q.key), now)
}

// noteMixed notes it if a part has another validator than what is stored of a file of its length. A
// file that has changed has another length, nearly always.
func (x *Fetch) noteMixed(stored, part http.Header) {
	for _, name := range [...]string{"Etag", "Last-Modified"} {
		if !slices.Equal(stored[name], part[name]) {
			x.cache.unsliced.note(x.route.unslicedKey(x.asked), time.Now())
			return
		}
	}
}

// firstPart returns the slice that a fetch for the request is to ask for. ok is false if it asks
// for the whole: the request wants no part, or the whole is stored and only has to be validated.
func (q *Request) firstPart(hitForMissKey store.Key) (s rfc9111.Slice, ok bool) {
	size := q.route.Slice
	if size <= 0 || q.keyed.method != http.MethodGet || q.observed() != nil || q.keyed.content.isQuery() {
		return rfc9111.Slice{}, false
	}
	e := q.found.Entry
	if e == nil && len(q.r.Header["Range"]) == 0 || e != nil && e.Flags&flagSliced == 0 {
		return rfc9111.Slice{}, false
	}
	if q.isMixed(q.now) || q.cache().unsliced.lately(hitForMissKey, q.now) {
		return rfc9111.Slice{}, false
	}
	if q.r.Method == http.MethodGet {
		s, ok = rfc9111.FirstSlice(q.r.Header, size)
	}
	if e == nil {
		return s, ok
	}
	if o := objectOf(e); !ok || o != nil && !s.Last && s.Number*size >= o.total {
		return rfc9111.Slice{Size: size}, true // one that it has, so that a 416 says that it has changed
	}
	return s, ok
}

// takePart takes an answer to the Range of a first part, and reports whether it is dealt with.
// Otherwise it is one of the whole.
func (x *Fetch) takePart(status int, header http.Header) bool {
	if x.firstPart.Size == 0 || x.call > 0 {
		return false
	}
	switch status {
	case http.StatusPartialContent:
	case http.StatusRequestedRangeNotSatisfiable: // it says nothing of other ranges
		// What is stored has the slice that was asked for.
		if e := x.stale; e != nil && x.speaksFor(&e.Variant) {
			if o := objectOf(e); o != nil && o.isUnsatisfied(header) {
				x.dropObject(e, o)
			}
		}
		x.releaseUnanswered()
		return true
	default:
		return false
	}
	part, ok := rfc9111.ParsePart(header)
	ok = ok && x.firstPart.Answers(part) && !rfc9111.IsCompressible(header)
	if ok && part.IsWhole() {
		maps.Copy(header, rfc9111.WholeHeader(header, part))
		delete(header, "Content-Range")
		x.writer.status, x.writer.declared = http.StatusOK, part.Length
		return false
	}
	ex := x.exchange(http.StatusOK, rfc9111.WholeHeader(header, part))
	freshness := x.route.judge(&ex, part.Complete)
	switch {
	case freshness.Reason != rfc9111.Storable:
		x.releasePart(&ex, &freshness)
	case !ok, !rfc9111.HasStrongValidator(header):
		x.cache.unsliced.note(x.hitForMissKey, time.Now())
		x.wantsWhole = true
		x.visit.cutShort()
	case !x.shareObject(&ex, &freshness, part):
		x.releaseUnanswered() // putHere has counted why
	default:
		x.trace.judged(x.route, &ex, &freshness)
	}
	return true
}

// releasePart has all who wait ask for themselves, because the whole may not be stored.
func (x *Fetch) releasePart(ex *rfc9111.Exchange, freshness *rfc9111.Freshness) {
	x.trace.judged(x.route, ex, freshness)
	x.writer.reason = freshness.Reason
	x.countNotStored(freshness.Reason)
	x.updateHitForMiss(http.StatusOK, freshness)
	x.releaseUnanswered()
}

// releaseUnanswered has all who wait ask for themselves, the leader too: the answer is not to its
// own Range.
func (x *Fetch) releaseUnanswered() {
	x.backOff()
	x.keepFromOthers()
	x.flight.Release()
	x.writer.mode = modeDiscarded
	x.flight.Fail(errNotShareable)
}

// keepFromOthers tells other machines that this fetch brings nothing for them.
func (x *Fetch) keepFromOthers() {
	if x.remote != nil {
		x.remote.Unshared(false)
		x.endRemote()
	}
}

// shareObject stores the head of an object and shares a slice of it. It reports false where the
// head is not stored. Who finds the head asks for the slice next, so by then its flight has the key
// of the slice.
func (x *Fetch) shareObject(ex *rfc9111.Exchange, freshness *rfc9111.Freshness, part rfc9111.Part) bool {
	shared := x.newShared(ex, freshness)
	x.noteVariance(ex.Header)
	shared.key, shared.search = x.key, x.keyed.variance
	o := x.objectFor(shared, part.Complete)
	head := x.headOf(shared, o)
	number := part.Start / o.size
	if x.firstPart.Last {
		number = o.count() - 1
	}
	s := &sliceOf{object: o, number: number, head: head}
	if !x.cache.flights.Move(x.flight, x.sharedFlightKey(s), func() bool {
		return x.putHere(head, freshness, nil) == store.Stored
	}) {
		return false
	}
	x.updateHitForMiss(http.StatusOK, freshness)
	if x.remote != nil { // those who wait there look up again, and find the head
		x.remote.Storable(&head.Variant, 0)
		x.offer(head, false)
	}
	x.slice = s
	x.writer.declared = part.Length
	x.shareSlice(shared, o.span(number).Start-part.Start)
	return true
}

// headOf returns the head of an object.
func (x *Fetch) headOf(shared *sharedResponse, o *object) *store.Entry {
	head := &store.Entry{
		Key: x.key, URL: x.url, Variant: shared.variant, Method: x.method, Flags: shared.flags() | x.flags | flagSliced,
		Notes:  slices.Concat(shared.added, []string{o.note()}, askedNotes(&shared.variant, x.clientHeader)),
		Status: http.StatusOK, Header: shared.header,
		RequestTime: shared.exchange.RequestTime, ResponseTime: shared.exchange.ResponseTime, FetchTime: time.Since(x.begun),
		Tags: shared.tags, Generation: x.ticket.Generation(), Body: store.NewBody(nil),
	}
	if len(head.Header["Content-Type"]) == 0 {
		head.Flags |= flagUntyped // and none is guessed from the middle of a file
	}
	return head
}

// objectFor returns the object that a head is stored for: the one that is stored, if this is a part
// of the same (RFC 9111 3.4), or a new one. It is looked up anew, as what was stale when this fetch
// began may have been purged since: then its slices are not to be found again.
func (x *Fetch) objectFor(shared *sharedResponse, total int64) *object {
	variant := shared.variant
	if x.stale != nil {
		variant = x.stale.Variant
	}
	found := x.cache.lookUpVariant(x.key, variant)
	e := found.Entry
	found.Release() // it has no body
	if e != nil {
		o := objectOf(e)
		if o != nil && o.total == total && o.size == x.firstPart.Size && selectsAlike(&e.Variant, &shared.variant) {
			if rfc9111.Combinable(e.Header, shared.header) {
				return o
			}
			x.noteMixed(e.Header, shared.header)
		}
	}
	return newObject(total, x.firstPart.Size)
}

package httpcache

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// isSliced reports whether what was found is the head of an object.
func (q *Request) isSliced() bool {
	return q.found.Entry != nil && q.found.Entry.Flags&flagSliced != 0
}

// lacksSlices reports whether what was found would need the origin to answer the request, although
// its head needs none, as far as a bounded number of look-ups tells.
func (q *Request) lacksSlices() bool {
	if !q.isSliced() {
		return false
	}
	e := q.found.Entry
	c := q.route.evaluated(e)
	return c.object == nil || !q.hasAll(c.object, e, q.wanted(c, e), maxLooked)
}

// wanted are the parts of the body that the answer will have.
func (q *Request) wanted(c *evaluation, e *store.Entry) []rfc9111.ByteRange {
	if q.r.Method == http.MethodHead || q.notModified(e.Status, c.header, e.ResponseTime) {
		return nil
	}
	if parts, _, ok := q.ranges(e.Status, c.header, c.object.total); ok {
		return parts
	}
	return []rfc9111.ByteRange{{Start: 0, Length: c.object.total}}
}

// respondObject answers from an object whose head was found and may be used. answered is false if
// the object is outdated.
func (q *Request) respondObject(outcome Outcome, detail Detail) (answered bool, err error) {
	cs := q.hitStatus(detail)
	return q.respondSlices(q.stored(q.now), &cs, Decision{Outcome: outcome, Detail: detail}, membership{}, 0)
}

// respondSlices answers with a delivery from slices. cs and d are those of an answer for which no
// slice is missing. Where the request has led the fetch of one, s is its place on that flight.
func (q *Request) respondSlices(
	a *delivery, cs *rfc9111.CacheStatus, d Decision, s membership, number int64,
) (answered bool, err error) {
	e := q.found.Entry
	c := q.route.evaluated(e)
	parts := q.wanted(c, e)
	body := q.newSliceBody(c.object, e)
	defer body.close()
	if a.slices = body; s.member != nil {
		body.lead(s, number)
	}
	if cs.Hit && len(parts) > 0 {
		body.takeStored(parts[0].Start / c.object.size)
		if body.cur == nil || !q.hasAllWanted(c.object, e, parts) {
			*cs, d = rfc9111.CacheStatus{Forward: rfc9111.ForwardPartial}, Decision{Outcome: OutcomeMiss, Forward: rfc9111.ForwardPartial}
			switch {
			case q.directives.OnlyIfCached:
				return true, q.refuse()
			case q.directives.NoStore:
				body.close() // it may be long until the answer has passed
				return true, q.passUncached(rfc9111.ForwardPartial, rfc9111.ReasonRequestNoStore)
			}
		}
	}
	if len(parts) > 0 && !cs.Hit && s.member == nil {
		if q.lacksRoomFor(c.object, e, parts) {
			body.close()
			return true, q.passUncached(cs.Forward, rfc9111.ReasonFull)
		}
		if err := body.probe(parts); err != nil {
			return q.respondWithoutSlice(body, err)
		}
	}
	if len(parts) > 0 {
		// The header goes out when that of the first slice is there. Until then the request can
		// still be answered otherwise.
		body.end = parts[0].Start + parts[0].Length
		if err := body.take(parts[0].Start / c.object.size); err != nil {
			return q.respondWithoutSlice(body, err)
		}
		body.noteFetched(cs, &d)
	}
	q.decide(d)
	return true, q.send(a, cs)
}

// mayBeRefused reports whether the origin may keep a slice for this client alone, although what it
// said of the head was for all: the request has credentials or a cookie, or such an answer has come
// to one of its kind or with its fields. refused is what isRefusedSlices says.
func (q *Request) mayBeRefused(refused bool) bool {
	return refused || q.personal() || q.sharing() != sharingOpen
}

// isRefusedSlices reports whether an answer to a request of this kind, or with these fields, has
// broken off for that.
func (q *Request) isRefusedSlices() bool {
	key, now := q.hitForMissKey(), time.Now()
	_, refused := q.cache().refusedSlices.age(key, now)
	if !refused {
		_, refused = q.cache().refusedSlices.age(withFields(key, q.fieldsSum()), now)
	}
	return refused
}

// shortPart is how many times a slice is as long as what a request asks for by itself where slices
// have no room. Those who ask for more share the fetches.
const shortPart = 8

// lacksRoomFor reports whether a slice of what the request asks for would be fetched for little of
// it, and not be stored: a moment ago the store had no room for another one.
func (q *Request) lacksRoomFor(o *object, head *store.Entry, parts []rfc9111.ByteRange) bool {
	length := int64(0)
	for _, part := range parts {
		length += part.Length
	}
	return length <= o.size/shortPart && q.lacksRoom() && !q.hasAllWanted(o, head, parts)
}

// hasAllWanted reports whether an answer needs no fetch of a slice. Where the request forbids one,
// and where one has been refused, all slices have to be known to be there. Otherwise one that is
// not looked up and is missing is fetched when the answer comes to it.
func (q *Request) hasAllWanted(o *object, head *store.Entry, parts []rfc9111.ByteRange) bool {
	refused := q.isRefusedSlices()
	if q.directives.OnlyIfCached || refused {
		return o.countOf(parts) <= maxLookedAll && q.hasAll(o, head, parts, maxLookedAll)
	}
	return q.hasAll(o, head, parts, q.looks(refused))
}

// looks is how many slices are looked up before the answer begins. One that is missing costs an
// answer that may be refused it more than look-ups do.
func (q *Request) looks(refused bool) int64 {
	if q.mayBeRefused(refused) {
		return maxLookedAll
	}
	return maxLooked
}

// noteFetched puts into the decision who has fetched the first slice, if it was fetched. What is
// stored ahead of a fetch of the whole was fetched by another request, too.
func (b *sliceBody) noteFetched(cs *rfc9111.CacheStatus, d *Decision) {
	partial, own := cs.Forward == rfc9111.ForwardPartial, b.cur.on.fetch != nil
	switch {
	case own:
		cs.Stored = cs.Stored || partial
		return
	case b.whole == nil && (!partial || b.cur.isStored()):
		return
	}
	cs.Collapsed, cs.FwdStatus, d.Outcome = true, http.StatusPartialContent, OutcomeCollapsed
}

// respondWithoutSlice answers where the first slice cannot be had, for err, and nothing has gone
// out yet. The client whose own fetch that was gets the origin's own answer.
func (q *Request) respondWithoutSlice(b *sliceBody, err error) (answered bool, _ error) {
	b.close()
	q.forward = rfc9111.ForwardPartial
	refusal := refusalOf(err)
	switch {
	case q.r.Context().Err() != nil:
		return true, q.respondGone()
	case errors.Is(err, errObjectChanged):
		q.objectChanged, q.follower().outdatedAt = true, time.Now()
		return false, nil
	case refusal != nil:
		return true, q.respondRefused(refusal, OutcomeMiss)
	}
	return true, q.passUncached(rfc9111.ForwardPartial, rfc9111.Storable)
}

// respondFirstPart answers the request whose fetch has brought the head of an object, and a slice.
func (q *Request) respondFirstPart(s membership, shared *sharedResponse) (answered bool, err error) {
	q.found, q.freshness = store.Result{Entry: shared.slice.head}, shared.freshness
	s.fetch.expose(q.origin)
	a := q.stored(q.now)
	a.fields, a.aged = shared.own, false
	cs := rfc9111.CacheStatus{Forward: q.forward, Stored: true}
	d := Decision{Outcome: OutcomeMiss, Forward: q.forward}
	return q.respondSlices(a, &cs, d, s, shared.slice.number)
}

// maxCounted is how many slices are counted to explain an answer.
const maxCounted = 1024

// explainSlices tells which slices of an object are stored.
func (q *Request) explainSlices(o *object) string {
	s := q.cache().slicesOf(o, maxCounted)
	words := fmt.Sprintf("%d of the first %d, of %d bytes each", s.Stored, s.Looked, s.Size)
	if s.Looked == s.Count {
		words = fmt.Sprintf("%d of %d, of %d bytes each", s.Stored, s.Count, s.Size)
	}
	if q.lacksSlices() {
		return words + "; not all that the request asks for"
	}
	return words + "; all that the request asks for"
}

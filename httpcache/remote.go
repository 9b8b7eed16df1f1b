package httpcache

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// RemoteFetch is what a fetch asks of the other machines: for a response that one of them has
// stored, and not to fetch what one of them is fetching. It is asked inside a flight, by the fetch
// alone, so there is one question for any number of requests:
//
//	Get ─┬─ a fresh response ───────────────────► answer, End
//	     └─ none ─► Await ─┬─ another has stored, or the wait is over ► Get
//	                       ├─ others have failed ► answer with their status, End
//	                       └─ ask the origin ────► Asks; Storable, Put │ Unshared │ Failed; End
//
// Its methods return no errors: what fails there counts as not found, and the origin is asked.
// From Asks on none waits for a network.
type RemoteFetch interface {
	// Get returns what a look-up in a store would: the response to key that selects scores highest,
	// or a variant that is known. selects returns 0 for a variant that does not match (RFC 9111
	// 4.1). The result is not released. The Body may be read until ctx ends, and a part of it may
	// be lost.
	Get(ctx context.Context, key store.Key, selects func(*store.Variant) int) store.Result
	// Await waits while another machine fetches for the same lease, until a time at most. again
	// says that it has stored the response, or may have. failed is the status with which others
	// have failed meanwhile, as Failed was told it; otherwise it is 0. late says that one's fetch
	// was slow: it took as long as others wait for it, or about that. lasts is how long others wait
	// for this one, if it is the first. waited says that requests have waited for a fetch of this
	// machine, too, and that it failed. selected reports whether a response of a variant is for
	// this fetch: it does not wait for one that is not.
	Await(ctx context.Context, lease store.Key, until time.Time, lasts time.Duration, waited bool, selected func(*store.Variant) bool) (
		again, late bool, failed int, answered bool, retryAfter string)
	// Asks tells that the origin is asked. Until then the fetch waits for its turn.
	Asks()
	// Waits tells that the fetch waits for its turn again: what the origin was asked for together
	// with others has brought nothing for it. Asks follows, or End.
	Waits()
	// Storable tells at the response header that the response will be offered by Put when it is
	// whole. length is -1 if it is not known. A body that turns out longer than limit is Unshared.
	Storable(v *store.Variant, length int64) (limit int64)
	// Unshared tells that the response is for this machine alone, and with lasting that so will be
	// the next.
	Unshared(lasting bool)
	// Failed tells that the origin failed: it answered with the status, or had no answer, for which
	// the status stands in.
	Failed(status int, answered bool, retryAfter string)
	// Put offers the response, which is stored here. held is released when it is not read any more.
	// renews says that a 304 has confirmed a response that was stored before.
	Put(held store.Result, renews bool)
	// Remove tells that a response is outdated: the resource is gone, or has changed. If it was
	// requested before a time it is removed.
	Remove(key store.Key, v *store.Variant, before time.Time)
	// End ends the use. It comes last.
	End()
}

// beginRemote begins a fetch's use of what other machines have, if there are any and the route lets
// it. Otherwise it returns nil.
func (q *Request) beginRemote() RemoteFetch {
	if q.cache().remote == nil || q.route.RemoteOff || q.observed() != nil {
		return nil
	}
	return q.cache().remote()
}

// endRemote ends the use.
func (x *Fetch) endRemote() {
	if x.remote != nil {
		x.remote.End()
		x.remote = nil
	}
}

// answerFromRemote answers a flight with what another machine has stored, or is about to store. If
// it reports false, the origin is asked.
func (x *Fetch) answerFromRemote() bool {
	if x.remote == nil || x.forward == rfc9111.ForwardRequest || x.mustValidate || x.objectChanged { // it is wanted from the origin
		return false
	}
	if x.isSliceFetch() {
		return x.sliceFromRemote()
	}
	own := x.selector()
	selected := func(v *store.Variant) bool { return own(v) > 0 }
	for {
		found := x.remote.Get(x.flight.Context(), x.key, own)
		if x.answerWith(&found) {
			return true
		}
		if !x.waitsForOthers() {
			return false
		}
		again, failed, answered, retryAfter := x.awaitRemote(x.leaseKey(found.Known), selected)
		if failed != 0 {
			x.failElsewhere(failed, answered, retryAfter)
			return true
		}
		if !again {
			return false
		}
	}
}

// waitsForOthers reports whether the fetch waits for those of other machines. It does so where
// requests of this machine would wait for it: the answer may then be for all of them.
func (x *Fetch) waitsForOthers() bool {
	return !x.route.CoalesceOff && !x.flight.Tag().(*flightTag).solo && !x.route.Policy.Unsafe(x.method) &&
		(x.freshness == nil || !x.freshness.NoCache) // each validates for itself then
}

// leaseKey names what fetches of several machines may be one: those that could share a flight if
// they were on one, and are of the same kind (see hitForMissKey). known is a variant that another
// machine has stored, from which its names are known.
func (x *Fetch) leaseKey(known *store.Variant) store.Key {
	names := x.varyNames
	if known != nil && !isVaryIgnored(known) {
		names = known.Names
	}
	if len(names) == 0 {
		return x.lease
	}
	names = varyNamesOf(names)
	names, values := x.route.withWritten(x.request(), names, variantValues(names, x.clientHeader))
	return variantKey(x.lease, names, values)
}

// wholeBodyMax is the size up to which a body of another machine's is read whole before it is used.
const wholeBodyMax = 4 << 20

// answerWith answers a flight with a response that another machine has stored, if that may be used
// unchanged. One that has to be validated first is, if it is small: then the fetch goes on from it.
func (x *Fetch) answerWith(found *store.Result) bool {
	entry := found.Entry
	if entry == nil || !x.varianceAgrees(entry) {
		return false
	}
	freshness := x.route.evaluateFor(entry, x.personal())
	use, _ := freshness.UseFor(x.directives, x.begun, time.Now(), validityOf(found.Severity))
	if use == rfc9111.UseFresh && x.isNoRenewal(freshness) {
		return false
	}
	if use != rfc9111.UseFresh {
		if use != rfc9111.UseNever {
			x.validateElsewhere(found, freshness)
		}
		return false
	}
	switch length := entry.Body.Len(); {
	case length > x.route.largestBody():
		return false
	case length > wholeBodyMax:
		x.streamFrom(entry, freshness)
		return true
	default:
		return x.answerWhole(entry, freshness)
	}
}

// varianceAgrees reports whether a response of another machine's was found by the variance that its
// own field names.
func (x *Fetch) varianceAgrees(e *store.Entry) bool {
	return x.keyed.variance.IsDefault() || x.route.evaluated(e).search.Equal(x.keyed.variance)
}

// validateElsewhere makes the fetch one that validates a response of another machine's, where none
// is stored here. It may stand in for a failure, too. A 304 would not be worth reading a long body.
func (x *Fetch) validateElsewhere(found *store.Result, freshness *rfc9111.Freshness) {
	entry := found.Entry
	if x.stale != nil && !x.elsewhere || entry.Body.Len() > smallBody ||
		!rfc9111.Validates(x.method) || !rfc9111.HasValidator(entry.Header) {
		return
	}
	x.stale, x.freshness, x.severity, x.elsewhere = entry, freshness, found.Severity, true
	x.lacking = entry.Flags&flagSliced != 0 // as far as is known
	x.usually = entry.FetchTime
	x.condition(x.request().Header)
	if x.lacking {
		x.askForCoding(entry)
	}
	if x.lacking && x.firstPart.Size > 0 {
		x.request().Header["Range"] = []string{x.firstPart.Range()}
	}
}

// streamFrom answers a flight with the body of another machine's response while it arrives, as with
// one from the origin. A part that is lost breaks the answer off.
func (x *Fetch) streamFrom(entry *store.Entry, freshness *rfc9111.Freshness) {
	x.endRemote() // what is stored in the end is there already
	x.writer.declared = entry.Body.Len()
	exchange := exchangeOf(entry)
	header := rfc9111.StorableHeader(&exchange, &x.route.Policy) // by the rules of today
	shared := &x.response
	*shared = sharedResponse{
		source: fromOrigin, elsewhere: true, route: x.route, status: entry.Status, exchange: exchange, freshness: freshness,
		header: header, added: entry.Notes, own: fieldsOf(header, entry.Notes), variant: entry.Variant, length: entry.Body.Len(), over: x.over,
		tags: entry.Tags, was: entry, key: x.key, search: x.keyed.variance,
	}
	shared.exchange.Header = nil
	shared.untyped.Store(entry.Flags&flagUntyped != 0)
	x.flight.Expect(shared.length)
	x.flight.SpillTo(x)
	x.share(shared, x.route.MaxBody)
	if err := copyInto(x.flight, entry.Body); err != nil {
		x.backOff()
		x.flight.Fail(err)
		return
	}
	x.flight.Finish(entry.Trailer)
	x.store(shared, entry.Trailer)
}

// answerWhole answers a flight with the body read whole: if a part is lost, there is no answer.
func (x *Fetch) answerWhole(entry *store.Entry, freshness *rfc9111.Freshness) bool {
	length := entry.Body.Len()
	if !x.cache.store.Reserve(length, length) {
		return false
	}
	defer x.cache.store.Unreserve(length)
	if entry.Body = readWhole(entry.Body); entry.Body == nil {
		return false
	}
	return x.answerFetched(entry, freshness)
}

// answerFetched stores a response of another machine's and answers the flight with it. It reports
// false if the response was purged while it came, or a newer one was stored here.
func (x *Fetch) answerFetched(entry *store.Entry, freshness *rfc9111.Freshness) bool {
	entry.Generation = x.ticket.Generation() // the ticket is older than the look-up
	var held store.Result
	switch x.putHere(entry, freshness, &held) {
	case store.RefusedPurged, store.RefusedOlder:
		return false
	case store.Stored:
		x.removeGone(entry.Status, entry.RequestTime)
		if held.Entry != nil { // of the two copies it is the one that counts in the budget
			entry = held.Entry
			x.hold(held)
		}
	case store.RefusedFull, store.RefusedClosed, store.RefusedTooLarge, store.RefusedDamaged, store.RefusedExpired:
	}
	x.share(&sharedResponse{
		source: fromStore, entry: entry, freshness: freshness, variant: entry.Variant, was: entry,
	}, 0)
	x.flight.Finish(nil)
	return true
}

// copyInto writes a body into a flight.
func copyInto(flight *coalesce.Flight, body store.Body) error {
	for off := int64(0); off < body.Len(); {
		chunk, err := body.Chunk(off)
		if err == nil {
			_, err = flight.Write(chunk)
		}
		if err != nil {
			return fmt.Errorf("another machine's response: %w", err)
		}
		off += int64(len(chunk))
	}
	return nil
}

// readWhole returns a body in memory, nil if a part of it is lost.
func readWhole(body store.Body) store.Body {
	var chunks [][]byte
	for off := int64(0); off < body.Len(); {
		chunk, err := body.Chunk(off)
		if err != nil {
			return nil
		}
		chunks = append(chunks, chunk)
		off += int64(len(chunk))
	}
	return store.NewBody(chunks)
}

// selector returns a function that scores variants by RFC 9111 4.1 for the leader's request.
func (x *Fetch) selector() func(*store.Variant) int {
	return x.route.selector(x.request(), headerOf(x.clientHeader))
}

// failElsewhere ends the flight with the status with which two fetches of other machines have
// failed. Whether a stale response may stand in is decided as it was there.
func (x *Fetch) failElsewhere(status int, answered bool, retryAfter string) {
	failure := status
	if !answered {
		failure = rfc9111.NoAnswer
	}
	x.backOff()
	x.noteFailure(failure)
	if x.staleStandsIn(failure) {
		x.share(x.staleOnError(status, failure), 0)
		x.flight.Finish(nil)
		return
	}
	x.flight.Fail(&originError{status: status, retryAfter: retryAfter, elsewhere: true})
}

// offer offers to other machines a response that has just been stored here.
func (x *Fetch) offer(entry *store.Entry, renews bool) { x.cache.offer(x.remote, entry, renews) }

// offer offers what has just been stored by a fetch's use of other machines, which may be nil.
func (c *Cache) offer(remote RemoteFetch, entry *store.Entry, renews bool) {
	if remote == nil {
		return
	}
	held := c.lookUpVariant(entry.Key, entry.Variant)
	if held.Entry == nil || held.Entry.ID != entry.ID {
		held.Release()
		return
	}
	remote.Put(held, renews)
}

// tellAsked tells other machines that the origin is asked.
func (x *Fetch) tellAsked() {
	if x.remote != nil {
		x.remote.Asks()
	}
}

// tellWaits tells other machines that the fetch waits for its turn again.
func (x *Fetch) tellWaits() {
	if x.remote != nil {
		x.remote.Waits()
	}
}

// tellRemote tells other machines what was decided at the header.
func (x *Fetch) tellRemote(v verdict, status int, freshness *rfc9111.Freshness) {
	if x.remote == nil {
		return
	}
	switch v {
	case verdictShare:
		if freshness.Reason == rfc9111.Storable {
			x.remoteLimit = x.remote.Storable(&x.response.variant, x.writer.declared)
		} else {
			x.remote.Unshared(true)
		}
	case verdictStale, verdictFail:
		if status < http.StatusInternalServerError { // it is never shared
			x.remote.Unshared(!aboutTheRequest(status) && !x.ofFieldsAlone(status))
			return
		}
		x.remote.Failed(status, true, x.writer.header.Get("Retry-After"))
	case verdictRelease:
		x.remote.Unshared(remembered(status, freshness) && !x.ofFieldsAlone(status))
	case verdictConfirm, verdictRefetch, verdictPostpone:
	}
}

// ofFieldsAlone is the Cache's of an answer to the fetch that has just come. Other machines know no
// fields of requests, so what it says is kept here.
func (x *Fetch) ofFieldsAlone(status int) bool {
	return x.cache.ofFieldsAlone(x.hitForMissKey, status, time.Now())
}

// tellGrowth tells other machines of a body that has turned out too long for them.
func (x *Fetch) tellGrowth(written int64) {
	if x.remote != nil && written > x.remoteLimit && x.remoteLimit >= 0 {
		x.remoteLimit = -1
		x.remote.Unshared(false)
	}
}

// tellFailure tells other machines of a fetch that has no whole response. failure is status, or
// [rfc9111.NoAnswer].
func (x *Fetch) tellFailure(status, failure int) {
	if x.remote == nil {
		return
	}
	if status < http.StatusInternalServerError {
		x.remote.Unshared(!aboutTheRequest(status) && !x.ofFieldsAlone(status))
		return
	}
	x.remote.Failed(status, failure != rfc9111.NoAnswer, "")
}

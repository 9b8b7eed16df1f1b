package httpcache

import (
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// store keeps the response, now that it is whole.
func (x *Fetch) store(shared *sharedResponse, trailer http.Header) {
	if x.slice != nil {
		x.storeSlice(shared)
		return
	}
	against, judged := x.reasonWhileCounted(shared.header)
	body, whole := x.wholeBody()
	if !whole {
		reason := rfc9111.ReasonTooLarge
		if x.flight.Overflow() == coalesce.NoRoom {
			reason = rfc9111.ReasonFull
		}
		x.backOffForAll()
		x.countNotStored(reason)
		return
	}
	if !judged {
		against = x.reasonAgainst(shared.header, body)
	}
	if against != rfc9111.Storable {
		x.refuse(against)
		return
	}
	entry := &store.Entry{
		Key: x.key, URL: x.url, Variant: shared.variant, Method: x.method, Flags: shared.flags() | x.flags, Notes: shared.added,
		Status: shared.status, Header: shared.header, Trailer: x.route.Policy.StorableTrailer(shared.header, trailer),
		RequestTime: shared.exchange.RequestTime, ResponseTime: shared.exchange.ResponseTime,
		FetchTime: x.fetchTime(shared),
		Tags:      shared.tags, Generation: x.ticket.Generation(), Body: body,
	}
	if body.Len() <= tinyBody || x.flight.Spilled() {
		x.put(entry, shared.freshness, nil)
		return
	}
	if body.Len() <= smallBody {
		if x.put(entry, shared.freshness, nil) {
			x.flight.TakeBackCopy()
		} else {
			x.flight.TakeBack()
		}
		return
	}
	var held store.Result
	if x.put(entry, shared.freshness, &held); held.Entry != nil {
		x.flight.MoveTo(&heldBody{Body: held.Entry.Body, held: held})
	} else {
		x.flight.TakeBack()
	}
}

// refuse lets go of a whole body that is not to be stored.
func (x *Fetch) refuse(reason rfc9111.Reason) {
	x.backOffForAll()
	x.countNotStored(reason)
	if !x.flight.Spilled() {
		x.flight.TakeBack()
	}
}

// smallBody is the size up to which a stored body is in memory a second time while slow clients
// read it. Of larger bodies clients read the store's copy. The second one counts from tinyBody on:
// a connection of HTTP/2 has hundreds of clients that take nothing.
const (
	smallBody = 64 << 10
	tinyBody  = 16 << 10
)

// heldBody is a stored body, read by the clients that came for it while it was on its way.
type heldBody struct {
	store.Body
	held store.Result
}

// Close implements coalesce.BodySource.
func (b *heldBody) Close() { b.held.Release() }

// put stores the response from the origin and reports whether it went in. If hold is not nil, it
// has the stored body then.
func (x *Fetch) put(entry *store.Entry, freshness *rfc9111.Freshness, hold *store.Result) bool {
	stored := x.putHere(entry, freshness, hold) == store.Stored
	if stored {
		x.unstored.Store(nil)
		x.offer(entry, false)
		x.removeGone(entry.Status, entry.RequestTime)
	}
	return stored
}

// putHere stores an entry on this machine.
func (x *Fetch) putHere(entry *store.Entry, freshness *rfc9111.Freshness, hold *store.Result) store.PutResult {
	setTimes(entry, freshness)
	refusal := store.RefusedPurged
	if !x.overtaken(entry) {
		if hold == nil {
			refusal = x.cache.store.Put(entry, x.route.MaxVariants)
		} else {
			*hold, refusal = x.cache.store.PutHeld(entry, x.route.MaxVariants)
		}
		if refusal == store.Stored && x.overtakenMeanwhile(entry) {
			x.cache.store.Remove(entry)
			refusal = store.RefusedOlder
		}
	}
	if refusal == store.Stored {
		x.cache.invalidatedBy.forget(entry.URL)
		if x.gainsNothing(freshness, entry.FetchTime) {
			x.backOffForAll()
		} else {
			x.refreshed()
		}
		if !x.cache.lateRefreshes.isEmpty() && time.Since(x.begun) < x.route.Wait {
			// The origin was slow for all, and is well again.
			x.cache.lateRefreshes.forget(x.tag().page, x.fieldsSum())
		}
		x.cache.giveUpLate(x.tag().instead)
		return store.Stored
	}
	// A purge during the fetch is no failure: what is stale now is refreshed at once. Nor is a
	// newer response.
	if refusal != store.RefusedPurged && refusal != store.RefusedOlder {
		x.backOffForAll()
	}
	x.countNotStored(reasonOf(refusal))
	return refusal
}

// setTimes notes with an entry until when it is fresh, and kept.
func setTimes(entry *store.Entry, freshness *rfc9111.Freshness) {
	entry.FreshUntil = freshness.ResponseTime.Add(freshness.Lifetime - freshness.InitialAge)
	entry.KeptFrom, entry.KeepUntil = freshness.KeptFrom(), freshness.KeepUntil()
}

// overtaken reports whether the response of this fetch may be older than what is known of the URL
// by now. Then it must not be stored. Either the URL was purged while the fetch was under way, or a
// 404 or 410 has come. Fetches of one key run side by side where one stalled, or where requests do
// not wait for each other: with Authorization, for example, or without coalescing.
//
// Another fetch may have begun later and been faster. What is stored of the same variant the store
// compares, while it replaces that; of the others see outdates.
func (x *Fetch) overtaken(entry *store.Entry) bool {
	if x.cache.store.Purged(entry.URL, entry.Tags, entry.Generation) != store.NotPurged {
		return true
	}
	return x.gone(entry.Key) || x.gone(x.asked)
}

// overtakenMeanwhile reports it of a response that has just been stored. Whatever comes from now on
// finds that response and removes it, or has the path looked up otherwise.
func (x *Fetch) overtakenMeanwhile(entry *store.Entry) bool {
	x.hintAgain(entry)
	return x.gone(entry.Key) || x.gone(x.asked) || !x.outdates(entry)
}

// gone reports whether a 404 or 410 has come for key since the fetch began, or may have.
func (x *Fetch) gone(key store.Key) bool { return x.cache.removals.notedSince(key, x.begun) }

func reasonOf(refusal store.PutResult) rfc9111.Reason {
	switch refusal {
	case store.RefusedFull, store.RefusedClosed:
		return rfc9111.ReasonFull
	case store.RefusedTooLarge:
		return rfc9111.ReasonTooLarge
	case store.RefusedPurged, store.RefusedOlder:
		return rfc9111.ReasonPurged
	case store.RefusedDamaged:
		return rfc9111.ReasonIncomplete
	case store.RefusedExpired:
		return rfc9111.ReasonNoValidator // one would have kept it
	case store.Stored:
	}
	return rfc9111.Storable
}

// Spill begins to write the body to disk while it arrives. The flight calls it when the body
// outgrows its share of memory. Its errors are those of [store.Store.NewBodyWriter], wrapped.
func (x *Fetch) Spill() (coalesce.Spill, error) {
	length := x.writer.declared
	if x.slice != nil {
		length = x.slice.object.span(x.slice.number).Length
	}
	bodyWriter, err := x.cache.store.NewBodyWriter(length)
	if err != nil {
		return nil, fmt.Errorf("writing a body ahead: %w", err)
	}
	bodyWriter.Of(x.response.header)
	bodyWriter.ReadBy((*spillReaders)(x.flight))
	x.bodyWriter.Store(bodyWriter)
	return bodyWriter, nil
}

// SpillPart begins a part of a body that is not kept, which readers behind the others read from. It
// has n bytes. Its errors are those of [store.Store.NewPartWriter], wrapped.
func (x *Fetch) SpillPart(n int64) (coalesce.Spill, error) {
	writer, err := x.cache.store.NewPartWriter(n)
	if err != nil {
		return nil, fmt.Errorf("writing a part of a body: %w", err)
	}
	writer.ReadBy((*spillReaders)(x.flight))
	return writer, nil
}

// spillReaders are the readers of a flight that spills.
type spillReaders coalesce.Flight

// Interrupt implements store.Interrupter.
func (f *spillReaders) Interrupt() int { return (*coalesce.Flight)(f).DropBehind() }

// wholeBody returns the body for the store, if the flight has the whole of it. A spilled body is on
// the disk already.
func (x *Fetch) wholeBody() (body store.Body, whole bool) {
	chunks, whole := x.flight.HandOver()
	if whole && x.flight.Spilled() {
		body = x.bodyWriter.Load().Body()
		return body, body != nil
	}
	return store.NewBody(chunks), whole
}

// Interface guards.
var (
	_ coalesce.Spiller    = (*Fetch)(nil)
	_ coalesce.Storer     = (*Fetch)(nil)
	_ coalesce.Spill      = (*store.BodyWriter)(nil)
	_ coalesce.RoomReader = (*store.BodyWriter)(nil) // a reader looks for it
	_ coalesce.Memory     = (*store.Store)(nil)      // NewGroup looks for it, and does without

	_ store.Interrupter = (*spillReaders)(nil)
	_ store.Interrupter = (*bodyClient)(nil)
)

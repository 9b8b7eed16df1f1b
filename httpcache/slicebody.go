package httpcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// sliceBody is the body of an answer from an object that is stored in slices. It has one slice in
// hand, and one ahead if that has to be fetched: the fetch of the next slice begins when half of
// this one has been sent, and none begins behind the end of the part that is sent. For a client
// that has left no other slice is fetched.
type sliceBody struct {
	q      *Request
	object *object
	head   *store.Entry
	seed   []field    // the header as the outer handlers had filled it
	cur    *openSlice // the slice that is sent
	ahead  *openSlice // the next one, if it is fetched
	aside  *openSlice // one that comes later, see setAside
	end    int64      // of the part that is sent
	broken int        // how often the slice that is sent has broken off
	failed bool       // what has ended the answer is a slice's fault, and not the client's
	begun  bool       // the header has gone out
	alone  bool       // what it fetches is for its client alone, see retry

	whole *aheadOfWhole // what it reads ahead of, or nil
}

// openSlice is a slice in hand: one that is stored, or the place on its flight.
type openSlice struct {
	number  int64
	stored  store.Result
	on      membership
	flight  *flightBody // nil before the header has come
	waiting bool        // it has not
}

// tries is how often a slice is fetched before an answer breaks off.
const tries = 2

func (q *Request) newSliceBody(o *object, head *store.Entry) *sliceBody {
	b := &sliceBody{q: q, object: o, head: head, seed: snapshot(q.w.Header())}
	if q.following != nil && q.following.ahead != nil && q.following.ahead.head == head {
		b.whole = q.following.ahead
	}
	return b
}

// close gives up what the body has in hand.
func (b *sliceBody) close() {
	b.cur.close()
	b.ahead.close()
	b.aside.close()
	b.cur, b.ahead, b.aside = nil, nil, nil
}

// setAside gives up the slice in hand until the answer comes to it, if it does. Its fetch goes on
// by itself, and is joined then. One that cannot be joined, as under `coalesce off`, is kept
// instead: it would be made once more.
func (b *sliceBody) setAside() {
	if h := b.cur; h != nil && !h.isStored() && h.on.flight.Tag().(*flightTag).solo {
		b.aside.close()
		b.aside = h
	} else {
		h.close()
	}
	b.cur = nil
}

func (h *openSlice) close() {
	if h == nil {
		return
	}
	h.stored.Release()
	if h.on.member != nil {
		h.on.member.Leave()
	}
}

// isStored reports whether the slice comes from the store.
func (h *openSlice) isStored() bool { return h.on.member == nil }

// send writes n bytes from off to w, all the rest if n is negative, and returns how many went out.
func (b *sliceBody) send(w http.ResponseWriter, off, n int64) (sent int64, err error) {
	if n < 0 {
		n = b.object.total - off
	}
	b.end, b.begun = off+n, true
	for sent < n {
		some, err := b.sendSome(w, off+sent)
		if sent += some; err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendSome sends what is left, from a position on, of the first or second half of a slice. Where
// the slice breaks off it sends less, and the rest is fetched again, from the same version.
func (b *sliceBody) sendSome(w http.ResponseWriter, at int64) (sent int64, err error) {
	number := at / b.object.size
	if err := b.take(number); err != nil {
		b.failed = b.q.r.Context().Err() == nil
		return 0, err
	}
	span := b.object.span(number)
	from, to := at-span.Start, min(b.end-span.Start, span.Length)
	if half := span.Length / 2; from < half && half < to {
		to = half
	} else {
		b.readAhead(number + 1)
	}
	sent, failed, err := b.cur.send(b.q, w, from, to-from)
	b.failed = failed && b.q.r.Context().Err() == nil
	switch {
	case err == nil:
		b.broken = 0
		return sent, nil
	case !b.failed:
		return sent, err
	}
	b.cur.close()
	b.cur = nil
	if b.broken++; b.broken >= tries {
		return sent, err
	}
	return sent, nil
}

// send writes a part of the slice. failed says that an error is the slice's and not the client's.
func (h *openSlice) send(q *Request, w http.ResponseWriter, off, n int64) (sent int64, failed bool, err error) {
	if h.isStored() {
		sent, err = h.stored.WriteBody(w, h.stored.Entry.Body, off, n, (*bodyClient)(q))
		return sent, store.IsDamaged(h.stored.Entry.Body), err
	}
	sent, err = h.flight.send(w, off, n)
	if err == nil && sent < n {
		err = io.ErrUnexpectedEOF
	}
	return sent, isSliceFault(err, h.on.flight.Err()), err
}

// isSliceFault reports whether an error of a flight's reader is the slice's, so that another fetch
// may make up for it. ended is what the flight has ended with, if it has failed. A reader that was
// too slow has a client that takes nothing, and whose writes have been broken off.
func isSliceFault(err, ended error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled) || ended != nil && errors.Is(err, ended) ||
		errors.Is(err, coalesce.ErrSpill) || errors.Is(err, coalesce.ErrPassed)
}

// take has a slice in hand. It waits for the header where the slice is fetched.
func (b *sliceBody) take(number int64) error {
	switch {
	case b.cur == nil || b.cur.number == number:
	case b.cur.number > number: // brought by the fetch of a first part
		b.setAside()
	default:
		b.cur.close()
		b.cur = nil
	}
	for _, h := range [...]**openSlice{&b.ahead, &b.aside} {
		if b.cur == nil && *h != nil && (*h).number == number {
			b.cur, *h = *h, nil
		}
	}
	for r := (retries{}); ; {
		if b.cur == nil {
			b.cur = b.open(number, b.alone || r.alone, r.gaveUp)
		}
		h := b.cur
		err := b.await(h, !r.gaveUp && r.waits < tries)
		if err == nil {
			return nil
		}
		h.close()
		if b.cur = nil; !b.retry(&r, h, err) {
			return err
		}
	}
}

// retries counts the ways in which a slice had no header.
type retries struct {
	waits  int  // it was stored meanwhile, or late
	failed int  // fetches that others led
	own    bool // one of the request's own has failed
	alone  bool // the next fetch is this request's own
	other  int  // that brought another version, or the word that there is none
	gaveUp bool // a fetch was late
}

// retry reports whether a slice is to be had once more, after an error.
//
// A fetch that another request led may have failed for how that was made. So it is followed by one
// more that all who wait share, and then by one of the request's own. Its own fetch is tried again
// once where the header has gone out: before that the client gets the origin's own answer. What
// the origin answers to it then is used although it may not be stored, as it is of the version
// that the client has a part of. Where machines of the origin give one file validators of their
// own, its own fetch is tried twice more: another machine may have that version. What the fetch of
// another request says of the file, as a 404 to a field of its own, may not hold for this one. So
// an answer that has begun asks twice more, together with the others that wait.
func (b *sliceBody) retry(r *retries, h *openSlice, err error) bool {
	refused := refusalOf(err) != nil
	switch {
	case b.q.r.Context().Err() != nil, refused && !b.begun:
		return false
	case errors.Is(err, errObjectChanged):
		r.other++
		mixed := b.q.isMixed(time.Now())
		r.alone = r.alone || mixed
		return b.begun && r.other <= tries && (mixed || h.on.fetch == nil)
	case errors.Is(err, errSliceLate) && h.on.flight.Queued():
		return b.begun // else the request waits for a place of its own
	case errors.Is(err, errSliceStored), errors.Is(err, errSliceLate):
		r.gaveUp = r.gaveUp || errors.Is(err, errSliceLate)
		r.waits++
		return r.waits <= 2*tries
	case h.on.fetch == nil:
		r.failed++
		r.alone = r.failed >= tries
		return true
	case b.begun && !r.own:
		b.alone = b.alone || errors.Is(err, errSliceRefused)
		r.own, r.alone = true, true
		return true
	}
	return false
}

// probe fetches the first slice that is missing, as far as a bounded number of look-ups tells. If
// that is the first of the answer, the header waits for it in any case. An answer that has begun
// would break off if the slice is refused, and so would each one after it: where one has been, and
// there are more slices than are looked up, no answer begins from the store.
func (b *sliceBody) probe(parts []rfc9111.ByteRange) error {
	switch refused := b.q.isRefusedSlices(); {
	case !b.q.mayBeRefused(refused):
		return nil
	case b.object.countOf(parts) > maxLookedAll && refused:
		return errSliceRefused // the one that was refused to another answer may be any of them
	}
	for number := range b.object.sample(parts, maxLookedAll) {
		switch {
		case b.q.route.hasSlice(b.object, b.head, number, b.q.personal()):
			continue
		case number == parts[0].Start/b.object.size:
			return nil
		}
		err := b.take(number)
		if b.setAside(); refusalOf(err) != nil {
			return nil // once the answer has begun it may wait for a place
		}
		return err
	}
	return nil
}

// takeStored has a slice in hand if it is stored.
func (b *sliceBody) takeStored(number int64) {
	if h := b.find(number); h != nil {
		b.cur = h
	}
}

// find finds a slice in the store, nil if it is not there.
func (b *sliceBody) find(number int64) *openSlice {
	found := b.q.route.slice(b.object, b.head, number, b.q.personal())
	if found.Entry == nil {
		return nil
	}
	b.keep(found.Entry)
	return &openSlice{number: number, stored: found}
}

// open finds a slice, or begins to fetch it, alone or together with others. gaveUp says that a
// fetch of it was late.
func (b *sliceBody) open(number int64, alone, gaveUp bool) *openSlice {
	h := b.find(number)
	if h != nil {
		return h
	}
	h = &openSlice{number: number}
	s := sliceOf{object: b.object, number: number, head: b.head, goesOn: b.begun, alone: alone && b.begun, gaveUp: gaveUp, ahead: b.whole}
	h.on = b.q.beginSlice(s, b.seed, alone)
	h.waiting = true
	return h
}

// keep has a slice stay stored for as long as its head, which has been validated since, and gives
// it the tags that the head has by then.
func (b *sliceBody) keep(e *store.Entry) {
	if !e.KeepUntil.Before(b.head.KeepUntil) {
		return
	}
	r := e.Renewal()
	r.FreshUntil, r.KeptFrom, r.KeepUntil = b.head.FreshUntil, b.head.KeptFrom, b.head.KeepUntil
	r.Tags = b.head.Tags
	b.q.cache().store.Put(r, 0)
}

// readAhead begins to fetch a slice, if the answer goes on into it.
func (b *sliceBody) readAhead(number int64) {
	isAside := b.aside != nil && b.aside.number == number
	if b.ahead != nil || isAside || number*b.object.size >= b.end || b.q.r.Context().Err() != nil ||
		b.q.route.hasSlice(b.object, b.head, number, b.q.personal()) {
		return
	}
	b.ahead = b.open(number, b.alone, false)
}

// errSliceLate says that a fetch of others has had no header, or no byte, in time. Another one is
// begun.
var errSliceLate = errors.New("the fetch of the slice has no byte")

// await waits for the header of a slice that is fetched, and for the first byte where another
// request has led the fetch. givesUp says that it gives one up early, if the last was late: see
// late.go.
func (b *sliceBody) await(h *openSlice, givesUp bool) error {
	if !h.waiting {
		return nil
	}
	h.waiting = false
	wait, late := b.q.route.Wait, b.q.lateSliceKey(b.object)
	if h.on.flight.Queued() {
		wait += b.q.route.Budget.Wait()
	} else if givesUp && !followsLate(h.on.flight) && b.q.wasLate(late) {
		wait = min(wait, b.q.lateWait(late))
	}
	switch result := h.on.member.Wait(b.q.r.Context(), wait, nil); result {
	case coalesce.Shared:
	case coalesce.TimedOut:
		b.q.noteLate(late, h.on.flight)
		return errSliceLate
	case coalesce.Left:
		return context.Cause(b.q.r.Context())
	default:
		if err := h.on.flight.Err(); err != nil {
			return err
		}
		return fmt.Errorf("a slice: %s", result)
	}
	shared := h.on.flight.Shared().(*sharedResponse)
	h.flight = &flightBody{
		flight: h.on.flight, reader: h.on.member.Reader(), ctx: b.q.r.Context(), length: shared.length, over: shared.over,
	}
	h.on.member.Reader().OnDrop(b.q.breakWrite)
	if h.on.fetch == nil {
		h.flight.patience = b.q.route.Wait
		if b.q.isDoubtful(h.on.flight.Tag().(*flightTag).page) {
			err := b.q.awaitWhole(h.flight, shared.length, time.Now().Add(b.q.route.Wait))
			switch {
			case errors.Is(err, errStalled), errors.Is(err, errDoubtful):
				return errSliceLate
			case err != nil:
				return err
			}
		}
		if err := h.flight.first(b.q.byteWait(h.on)); errors.Is(err, errStalled) {
			return errSliceLate
		}
	}
	return nil
}

// lead puts a slice in hand that the request's own fetch of a first part brings.
func (b *sliceBody) lead(s membership, number int64) {
	b.cur = &openSlice{number: number, on: s, waiting: true}
}

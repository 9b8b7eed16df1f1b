package httpcache

import (
	"context"
	"errors"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// A fetch has the fields of the client that leads it, and those who join it when its body has begun
// get what comes of that. So a client for whose field the origin breaks a body off, or has it stand
// still, could have all others break off with it, and be the first to ask again. What a failure
// before the first byte costs, another fetch makes good; here it is too late for that. So it is
// remembered of a page for whose fields a body has broken off:
//
//	a body has broken off   who asks for the page
//	─────────────────────   ─────────────────────
//	not lately              joins any fetch
//	for its own fields      shares a fetch with those alone that have the same fields
//	for other fields        joins no fetch with these. Of any other it takes nothing before the body
//	                        is whole, or past withheld: one that breaks off before is a failure that
//	                        another fetch makes good
//
// Where a stale response may stand in for a failure it is the answer to both of the latter, and is
// fetched anew in the background.
//
// A page may pause for all: its head comes at once, and the rest after longer than requests wait.
// So a body that stands still counts as broken off only where none of the page has lately stood
// still for as long and come whole all the same (Cache.pausing): for the same fields, or for two
// others of two clients. One client may have several for which the origin pauses.
//
// An origin may break off for all. Of a page the last maxBadFields fields are remembered: one fetch
// for all others is under way then, and one for each of these.

const (
	// brokenKeep is how long it is remembered that a body broke off.
	brokenKeep = 2 * time.Minute
	// withheld is how much of a body that may break off comes before others are sent any of it.
	withheld = 1 << 20
)

// noteBroken remembers that the body of the fetch has broken off, unless it was given up: that says
// nothing of its fields.
func (x *Fetch) noteBroken() {
	cause := context.Cause(x.flight.Context())
	if cause != nil && !errors.Is(cause, coalesce.ErrExpired) {
		return
	}
	sum := x.fieldsSum()
	for page := range x.pages {
		x.cache.brokenBodies.note(page, sum)
	}
}

// cameWhole forgets it, and remembers of a body that stood still meanwhile that the page pauses.
func (x *Fetch) cameWhole() {
	x.tag().whole.Store(true) // first: who finds now that it has stood still sees to the rest
	if x.tag().stood.Load() {
		x.cache.notePause(x.tag(), x.fieldsSum())
	}
	if x.cache.brokenBodies.isEmpty() {
		return
	}
	sum := x.fieldsSum()
	for page := range x.pages {
		x.cache.brokenBodies.forget(page, sum)
	}
}

// pages are those of which the fetch is: a first part is one of the file's slices, too, and has
// another page.
func (x *Fetch) pages(yield func(page store.Key) bool) {
	page := x.tag().page
	if !yield(page) || x.slice == nil {
		return
	}
	if file := x.route.byRules(x.slice.object.key(-1)); file != page {
		yield(file)
	}
}

// isDoubtful reports whether a body of the page has broken off lately.
func (q *Request) isDoubtful(page store.Key) bool { return q.cache().brokenBodies.any(page) }

// keepApart returns the key under which a request begins its flight. One for whose fields a body of
// the page has broken off has a key that it shares with no others. It is that of a place among the
// last fields, so that an origin which breaks off for all is asked for no more at a time.
func (q *Request) keepApart(tag *flightTag) store.Key {
	if !q.isDoubtful(tag.page) {
		return tag.key
	}
	place, bad := q.cache().brokenBodies.place(tag.page, q.fieldsSum())
	if tag.apart = bad; !bad {
		return tag.key
	}
	return withFields(tag.key, uint64(place)+1)
}

// shuns reports whether a flight may break off for the fields of the request that began it, which
// are other ones than those of this request.
func (q *Request) shuns(f *coalesce.Flight) bool {
	tag := f.Tag().(*flightTag)
	if !q.isDoubtful(tag.page) {
		return false
	}
	sum, known := tag.fieldsSum()
	if !known {
		return false
	}
	_, bad := q.cache().brokenBodies.place(tag.page, sum)
	return bad && sum != q.fieldsSum()
}

// beginRemoteFor is beginRemote for a flight. Those of other machines do not wait for one that is
// apart, nor it for them.
func (q *Request) beginRemoteFor(tag *flightTag) RemoteFetch {
	if tag.apart {
		return nil
	}
	return q.beginRemote()
}

// watch sees to it that the body of a flight counts as broken off once it stands still. It is for
// a flight whose place another is about to take, so that newcomers do not look at it again. A body
// that is slow does not count: it may be so for all. Nor does one of a page that pauses.
func (q *Request) watch(f *coalesce.Flight) {
	tag := f.Tag().(*flightTag)
	if f.Shared() == nil || f.Ended() || !tag.watched.CompareAndSwap(false, true) {
		return
	}
	cache, wait := q.cache(), q.route.Wait
	var look func()
	look = func() {
		switch left := wait - f.Silent(); {
		case f.Ended(): // it has noted itself what has come of it
		case left > 0:
			time.AfterFunc(max(left, lateHeader), look)
		default:
			cache.noteStood(tag)
		}
	}
	look()
}

// noteStood notes a body that stands still, unless it has come whole meanwhile: then the page
// pauses.
func (c *Cache) noteStood(tag *flightTag) {
	tag.stood.Store(true) // first: should it come whole now, it forgets what is noted
	sum, known := tag.fieldsSum()
	if !known {
		return
	}
	if !c.pausing.covers(tag.page, sum) {
		c.brokenBodies.note(tag.page, sum)
	}
	if tag.whole.Load() { // it may have forgotten before
		c.notePause(tag, sum)
		c.brokenBodies.forget(tag.page, sum)
	}
}

// notePause remembers that a body has stood still and come whole all the same.
func (c *Cache) notePause(tag *flightTag, sum uint64) {
	c.pausing.noteOf(tag.page, sum, clientNetwork(tag.client))
}

// errDoubtful says that a body which may break off has not come whole when the request's wait was
// over, and that it came too late to see whether the body comes on.
var errDoubtful = errors.New("the body may break off, and has not come whole")

// awaitWhole has a follower wait until a body that may break off is whole, or past a limit, or has
// come on for as long as the request waits. Nothing has been taken of it then.
func (q *Request) awaitWhole(b *flightBody, limit int64, until time.Time) error {
	begun, wait := time.Now(), q.route.Wait
	left := func() time.Duration { return min(time.Until(until), b.flight.TimeLeft(wait)) }
	for {
		ctx, cancel := context.WithTimeoutCause(b.ctx, max(1, left()), errStalled)
		err := b.reader.Await(ctx, limit)
		cancel()
		switch {
		case err == nil, !errors.Is(err, errStalled), b.flight.TimeLeft(wait) <= 0:
			return err
		case left() <= 0 && time.Since(begun) < wait/2:
			return errDoubtful
		case left() <= 0:
			return nil // it has come on until now
		}
	}
}

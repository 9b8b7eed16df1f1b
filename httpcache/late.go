package httpcache

import (
	"crypto/sha256"
	"net/netip"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// A fetch has the fields of the client that leads it. So an origin may be slow for that one alone:
// because of its cookie, or because it has asked too often. Those who wait give such a fetch up
// after `coalesce wait`, and then the same client may lead the next. So it is remembered of a key
// that a request has waited that long for a header:
//
//	a wait was in vain    who waits for a fetch
//	──────────────────    ─────────────────────
//	not lately            waits as long as `coalesce wait` says, then fetches for itself
//	lately                waits a second. Then it begins another, or joins the one that another
//	                      who gave up has begun. For that it waits as above
//
// An origin may be slow for all as well. Then two fetches are under way where one was before: what
// was begun by one who had given up is not given up early, and newcomers join it. A wait that was
// given up early does not renew the memory.
//
// A client that stays, and asks often, would be the first to give up as well, and lead that one
// too. So it is remembered which client has led what was waited for in vain. It gives up half a
// second later than others, and joins what one of them has begun. Where all come from one address
// that changes nothing.
//
// A POST with its content in the key waits likewise. It is sent once: who gives up has not sent its
// own.

// lateKeep is how long it is remembered that a wait was in vain.
const lateKeep = 2 * time.Minute

func newLateFetches() *recentKeys { return newRecentKeys(maxRecentKeys, lateKeep, time.Second) }

// wasLate reports whether a wait for a fetch under a key of flights was in vain, lately.
func (q *Request) wasLate(key store.Key) bool { return q.cache().lateFetches.lately(key, time.Now()) }

// noteLate remembers that a wait for a flight under the key was in vain, if the origin had the time
// for it: a fetch that stood in a queue, or followed one that failed, says nothing.
func (q *Request) noteLate(key store.Key, f *coalesce.Flight) {
	if hadItsTime(f, q.route.Wait) {
		q.cache().lateFetches.note(key, time.Now())
		q.noteLateClient(key, f)
	}
}

// hadItsTime reports whether the origin had the time that a request waits for others.
func hadItsTime(f *coalesce.Flight, wait time.Duration) bool {
	return f.Silent() >= wait-lateHeader && !f.Queued()
}

// noteLateClient remembers which client has led a flight that was waited for in vain.
func (q *Request) noteLateClient(key store.Key, f *coalesce.Flight) {
	if !hadItsTime(f, q.route.Wait) {
		return
	}
	if client := clientNetwork(f.Tag().(*flightTag).client); client.IsValid() {
		q.cache().lateFetches.note(keyOfClient(key, client), time.Now())
	}
}

// lateWait is how long the request waits for a flight that it gives up early.
func (q *Request) lateWait(key store.Key) time.Duration {
	if q.cache().lateFetches.lately(keyOfClient(key, q.network()), time.Now()) {
		return lateHeader + lateHeader/2
	}
	return lateHeader
}

// keyOfClient stands for what one client asks for.
func keyOfClient(key store.Key, client netip.Prefix) store.Key {
	b := keyBuffers.Get().(*keyBytes)
	defer keyBuffers.Put(b)
	b.bytes = append(b.bytes[:0], key[:]...)
	b.bytes = client.AppendTo(b.bytes)
	return sha256.Sum256(b.bytes)
}

// followsLate reports whether a flight was begun because another was late. It is not given up
// early, and no refresh takes its place.
func followsLate(f *coalesce.Flight) bool { return f.Tag().(*flightTag).followsLate }

// hasGivenUp reports whether the request has given up a flight early.
func (q *Request) hasGivenUp() bool { return q.following != nil && q.following.gaveUp }

// hasWaited reports whether the request has waited for others for as long as it does.
func (q *Request) hasWaited() bool { return q.following != nil && q.following.isOver }

// isLate reports whether a flight that is not decided is no use to the request, because its header
// has not come in time. Only who has given one up begins another early: among newcomers a client
// that asks often comes first.
func (q *Request) isLate(f *coalesce.Flight) bool {
	return f.Silent() >= q.route.Wait || q.hasGivenUp() && !followsLate(f) && !f.Queued()
}

// givesUpEarly reports whether the request waits for a flight for a second only. It needs a round
// for the flight after that, and one to look again. A third attempt is the last: it is for those
// alone who wait for it.
func (q *Request) givesUpEarly(f *coalesce.Flight) bool {
	return q.rounds >= 2 && f.Attempt() <= 2 && !q.hasGivenUp() && !followsLate(f) && !f.Queued() &&
		q.sharing() == sharingOpen && q.wasLate(q.flightKey())
}

// goesOn reports whether a request whose wait for another's flight is over has another round. It
// has if the wait was given up early. When all its time is over, it looks once more before it asks
// alone: what it has given up may be stored by now.
func (q *Request) goesOn(f *coalesce.Flight) bool {
	if q.sharing() != sharingOpen {
		return false // what could not be shared has a memory of its own
	}
	if time.Until(q.following.deadline) > 0 {
		q.following.gaveUp = true
		return true
	}
	if q.hasWaited() || q.rounds == 0 {
		return false
	}
	q.following.isOver = true
	if q.following.gaveUp {
		q.noteLateClient(q.flightKey(), f)
	} else {
		q.noteLate(q.flightKey(), f)
	}
	return true
}

// joinDecided joins the flight for the request's key if that has a header. Otherwise the request
// has waited in vain.
func (q *Request) joinDecided(key store.Key) (answered bool, err error) {
	f, m, ok := q.cache().flights.JoinRunning(key, func(f *coalesce.Flight) bool {
		return f.Shared() != nil && q.joinable(f)
	})
	if !ok {
		return true, q.respondLate()
	}
	return q.serveFrom(membership{flight: f, member: m})
}

// maxLateRefreshes is how many refreshes of a page may be begun one after the other because the
// one before was late. Those of requests that are kept apart, one for each place among the last
// fields, are not among them.
const maxLateRefreshes = 4

// joinRefresh joins a flight that refreshes what the request finds stale, or begins one. No request
// waits for it. The fields of its request may be why one is late. So the next request with other
// fields begins another, and where that is late as well the next with yet others, up to
// maxLateRefreshes. Those with the same fields have one of their own, as they have for two minutes:
// or one client would have all of them hang.
func (q *Request) joinRefresh(tag *flightTag) (f *coalesce.Flight, m *coalesce.Member, started bool) {
	var outdated *coalesce.Flight
	f, m, started = q.cache().flights.Join(q.refreshKey(tag), tag, func(f *coalesce.Flight) bool {
		outdated, tag.instead, tag.late, tag.followsLate = nil, nil, 0, false
		switch {
		case !q.usable(f):
			if q.watch(f); q.foundLater(f) {
				outdated = f
			}
			return false
		case f.Shared() != nil:
			inTime := f.TimeLeft(q.route.Wait) > 0 // for its body, as it is to be stored
			if !inTime {
				q.watch(f)
			}
			return inTime
		}
		tag.followsLate = q.isLateRefresh(f)
		switch late := f.Tag().(*flightTag).late; {
		case !tag.followsLate:
			return true
		case f.Silent() >= lateKeep:
			outdated, tag.late = f, late
		default:
			tag.instead, tag.late = f, late+1
		}
		return false
	})
	switch {
	case started && tag.instead != nil:
		q.noteLate(tag.key, tag.instead)
	case started && outdated != nil:
		q.cache().giveUpLate(outdated)
	}
	return f, m, started
}

// refreshKey is the key under which a request begins a refresh, see keepApart.
func (q *Request) refreshKey(tag *flightTag) store.Key {
	key := q.keepApart(tag)
	if tag.apart || q.cache().lateRefreshes.isEmpty() {
		return key
	}
	place, late := q.cache().lateRefreshes.place(tag.page, q.fieldsSum())
	if tag.apart = late; !late {
		return key
	}
	return withFields(key, uint64(maxBadFields+place)+1)
}

// isLateRefresh is isLate for a flight that no request needs to wait for.
func (q *Request) isLateRefresh(f *coalesce.Flight) bool {
	silent, tag := f.Silent(), f.Tag().(*flightTag)
	sum, known := tag.fieldsSum()
	if known && silent >= q.route.Wait {
		q.cache().lateRefreshes.note(tag.page, sum)
	}
	switch {
	case tag.apart, tag.late >= maxLateRefreshes-1:
		return silent >= lateKeep // one that a client waits for may hang for long
	case silent < lateHeader, known && sum == q.fieldsSum():
		return false
	}
	return silent >= q.route.Wait || !followsLate(f) && q.wasLate(tag.key)
}

// giveUpLate gives up a refresh that is late, and those that were when it began: what is stored was
// asked for later. If nothing has come of it yet, that is for the fields of its request. It is not
// waited for as long as requests wait, since it is given up before: where a client has several
// fields that the origin hangs for, each would cost that time again and again. What comes in time
// with these fields has them forgotten, see putHere.
func (c *Cache) giveUpLate(f *coalesce.Flight) {
	for f != nil {
		tag := f.Tag().(*flightTag)
		if sum, known := tag.fieldsSum(); known && f.Shared() == nil && f.Silent() >= lateHeader {
			c.lateRefreshes.note(tag.page, sum)
		}
		f.GiveUp()
		f = tag.instead
	}
}

// The slices of a stored object have one such memory.
func (q *Request) lateSliceKey(o *object) store.Key { return q.route.byRules(o.key(-1)) }

// sendsSlice is as for a page, see joinable. gaveUp says that the request has given one up.
func (q *Request) sendsSlice(f *coalesce.Flight, gaveUp bool) bool {
	if q.shuns(f) {
		return false
	}
	if f.TimeLeft(q.route.Wait) <= 0 {
		q.watch(f)
		return false
	}
	return f.Shared() != nil || !gaveUp || followsLate(f) || f.Queued()
}

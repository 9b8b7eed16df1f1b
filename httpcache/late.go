package httpcache

import (
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// A fetch has the fields of the client that leads it. So an origin may be slow for that one alone:
// because of its cookie, or because it has asked too often. Those who wait give such a fetch up
// after `coalesce wait`, and then the same client may lead the next. So that a header came too late
// is remembered of a key:
//
//	fetches of the key        who waits for one
//	──────────────────        ─────────────────
//	in time, or none known    waits as long as `coalesce wait` says, then fetches for itself
//	one was late, lately      waits for a second at a time, then leads another, or joins one that
//	                          has just begun. In all it waits no longer than above
//
// An origin may be slow for all as well. Then those who give up begin a fetch each quarter of a
// second together, not each its own.

const (
	// lateKeep is how long it is remembered, after the last wait that was given up.
	lateKeep = 2 * time.Minute
	// lateTurn is how old a fetch may be that a request joins which has given one up.
	lateTurn = lateHeader / 4
	// lateWaits is how many fetches a request gives up early. It waits for one more, to the end.
	lateWaits = maxRounds - 1
)

func newLateFetches() *recentKeys { return newRecentKeys(maxRecentKeys, lateKeep, time.Second) }

// wasLate reports whether a fetch under a key of flights had no header in time, lately.
func (q *Request) wasLate(key store.Key) bool { return q.cache().lateFetches.lately(key, time.Now()) }

// noteLate remembers that.
func (q *Request) noteLate(key store.Key) { q.cache().lateFetches.note(key, time.Now()) }

// patience returns how long the request waits for the header of one fetch under a key. What usually
// takes long has longer, but never all the time there is: how long the last one took may be another
// client's doing.
func (q *Request) patience(key store.Key) time.Duration {
	wait := q.route.Wait
	if !q.wasLate(key) {
		return wait
	}
	late := lateHeader
	if q.found.Entry != nil {
		late = max(late, min(2*q.found.Entry.FetchTime, wait/2))
	}
	return min(wait, late)
}

// isLate reports whether a flight that is not decided is no use to the request, because its header
// has not come in time. Only who has given one up begins another early: among newcomers a client
// that asks often comes first.
func (q *Request) isLate(f *coalesce.Flight) bool {
	silent := f.Silent()
	if silent >= q.route.Wait {
		q.noteLate(f.Tag().(*flightTag).key) // also where nobody has waited for it
		return true
	}
	return silent >= lateTurn && q.following != nil && q.following.gaveUp > 0
}

// refreshes reports whether a running flight refreshes what the request finds stale. No request
// waits for a refresh that is late, so each that comes may begin another.
func (q *Request) refreshes(f *coalesce.Flight) bool {
	if !q.joinable(f) {
		return false
	}
	return f.Shared() != nil || f.Silent() < q.patience(f.Tag().(*flightTag).key)
}

// giveUp notes that a wait for a flight's header has ended without, and reports whether the request
// has time for another round.
func (q *Request) giveUp() bool {
	if q.sharing() != sharingOpen {
		return false // what could not be shared has a memory of its own
	}
	q.noteLate(q.flightKey())
	q.following.gaveUp++
	return time.Until(q.following.deadline) > 0
}

// The slices of a stored object have one such memory.
func (q *Request) lateSliceKey(o *object) store.Key { return q.route.byRules(o.key(-1)) }

// sendsSlice is as for a page, see joinable.
func (q *Request) sendsSlice(f *coalesce.Flight, o *object) bool {
	silent := f.Silent()
	if f.Shared() != nil || silent < lateHeader {
		return silent < q.route.Wait
	}
	return silent < q.patience(q.lateSliceKey(o))
}

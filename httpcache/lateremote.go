package httpcache

import (
	"time"

	"github.com/larder-cache/larder/store"
)

// A fetch that waits for another machine's stands for all requests here that wait for it. So what
// late.go says of these holds for it, and what it learns here, it learns for them:
//
//	the fetch was begun     how long it waits for those of other machines
//	───────────────────     ─────────────────────────────────────────────
//	by one who has given    not at all: it takes the lease if that is free
//	up another as late
//	where a wait was in     half a second. Those who wait for it here wait a second, so one who is
//	vain, or an answer was  in time for them has gone to the origin by then
//	not shareable, lately
//	otherwise               as long as `coalesce wait` says, for a page less what its leader has
//	                        waited for it before. Who leads many slices begins anew with each
//
// A wait of the whole length that was in vain is remembered, and one for a machine that has let its
// lease go because the origin is slow. It does so when it has fetched for nearly as long as others
// wait: another may have it then, and a fetch that stands still is waited for once. A wait that was
// cut short does not renew the memory, nor does one for a machine whose fetch stood in a queue, or
// for several that failed.

// lateRemote is how long a fetch with a doubt waits for those of other machines.
const lateRemote = lateHeader / 2

// limitWait says for how long a fetch of this request waits for other machines'. late is where it
// is remembered that one was late.
func (q *Request) limitWait(x *Fetch, late store.Key) {
	x.lateKey = late
	if x.othersUntil = x.begun; x.tag().followsLate || !x.waitsForOthers() {
		return
	}
	wait, page := q.route.Wait, x.tag().key
	if x.slice != nil {
		page = q.flightKey()
	} else if f := q.following; f != nil && !f.deadline.IsZero() {
		wait = min(wait, f.deadline.Sub(x.begun))
	}
	if q.sharingOf(page) != sharingOpen || q.wasLate(late) {
		wait = min(wait, lateRemote)
	}
	x.othersUntil = x.begun.Add(wait)
}

// awaitRemote waits for the fetches of other machines for a lease, see [RemoteFetch], and remembers
// where that was in vain.
func (x *Fetch) awaitRemote(lease store.Key, selected func(*store.Variant) bool) (again bool, failed int, answered bool, retryAfter string) {
	again, late, failed, answered, retryAfter := x.remote.Await(
		x.flight.Context(), lease, x.othersUntil, x.route.Wait, x.flight.Attempt() > 1, selected)
	if late {
		x.cache.lateFetches.note(x.lateKey, time.Now())
	}
	return again, failed, answered, retryAfter
}

package httpcache

import (
	"slices"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// maxRefreshes is how many fetches may be under way that no client waits for. A client gets its
// stale answer at once, so one connection could begin any number at an origin that hangs.
const maxRefreshes = 256

// dropped is why a refresh that is due has not begun.
type dropped uint8

const (
	droppedNone     dropped = iota // it has, or one is under way, or none may be made now
	droppedBusy                    // the origin has no place, or is failing or paused
	droppedUnplaced                // there is no place for it, see places.go
)

// refresh answers with what is stale, and has it fetched anew.
func (q *Request) refresh(way way) (answered bool, err error) {
	q.countDropped(q.refreshInBackground(way.key, false))
	return true, q.respondStored(OutcomeStale, detailOf(way.standing, DetailSWR))
}

// countDropped counts a refresh that has not begun.
func (q *Request) countDropped(why dropped) {
	if why == droppedNone {
		return
	}
	q.spared(origin.Refresh)
	if why == droppedUnplaced {
		q.cache().metrics.FetchDone(FetchRefresh, FetchRefused, 0, q)
	}
}

// refreshInBackground fetches again what is being served stale (RFC 5861 3), or early: while it is
// still fresh. There is one fetch for any number of requests, and none waits for it. After a failed
// one there is a pause, for what is stored and, see [origin.Budget], for the origin. An origin that
// cannot take a refresh now is not asked. A request that has to wait for the origin anyway ignores
// the pause.
func (q *Request) refreshInBackground(key store.Key, early bool) dropped {
	if q.directives.NoStore || q.keyed.ShowsHead { // a response to it may not be stored (RFC 9111 5.2.1.5), or not for GET
		return droppedNone
	}
	if !q.refreshDue(key) {
		return droppedBusy
	}
	if q.refreshedInVain(key) {
		return droppedNone
	}
	place := q.takeRefreshPlace()
	if place == nil && q.observed() == nil {
		if q.isUnderWay(key) {
			return droppedNone
		}
		return droppedUnplaced
	}
	begun := false
	defer func() {
		if !begun { // also by a panic
			q.cache().endRefresh(place)
		}
	}()
	x, m := q.startRefresh(key)
	if begun = x != nil; !begun {
		return droppedNone
	}
	defer m.Leave()
	x.background, x.place = true, place
	if early {
		x.refreshEarly()
	}
	x.flight.Background()
	q.run(x)
	return droppedNone
}

// isUnderWay reports whether a fetch for the key is.
func (q *Request) isUnderWay(key store.Key) bool {
	_, m, running := q.cache().flights.JoinRunning(key, q.usable)
	if running {
		m.Leave()
	}
	return running
}

// takeRefreshPlace takes a place for a refresh by the request. It returns nil if there is none, and
// for one that is observed, which needs none: its client waits for what is copied.
func (q *Request) takeRefreshPlace() *holder {
	if q.observed() != nil {
		return nil
	}
	h := q.holder()
	if !q.cache().refreshes.take(h, maxRefreshes) {
		return nil
	}
	return &h
}

// endRefresh gives the place of a refresh back, if it has one.
func (c *Cache) endRefresh(place *holder) {
	if place != nil {
		c.refreshes.give(*place)
	}
}

// startRefresh prepares a fetch of what the request has found stale, which the caller has to run.
// It returns nil if one is under way. The request needs nothing of it: what comes is for the store.
func (q *Request) startRefresh(key store.Key) (x *Fetch, m *coalesce.Member) {
	ticket, tag := q.begin(key)
	f, m, started := q.joinRefresh(tag)
	if !started {
		ticket.End()
		m.Leave()
		return nil, nil
	}
	x = q.newFetch(f, ticket)
	x.removeDirectives(q.varyNames)
	x.leaderGone.Store(true) // before it runs: its first panic must be logged too
	return x, m
}

// refreshedInVain reports whether what is stored has just been refreshed and that failed, although
// the origin is well. One page that is broken is not asked for again at once, while others are. A
// failing origin is asked again at the pace of its own back-off.
func (q *Request) refreshedInVain(key store.Key) bool {
	if q.standing(key) == origin.Failing {
		return false
	}
	key = q.hitForMissKeyOf(key)
	backoff := q.cache().refreshBackoff
	if backoff.lately(key, q.now) {
		return true
	}
	refused, failed := backoff.age(ofFields(key), q.now)
	return failed && (refused < refreshTurn || backoff.lately(withFields(key, q.fieldsSum()), q.now))
}

// backOff delays the next background refresh, the longer for requests with the same fields. Each
// way to end without a stored response calls it while the flight can still be joined: until then a
// refresh joins the flight.
func (x *Fetch) backOff() {
	if x.renews {
		now := time.Now()
		x.cache.refreshBackoff.note(ofFields(x.hitForMissKey), now)
		x.cache.refreshBackoff.note(withFields(x.hitForMissKey, x.fieldsSum()), now)
	}
}

// backOffForAll delays it for all requests alike: how one was made is not the reason.
func (x *Fetch) backOffForAll() {
	if x.renews {
		x.cache.refreshBackoff.note(x.hitForMissKey, time.Now())
	}
}

// refreshed ends both.
func (x *Fetch) refreshed() {
	x.cache.refreshBackoff.forget(x.hitForMissKey)
	x.cache.refreshBackoff.forget(ofFields(x.hitForMissKey))
}

// removeDirectives removes the client's directives from a fetch. In a background refresh they are
// about the answer that the client has got (RFC 9111 5.2.1). Where the operator has them ignored
// they have no effect behind this cache either. A cache behind this one would answer only-if-cached
// with 504, and max-stale with what is already stale. Directives stay if responses are told apart
// by them.
func (x *Fetch) removeDirectives(varyNames []string) {
	x.directives = rfc9111.RequestDirectives{}
	for _, name := range [...]string{"Cache-Control", "Pragma"} {
		if slices.Contains(varyNames, name) || slices.Contains(x.route.Key.Headers, name) {
			continue
		}
		x.clientHeader = withoutField(x.clientHeader, name)
		for n := range x.copies {
			delete(x.origin.Request(n).Header, name)
		}
	}
}

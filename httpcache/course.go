package httpcache

import (
	"net/http"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// course is how a request goes on when it has been looked up. Request.follow acts on it.
type course uint8

const (
	// courseHit: the stored response is the answer.
	courseHit course = iota
	// courseStale: so it is, stale, because the client accepts that.
	courseStale
	// courseRefresh: so it is, stale, and it is fetched anew in the background.
	courseRefresh
	// courseRefuse: the request says only-if-cached, and nothing stored may be the answer.
	courseRefuse
	// courseSpare: a stale response is the answer, because the origin is busy, paused or failing,
	// or because a body of the page has broken off lately: then the origin stands as Admitted.
	courseSpare
	// courseUnstored: the request says no-store, so it is passed on.
	courseUnstored
	// courseForced: the request would force a fetch of the whole for a header, or for a part that
	// lies far in it. So it is passed on, see forced.go.
	courseForced
	// courseEvents: the client asks for an event stream by GET, of which each client has its own.
	courseEvents
	// courseHitForMiss: the last answer could not be shared, so the request waits for none.
	courseHitForMiss
	// courseHead: a HEAD without a stored response fetches no body, and one that shows its method
	// asks otherwise than a GET. If a fetch is under way, its header will do; otherwise it is
	// passed on.
	courseHead
	// courseSolo: it is fetched for this request alone.
	courseSolo
	// courseJoin: it is fetched for all requests that wait, or has been begun to be.
	courseJoin
	// courseDecided: the request has waited as long as it does, and joins only what has a header.
	courseDecided
)

// way is a course, and what was found out when it was chosen.
type way struct {
	course   course
	standing origin.Why // how the origin stood: for courseRefresh and courseSpare
	key      store.Key  // of the flight, unless the course ends with what is stored
}

// isStored reports whether the request goes to no origin.
func (w way) isStored() bool {
	switch w.course {
	case courseHit, courseStale, courseRefresh, courseRefuse, courseSpare:
		return true
	case courseUnstored, courseForced, courseEvents, courseHitForMiss, courseHead, courseSolo, courseJoin, courseDecided:
	}
	return false
}

// choose chooses the way by how what was found may be used.
func (q *Request) choose(use rfc9111.Use) way {
	switch use {
	case rfc9111.UseFresh:
		return way{course: courseHit}
	case rfc9111.UseStale:
		return way{course: courseStale}
	case rfc9111.UseRefresh, rfc9111.UseValidate, rfc9111.UseNever:
	}
	key := q.flightKey() // once: where the URL has a Vary it takes several allocations
	if use == rfc9111.UseRefresh {
		if q.sharingOf(key) != sharingHitForMiss {
			return way{courseRefresh, q.standing(key), key}
		}
		// A refresh brought a response that may not replace it, so it stands in for a failure only.
		q.forward = rfc9111.ForwardStale
	}
	if q.directives.OnlyIfCached {
		return way{course: courseRefuse}
	}
	if q.hasWaited() {
		return way{course: courseDecided, key: key}
	}
	if why := q.mayBeSpared(key); why != origin.Admitted {
		return way{courseSpare, why, key}
	}
	if q.found.Entry != nil && !q.unsafe() && q.isDoubtful(key) && q.mayUseStale(rfc9111.NoAnswer) {
		return way{courseSpare, origin.Admitted, key}
	}
	return way{course: q.courseToOrigin(key), key: key}
}

// courseToOrigin is the course of a request that needs the origin.
func (q *Request) courseToOrigin(key store.Key) course {
	switch {
	case q.keyed.ShowsHead:
		return courseHead
	case q.directives.NoStore:
		return courseUnstored
	case q.isPassedForced():
		return courseForced
	case q.wantsEvents() && !q.keyed.hasBody():
		return courseEvents
	case q.sharingOf(key) == sharingHitForMiss:
		return courseHitForMiss
	case q.r.Method == http.MethodHead && q.found.Entry == nil:
		return courseHead
	case q.route.CoalesceOff || q.freshness != nil && q.freshness.NoCache:
		// no-cache (RFC 9111 5.2.2.4) asks each request to validate for itself.
		return courseSolo
	}
	return courseJoin
}

package httpcache

import (
	"net/http"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A file that is being fetched whole is read from its beginning, so a Range of it waits until the
// fetch has come there. Where that is far ahead, the request fetches the slices that it needs
// beside the fetch of the whole. They are of an object whose head is not stored: all who read ahead
// of one fetch share them, and nothing of them is stored, as the whole will be.

// farAhead is how many slices lie between what has come of a file and what a request fetches by
// itself. What it reads comes twice from the origin, so the distance is not small: eight clients
// that share a file of eight slices among them wait for the one fetch.
const farAhead = 8

// headAhead returns the slices of a response that is about to be fetched whole, nil if it is none
// of which parts may lie far ahead, or whose origin may not answer in parts.
func (x *Fetch) headAhead(shared *sharedResponse) *sliceOf {
	size, length := x.route.Slice, shared.length
	if size <= 0 || length <= farAhead*size || shared.status != http.StatusOK || x.observes || !shared.storable() ||
		x.method != http.MethodGet || !rfc9111.HasStrongValidator(shared.header) || rfc9111.IsCompressible(shared.header) {
		return nil
	}
	o := newObject(length, size)
	return &sliceOf{object: o, head: x.headOf(shared, o)}
}

// liesAhead reports whether what the request asks for is far ahead of what has come of a response
// that is fetched whole.
func (q *Request) liesAhead(f *coalesce.Flight, shared *sharedResponse) bool {
	if shared.ahead == nil || q.route.Slice <= 0 || q.following == nil || q.following.deadline.IsZero() || q.following.waitsForWhole {
		return false
	}
	parts, _, ok := q.ranges(shared.status, shared.header, shared.length)
	return ok && len(parts) > 0 && parts[0].Start-f.Received() > farAhead*shared.ahead.object.size
}

// respondAhead answers from slices that are fetched beside the whole. answered is false if the
// origin has another version of them: then the request waits for the whole.
func (q *Request) respondAhead(s membership, shared *sharedResponse) (answered bool, err error) {
	q.leave(s, false) // it would hold up the window of the whole
	q.following.waitsForWhole = true
	q.found, q.freshness = store.Result{Entry: shared.ahead.head}, shared.freshness
	a := q.stored(q.now)
	a.fields, a.aged = shared.forFollowers(q.route), false
	cs := rfc9111.CacheStatus{Forward: q.forward}
	objectChanged := q.objectChanged
	answered, err = q.respondSlices(a, &cs, Decision{Outcome: OutcomeMiss, Forward: q.forward}, membership{}, 0)
	q.objectChanged = objectChanged // else it would not join the fetch of the whole, which began before
	return answered, err
}

package httpcache

import (
	"net/http"
	"sync"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A file that is being fetched whole is read from its beginning, so a Range of it waits until the
// fetch has come there. Where that is far ahead, the request fetches the slices that it needs
// beside the fetch of the whole. They are of an object whose head is not stored, so that only who
// reads ahead of that fetch finds them. They are stored until the fetch of the whole has ended:
// players ask for the same places, as for the index at the end of a film, and a slice may be a
// million times as long as what is asked of it. Then they go, as the whole has them.

// farAhead is how many slices lie between what has come of a file and what a request fetches by
// itself. What it reads comes twice from the origin, so the distance is not small: eight clients
// that share a file of eight slices among them wait for the one fetch.
const farAhead = 8

// aheadOfWhole are the slices that are read ahead of one fetch of the whole.
type aheadOfWhole struct {
	object *object
	head   *store.Entry // which is not stored

	mu     sync.Mutex
	over   bool           // the fetch of the whole has ended
	stored []*store.Entry // key and ID of those that have been
}

// isOver reports whether the slices have gone.
func (a *aheadOfWhole) isOver() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.over
}

// note notes a slice that has been stored. It reports false if that is to go at once.
func (a *aheadOfWhole) note(slice *store.Entry) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.stored = append(a.stored, &store.Entry{Key: slice.Key, ID: slice.ID})
	}
	return !a.over
}

// end removes the slices: the whole has come, or will not.
func (a *aheadOfWhole) end(c *Cache) {
	a.mu.Lock()
	a.over = true
	stored := a.stored
	a.mu.Unlock()
	for _, slice := range stored {
		c.store.Remove(slice)
	}
}

// headAhead returns the slices of a response that is about to be fetched whole, nil if it is none
// of which parts may lie far ahead, or whose origin may not answer in parts.
func (x *Fetch) headAhead(shared *sharedResponse) *aheadOfWhole {
	size, length := x.route.Slice, shared.length
	if size <= 0 || length <= farAhead*size || shared.status != http.StatusOK || x.observes || !shared.storable() ||
		x.method != http.MethodGet || !rfc9111.HasStrongValidator(shared.header) || rfc9111.IsCompressible(shared.header) {
		return nil
	}
	o := newObject(length, size)
	head := x.headOf(shared, o)
	setTimes(head, shared.freshness)
	return &aheadOfWhole{object: o, head: head}
}

// liesAhead reports whether what the request asks for is far ahead of what has come of a response
// that is fetched whole.
func (q *Request) liesAhead(f *coalesce.Flight, shared *sharedResponse) bool {
	if shared.ahead == nil || q.route.Slice <= 0 || q.following == nil || q.following.deadline.IsZero() || q.following.ahead != nil {
		return false
	}
	parts, _, ok := q.ranges(shared.status, shared.header, shared.length)
	return ok && len(parts) > 0 && parts[0].Start-f.Received() > farAhead*shared.ahead.object.size
}

// respondAhead answers from slices that are fetched beside the whole. answered is false if the
// origin has another version of them: then the request waits for the whole.
func (q *Request) respondAhead(s membership, shared *sharedResponse) (answered bool, err error) {
	q.leave(s, false) // it would hold up the window of the whole
	q.following.ahead = shared.ahead
	q.found, q.freshness = store.Result{Entry: shared.ahead.head}, shared.freshness
	a := q.stored(q.now)
	a.fields, a.aged = shared.forFollowers(q.route), false
	cs := rfc9111.CacheStatus{Forward: q.forward}
	objectChanged := q.objectChanged
	answered, err = q.respondSlices(a, &cs, Decision{Outcome: OutcomeMiss, Forward: q.forward}, membership{}, 0)
	q.objectChanged = objectChanged // else it would not join the fetch of the whole, which began before
	return answered, err
}

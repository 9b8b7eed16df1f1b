package httpcache

import (
	"net/http"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// A large body is read from the disk while it is sent, so damage shows only then. The first part is
// checked before the header goes out. Damage there is a miss and not a broken answer.

// bodyReady reports whether the part of the stored body that the answer begins with can be read. An
// answer without a body needs none.
func (q *Request) bodyReady() bool {
	if !q.found.ReadsDisk() {
		return true
	}
	off, needed := q.firstByte()
	return !needed || q.found.Ready(off) == nil
}

// firstByte returns where in the stored body the answer begins. needed is false if the answer has
// no body.
func (q *Request) firstByte() (off int64, needed bool) {
	e := q.found.Entry
	header := q.route.evaluated(e).header
	if q.r.Method == http.MethodHead || !bodyAllowed(e.Status) ||
		q.notModified(e.Status, header, e.ResponseTime) {
		return 0, false
	}
	switch ranges, unsatisfiable, ok := q.ranges(e.Status, header, e.Body.Len()); {
	case !ok:
		return 0, true
	case unsatisfiable:
		return 0, false
	default:
		return ranges[0].Start, true
	}
}

// treatAsMiss treats the request as if nothing were stored for it.
func (q *Request) treatAsMiss() {
	q.found.Entry, q.found.Severity, q.freshness = nil, store.NotPurged, nil
	if q.forward == rfc9111.ForwardStale || q.forward == rfc9111.ForwardNone {
		q.forward = rfc9111.ForwardURIMiss
	}
}

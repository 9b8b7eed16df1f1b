package httpcache

import (
	"context"
	"errors"
	"net/http"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// Any client may ask for a fresh response to be validated or fetched anew (no-cache, max-age,
// min-fresh; RFC 9111 5.2.1). Where it cannot be validated, the origin sends it whole, although
// no other client wants it, and that may want one byte of it. So such a fetch is worth no
// more than what its clients read of it: it goes on for as long as one of them reads, and what is
// stored stays until another response has come whole.

// isForced reports whether what was found is fresh, and the request goes to the origin only because
// its client says so.
func (q *Request) isForced() bool {
	return q.found.Entry != nil && q.forward == rfc9111.ForwardRequest && q.found.Severity == store.NotPurged
}

// nearPart is how far from the beginning of a body a Range may begin that a forced fetch of the
// whole answers. What lies before that comes for nothing.
const nearPart = 64 << 10

// wantsFarPart reports whether the request wants a part of a body for which a fetch of the whole
// would have to come far.
func (q *Request) wantsFarPart() bool { return q.wantsPartBehind(nearPart) }

// wantsPartBehind reports whether the request wants a part of a body that begins at a position or
// behind it.
func (q *Request) wantsPartBehind(position int64) bool {
	return q.fields.has(hasRange) && q.r.Method == http.MethodGet && !rfc9111.RangesBeginBefore(q.r.Header, position)
}

// isPassedForced reports whether a request is passed on that is forced and does not want the whole:
// what is stored has no validator, so a fetch would bring that.
func (q *Request) isPassedForced() bool {
	return q.isForced() && !q.isSliced() && !rfc9111.HasValidator(q.found.Entry.Header) &&
		(q.r.Method == http.MethodHead || q.wantsFarPart())
}

// isUnread reports whether the fetch was broken off because its last client had left, which says
// nothing of the origin.
func (x *Fetch) isUnread() bool {
	return x.forced && errors.Is(context.Cause(x.flight.Context()), coalesce.ErrNoClientLeft)
}

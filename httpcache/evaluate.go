package httpcache

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// evaluation is what a route makes of a stored response, for every request at any time. It depends
// on the response and the route's rules alone. So it is computed once and kept with the entry, as
// its Derived, for later hits. The entry outlives the route's configuration, so the evaluation
// points to nothing of that.
type evaluation struct {
	serial    uint64 // the route's
	freshness rfc9111.Freshness
	personal  *rfc9111.Freshness     // for requests with Authorization or a cookie that the key lacks
	header    http.Header            // without the fields that clients do not get
	fields    []field                // of header
	trailer   http.Header            // likewise
	length    string                 // Content-Length
	digest    atomic.Pointer[uint64] // of the body, once a comparison has made it: see compare.go
	object    *object                // of a head; see object.go
	vary      []string               // of a slice
	search    rfc9111.SearchVariance // what it says of queries: a field of 8 KiB takes a millisecond to read
}

// evaluated returns the evaluation of e. It takes the entry's Derived if that is this route's: a
// route with other rules may have answered from e last.
func (rt *Route) evaluated(e *store.Entry) *evaluation {
	if derived := e.Derived.Load(); derived != nil {
		if ev, ok := (*derived).(*evaluation); ok && ev.serial == rt.serial {
			return ev
		}
	}
	return rt.evaluateAnew(e)
}

// evaluateAnew is evaluated where there is nothing yet. It is not part of it because its variables
// take so much of the stack, which a hit has not.
func (rt *Route) evaluateAnew(e *store.Entry) *evaluation {
	ex := exchangeOf(e)
	ev := &evaluation{
		serial: rt.serial, freshness: rt.Policy.Freshness(&ex),
		header: rfc9111.StorableHeader(&ex, &rt.Policy), search: rfc9111.ParseNoVarySearch(e.Header),
	}
	ev.personal = &ev.freshness
	if ev.freshness.Source.Assumed() {
		ex.Personal = true
		own := rt.Policy.Freshness(&ex)
		ev.personal = &own
	}
	if e.Flags&store.FlagPart != 0 {
		ev.vary, _ = rfc9111.VaryNames(e.Header)
	}
	length := e.Body.Len()
	if e.Flags&flagSliced != 0 {
		if ev.object = objectOf(e); ev.object == nil || rt.Slice == 0 {
			ev.freshness.Reason, ev.personal.Reason = rfc9111.ReasonPartial, rfc9111.ReasonPartial
		} else {
			length = ev.object.total
		}
	}
	if length > rt.MaxBody {
		ev.freshness.Reason, ev.personal.Reason = rfc9111.ReasonTooLarge, rfc9111.ReasonTooLarge
	}
	if e.Flags&flagObserved != 0 && !rt.Observe {
		ev.freshness.Reason, ev.personal.Reason = rfc9111.ReasonObserved, rfc9111.ReasonObserved
	}
	if !isUnderstood(e) {
		ev.freshness.Reason, ev.personal.Reason = rfc9111.ReasonLaterRelease, rfc9111.ReasonLaterRelease
	}
	rt.stripTags(ev.header)
	ev.trailer = rt.trailersWithoutTags(rt.Policy.StorableTrailer(e.Header, e.Trailer))
	ev.fields, ev.length = fieldsOf(ev.header, e.Notes), strconv.FormatInt(length, 10)
	var derived any = ev
	e.Derived.Store(&derived)
	return ev
}

// bodyLen is the length of the body of e, that of the whole if it is stored in slices.
func (ev *evaluation) bodyLen(e *store.Entry) int64 {
	if ev.object != nil {
		return ev.object.total
	}
	return e.Body.Len()
}

// evaluate returns the freshness of e for this request. A reason that would keep a response to such
// a request out of the store also keeps a stored one from such a request.
func (q *Request) evaluate(e *store.Entry) *rfc9111.Freshness {
	return q.route.evaluateFor(e, q.personal())
}

func (rt *Route) evaluateFor(e *store.Entry, personal bool) *rfc9111.Freshness {
	ev := rt.evaluated(e)
	if personal {
		return ev.personal
	}
	return &ev.freshness
}

// validityOf is what purges have left of a response, in the words of the RFC. What is gone comes
// from no store; where it comes all the same it is not to be used.
func validityOf(s store.Severity) rfc9111.Validity {
	switch s {
	case store.NotPurged:
		return rfc9111.Valid
	case store.Soft:
		return rfc9111.Stale
	case store.Invalid, store.Hard:
	}
	return rfc9111.Invalid
}

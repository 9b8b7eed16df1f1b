package httpcache

import (
	"net/http"
	"strconv"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// evaluation is what a handler makes of a stored response whoever asks for it, and whenever. It
// depends on the response and the handler's rules alone, so it is worked out once and kept with the
// entry, as its Derived, for the hits that follow. The entry outlives the handler's configuration, so
// it points to nothing of that.
type evaluation struct {
	serial    uint64 // the handler's
	freshness rfc9111.Freshness
	personal  *rfc9111.Freshness // for requests with Authorization or a cookie that is not in the key
	header    http.Header        // without what clients do not get
	fields    []field            // of header
	trailer   http.Header        // as header
	length    string             // Content-Length
}

// evaluated returns the conclusion about e, from its Derived if that is this handler's: one under
// other rules may have answered from e last.
func (rt *Route) evaluated(e *store.Entry) *evaluation {
	if derived := e.Derived.Load(); derived != nil {
		if c, ok := (*derived).(*evaluation); ok && c.serial == rt.serial {
			return c
		}
	}
	x := exchangeOf(e)
	c := &evaluation{serial: rt.serial, freshness: rt.Policy.Freshness(&x), header: rfc9111.StorableHeader(&x, &rt.Policy)}
	c.personal = &c.freshness
	if c.freshness.Source.Assumed() {
		x.Personal = true
		own := rt.Policy.Freshness(&x)
		c.personal = &own
	}
	if e.Body.Len() > rt.MaxBody {
		c.freshness.Reason, c.personal.Reason = rfc9111.ReasonTooLarge, rfc9111.ReasonTooLarge
	}
	rt.stripTags(c.header)
	c.trailer = rt.trailersWithoutTags(rt.Policy.StorableTrailer(e.Header, e.Trailer))
	c.fields, c.length = fieldsOf(c.header), strconv.FormatInt(e.Body.Len(), 10)
	var derived any = c
	e.Derived.Store(&derived)
	return c
}

// evaluate returns the freshness of e for this request: what keeps a response that such a request
// fetches out of the store keeps what is in the store from such a request.
func (q *Request) evaluate(e *store.Entry) *rfc9111.Freshness {
	return q.route.evaluateFor(e, q.personal())
}

func (rt *Route) evaluateFor(e *store.Entry, personal bool) *rfc9111.Freshness {
	c := rt.evaluated(e)
	if personal {
		return c.personal
	}
	return &c.freshness
}

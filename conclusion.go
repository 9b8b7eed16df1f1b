package larder

import (
	"net/http"
	"strconv"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// conclusion is what a handler makes of a stored response whoever asks for it, and whenever. It depends on the response and the handler's
// rules alone, so it is worked out once and kept with the entry, as its Memo, for the hits that follow.
type conclusion struct {
	handler   *Handler
	freshness rfc9111.Freshness
	header    http.Header // without what clients do not get
	fields    []field     // of header
	length    string      // Content-Length
}

// concluded returns the conclusion about e, from its Memo if that is this handler's: one under other rules may have answered from e last.
func (h *Handler) concluded(e *store.Entry) *conclusion {
	if memo := e.Memo.Load(); memo != nil {
		if c, ok := (*memo).(*conclusion); ok && c.handler == h {
			return c
		}
	}
	x := exchangeOf(e)
	c := &conclusion{handler: h, freshness: h.policy.Freshness(&x), header: rfc9111.StorableHeader(&x, &h.policy)}
	if e.Body.Len() > h.maxBody {
		c.freshness.Reason = rfc9111.ReasonTooLarge
	}
	h.stripTags(c.header)
	c.fields, c.length = fieldsOf(c.header), strconv.FormatInt(e.Body.Len(), 10)
	var memo any = c
	e.Memo.Store(&memo)
	return c
}

// conclude returns the freshness of e for this request. An operator's ttl does not apply to requests with Authorization or a cookie that
// is not in the key, so what is fresh by that alone is not for them.
func (q *request) conclude(e *store.Entry) *rfc9111.Freshness {
	f := &q.h.concluded(e).freshness
	personal := q.authorized || q.unkeyedCookie
	if byOperator := f.Source == rfc9111.SourceTTL || f.Source == rfc9111.SourceForceTTL; !personal || !byOperator || f.Reason != rfc9111.Storable {
		return f
	}
	x := exchangeOf(e)
	x.UnkeyedCookie = true
	own := q.h.policy.Freshness(&x)
	return &own
}

package httpcache

import (
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// unstoredReasons remembers why the last response of a key was not stored, for those who ask why
// nothing is. Only requests that reach the origin write into it.
type unstoredReasons struct {
	known *lru.Cache[store.Key, unstoredReason]
}

// unstoredReason is one of them.
type unstoredReason struct {
	reason rfc9111.Reason
	status int // of the response
	at     time.Time
	// isError says that there was no response: the handlers returned an error with the status.
	isError bool
	// personal says that the request had Authorization or a cookie, and the key lacks them: the
	// response may be for one visitor.
	personal bool
}

// maxUnstoredReasons bounds how many keys are remembered. One takes about 200 bytes.
const maxUnstoredReasons = 1 << 14

func newUnstoredReasons() *unstoredReasons {
	known, err := lru.New[store.Key, unstoredReason](maxUnstoredReasons)
	if err != nil {
		panic(err) // only a size of zero is an error
	}
	return &unstoredReasons{known}
}

// note notes it of a response with this status to a request, which came at that time.
func (u *unstoredReasons) note(p *presented, reason rfc9111.Reason, status int, at time.Time) {
	if reason != rfc9111.Storable {
		u.known.Add(p.key, unstoredReason{reason: reason, status: status, at: at, personal: p.personal()})
	}
}

// noteError notes that the handlers returned an error.
func (u *unstoredReasons) noteError(key store.Key, status int) {
	u.known.Add(key, unstoredReason{reason: rfc9111.ReasonStatus, status: status, at: time.Now(), isError: true})
}

// countNotStored counts a response that is not stored, and remembers why.
func (x *Fetch) countNotStored(reason rfc9111.Reason) {
	x.cache.metrics.NotStored(reason, x)
	x.cache.unstoredReasons.note(&x.presented, reason, x.writer.status, time.Now())
}

// countNotStored does so of one that is passed on with this status, and came at that time.
func (q *Request) countNotStored(reason rfc9111.Reason, status int, at time.Time) {
	q.cache().metrics.NotStored(reason, q)
	if q.r.Method != http.MethodHead { // that to GET may differ
		q.cache().unstoredReasons.note(&q.presented, reason, status, at)
	}
}

// of returns the last reason. Asking does not count as a use.
func (u *unstoredReasons) of(key store.Key) (unstoredReason, bool) { return u.known.Peek(key) }

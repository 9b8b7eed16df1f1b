package httpcache

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// The origin has one door. Every way to it passes here, once for each request of a client that is
// passed on and once for each time a fetch asks: the [origin.Budget] of the route says whether it
// may go now, later or not at all, and is told what came of it.
//
//	fetch ──┐         ┌─ a place ─► the handlers ─► Succeeded | Failed
//	refresh ┼► enter ─┤
//	pass ───┘         └─ refused ─► a stale response where one may be used, else 503
//
// A request with a usable stale response comes here only while the origin is well: see spareOrigin.

// visit is one request at the origin: its place, and what has come of it. The zero value is none.
type visit struct {
	ctx    context.Context
	policy *rfc9111.Policy // says which statuses are failures
	fetch  *Fetch          // nil for a request that is passed on
	kind   FetchKind
	place  origin.Place
	status int // of the header, 0 before one has come
	// declared is how long the header says that the body is, 0 if it does not, and came is how much
	// of it has come.
	declared, came int64
	body           clientBody
}

// clientBody is the body of a client's own request. A proxy fails where it cannot be read, as where
// chunks are spelt wrong, and answers 502. That says nothing of the origin.
type clientBody struct {
	io.ReadCloser
	broken atomic.Bool
}

// Read implements io.Reader.
func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(true)
	}
	return n, err
}

// watch notes whether the body of a request that is about to be sent can be read.
func (v *visit) watch(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	v.body.ReadCloser = r.Body
	r.Body = &v.body
}

// What no client waits for keeps its place while no other request waits for one. Then a fetch
// without a header is given up at once: nothing of it has come yet. Otherwise there is some time
// first, or requests that wait now and then would keep an origin from ever finishing a refresh.
const (
	// unattendedGrace is for a refresh, and for a body that no client reads any more.
	unattendedGrace = 5 * time.Second
	// outliveGrace is for a request that outlives its client, see outlive.
	outliveGrace = time.Second
)

// errPanic stands for what handlers panic with on a client's own goroutine.
var errPanic = errors.New("the handlers panicked")

// enter gets a place for the request. The error is an [origin.RefusedError], or why ctx ended.
func (v *visit) enter(ctx context.Context, of Subject, kind FetchKind, class origin.Class) error {
	rt := of.Route()
	v.ctx, v.policy, v.kind = ctx, &rt.Policy, kind
	v.status, v.declared, v.came = 0, 0, 0
	err := rt.Budget.Take(ctx, &v.place, class)
	if err != nil {
		rt.cache.metrics.FetchDone(kind, FetchRefused, 0, of)
	}
	return err
}

// pageOf is by what a Budget tells the fetches of one page from others.
func pageOf(key store.Key) uint64 { return binary.LittleEndian.Uint64(key[:]) }

// standing returns what keeps a request for this key of flights from the origin, if it can do
// without it.
func (q *Request) standing(key store.Key) origin.Why {
	return q.route.Budget.Standing(q.now, pageOf(key))
}

// refreshDue reports whether the origin can take a refresh of what requests for this key ask for.
func (q *Request) refreshDue(key store.Key) bool {
	var kind uint64
	if q.standing(key) == origin.Failing {
		kind = q.fieldsSum()
	}
	return q.route.Budget.RefreshDue(q.now, pageOf(key), kind)
}

// attend is enter for a request that goes to the origin whatever the Budget says.
func (v *visit) attend(ctx context.Context, rt *Route) {
	v.ctx, v.policy, v.kind = ctx, &rt.Policy, FetchPass
	v.status, v.declared, v.came = 0, 0, 0
	rt.Budget.Attend(&v.place)
}

// answered reports a response header. One that says the origin failed does so at once. Any other
// may still break off before the first byte of its body, which will have this length, unless it has
// none. A negative length is not known.
func (v *visit) answered(status int, h http.Header, length int64) {
	if v.policy == nil || v.body.broken.Load() {
		return // a fetch's answer, which has reported itself; or it says nothing of the origin
	}
	v.status, v.declared = status, max(length, 0)
	switch {
	case v.policy.OriginFailed(status):
		v.noteKind()
		v.place.Failed(retryAfter(status, h))
	case length == 0:
		v.place.Succeeded()
	}
}

// noteKind tells by what the request may fail: its fields.
func (v *visit) noteKind() {
	if v.fetch != nil && v.place.Kind == 0 {
		v.place.Kind = v.fetch.fieldsSum()
	}
}

// received reports bytes of the body, or that the connection has become another protocol's.
func (v *visit) received(n int64) {
	v.came += n
	v.place.Succeeded()
}

// cutShort reports that the answer is not taken to its end, which says nothing of the origin.
func (v *visit) cutShort() { v.declared = 0 }

// leave gives the place back when the handlers have returned, and reports what they left open.
func (v *visit) leave(of Subject, err error, h http.Header) {
	defer v.place.Done()
	if err == nil && v.came < v.declared {
		err = errIncomplete // and the handlers say nothing of it
	}
	result := v.result(err)
	switch result {
	case FetchOK, FetchNotModified:
		// Without a status nothing was written, or it answers a body that could not be read.
		// Neither says anything of the origin.
		if err != nil || v.status != 0 {
			v.place.Succeeded()
		}
	case FetchError, FetchTimeout:
		v.noteKind()
		v.place.Failed(retryAfter(statusOf(err), h))
	case FetchRefused, FetchCancelled, FetchResultCount:
	}
	var took time.Duration
	if v.kind != FetchPass {
		took = time.Since(v.place.Begun())
	}
	of.Route().cache.metrics.FetchDone(v.kind, result, took, of)
}

// result says what came of the visit. An answer that breaks off is a failure; an error is what its
// status says. What ends without either says nothing: its clients have left or sent what is no
// request, or handlers broke it off on purpose, as `abort` does.
func (v *visit) result(err error) FetchResult {
	if err == nil { // as nearly always, and the rest costs more
		return v.answer()
	}
	aborted := errors.Is(err, errPanic) || errors.Is(err, http.ErrAbortHandler)
	_, panicked := errors.AsType[*coalesce.PanicError](err)
	expired := errors.Is(context.Cause(v.ctx), coalesce.ErrExpired)
	switch {
	case v.ctx.Err() != nil && !expired, v.status == 0 && (aborted || v.body.broken.Load()):
		return FetchCancelled
	case expired, statusOf(err) == http.StatusGatewayTimeout:
		return FetchTimeout
	case aborted, panicked, v.policy.OriginFailed(failureOf(err)), v.status != 0:
		return FetchError
	}
	return FetchOK // a 404 that is an error is an answer as well
}

// answer says what an answer that has come whole is.
func (v *visit) answer() FetchResult {
	switch {
	case v.status == http.StatusNotModified:
		return FetchNotModified
	case v.status == 0 || !v.policy.OriginFailed(v.status):
		return FetchOK
	case v.status == http.StatusGatewayTimeout:
		return FetchTimeout
	}
	return FetchError
}

// retryAfter returns for how long a failure asks to leave the origin alone. Only what says that
// there is too much to do can ask so (RFC 6585 4, RFC 9110 15.6.4).
func retryAfter(status int, h http.Header) time.Duration {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	return origin.RetryAfter(h, time.Now())
}

// refusalOf returns the refusal in an error, nil if there is none.
func refusalOf(err error) *origin.RefusedError {
	refusal, _ := errors.AsType[*origin.RefusedError](err)
	return refusal
}

// detailOf says why a stale response is the answer although the origin was not asked. open is what
// to say if it can be.
func detailOf(why origin.Why, open Detail) Detail {
	switch why {
	case origin.Admitted:
		return open
	case origin.Failing:
		return DetailSIE
	default:
		return DetailOriginBusy
	}
}

// mayBeSpared returns why the origin is not asked, as it is busy, paused or failing and a stale
// response may be used: [origin.Admitted] if it is asked. A request that may change something is
// sent in any case.
func (q *Request) mayBeSpared(key store.Key) origin.Why {
	if q.found.Entry == nil || q.unsafe() {
		return origin.Admitted
	}
	why := q.standing(key)
	if why == origin.Admitted || !q.mayUseStale(rfc9111.NoAnswer) {
		return origin.Admitted
	}
	return why
}

// spared counts that the origin was not asked, for why. One that is observed is asked all the same.
func (q *Request) spared(why origin.Why) {
	if q.observed() == nil {
		q.route.Budget.Spared(why)
	}
}

// spareOrigin answers with the stale response at once, for why, or because a body of the page has
// broken off lately: why is [origin.Admitted] then, and nothing counts as refused. While the origin
// fails, one such request at a time asks it again, in the background.
func (q *Request) spareOrigin(why origin.Why, key store.Key) error {
	if why != origin.Admitted {
		q.spared(why)
	}
	if q.refreshDue(key) {
		q.countDropped(q.refreshInBackground(key, false))
	}
	return q.respondStored(OutcomeStale, detailOf(why, DetailSIE))
}

// mayUseStale reports whether what is stored may be the answer in place of the origin's, which has
// failed with this status, or given no answer or not been asked ([rfc9111.NoAnswer]).
func (q *Request) mayUseStale(status int) bool {
	return q.found.Entry != nil &&
		q.usableOnError(q.freshness, q.now, validityOf(q.found.Severity), status) && q.bodyReady() && !q.lacksSlices()
}

// admissionClass is what the fetch does if the origin has no place for it.
func (x *Fetch) admissionClass() origin.Class {
	switch {
	case x.background:
		return origin.ClassRefresh
	case x.isSliceFetch() && x.slice.goesOn:
		return origin.ClassOngoing
	case x.route.Policy.Unsafe(x.method):
		return origin.ClassWaiting
	case x.staleStandsIn(rfc9111.NoAnswer):
		return origin.ClassStale
	}
	return origin.ClassWaiting
}

// answerRefused answers a request whose flight the origin's budget has refused. answered is false
// if another flight may follow. It may if its own time to wait for a place has not passed, or if
// the fetch was refused because it could do without, which this request cannot.
func (q *Request) answerRefused(s membership, r *origin.RefusedError) (answered bool, err error) {
	q.updateNow() // it has waited
	if !q.unsafe() && q.mayUseStale(rfc9111.NoAnswer) {
		q.leave(s, false)
		return true, q.respondStored(OutcomeStale, detailOf(r.Why, NoDetail))
	}
	didWithout := r.Why == origin.Busy || r.Why == origin.Failing || r.Why == origin.Refresh
	inTime := q.now.Sub(q.arrivedAt()) < q.route.Budget.Wait()
	if s.fetch == nil && s.flight.Attempt() == 1 && (didWithout || inTime) {
		return false, nil
	}
	q.leave(s, false)
	if didWithout {
		return true, q.passUncached(q.forward, rfc9111.Storable)
	}
	return true, q.respondRefused(r, OutcomeMiss)
}

// respondRefused answers a request that the origin cannot take.
func (q *Request) respondRefused(r *origin.RefusedError, outcome Outcome) error {
	q.decide(Decision{Outcome: outcome, Detail: DetailOriginBusy})
	h := q.w.Header()
	h.Set("Retry-After", strconv.Itoa(int(math.Ceil(r.RetryAfter.Seconds()))))
	q.sendStatus(h, &rfc9111.CacheStatus{Detail: DetailOriginBusy.String()})
	return fail(http.StatusServiceUnavailable, r)
}

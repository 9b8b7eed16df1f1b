package origin

import (
	"container/list"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Class is what a request does if it finds no place.
type Class uint8

// The classes.
const (
	// ClassWaiting waits: its client has nothing else to be answered with.
	ClassWaiting Class = iota
	// ClassStale is answered otherwise at once.
	ClassStale
	// ClassRefresh is dropped: no client waits for it. While the origin is failing it is the probe.
	ClassRefresh
	// ClassOngoing waits as long as it takes, ahead of what has not begun: its client has a part of
	// the answer already, and without the rest that breaks off. While others wait it gets every
	// second place at most.
	ClassOngoing
)

// Metrics counts. Many goroutines call it.
type Metrics interface {
	// Waiting changes the number of requests that wait for a place.
	Waiting(by int)
	// Refused counts a request that did not go to the origin.
	Refused(why Why)
}

type noMetrics struct{}

func (noMetrics) Waiting(int) {}
func (noMetrics) Refused(Why) {}

// Budget is one origin: what it can take, what it has taken on, and how it fares. It is safe for
// concurrent use.
type Budget struct {
	name    string
	metrics Metrics
	epoch   time.Time

	mu         sync.Mutex
	limits     Limits
	taken      int // places
	queue      queue
	health     health
	wake       *time.Timer // serves the queue when its first may go, or what has no client may be given up
	unattended unattended

	// What is read without the lock. Times are in nanoseconds since epoch.
	tokens      atomic.Pointer[rate.Limiter] // nil: the rate has no limit
	closed      atomic.Bool                  // all places are taken, or requests wait
	pausedUntil atomic.Int64
	retryAt     atomic.Int64 // when a probe may go; 0 if the origin is not failing
	retryOther  atomic.Int64 // the same for other pages than failedLast
	retryKind   atomic.Int64 // and for other kinds than failedKind
	failedKind  atomic.Uint64
	mixed       atomic.Bool // see health.mixed
	failsOnly   atomic.Uint64
	failedLast  atomic.Uint64
	backoff     atomic.Int64
	// otherAskedAt is when last, during an outage, another page than failedLast was asked for.
	otherAskedAt atomic.Int64
	lastGood     atomic.Int64 // when the last of the requests began that have succeeded
	answeredAt   atomic.Int64 // when the last success was reported
	longest      atomic.Int64 // of limits: Wait
}

// New returns the Budget of an origin. The name stands in errors and may be empty. metrics may be
// nil.
func New(name string, limits Limits, metrics Metrics) *Budget {
	if metrics == nil {
		metrics = noMetrics{}
	}
	limits = limits.WithDefaults()
	b := &Budget{name: name, metrics: metrics, epoch: time.Now(), limits: limits}
	b.tokens.Store(limits.Rate.limiter())
	b.lastGood.Store(math.MinInt64)
	b.answeredAt.Store(math.MinInt64 / 2) // far enough from any time
	b.otherAskedAt.Store(math.MinInt64 / 2)
	b.longest.Store(int64(limits.Wait))
	return b
}

// Wait returns how long a request may wait for a place.
func (b *Budget) Wait() time.Duration { return time.Duration(b.longest.Load()) }

// Apply puts other limits in force. What is under way counts on, and what waits goes on waiting.
func (b *Budget) Apply(limits Limits) {
	limits = limits.WithDefaults()
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch was := b.limits.Rate; {
	case was == limits.Rate:
	case was == Rate{} || limits.Rate == Rate{}:
		b.tokens.Store(limits.Rate.limiter())
	default:
		b.tokens.Load().SetLimitAt(now, limits.Rate.perSecond())
		b.tokens.Load().SetBurstAt(now, limits.Rate.Burst)
	}
	b.limits = limits
	b.longest.Store(int64(limits.Wait))
	b.settle(now)
}

// Place is a request's leave to go to the origin. Its zero value is none. It must not be copied.
type Place struct {
	// Page tells what is asked for from what else is; 0 where that is not known. It is set
	// before Take.
	Page uint64
	// Kind tells how it is asked for: requests of one Kind may fail for what they have in common,
	// such as their header fields. It is set before Take of a ClassRefresh, and before Failed.
	Kind uint64

	budget    *Budget
	begun     time.Time
	class     Class
	reported  bool
	held      atomic.Bool
	uncounted bool // see Attend

	// The Budget's lock guards these.
	listed  *list.Element // among the unattended, nil if it is not
	mayCede time.Time     // from when on giveUp may be called
	giveUp  func() bool
	ceding  bool // giveUp was called
}

// Begun returns when the request got its place.
func (p *Place) Begun() time.Time { return p.begun }

// Take gets a place for a request and returns nil, or says why there is none: a [*RefusedError], or
// the cause for which ctx ended. p must not hold a place already. Each place has to be given back,
// see [Place.Done].
func (b *Budget) Take(ctx context.Context, p *Place, class Class) error {
	now := time.Now()
	b.mu.Lock()
	why := b.obstacle(now, class, p)
	if why == Admitted {
		b.occupy(p, now, class)
		b.publish()
		b.mu.Unlock()
		return nil
	}
	deadline := now.Add(b.limits.Wait)
	switch {
	case class == ClassRefresh:
		why = Refresh
	case class == ClassOngoing:
		w := b.queue.joinAhead(p)
		b.settle(now)
		b.mu.Unlock()
		return b.wait(ctx, w)
	case class == ClassStale:
	case b.health.pausedUntil.After(deadline):
		why = Paused
	case b.queue.others() < b.limits.Queue:
		w := b.queue.join(p, deadline)
		b.settle(now)
		b.mu.Unlock()
		return b.wait(ctx, w)
	case why == Busy:
		why = QueueFull
	}
	refusal := b.refusal(now, why)
	b.mu.Unlock()
	b.metrics.Refused(why)
	return refusal
}

// Attend makes p the place of a request that goes in any case, past all limits, and takes none of
// them. What comes of it counts as with any other.
func (b *Budget) Attend(p *Place) {
	b.fill(p, time.Now(), ClassWaiting)
	p.uncounted = true
}

// obstacle returns what keeps a request of the class from going to p at now.
func (b *Budget) obstacle(now time.Time, class Class, p *Place) Why {
	switch {
	case now.Before(b.health.pausedUntil):
		return Paused
	case class == ClassStale && b.health.failsFor(p.Page):
		return Failing
	case class == ClassRefresh && b.health.failsFor(p.Page) && now.Before(b.health.due(p.Page, p.Kind)):
		return Failing
	case b.queue.Len() > 0 || b.full() || b.untilToken(now) > 0:
		return Busy
	}
	return Admitted
}

// full reports whether all places are taken.
func (b *Budget) full() bool {
	return b.limits.MaxConcurrent > 0 && b.taken >= b.limits.MaxConcurrent
}

// untilToken returns how long it takes until the rate lets another request go.
func (b *Budget) untilToken(now time.Time) time.Duration {
	tokens := b.tokens.Load()
	if tokens == nil {
		return 0
	}
	missing := 1 - tokens.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	// Rounded down, as the limiter does: what is less than a nanosecond off is there.
	return time.Duration(missing / float64(tokens.Limit()) * float64(time.Second))
}

// occupy takes a place and a token, which are there.
func (b *Budget) occupy(p *Place, now time.Time, class Class) {
	b.taken++
	if tokens := b.tokens.Load(); tokens != nil {
		tokens.AllowN(now, 1)
	}
	b.fill(p, now, class)
	if class == ClassRefresh && b.health.failsFor(p.Page) {
		b.health.probe(p, now)
	}
}

// fill makes p a place that has been taken.
func (b *Budget) fill(p *Place, now time.Time, class Class) {
	if class == ClassOngoing {
		class = ClassWaiting // what comes of it tells as much
	}
	p.budget, p.begun, p.class, p.reported, p.uncounted = b, now, class, false, false
	p.held.Store(true)
}

// Done gives the place back. It may be called again, and for a place that was never taken, without
// effect.
func (p *Place) Done() {
	if !p.held.Load() {
		return
	}
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveBack(p)
	if b.queue.Len() > 0 {
		b.settle(time.Now())
		return
	}
	b.publish()
}

// giveBack gives a place back, once.
func (b *Budget) giveBack(p *Place) {
	if !p.held.CompareAndSwap(true, false) {
		return
	}
	if !p.uncounted {
		b.taken--
	}
	b.unattended.returned(p)
	if b.health.probing == p {
		b.health.probeLost(p, &b.limits, time.Now())
	}
}

// settle lets those go whose turn it is, asks for places that no client needs, tells what is read
// without the lock, and sets the timer for the next.
func (b *Budget) settle(now time.Time) {
	for b.queue.Len() > 0 && !b.full() && b.untilTurn(now) <= 0 {
		w := b.queue.first()
		b.occupy(w.place, now, ClassWaiting)
		b.queue.remove(w, Admitted)
	}
	b.publish()
	if b.queue.Len() == 0 {
		return
	}
	next := b.untilTurn(now)
	if next <= 0 { // all places are taken, and one that is given back serves the queue
		var more bool
		if next, more = b.reclaim(now); !more {
			return
		}
	}
	if b.wake == nil {
		b.wake = time.AfterFunc(next, b.onWake)
		return
	}
	b.wake.Reset(next)
}

// untilTurn returns how long rate and pause hold the first in the queue back.
func (b *Budget) untilTurn(now time.Time) time.Duration {
	return max(b.untilToken(now), b.health.pausedUntil.Sub(now))
}

func (b *Budget) onWake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(time.Now())
}

// publish writes what is read without the lock.
func (b *Budget) publish() {
	// A store costs more than a load, and mostly nothing has changed.
	if closed := b.queue.Len() > 0 || b.full(); closed != b.closed.Load() {
		b.closed.Store(closed)
	}
	retryAt, retryOther, retryKind := int64(0), int64(0), int64(0)
	if h := &b.health; h.failing {
		retryAt = max(1, b.at(h.retryAt))
		retryOther = max(1, b.at(h.due(^h.failedLast, h.failedKind)))
		retryKind = max(1, b.at(h.due(h.failedLast, ^h.failedKind)))
	}
	if retryAt != b.retryAt.Load() || retryOther != b.retryOther.Load() || retryKind != b.retryKind.Load() ||
		b.health.failedLast != b.failedLast.Load() || b.health.failedKind != b.failedKind.Load() ||
		b.health.only != b.failsOnly.Load() || b.health.mixed != b.mixed.Load() { // as with each change of the back-off
		if retryAt == 0 {
			b.retryAt.Store(0) // else it would seem to fail for all, between the two
		}
		b.failsOnly.Store(b.health.only)
		b.failedLast.Store(b.health.failedLast)
		b.backoff.Store(int64(b.health.backoff))
		b.failedKind.Store(b.health.failedKind)
		b.mixed.Store(b.health.mixed)
		b.retryOther.Store(retryOther)
		b.retryKind.Store(retryKind)
		b.retryAt.Store(retryAt)
	}
}

// at returns a time as it is read without the lock.
func (b *Budget) at(t time.Time) int64 { return int64(t.Sub(b.epoch)) }

package origin

import "time"

// health is how an origin fares. The Budget's lock guards it.
type health struct {
	failing bool
	// only is, while failing, the Page for which alone that counts; 0: for all. There is one such
	// page at a time, and the next success of any ends it.
	only       uint64
	backoff    time.Duration
	retryAt    time.Time // while failing: when a probe may go
	failedLast uint64    // the Page of the request whose failure began the outage, or of the last probe
	lost       bool      // that probe has not failed, but ended without a result
	// confirmed says that a page of which a response is stored has failed besides that one. Until
	// then other pages may probe at retryOther, however long the pages that fail are to wait.
	confirmed  bool
	retryOther time.Time
	// failedKind is the Kind of what failedLast is the Page of, and mixed says that one of another
	// Kind has failed besides it. Until then requests of other kinds may probe at retryOther, and
	// after that at retryKind where the page fails alone.
	failedKind  uint64
	mixed       bool
	retryKind   time.Time
	probing     *Place    // the probe that is under way, or was when its turn ended
	pausedUntil time.Time // nothing goes until then
}

// probeTurn is for how long a probe keeps others from going. One that hangs says nothing of the
// origin: a client may have chosen a page that is slow.
const probeTurn = 10 * time.Second

// kindTurn is the part of the back-off after which requests of another Kind may probe for a page
// that fails alone, where several kinds have failed. It is the shortest back-off at least.
const kindTurn = 16

// due returns when a failing origin may be asked for that page again by a request of that Kind.
func (h *health) due(page, kind uint64) time.Time {
	otherPage, otherKind := page != h.failedLast, kind != h.failedKind
	switch {
	case otherPage && !h.confirmed, otherKind && !h.mixed:
		return earlier(h.retryOther, h.retryAt)
	case otherKind && h.only != 0:
		return earlier(h.retryKind, h.retryAt)
	}
	return h.retryAt
}

// probe begins a probe.
func (h *health) probe(p *Place, now time.Time) {
	h.probing = p
	h.retryAt = now.Add(max(probeTurn, h.backoff))
	h.retryOther, h.retryKind = h.retryAt, h.retryAt
}

// failsFor reports whether the origin counts as failing for a page.
func (h *health) failsFor(page uint64) bool {
	return h.failing && (h.only == 0 || h.only == page)
}

// failed notes the failure of a request. beside says that others have been answered just now.
func (h *health) failed(p *Place, l *Limits, now time.Time, retryAfter time.Duration, beside bool) {
	switch {
	case !h.failing, !h.failsFor(p.Page):
		*h = health{failing: true, only: p.Page, backoff: l.BackoffMin, pausedUntil: h.pausedUntil}
	case h.probing == p: // it has asked again
		h.confirm(p)
		h.probing, h.backoff = nil, min(2*h.backoff, l.BackoffMax)
	default:
		h.confirm(p)
		h.retryAt = later(h.retryAt, now.Add(retryAfter))
		return
	}
	if !beside {
		h.only = 0
	}
	h.failedLast, h.failedKind, h.lost = p.Page, p.Kind, false
	h.retryAt = later(now.Add(h.backoff), now.Add(retryAfter))
	h.retryOther = now.Add(l.BackoffMin)
	h.retryKind = later(h.retryOther, now.Add(h.backoff/kindTurn))
}

// confirm notes that not only one page fails, and not only requests of one Kind. A client may
// choose any number of pages of which nothing is stored: they confirm nothing. Nor does a failure
// beside a probe that has not failed.
func (h *health) confirm(p *Place) {
	if p.class == ClassWaiting || h.lost {
		return
	}
	h.confirmed = h.confirmed || p.Page != h.failedLast
	h.mixed = h.mixed || p.Kind != h.failedKind
}

// pause notes for how long the origin wants to be left alone.
func (h *health) pause(until time.Time) { h.pausedUntil = later(h.pausedUntil, until) }

// succeeded ends an outage.
func (h *health) succeeded() {
	*h = health{pausedUntil: h.pausedUntil}
}

// probeLost says that a probe has ended without a result. The pace holds all the same. The next one
// is another's: a client may know what an origin that is well gives no result for, and would keep
// the outage open if it came first each time.
func (h *health) probeLost(p *Place, l *Limits, now time.Time) {
	h.probing = nil
	h.failedLast, h.failedKind, h.lost = p.Page, p.Kind, true
	h.retryAt, h.retryOther = now.Add(h.backoff), now.Add(l.BackoffMin)
	h.retryKind = later(h.retryOther, now.Add(h.backoff/kindTurn))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Succeeded reports that the origin has answered the request. Only the first report counts.
func (p *Place) Succeeded() {
	if !p.held.Load() || p.reported {
		return
	}
	p.reported = true
	b := p.budget
	b.answeredAt.Store(b.at(time.Now()))
	begun := b.at(p.begun)
	for last := b.lastGood.Load(); begun > last && !b.lastGood.CompareAndSwap(last, begun); {
		last = b.lastGood.Load()
	}
	if b.retryAt.Load() == 0 {
		return // as nearly always, without the lock
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.health.succeeded()
	b.settle(time.Now())
}

// Failed reports that the request failed, and for how long the origin wants to be left alone (see
// [RetryAfter]). Only the first report counts, and none does if a request that began later has
// succeeded, but for how long an origin that pauses asks to be left alone.
func (p *Place) Failed(retryAfter time.Duration) {
	if !p.held.Load() || p.reported {
		return
	}
	p.reported = true
	b := p.budget
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if (retryAfter == 0 || !b.limits.Pauses) && b.saysNothing(p, now) {
		b.settle(now)
		return
	}
	if beside := b.answeredJustNow(now); p.Page != 0 || !beside {
		b.health.failed(p, &b.limits, now, retryAfter, beside)
	}
	if b.limits.Pauses && retryAfter > 0 {
		b.health.pause(now.Add(retryAfter))
	}
	b.pausedUntil.Store(b.at(b.health.pausedUntil))
	b.refuseForPause()
	b.settle(now)
}

// saysNothing reports whether the failure of a request is no sign of a failing origin: a request
// that began later has succeeded, or others have been answered just now and nothing is known of
// this one but that it fails. So a page that is broken has no other page served stale while the
// origin is well. Where a response is stored, the origin counts as failing for that alone: it has
// worked before, but a client may have sent a field with which it fails.
func (b *Budget) saysNothing(p *Place, now time.Time) bool {
	if b.at(p.begun) < b.lastGood.Load() {
		return true
	}
	return p.class == ClassWaiting && !b.health.failsFor(p.Page) && b.answeredJustNow(now)
}

// justNow is how long an answer says that the origin is well, and the shortest back-off at most.
const justNow = time.Second

func (b *Budget) answeredJustNow(now time.Time) bool {
	return b.at(now)-b.answeredAt.Load() < int64(min(b.limits.BackoffMin, justNow))
}

// refuseForPause refuses all in the queue whose time ends before the pause does. That of an answer
// that has begun does not end.
func (b *Budget) refuseForPause() {
	for e := b.queue.Front(); e != nil; {
		w := e.Value.(*waiter)
		e = e.Next()
		if !w.isOngoing() && w.deadline.Before(b.health.pausedUntil) {
			b.queue.remove(w, Paused)
		}
	}
}

// Standing returns what keeps a request for that page from the origin at now, if it
// can do without it: Admitted for nothing. Page 0 is for requests at large. While the origin is
// paused or failing that takes no lock.
func (b *Budget) Standing(now time.Time, page uint64) Why {
	switch {
	case b.at(now) < b.pausedUntil.Load():
		return Paused
	case b.failsFor(page):
		return Failing
	case b.mustWait(now):
		return Busy
	}
	return Admitted
}

// failsFor is health's, without the lock.
func (b *Budget) failsFor(page uint64) bool {
	if b.retryAt.Load() == 0 {
		return false
	}
	only := b.failsOnly.Load()
	return only == 0 || only == page
}

// due is health's, without the lock.
func (b *Budget) due(page, kind uint64) int64 {
	at := b.retryAt.Load()
	if page != b.failedLast.Load() {
		at = min(at, b.retryOther.Load())
	}
	if kind != b.failedKind.Load() {
		at = min(at, b.retryKind.Load())
	}
	return at
}

// mustWait reports whether a request would have to wait for a place at now. It takes no lock but
// that of the rate.
func (b *Budget) mustWait(now time.Time) bool {
	return b.at(now) < b.pausedUntil.Load() || b.closed.Load() || b.untilToken(now) > 0
}

// RefreshDue reports whether a refresh of that page by a request of that Kind may go at now: there
// is a place, and the origin is well or due for its probe. Where others are asked for too, that
// whose failure was the last to count probes a back-off later than they may, so that one page that
// fails by itself does not stand for the origin, nor a client for whose requests it does. Once
// several kinds have failed, that goes for the page by whatever kind, unless it fails alone. While
// the origin is paused or failing and no probe is due, it takes no lock.
func (b *Budget) RefreshDue(now time.Time, page, kind uint64) bool {
	if !b.failsFor(page) {
		return !b.mustWait(now)
	}
	at, due := b.at(now), b.due(page, kind)
	switch backoff := b.backoff.Load(); {
	case page != b.failedLast.Load():
		b.otherAskedAt.Store(at)
	case b.failsAs(kind) && at-b.otherAskedAt.Load() < 2*backoff:
		due += backoff
	}
	return at >= due && !b.mustWait(now)
}

// failsAs reports whether requests of that Kind for failedLast count as those that have failed.
func (b *Budget) failsAs(kind uint64) bool {
	return kind == b.failedKind.Load() || b.mixed.Load() && b.failsOnly.Load() == 0
}

// Spared counts a request that was answered otherwise, or a refresh that was not begun, because of
// how the origin stands.
func (b *Budget) Spared(why Why) { b.metrics.Refused(why) }

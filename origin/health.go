package origin

import "time"

// health is how an origin fares. The Budget's lock guards it.
type health struct {
	failing     bool
	backoff     time.Duration
	retryAt     time.Time // while failing: when a probe may go
	failedLast  uint64    // the Subject of the request whose failure began the outage, or of the last probe
	probing     *Place    // the probe that is under way, or was when its turn ended
	pausedUntil time.Time // nothing goes until then
}

// probeTurn is for how long a probe keeps others from going. One that hangs says nothing of the
// origin: a client may have chosen a page that is slow.
const probeTurn = 10 * time.Second

// mayProbe reports whether a failing origin may be asked again.
func (h *health) mayProbe(now time.Time) bool { return !now.Before(h.retryAt) }

// probe begins a probe.
func (h *health) probe(p *Place, now time.Time) {
	h.probing = p
	h.retryAt = now.Add(max(probeTurn, h.backoff))
}

// failed notes the failure of a request.
func (h *health) failed(p *Place, l *Limits, now time.Time, retryAfter time.Duration) {
	switch {
	case !h.failing:
		h.failing, h.backoff, h.failedLast = true, l.BackoffMin, p.Subject
		h.retryAt = now.Add(h.backoff)
	case h.probing == p: // it has asked again
		h.probing, h.backoff, h.failedLast = nil, min(2*h.backoff, l.BackoffMax), p.Subject
		h.retryAt = now.Add(h.backoff)
	}
	h.retryAt = later(h.retryAt, now.Add(retryAfter))
	if l.Pauses && retryAfter > 0 {
		h.pausedUntil = later(h.pausedUntil, now.Add(retryAfter))
	}
}

// succeeded ends an outage.
func (h *health) succeeded() {
	*h = health{pausedUntil: h.pausedUntil}
}

// probeLost says that a probe has ended without a result. The pace holds all the same.
func (h *health) probeLost(now time.Time) {
	h.probing = nil
	h.retryAt = now.Add(h.backoff)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
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
// succeeded.
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
	b.health.failed(p, &b.limits, now, retryAfter)
	b.pausedUntil.Store(b.at(b.health.pausedUntil))
	b.refuseForPause()
	b.settle(now)
}

// saysNothing reports whether the failure of a request is no sign of a failing origin: a request
// that began later has succeeded, or the origin has answered others just now. So a page that is
// broken, or a client that asks for what does not work, has no other page served stale while the
// origin is well. That something is stored for the request says nothing else: it may have a field
// with which the page fails.
func (b *Budget) saysNothing(p *Place, now time.Time) bool {
	if b.at(p.begun) < b.lastGood.Load() {
		return true
	}
	recent := b.at(now)-b.answeredAt.Load() < int64(b.limits.BackoffMin)
	return !b.health.failing && recent
}

// refuseForPause refuses all in the queue whose time ends before the pause does.
func (b *Budget) refuseForPause() {
	for e := b.queue.Front(); e != nil; {
		w := e.Value.(*waiter)
		e = e.Next()
		if w.deadline.Before(b.health.pausedUntil) {
			b.queue.remove(w, Paused)
		}
	}
}

// Standing returns what keeps a request that can do without the origin from it at now, Admitted for
// nothing. While the origin is paused or failing that takes no lock.
func (b *Budget) Standing(now time.Time) Why {
	switch {
	case b.at(now) < b.pausedUntil.Load():
		return Paused
	case b.retryAt.Load() != 0:
		return Failing
	case b.mustWait(now):
		return Busy
	}
	return Admitted
}

// mustWait reports whether a request would have to wait for a place at now. It takes no lock but that
// of the rate.
func (b *Budget) mustWait(now time.Time) bool {
	return b.at(now) < b.pausedUntil.Load() || b.closed.Load() || b.untilToken(now) > 0
}

// RefreshDue reports whether a refresh of what the subject tells may go at now: there is a place, and
// the origin is well or due for its probe. Where others are asked for too, that whose failure was
// the last to count probes a back-off later than they may, so that one page that fails by itself
// does not stand for the origin. While the origin is paused or failing and no probe is due, it takes
// no lock.
func (b *Budget) RefreshDue(now time.Time, subject uint64) bool {
	at, due := b.at(now), b.retryAt.Load()
	switch backoff := b.backoff.Load(); {
	case due == 0: // the origin is well
	case subject != b.failedLast.Load():
		b.otherAskedAt.Store(at)
	case at-b.otherAskedAt.Load() < 2*backoff:
		due += backoff
	}
	return at >= due && !b.mustWait(now)
}

// Spared counts a request that was answered otherwise, or a refresh that was not begun, because of
// how the origin stands.
func (b *Budget) Spared(why Why) { b.metrics.Refused(why) }

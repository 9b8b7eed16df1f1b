package origin

import "time"

// health is how an origin fares. The Budget's lock guards it.
type health struct {
	failing     bool
	backoff     time.Duration
	retryAt     time.Time // while failing: when a probe may go
	probing     *Place    // the probe that is under way
	pausedUntil time.Time // nothing goes until then
}

// mayProbe reports whether a failing origin may be asked again.
func (h *health) mayProbe(now time.Time) bool { return h.probing == nil && !now.Before(h.retryAt) }

// failed notes a failure of a request that began at begun.
func (h *health) failed(l *Limits, now, begun time.Time, retryAfter time.Duration) {
	switch {
	case !h.failing:
		h.failing, h.backoff = true, l.BackoffMin
		h.retryAt = now.Add(h.backoff)
	case !begun.Before(h.retryAt): // it has asked again
		h.backoff = min(2*h.backoff, l.BackoffMax)
		h.retryAt = now.Add(h.backoff)
	}
	h.retryAt = later(h.retryAt, now.Add(retryAfter))
	if l.Pauses && retryAfter > 0 {
		h.pausedUntil = later(h.pausedUntil, now.Add(retryAfter))
	}
}

// succeeded ends an outage.
func (h *health) succeeded() {
	h.failing, h.backoff, h.retryAt, h.probing = false, 0, time.Time{}, nil
}

// probeLost says that a probe has ended without a result. The pace holds all the same.
func (h *health) probeLost(now time.Time) {
	h.probing = nil
	h.retryAt = later(h.retryAt, now.Add(h.backoff))
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
	if b.health.probing == p {
		b.health.probing = nil
	}
	if b.at(p.begun) < b.lastGood.Load() && retryAfter == 0 {
		b.settle(now)
		return
	}
	b.health.failed(&b.limits, now, p.begun, retryAfter)
	b.pausedUntil.Store(b.at(b.health.pausedUntil))
	b.refuseForPause()
	b.settle(now)
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

// Standing is what a request that can do without the origin is told.
type Standing uint8

// The standings.
const (
	// StandingOpen: it may ask.
	StandingOpen Standing = iota
	// StandingBusy: no place is free.
	StandingBusy
	// StandingPaused: the origin has said when to come again.
	StandingPaused
	// StandingFailing: the last request failed, and none has succeeded since.
	StandingFailing
)

// String returns the standing as one word.
func (s Standing) String() string {
	switch s {
	case StandingOpen:
		return "open"
	case StandingBusy:
		return "busy"
	case StandingPaused:
		return "paused"
	case StandingFailing:
		return "failing"
	}
	return "unknown"
}

// Standing returns how the origin stands at now. While it is paused or failing that takes no lock.
func (b *Budget) Standing(now time.Time) Standing {
	switch {
	case b.at(now) < b.pausedUntil.Load():
		return StandingPaused
	case b.retryAt.Load() != 0:
		return StandingFailing
	case b.closed.Load() || b.untilToken(now) > 0:
		return StandingBusy
	}
	return StandingOpen
}

// RefreshDue reports whether a refresh may go at now: there is a place, and the origin is well or
// due for its probe. While the origin is paused or failing and no probe is due, it takes no lock.
func (b *Budget) RefreshDue(now time.Time) bool {
	at := b.at(now)
	return at >= b.pausedUntil.Load() && at >= b.retryAt.Load() && !b.closed.Load() && b.untilToken(now) <= 0
}

// Spared counts a request that was answered otherwise because of how the origin stands.
func (b *Budget) Spared(s Standing) {
	switch s {
	case StandingBusy:
		b.metrics.Refused(Busy)
	case StandingPaused:
		b.metrics.Refused(Paused)
	case StandingFailing:
		b.metrics.Refused(Failing)
	case StandingOpen:
	}
}

// Dropped counts a refresh that was not begun because of how the origin stands.
func (b *Budget) Dropped() { b.metrics.Refused(Refresh) }

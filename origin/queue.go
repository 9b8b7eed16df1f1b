package origin

import (
	"container/list"
	"context"
	"time"
)

// queue has the requests that wait for a place, the first to come in front.
type queue struct{ list.List }

// waiter is a request in the queue. The Budget's lock guards it.
type waiter struct {
	place    *Place
	deadline time.Time
	left     *list.Element // its place in the queue, nil when it has left that
	answer   chan Why      // has room for the one answer that it gets
}

// join adds a request.
func (q *queue) join(p *Place, deadline time.Time) *waiter {
	w := &waiter{place: p, deadline: deadline, answer: make(chan Why, 1)}
	w.left = q.PushBack(w)
	return w
}

// first returns the request in front.
func (q *queue) first() *waiter { return q.Front().Value.(*waiter) }

// remove takes a request out and answers it.
func (q *queue) remove(w *waiter, answer Why) {
	q.Remove(w.left)
	w.left = nil
	w.answer <- answer
}

// wait waits until the request has a place, is refused, its time has passed, or ctx ends.
func (b *Budget) wait(ctx context.Context, w *waiter) error {
	b.metrics.Waiting(1)
	defer b.metrics.Waiting(-1)
	timer := time.NewTimer(time.Until(w.deadline))
	defer timer.Stop()
	select {
	case why := <-w.answer:
		return b.answered(why)
	case <-timer.C:
		return b.answered(b.giveUp(w, QueueWait))
	case <-ctx.Done():
	}
	if b.giveUp(w, GaveUp) == Admitted {
		w.place.hand()
	}
	b.metrics.Refused(GaveUp)
	return context.Cause(ctx)
}

// giveUp takes a request out of the queue. It returns why, or the answer that the request had got
// already.
func (b *Budget) giveUp(w *waiter, why Why) Why {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.left != nil {
		b.queue.remove(w, why)
		b.settle(time.Now())
	}
	return <-w.answer
}

// answered turns the answer that a request got in the queue into the result of Take.
func (b *Budget) answered(why Why) error {
	if why == Admitted {
		return nil
	}
	b.mu.Lock()
	now := time.Now()
	if now.Before(b.health.pausedUntil) {
		why = Paused // which is why it has got no place
	}
	refusal := b.refusal(now, why)
	b.mu.Unlock()
	b.metrics.Refused(why)
	return refusal
}

// hand gives the place to the next in the queue as it is, token included: the request that it was
// given to did not go.
func (p *Place) hand() {
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	tooMany := b.limits.MaxConcurrent > 0 && b.taken > b.limits.MaxConcurrent // since Apply
	if b.queue.Len() == 0 || tooMany || now.Before(b.health.pausedUntil) {
		b.giveBack(p)
		b.settle(now)
		return
	}
	next := b.queue.first()
	p.held.Store(false)
	b.unattended.returned(p)
	b.fill(next.place, now, ClassWaiting)
	b.queue.remove(next, Admitted)
	b.settle(now)
}

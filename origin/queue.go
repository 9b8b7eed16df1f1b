package origin

import (
	"container/list"
	"context"
	"time"
)

// queue has the requests that wait for a place, the first to come in front. Those of ClassOngoing
// stand ahead of the others. While others wait they get every second place at most, and they take
// no room from the others.
type queue struct {
	list.List
	ongoing *list.Element // the last of ClassOngoing, nil if there is none
	ahead   int           // how many of ClassOngoing there are
	yields  bool          // the last that went was one of ClassOngoing
}

// waiter is a request in the queue. The Budget's lock guards it.
type waiter struct {
	place    *Place
	deadline time.Time     // zero for none: it is of ClassOngoing
	left     *list.Element // its place in the queue, nil when it has left that
	answer   chan Why      // has room for the one answer that it gets
}

// join adds a request.
func (q *queue) join(p *Place, deadline time.Time) *waiter {
	w := &waiter{place: p, deadline: deadline, answer: make(chan Why, 1)}
	w.left = q.PushBack(w)
	return w
}

// joinAhead adds a request of ClassOngoing.
func (q *queue) joinAhead(p *Place) *waiter {
	w := &waiter{place: p, answer: make(chan Why, 1)}
	if q.ongoing == nil {
		w.left = q.PushFront(w)
	} else {
		w.left = q.InsertAfter(w, q.ongoing)
	}
	q.ongoing = w.left
	q.ahead++
	return w
}

// isOngoing reports whether the request is of ClassOngoing.
func (w *waiter) isOngoing() bool { return w.deadline.IsZero() }

// others is how many requests wait that are not of ClassOngoing.
func (q *queue) others() int { return q.Len() - q.ahead }

// first returns the request whose turn it is: the one in front, but the first of the others after
// one of ClassOngoing.
func (q *queue) first() *waiter {
	if q.yields && q.ongoing != nil && q.ongoing.Next() != nil {
		return q.ongoing.Next().Value.(*waiter)
	}
	return q.Front().Value.(*waiter)
}

// remove takes a request out and answers it.
func (q *queue) remove(w *waiter, answer Why) {
	if w.left == q.ongoing {
		q.ongoing = w.left.Prev() // which is one, or there is none
	}
	if w.isOngoing() {
		q.ahead--
	}
	if answer == Admitted {
		q.yields = w.isOngoing()
	}
	q.Remove(w.left)
	w.left = nil
	w.answer <- answer
}

// wait waits until the request has a place, is refused, its time has passed, or ctx ends.
func (b *Budget) wait(ctx context.Context, w *waiter) error {
	b.metrics.Waiting(1)
	defer b.metrics.Waiting(-1)
	var late <-chan time.Time
	if !w.deadline.IsZero() {
		timer := time.NewTimer(time.Until(w.deadline))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case why := <-w.answer:
		return b.answered(why)
	case <-late:
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

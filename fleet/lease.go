package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

const (
	// leaseTTL is how long a lease lives without its holder. A dead one costs that much.
	leaseTTL   = 3 * time.Second
	leaseRenew = time.Second
	// leasePoll is how often those who wait look for themselves: messages may be lost.
	leasePoll = 100 * time.Millisecond
	// listenPause is the pause before messages are listened to again.
	listenPause = time.Second
)

// leases has the fetches of this node that wait for leases of others.
type leases struct {
	tier *SharedTier

	mu      sync.Mutex
	waiters map[string]map[*waiter]struct{} // by key
}

// waiter is a fetch that waits. news has the last message that it has not looked at.
type waiter struct{ news chan []byte }

// listen hears the messages to this node until the tier is closed.
func (l *leases) listen() {
	t := l.tier
	for t.ctx.Err() == nil {
		err := t.engine.Listen(t.ctx, t.config.Node, func() {}, l.wake)
		if t.ctx.Err() == nil {
			t.config.Logger.Debug("messages of other nodes are not heard for a moment", slog.Any("error", err))
		}
		pauseFor(t.ctx, listenPause, nil)
	}
}

// wake passes a message on. A later one replaces one that has not been looked at: it says more.
func (l *leases) wake(key string, message []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.waiters[key] {
		select {
		case <-w.news:
		default:
		}
		w.news <- message
	}
}

// wait registers a fetch for the messages about a key.
func (l *leases) wait(key string) *waiter {
	w := &waiter{news: make(chan []byte, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiters[key] == nil {
		l.waiters[key] = make(map[*waiter]struct{})
	}
	l.waiters[key][w] = struct{}{}
	return w
}

func (l *leases) leave(key string, w *waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.waiters[key], w); len(l.waiters[key]) == 0 {
		delete(l.waiters, key)
	}
}

// Await lets one node fetch for all. It returns at once where this node is the one, and otherwise
// when it is known how the fetch goes on, or at the time until. If that has passed already it takes
// the lease where that is free, and waits for none. selected tells whether a response of a variant
// would be for this request. lasts is how long others wait for this node's fetch, if it is the one.
//
// again says that another node has stored its response, or may have: the wait was over. If Get
// finds nothing for this request, another Await says how it goes on. failed is the status of
// another node's fetch that has failed and was the second to fail while this one waited, with its
// Retry-After: one more would be one too many. answered says that the origin had answered with it.
// waited says that its requests have waited for a fetch of this node that failed.
// Otherwise the fetch goes to the origin. late says that another node's fetch was slow: it had been
// waited for as long as lasts says, or about that, or has let its lease go because of that.
func (f *Fetch) Await(
	ctx context.Context, key store.Key, until time.Time, lasts time.Duration, waited bool, selected func(*store.Variant) bool,
) (again, late bool, failed int, answered bool, retryAfter string) {
	wait := time.Until(until)
	f.longest = max(f.longest, wait)
	f.lasts, f.turn.waited, f.turn.letGo = lasts, f.turn.waited || waited, false
	a := awaiting{fetch: f, tier: f.tier, key: keyText(key), selected: selected}
	a.waiter = f.tier.leases.wait(a.key)
	defer f.tier.leases.leave(a.key, a.waiter)
	move, outcome := a.run(ctx, until)
	over := outcome == LeaseTimeout && wait > 0 && ctx.Err() == nil
	late = f.turn.letGo || over && !a.moved && wait >= mostOf(lasts)
	if over { // who lets others go on wakes them, and what it stores later does not
		return true, late, 0, false, ""
	}
	if outcome == LeaseTimeout && f.longest < mostOf(lasts) {
		outcome = LeaseHeld
	}
	f.tier.config.Metrics.Lease(outcome)
	if move == moveFail {
		return false, late, a.sight.news.status, a.sight.news.answered, a.sight.news.retryAfter
	}
	return move == moveLook, late, 0, false, ""
}

// awaiting is one call of Await.
type awaiting struct {
	fetch    *Fetch
	tier     *SharedTier
	key      string
	waiter   *waiter
	selected func(*store.Variant) bool
	sight    sight
	moved    bool // it has seen the end of a lease
	takes    int  // how often it has asked for one
}

// run makes moves until one is the last. The first is to take the lease, from where an earlier call
// has left off.
func (a *awaiting) run(ctx context.Context, until time.Time) (move, LeaseOutcome) {
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for next := moveTake; ; {
		var outcome LeaseOutcome
		var err error
		switch next {
		case moveTake:
			// A second one, because the first has only read the message of the last holder.
			if a.takes > 1 && waiting.Err() != nil {
				return moveFetch, LeaseTimeout
			}
			a.takes++
			err = a.take(ctx)
		case moveWait:
			err = a.hear(waiting)
		case moveLook, moveLead, moveFetch, moveFail:
		}
		if err != nil {
			if ctx.Err() != nil || next == moveWait && waiting.Err() != nil {
				return moveFetch, LeaseTimeout
			}
			return moveFetch, LeaseError
		}
		if next, outcome = a.fetch.turn.next(a.sight, a.selected); next != moveTake && next != moveWait {
			return next, outcome
		}
		a.moved = a.moved || next == moveTake
	}
}

// take asks for the lease. A server that has just let a look-up wait in vain would let this one
// wait as long: a miss costs one timeout, not two.
func (a *awaiting) take(ctx context.Context) error {
	if a.fetch.silent {
		return errLate
	}
	t, token := a.tier, rand.Text()
	var l Lease
	err := t.ask(ctx, t.config.Timeout, func(ctx context.Context) (err error) {
		l, err = t.engine.Take(ctx, a.key, token, t.config.Node, a.fetch.turn.seen, leaseTTL)
		return err
	})
	if err != nil {
		if !errors.Is(err, errBreakerOpen) { // the server may have given it all the same
			t.spawn((&heldLease{tier: t, key: a.key, token: token}).giveBack)
		}
		return err
	}
	a.see(l)
	if l.Taken {
		a.fetch.held = t.hold(a.key, token, max(1, a.fetch.turn.attempt), a.fetch.lasts)
	}
	return nil
}

// hear waits for a message, and looks for itself every now and then. A server that gives no answer
// is asked again, until the breaker opens.
func (a *awaiting) hear(ctx context.Context) error {
	t := a.tier
	timer := time.NewTimer(leasePoll)
	defer timer.Stop()
	select {
	case message := <-a.waiter.news:
		a.read(message)
		return nil
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var l Lease
	err := t.ask(ctx, t.config.Timeout, func(ctx context.Context) (err error) {
		l, err = t.engine.Look(ctx, a.key)
		return err
	})
	switch {
	case err == nil:
		a.see(l)
	case ctx.Err() != nil || !t.breaker.closed():
		return err
	}
	return nil
}

// see takes the state of the lease as what the fetch sees.
func (a *awaiting) see(l Lease) {
	a.sight = sight{taken: l.Taken, held: l.Held}
	if raw := l.Left; raw != nil && !l.Held && !l.Taken {
		a.read(raw)
	} else if l.Held && l.Facts != nil {
		a.sight.news = decodeNews(l.Facts, &a.tier.sealer, a.key)
	}
}

// read takes a message as what the fetch sees.
func (a *awaiting) read(message []byte) {
	n := decodeNews(message, &a.tier.sealer, a.key)
	a.sight = sight{held: n.kind == newsStorable, news: n, raw: message}
}

package fleet

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// heldLease is a lease that this node holds. A goroutine renews it and carries out what the fetch
// has to say, so that the fetch waits for no network.
//
// Others would wait for a fetch as long as it lasts, and one that stands still would keep them
// waiting again and again. So the lease is let go a little before it has been held for as long as
// one of them waits for all fetches together. The first to come have begun to wait before it was
// taken: they hear of it while they still wait, and one of them fetches for all. None has anything
// of a body before its end, so how far the fetch has come does not count.
type heldLease struct {
	tier    *SharedTier
	key     string
	token   string
	attempt int

	facts chan []byte // at most one
	end   chan ending // at most one

	mu    sync.Mutex
	ended bool
	letGo bool          // it has ended, and its fetch goes on
	asked time.Time     // when the origin was, zero: it has not been, or the fetch waits again
	had   time.Duration // how long it had before
	keeps bool          // it is not let go any more, as the response is being stored
	lost  bool
	until time.Time // it is held at least until then, if it is not lost
}

// ending is how a lease ends.
type ending struct {
	message []byte
	keep    time.Duration
}

// mostOf is how long a lease is held where others wait for its fetch as long as wait says. What is
// left is for the way of the message, and for a fast answer to the next fetch. A wait of that
// length counts as a whole one.
func mostOf(wait time.Duration) time.Duration { return wait - wait/10 }

// hold begins to renew a lease that has just been taken. Others wait for it as long as lasts says.
func (t *SharedTier) hold(key, token string, attempt int, lasts time.Duration) *heldLease {
	h := &heldLease{
		tier: t, key: key, token: token, attempt: attempt,
		facts: make(chan []byte, 1), end: make(chan ending, 1), until: time.Now().Add(leaseTTL),
	}
	t.spawn(func() { h.renew(lasts) })
	return h
}

// renew renews the lease every second until its end.
func (h *heldLease) renew(lasts time.Duration) {
	ticker, over := time.NewTicker(leaseRenew), time.NewTimer(mostOf(lasts))
	defer ticker.Stop()
	defer over.Stop()
	var facts []byte // that have not reached the server
	for {
		select {
		case e := <-h.end:
			h.release(e)
			return
		case <-over.C:
			if h.leave() {
				n := news{kind: newsLate}
				if !h.isSlow(mostOf(lasts)) {
					n.kind = newsQueued
				}
				h.release(ending{message: n.encode(&h.tier.sealer, h.key)})
				return
			}
			continue // the response is being stored, or the end is on the way
		case facts = <-h.facts:
		case <-ticker.C:
		case <-h.tier.ctx.Done():
			h.giveBack()
			return
		}
		if h.extend(h.tier.ctx, facts) == nil {
			facts = nil
		}
	}
}

// extend renews the lease and publishes facts.
func (h *heldLease) extend(ctx context.Context, facts []byte) error {
	t, begun := h.tier, time.Now()
	var ok bool
	err := t.ask(ctx, t.config.Timeout, func(ctx context.Context) (err error) {
		ok, err = t.engine.Hold(ctx, h.key, h.token, facts, leaseTTL)
		return err
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.lost:
	case err == nil && ok:
		h.until = begun.Add(leaseTTL)
	case err == nil || !time.Now().Before(h.until):
		h.lost = true
		t.config.Metrics.Lease(LeaseLost)
	}
	if err == nil && h.lost {
		return errSuperseded
	}
	return err
}

// release ends the lease at the server, after Close too. If that fails, it ends by itself.
func (h *heldLease) release(e ending) {
	t := h.tier
	_ = t.ask(context.WithoutCancel(t.ctx), t.config.Timeout, func(ctx context.Context) error {
		_, err := t.engine.Release(ctx, h.key, h.token, e.message, e.keep)
		return err
	})
}

// giveBack ends a lease that is of no use to this node, or of which it is not known whether it was
// taken.
func (h *heldLease) giveBack() {
	n := news{kind: newsUnstored}
	h.release(ending{message: n.encode(&h.tier.sealer, h.key)})
}

// leave lets the lease go although the fetch goes on, and reports whether it has. One that was lost
// before is not let go but superseded: what its fetch brings is not stored, as ever.
func (h *heldLease) leave() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.keeps {
		return false
	}
	h.ended, h.letGo = true, !h.lost
	return true
}

// isSlow reports whether the origin has had at least half of the time for which the lease was held:
// the fetch may have stood in a queue.
func (h *heldLease) isSlow(held time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hadUntilNow() >= held/2
}

// hadUntilNow is how long the origin has had; under the lock.
func (h *heldLease) hadUntilNow() time.Duration {
	if h.asked.IsZero() {
		return h.had
	}
	return h.had + time.Since(h.asked)
}

// Asks tells that the origin is asked. Until then the fetch waits for its turn.
func (f *Fetch) Asks() {
	if h := f.held; h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.asked.IsZero() {
			h.asked = time.Now()
		}
	}
}

// Waits tells that the fetch waits for its turn again: what the origin was asked for with others
// has brought nothing.
func (f *Fetch) Waits() {
	if h := f.held; h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.had, h.asked = h.hadUntilNow(), time.Time{}
	}
}

// hasAnswer tells that the origin has answered. What takes long from now on is not its fault.
func (f *Fetch) hasAnswer() {
	if h := f.held; h != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.had, h.asked = 0, time.Time{}
	}
}

// keepsLease reports whether the fetch has a lease, which is not let go from now on: to put a
// record takes a few timeouts of a look-up at most.
func (f *Fetch) keepsLease() bool {
	h := f.held
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keeps = !h.letGo
	return h.keeps
}

// holdsLease reports whether the fetch, which has a lease, may store: it holds it still.
func (f *Fetch) holdsLease(ctx context.Context) bool {
	err := f.held.extend(ctx, nil)
	if err == nil {
		return true
	}
	f.held.mu.Lock()
	defer f.held.mu.Unlock()
	return !f.held.lost && !errors.Is(err, errSuperseded)
}

// endLease ends the lease of the fetch, if it holds one that has not ended, and says why.
func (f *Fetch) endLease(n news, stands time.Duration) {
	h := f.held
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	h.ended = true
	n.attempt = h.attempt
	h.end <- ending{n.encode(&h.tier.sealer, h.key), stands}
}

// Storable tells those who wait that the response may be stored, at its header. length is that of
// its body, -1 if it is not known. Those for whom it is not, or who would wait for a body or a
// variant that is too long for the tier, fetch for themselves. limit is how long a body may be: if
// one turns out longer, Unshared tells so.
func (f *Fetch) Storable(v *store.Variant, length int64) (limit int64) {
	limit = f.tier.config.MaxBody
	if f.tier.config.StoreOff {
		limit = -1
	}
	h := f.held
	if h == nil {
		return limit
	}
	if length > limit || limit < 0 || !hasRow(v) {
		f.endLease(news{kind: newsUnstored}, 0)
		return limit
	}
	n := news{kind: newsStorable, variant: *v}
	select {
	case h.facts <- n.encode(&h.tier.sealer, h.key):
	default:
	}
	return limit
}

// Unshared tells those who wait that the response is not for them. lasting says that the next one
// will not be either, as far as can be told.
func (f *Fetch) Unshared(lasting bool) {
	if lasting {
		f.endLease(news{kind: newsAlone}, newsAloneStands)
		return
	}
	f.endLease(news{kind: newsUnstored}, 0)
}

// Failed tells those who wait that the origin has failed: it answered with a status, or had no
// answer, for which the status stands in.
func (f *Fetch) Failed(status int, answered bool, retryAfter string) {
	f.endLease(news{kind: newsFailed, status: status, answered: answered, retryAfter: retryAfter}, newsFailedStands)
}

// End ends the fetch. A lease that it still holds goes on for as long as the upload of its
// response, if Put has been given that.
func (f *Fetch) End() {
	if !f.handed {
		f.endLease(news{kind: newsUnstored}, 0)
	}
}

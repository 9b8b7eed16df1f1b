package fleet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

const (
	// invalidateAfter is how long invalidations gather, and invalidateLongest where they come
	// without a gap: each append is a record of the log, and the log has as many as its history.
	invalidateAfter   = 10 * time.Millisecond
	invalidateLongest = 500 * time.Millisecond
	// maxInvalidations and maxInvalidationBytes are how many selectors gather at most, and how long
	// their texts are together.
	maxInvalidations     = 10_000
	maxInvalidationBytes = 1 << 20
	// manyInvalidations and manyInvalidationBytes do not wait until invalidateLongest has passed.
	// Clients decide how many there are, and what is too much costs every node all that it has
	// stored. So only a server that takes no writes may have it come to that.
	manyInvalidations     = maxInvalidations / 8
	manyInvalidationBytes = maxInvalidationBytes / 8
)

// invalidations gather until they are in the log.
type invalidations struct {
	mu      sync.Mutex
	waiting gathered
	sending gathered // those that are being appended
	widened uint64
	some    chan struct{} // waits
	many    chan struct{} // and is to be sent at once
}

func newInvalidations() invalidations {
	return invalidations{some: make(chan struct{}, 1), many: make(chan struct{}, 1)}
}

// Invalidation is what an unsafe request invalidates.
type Invalidation struct {
	Purge
	// OfURLs are further tags, of responses whose URLs have the hosts of Purge.Selectors.URLs.
	OfURLs []string
}

// Invalidate purges every node as far as that is easy: batched, and it waits for no node. When it
// returns no response is judged to be unpurged on this node that began before, by what this node
// knows of the log. It is for unsafe requests (RFC 9111 4.4), so without a severity it is
// store.Invalid. The caller purges its own caches, and does so after it has called; see doc.go.
func (f *Fleet) Invalidate(in Invalidation) {
	in.Severity = cmp.Or(in.Severity, store.Invalid)
	q := &f.invalidations
	q.mu.Lock()
	defer q.mu.Unlock()
	view := f.view.Load()
	for _, p := range q.add(&in) { // the masks are to grow no more than what waits
		view.ahead(p)
	}
}

// ahead puts a purge among the masks that is not in the log yet, as if it were the next record.
// What is fetched from now on is masked too, until the purge has come back in the log.
func (v *view) ahead(p Purge) { v.masks.Add(uint64(v.tail+1), p.Selectors, p.Severity) }

// add has an invalidation wait, and returns what it has come to. The lock is held.
func (q *invalidations) add(in *Invalidation) []Purge {
	was := q.waiting.widened
	added := q.waiting.add(in)
	q.widened += q.waiting.widened - was
	signal(q.some)
	if len(q.waiting.of) >= manyInvalidations || q.waiting.bytes >= manyInvalidationBytes {
		signal(q.many)
	}
	return added
}

// take returns what has gathered. It counts as being sent until sent is called.
func (q *invalidations) take() []Purge {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sending, q.waiting = q.waiting, gathered{}
	return q.sending.purges()
}

// sent has what could not be appended wait again.
func (q *invalidations) sent(left []logRecord) {
	q.mu.Lock()
	defer q.mu.Unlock()
	was, sending := q.waiting.widened, q.sending
	q.sending = gathered{}
	for _, r := range left {
		var inForce union // already
		if r.Selectors.All {
			q.waiting.all = max(q.waiting.all, r.Severity)
		}
		for i, list := range lists(&r.Selectors) {
			for _, text := range *list {
				s := gatheredSelector{i, text}
				q.waiting.addOne(s, sending.of[s], &inForce)
			}
		}
		signal(q.some)
	}
	q.widened += q.waiting.widened - was
}

// unsent is all that is not known to be in the log. The lock is held.
func (q *invalidations) unsent() []Purge {
	return slices.Concat(q.sending.purges(), q.waiting.purges())
}

// size is how many selectors wait, and how many have been widened.
func (q *invalidations) size() (waiting int, widened uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting.of) + len(q.sending.of), q.widened
}

// invalidate appends what gathers, and tries again until it is in the log.
func (f *Fleet) invalidate() {
	pause := f.newBackoff()
	gather, last := invalidateAfter, f.clock()
	for {
		select {
		case <-f.invalidations.some:
		case <-f.ctx.Done():
		}
		if f.clock()-last > invalidateLongest {
			gather = invalidateAfter
		}
		pauseFor(f.ctx, gather, f.invalidations.many)
		if f.ctx.Err() != nil {
			_ = f.appendInvalidations(context.WithoutCancel(f.ctx)) // a last time
			return
		}
		if err := f.appendInvalidations(f.ctx); err != nil {
			pauseFor(f.ctx, pause.next(), nil)
			continue
		}
		pause.reset()
		gather, last = min(2*gather, invalidateLongest), f.clock()
	}
}

// appendInvalidations gives up at the first error: the server is away, and the rest waits.
func (f *Fleet) appendInvalidations(ctx context.Context) error {
	var records []logRecord
	for _, p := range f.invalidations.take() {
		record := logRecord{Purge: p, token: f.tokens.Add(1), who: f.id}
		records = append(records, record.split()...)
	}
	for i, r := range records {
		_, _, _, err := f.append(ctx, r.encode(f.options.Secret))
		if err != nil && !errors.Is(err, errReplicas) { // then it is in the log, and no caller waits
			f.invalidations.sent(records[i:])
			return err
		}
	}
	f.invalidations.sent(nil)
	return nil
}

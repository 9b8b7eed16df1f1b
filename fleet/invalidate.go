package fleet

import (
	"context"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

const (
	// invalidateAfter is how long invalidations gather.
	invalidateAfter = 10 * time.Millisecond
	// maxInvalidations is how many selectors gather at most, while the server does not answer.
	maxInvalidations = 10_000
)

// invalidations gather until they are appended.
type invalidations struct {
	mu      sync.Mutex
	waiting union
	count   int
	skipped uint64
	some    chan struct{}
}

func newInvalidations() invalidations { return invalidations{some: make(chan struct{}, 1)} }

// Invalidate purges every node as far as that is easy: batched, without an answer. It is for unsafe
// requests (RFC 9111 4.4), so without a severity it is store.Invalid. The caller has purged this
// node itself.
func (f *Fleet) Invalidate(p Purge) {
	if p.Severity == store.NotPurged {
		p.Severity = store.Invalid
	}
	f.invalidations.add(p)
}

func (q *invalidations) add(p Purge) {
	n := len(p.Selectors.Tags) + len(p.Selectors.URLs) + len(p.Selectors.Prefixes) + len(p.Selectors.Hosts)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.count+n > maxInvalidations {
		q.skipped += uint64(n)
		return
	}
	q.count += n
	q.waiting.add(p)
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// take returns what has gathered.
func (q *invalidations) take() []Purge {
	q.mu.Lock()
	defer q.mu.Unlock()
	purges := q.waiting.purges()
	q.waiting, q.count = union{}, 0
	return purges
}

func (q *invalidations) skip(p Purge) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, list := range lists(&p.Selectors) {
		q.skipped += uint64(len(*list))
	}
}

// invalidate appends what gathers.
func (f *Fleet) invalidate() {
	for {
		select {
		case <-f.invalidations.some:
		case <-f.ctx.Done():
		}
		f.sleep(invalidateAfter)
		if f.ctx.Err() != nil {
			f.appendInvalidations(context.WithoutCancel(f.ctx)) // a last time
			return
		}
		f.appendInvalidations(f.ctx)
	}
}

// appendInvalidations gives up at the first error: the server is away, and fetches go on.
func (f *Fleet) appendInvalidations(ctx context.Context) {
	var err error
	for _, p := range f.invalidations.take() {
		record := logRecord{Purge: p.distinct(), token: f.tokens.Add(1), who: f.id}
		for _, r := range record.split() {
			if err == nil {
				_, _, _, err = f.append(ctx, r.encode(f.options.Secret))
			}
			if err != nil {
				f.invalidations.skip(r.Purge)
			}
		}
	}
}

package warm

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what is tried again.
const (
	maxTries = 3
	// maxPause is the longest pause that is waited out. What asks for a longer one has failed.
	maxPause = 10 * time.Minute
)

// runner makes the requests of a plan.
type runner struct {
	plan     *plan
	variants []variant
	client   *client
	pacer    *pacer
	journal  *journal
	tally    *tally
}

// run makes all requests, some at a time, in the order of the plan. It returns early when ctx ends.
func (r *runner) run(ctx context.Context, workers int) {
	var next atomic.Int64
	var all sync.WaitGroup
	total := int64(len(r.plan.urls) * len(r.variants))
	for range min(int64(workers), total) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < total && ctx.Err() == nil; i = next.Add(1) - 1 {
				r.warm(ctx, r.plan.urls[i/int64(len(r.variants))], &r.variants[i%int64(len(r.variants))])
			}
		})
	}
	all.Wait()
}

// warm makes one request, again where the site asks to wait. What ends with ctx is not recorded.
func (r *runner) warm(ctx context.Context, url string, v *variant) {
	if r.journal.has(url, v) {
		r.tally.resumed()
		return
	}
	var a answer
	for try := 1; ; try++ {
		var err error
		if a, err = r.follow(ctx, url, v); err != nil || ctx.Err() != nil {
			return
		}
		rest := asksToWait(&a, time.Now())
		if rest == 0 || rest > maxPause || try == maxTries {
			break
		}
		r.pacer.pause(rest)
		r.tally.paused()
	}
	res := judge(&a)
	r.tally.add(url, v, res)
	if res.outcome != failed {
		r.journal.add(url, v)
	}
}

// follow makes a request and those that it is redirected to. The error is that of ctx.
func (r *runner) follow(ctx context.Context, url string, v *variant) (a answer, err error) {
	for hops := 0; ; hops++ {
		if err := r.pacer.wait(ctx); err != nil {
			return a, err
		}
		a = r.client.get(ctx, url, v.header)
		r.tally.received(a.bytes)
		target := r.redirect(url, &a)
		if target == "" || hops == maxRedirects {
			return a, nil
		}
		url = target
		r.tally.redirected()
	}
}

// redirect is where an answer leads on the same host. It is empty where that is planned anyway: the
// redirect itself is what is stored then, or not.
func (r *runner) redirect(url string, a *answer) string {
	if a.err != nil || !isRedirect(a.status) {
		return ""
	}
	target, err := resolve(url, a.header.Get("Location"))
	if err != nil || siteOf(target) != siteOf(url) || r.plan.has(target) {
		return ""
	}
	return target
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	lossEach      = 200   // requests of a kind, before and after
	lossMiss      = 100.0 // ms, of a miss above the usual until the breaker opens
	lossHits      = 1.1   // of hits by the usual: the same measured twice differs so much
	lossMostTries = 50    // misses until the breaker opens
	lossLate      = 3 * time.Second
)

// fleetLoss takes a node's Redis away while it answers hits and misses: once it is killed, so that
// nothing takes connections, and once it hangs, so that nothing answers.
func fleetLoss(ctx context.Context, b *bench, c *benchCase, r *report) error {
	hang := func(p *process) error { return p.halt() }
	kill := func(p *process) error { p.kill(); return nil }
	for _, loss := range []struct {
		name string
		do   func(*process) error
	}{{"killed", kill}, {"hanging", hang}} {
		first := len(b.running)
		found, err := b.lose(ctx, loss.do)
		b.stopFrom(first)
		if err != nil {
			return fmt.Errorf("%s: %w", loss.name, err)
		}
		if b.short && found.errors > 0 {
			return fmt.Errorf("%s: %d responses with a status of 500 or above", loss.name, found.errors)
		}
		if !b.short {
			found.report(c, r, loss.name)
		}
	}
	return nil
}

// lost is what the loss of Redis has done.
type lost struct {
	asked, errors int // requests, and those with a status of 500 or above

	misses, hits           []time.Duration // before
	closed                 []time.Duration // misses until the breaker has opened
	missesAfter, hitsAfter []time.Duration // within the fence
}

// lose measures around a loss, and goes on until the pass is over.
func (b *bench) lose(ctx context.Context, do func(*process) error) (*lost, error) {
	each, fence := lossEach, usualFence
	if b.short {
		each, fence = 20, 2*time.Second
	}
	n, err := b.serveNodes(ctx, 1, fence, true)
	if err != nil {
		return nil, err
	}
	crowd, err := gather(ctx, n.all[0], 1)
	if err != nil {
		return nil, err
	}
	defer crowd.leave()
	l := new(lost)
	client := visitor{crowd[0], l, 0}
	if _, err := client.hit(); err != nil {
		return nil, err
	}
	if err := client.both(each, &l.misses, &l.hits); err != nil {
		return nil, err
	}
	lostAt := time.Now()
	if err := do(n.redis.process); err != nil {
		return nil, err
	}
	defer n.redis.kill() // one that hangs would not end otherwise
	if err := client.untilOpen(ctx, n); err != nil {
		return nil, err
	}
	if err := client.both(each, &l.missesAfter, &l.hitsAfter); err != nil {
		return nil, err
	}
	if took := time.Since(lostAt); took > fence {
		return nil, fmt.Errorf("what was to be measured within the fence of %v has taken %v", fence, took)
	}
	for time.Since(lostAt) < fence+lossLate {
		if err := client.both(1, new([]time.Duration), new([]time.Duration)); err != nil {
			return nil, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return l, nil
}

// visitor sends the requests of a loss.
type visitor struct {
	member
	*lost
	next int // unused number of a URL
}

func (v *visitor) hit() (time.Duration, error) { return v.timed("/1024/hit") }

func (v *visitor) miss() (time.Duration, error) {
	v.next++
	return v.timed(fmt.Sprintf("/1024/miss%d", v.next))
}

func (v *visitor) timed(path string) (time.Duration, error) {
	got, took, err := v.visit(path)
	v.asked++
	if err == nil && got.status >= http.StatusInternalServerError {
		v.errors++
	}
	return took, err
}

// both sends as many misses as hits, in turn.
func (v *visitor) both(count int, misses, hits *[]time.Duration) error {
	for range count {
		miss, err := v.miss()
		if err != nil {
			return err
		}
		hit, err := v.hit()
		if err != nil {
			return err
		}
		*misses, *hits = append(*misses, miss), append(*hits, hit)
	}
	return nil
}

// untilOpen sends misses until the breaker has opened.
func (v *visitor) untilOpen(ctx context.Context, n *nodes) error {
	for range lossMostTries {
		miss, err := v.miss()
		if err != nil {
			return err
		}
		v.closed = append(v.closed, miss)
		st, err := n.stats(ctx, n.all[0])
		if err != nil {
			return err
		}
		if st.Shared.Breaker != "closed" {
			return nil
		}
	}
	return fmt.Errorf("the breaker has not opened after %d misses", lossMostTries)
}

// report tells what a loss has done.
func (l *lost) report(c *benchCase, r *report, name string) {
	of := func(what string) string { return name + ": " + what }
	before, _ := quantiles(l.misses)
	slowest := slices.Max(l.closed)
	after, after99 := quantiles(l.missesAfter)
	hits, hits99 := quantiles(l.hits)
	hitsAfter, hitsAfter99 := quantiles(l.hitsAfter)
	r.atMost(c, of(fmt.Sprintf("answers with a status of 500 or above, of %d until %v after the fence", l.asked, lossLate)), float64(l.errors), "", 0)
	r.note(c, of("misses until the breaker has opened"), float64(len(l.closed)), "")
	r.atMost(c, of("the slowest of these, above the usual p50"), milliseconds(slowest-before), "ms", lossMiss)
	r.note(c, of("misses' p50 before"), milliseconds(before), "ms")
	r.atMost(c, of("misses' p50 with the breaker open, above that before"), milliseconds(after-before), "ms", 0)
	r.note(c, of("misses' p99 with the breaker open"), milliseconds(after99), "ms")
	r.atMost(c, of("hits' p50 within the fence by that before"), float64(hitsAfter)/float64(hits), "", lossHits)
	r.note(c, of("hits' p50 before"), milliseconds(hits), "ms")
	r.note(c, of("hits' p99 before"), milliseconds(hits99), "ms")
	r.note(c, of("hits' p99 within the fence"), milliseconds(hitsAfter99), "ms")
}

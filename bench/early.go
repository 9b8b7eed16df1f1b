package main

import (
	"context"
	"fmt"
	"time"
)

const (
	earlyFewer = 10.0 // times as many wait without
	earlyLoad  = 1.15 // of the fetches without
	earlyBeta  = 3.0  // the one that is judged
	visitSeed  = 20261128
)

// early is what a site with some beta has cost its visitors and its origin.
type early struct {
	visitors, waited, fetches float64
	p99                       time.Duration
}

// refreshEarly has visitors ask for pages that end every few seconds at an origin that is slow: how
// many wait for it, and how often it is asked, with refresh_early and without. All see the same
// sequence.
func refreshEarly(ctx context.Context, b *bench, c *benchCase, r *report) error {
	v := visits{
		pages: 100, rate: 1000, path: "/1024/early%d?late=200,10",
		unseen: 10 * time.Second, length: time.Minute, seed: visitSeed,
	}
	if b.short {
		v.pages, v.rate, v.path, v.unseen, v.length = 10, 100, "/1024/early%d?late=20,1", time.Second, time.Second
	}
	var without early
	for _, beta := range []float64{0, 1, earlyBeta} {
		first := len(b.running)
		got, err := b.early(ctx, &v, beta)
		b.stopFrom(first)
		if err != nil {
			return fmt.Errorf("refresh_early %g: %w", beta, err)
		}
		if beta == 0 {
			without = got
		}
		if b.short {
			continue
		}
		got.report(c, r, beta, &without)
	}
	if !b.short {
		r.note(c, "seed of the visits", visitSeed, "")
	}
	return nil
}

// early sends the visits to a site.
func (b *bench) early(ctx context.Context, v *visits, beta float64) (got early, err error) {
	of := inMemory
	if beta > 0 {
		of.block = fmt.Sprintf("{\n\t\trefresh_early %g\n\t}", beta)
	}
	s, err := b.serve(ctx, of)
	if err != nil {
		return got, err
	}
	if err := v.fill(ctx, b, s); err != nil {
		return got, err
	}
	began := make(chan int64, 1)
	timer := time.AfterFunc(v.unseen, func() {
		n, _ := b.fetches(ctx)
		began <- n
	})
	defer timer.Stop()
	seen, err := v.send(ctx, s)
	if err != nil {
		return got, err
	}
	ended, err := b.settledFetches(ctx)
	if err != nil {
		return got, err
	}
	if seen.failed > 0 {
		return got, fmt.Errorf("%d answers with a status of 500 or above", seen.failed)
	}
	got = early{visitors: float64(len(seen.took)), waited: float64(seen.waited), fetches: float64(ended - <-began)}
	_, got.p99 = quantiles(seen.took)
	return got, nil
}

// report tells what a beta has given.
func (e *early) report(c *benchCase, r *report, beta float64, without *early) {
	name := fmt.Sprintf("refresh_early %g", beta)
	if beta == 0 {
		name = "off"
	}
	of := func(what string) string { return name + ": " + what }
	r.note(c, of(fmt.Sprintf("visitors who wait for the origin, of %.0f", e.visitors)), e.waited, "")
	r.note(c, of("99th percentile of a visit"), milliseconds(e.p99), "ms")
	r.note(c, of("fetches"), e.fetches, "")
	fewer, load := without.waited/max(e.waited, 1), e.fetches/without.fetches
	const fewerWhat, loadWhat = "those who wait without it by those who do", "fetches by those without it"
	switch beta {
	case 0:
	case earlyBeta:
		r.atLeast(c, of(fewerWhat), fewer, "", earlyFewer)
		r.atMost(c, of(loadWhat), load, "", earlyLoad)
	default:
		r.note(c, of(fewerWhat), fewer, "")
		r.atMost(c, of(loadWhat), load, "", earlyLoad)
	}
}

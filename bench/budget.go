package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	budgetPlaces = 10
	budgetMisses = 1000
	budgetTurns  = 3
	budgetRate   = 0.95 // of what so many connections give
	outageP99    = 2.0  // of a hit's
)

// originBudget sends many misses for different pages at once to a site whose origin takes ten at a
// time, in turn with as many misses on ten connections to a site without that limit.
func originBudget(ctx context.Context, b *bench, c *benchCase, r *report) error {
	misses, turns := budgetMisses, budgetTurns
	if b.short {
		misses, turns = misses/10, 1
	}
	limited := inMemory
	limited.block = fmt.Sprintf("{\n\t\torigin {\n\t\t\tmax_concurrent %d\n\t\t\tqueue %d 1m\n\t\t}\n\t}", budgetPlaces, misses)
	in, err := b.serve(ctx, limited)
	if err != nil {
		return err
	}
	without, err := b.serve(ctx, inMemory)
	if err != nil {
		return err
	}
	var most int64
	var ratios, took []float64
	for i := range turns {
		usual, _, err := b.missTogether(ctx, without, fmt.Sprintf("few%d", i), misses, budgetPlaces)
		if err != nil {
			return err
		}
		all, at, err := b.missTogether(ctx, in, fmt.Sprintf("many%d", i), misses, misses)
		if err != nil {
			return err
		}
		ratios, took, most = append(ratios, float64(usual)/float64(all)), append(took, milliseconds(all)), max(most, at)
	}
	if most > budgetPlaces {
		return fmt.Errorf("the origin has seen %d requests at once, and takes %d", most, budgetPlaces)
	}
	if b.short {
		return nil
	}
	r.atMost(c, fmt.Sprintf("most requests under way at the origin, of %d misses at once", misses), float64(most), "", budgetPlaces)
	r.atLeast(c, fmt.Sprintf("misses a second by those of %d connections, median of %d turns", budgetPlaces, turns), median(ratios), "", budgetRate)
	r.note(c, "all answered after, median", median(took), "ms")
	return nil
}

// missTogether has so many clients ask for pages that are not stored, each for its part of count.
// It returns how long all took together, and how many were under way at the origin at most.
func (b *bench) missTogether(ctx context.Context, s *subject, name string, count, clients int) (took time.Duration, most int64, err error) {
	crowd, err := gather(ctx, s, clients)
	if err != nil {
		return 0, 0, err
	}
	defer crowd.leave()
	if _, err := b.askOrigin(ctx, "/most"); err != nil { // from now on
		return 0, 0, err
	}
	errs := make([]error, clients)
	var all sync.WaitGroup
	begun := time.Now()
	for i, m := range crowd {
		all.Go(func() {
			for n := i; n < count && errs[i] == nil; n += clients {
				got, _, err := m.visit(fmt.Sprintf("/1024/%s-%d?late=50,3600", name, n))
				if err == nil && got.status != 200 {
					err = fmt.Errorf("status %d (%s)", got.status, got.cacheStatus)
				}
				errs[i] = err
			}
		})
	}
	all.Wait()
	took = time.Since(begun)
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return 0, 0, errs[i]
	}
	most, err = b.askOrigin(ctx, "/most")
	return took, most, err
}

// outage has visitors ask for pages that have ended while the origin does not answer: once nothing
// listens there, and once it hangs. Beside them others ask for pages that are fresh. Both are
// measured at the same time, because a 99th percentile is the machine's as much as the server's.
func outage(ctx context.Context, b *bench, c *benchCase, r *report) error {
	hang := func(p *process) error { return p.halt() }
	kill := func(p *process) error { p.kill(); return nil }
	for _, out := range []struct {
		name string
		do   func(*process) error
	}{{"killed", kill}, {"hanging", hang}} {
		first := len(b.running)
		fresh, ended, err := b.outage(ctx, out.name, out.do)
		b.stopFrom(first)
		if err != nil {
			return fmt.Errorf("%s: %w", out.name, err)
		}
		if b.short {
			continue
		}
		var ratios []float64
		for i := range ended.parts {
			_, one := quantiles(ended.parts[i])
			_, other := quantiles(fresh.parts[i])
			ratios = append(ratios, float64(one)/float64(other))
		}
		_, hit := quantiles(fresh.took)
		half, most := quantiles(ended.took)
		r.note(c, out.name+": median of a visit to what has ended", milliseconds(half), "ms")
		r.note(c, out.name+": its p99", milliseconds(most), "ms")
		r.note(c, out.name+": p99 of hits meanwhile", milliseconds(hit), "ms")
		r.atMost(c, fmt.Sprintf("%s: the one by the other, median of %d parts", out.name, visitParts), median(ratios), "", outageP99)
	}
	return nil
}

// outage stores pages, has half of them end, takes the origin away and sends visitors to both. What
// counts begins when the first have found out.
func (b *bench) outage(ctx context.Context, name string, do func(*process) error) (fresh, ended *seen, err error) {
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	origin, err := b.startOrigin(ctx, "origin-"+name, address)
	if err != nil {
		return nil, nil, err
	}
	defer origin.kill() // one that hangs would not end otherwise
	of := inMemory
	of.origin, of.patience = address, time.Second
	of.block = "{\n\t\tstale_if_error 1h\n\t}"
	s, err := b.serve(ctx, of)
	if err != nil {
		return nil, nil, err
	}
	hits := visits{pages: 100, rate: 100, path: "/1024/fresh%d?late=0,3600", length: 40 * time.Second, unseen: 2 * of.patience, seed: visitSeed}
	if b.short {
		hits.pages, hits.rate, hits.length = 10, 100, time.Second
	}
	stale := hits
	stale.path = "/1024/ended%d?late=0,1" // at the same moments, so that both meet the same machine
	for _, v := range []*visits{&hits, &stale} {
		if err := v.fill(ctx, b, s); err != nil {
			return nil, nil, err
		}
	}
	time.Sleep(2 * time.Second) // until they have ended
	if err := do(origin); err != nil {
		return nil, nil, err
	}
	var errs [2]error
	var both sync.WaitGroup
	both.Go(func() { fresh, errs[0] = hits.send(ctx, s) })
	both.Go(func() { ended, errs[1] = stale.send(ctx, s) })
	both.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, nil, err
	}
	if fresh.waited > 0 || ended.failed > 0 || ended.stale < len(ended.took) {
		return nil, nil, fmt.Errorf("%d of %d hits were none; of %d visitors to what has ended %d have got it, and %d a failure",
			fresh.waited, len(fresh.took), len(ended.took), ended.stale, ended.failed)
	}
	return fresh, ended, nil
}

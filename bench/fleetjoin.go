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
	joinPurges    = 100_000
	joinLimit     = 1000.0 // ms
	joinRSS       = 30.0   // MiB
	joinPurgersAt = 16     // at once, to fill the log
)

// fleetJoin starts a node of a fleet with a long log, and of one with an empty log, in turn.
func fleetJoin(ctx context.Context, b *bench, c *benchCase, r *report) error {
	purges, rounds, fence := joinPurges, b.rounds, usualFence
	if b.short {
		purges, rounds, fence = 500, 1, time.Second
	}
	n, err := b.serveSettled(ctx, 1, fence)
	if err != nil {
		return err
	}
	if err := n.purgeMany(ctx, purges); err != nil {
		return err
	}
	late, alone := n.node(1, true), n.node(1, true)
	alone.shared = n.redis.block("empty", n.fence)
	var long, empty []joined
	for range rounds {
		for of, into := range map[*subjectOf]*[]joined{&late: &long, &alone: &empty} {
			j, err := b.join(ctx, *of)
			if err != nil {
				return err
			}
			*into = append(*into, j)
		}
	}
	for _, j := range long {
		if j.masks < purges {
			return fmt.Errorf("a node that has joined knows of %d purges, want %d", j.masks, purges)
		}
	}
	if err := b.profileJoin(ctx, c, late); err != nil || b.short {
		return err
	}
	reportJoins(r, c, long, empty)
	return nil
}

// reportJoins reports how nodes joined with a long log, and with an empty one.
func reportJoins(r *report, c *benchCase, long, empty []joined) {
	each := func(all []joined, value func(joined) float64) (values []float64) {
		for _, j := range all {
			values = append(values, value(j))
		}
		return values
	}
	passed := func(j joined) float64 { return milliseconds(j.passed) }
	busy := func(j joined) float64 { return milliseconds(j.busy) }
	most := func(j joined) float64 { return float64(j.most) / mib }
	settled := func(j joined) float64 { return float64(j.settled) / mib }
	what := fmt.Sprintf("median of %d", len(long))
	r.atMost(c, "pass held after the process began, "+what, median(each(long, passed)), "ms", joinLimit)
	r.note(c, "the same, longest", slices.Max(each(long, passed)), "ms")
	r.note(c, "the same with an empty log, "+what, median(each(empty, passed)), "ms")
	r.note(c, "processor time until the pass, above that with an empty log", median(each(long, busy))-median(each(empty, busy)), "ms")
	r.atMost(c, "most RssAnon until a second later, above that with an empty log, "+what,
		median(each(long, most))-median(each(empty, most)), "MiB", joinRSS)
	r.note(c, "the same after a collection", median(each(long, settled))-median(each(empty, settled)), "MiB")
}

// joined is how a node has come to its fleet.
type joined struct {
	passed, busy  time.Duration // until it had a pass, since the process began, and on a processor
	most, settled int64         // RssAnon
	masks         int
}

// join starts a node, and stops it when it has been in its fleet for a while.
func (b *bench) join(ctx context.Context, of subjectOf) (j joined, err error) {
	first := len(b.running)
	defer func() { b.stopFrom(first) }()
	s, err := b.place(of)
	if err != nil {
		return j, err
	}
	start := time.Now()
	if err := b.launch(s); err != nil {
		return j, err
	}
	stop, peak := make(chan struct{}), make(chan int64, 1)
	go func() { peak <- s.process.watchRSS(stop) }()
	err = b.awaitUp(ctx, s)
	j.passed, j.busy = time.Since(start), s.process.cpu()
	if err == nil {
		time.Sleep(time.Second) // what was applied is counted then
	}
	close(stop)
	if j.most = <-peak; err != nil {
		return j, err
	}
	st, err := b.stats(ctx, s)
	if err != nil {
		return j, err
	}
	j.masks = st.Shared.Masks
	j.settled, err = b.settledRSS(ctx, s)
	return j, err
}

// profileJoin takes a CPU profile of one more node from when it begins.
func (b *bench) profileJoin(ctx context.Context, c *benchCase, of subjectOf) error {
	if b.profiles == "" {
		return nil
	}
	s, err := b.place(of)
	if err != nil {
		return err
	}
	if err := b.launch(s); err != nil {
		return err
	}
	const joining = 2 * time.Second
	return errors.Join(b.takeProfile(ctx, s, c.name+"-"+s.name, joining), b.awaitUp(ctx, s))
}

// purgeMany purges that many tags by the first node.
func (n *nodes) purgeMany(ctx context.Context, count int) error {
	var purging sync.WaitGroup
	errs := make([]error, joinPurgersAt)
	for worker := range joinPurgersAt {
		purging.Go(func() {
			for i := worker; i < count && errs[worker] == nil; i += joinPurgersAt {
				_, errs[worker] = n.purgeFrom(ctx, n.all[0], fmt.Sprintf(`{"tags":["product-%d"]}`, i))
			}
		})
	}
	purging.Wait()
	return errors.Join(errs...)
}

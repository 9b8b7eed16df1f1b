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
	purgeNodes     = 5
	fleetPurgeSize = 200
	inForceLimit   = 20.0 // ms
	answeredLimit  = 50.0 // ms
	// watchEvery is how often each node is asked for what is being purged: the precision of the
	// moment from which a purge is in force.
	watchEvery = 2 * time.Millisecond

	crashFence = 2 * time.Second
	crashSlack = 100 * time.Millisecond
	crashLater = 20 // purges after the one that waits
)

// purgedPath is what is purged again and again.
const purgedPath = "/1024/purged?serial=purged"

// fleetPurges purges a response that every node has, and watches when the last one stops to answer
// with it.
func fleetPurges(ctx context.Context, b *bench, c *benchCase, r *report) error {
	count, rounds, purges, fence := purgeNodes, b.rounds, fleetPurgeSize, usualFence
	if b.short {
		count, rounds, purges, fence = 3, 1, 5, time.Second
	}
	n, err := b.serveSettled(ctx, count, fence)
	if err != nil {
		return err
	}
	var inForce, answered latencies
	for range rounds {
		if err := n.watchedPurges(ctx, purges, &inForce, &answered); err != nil {
			return err
		}
	}
	if b.short {
		return nil
	}
	of := fmt.Sprintf(", median of %d rounds of %d", rounds, purges)
	r.note(c, "last older answer of any node after the purge was sent, p50"+of, median(inForce.p50), "ms")
	r.atMost(c, "the same, p99"+of, median(inForce.p99), "ms", inForceLimit)
	r.note(c, "the same, p99 of the slowest round", slices.Max(inForce.p99), "ms")
	r.note(c, "purge answered, p50"+of, median(answered.p50), "ms")
	r.atMost(c, "the same, p99"+of, median(answered.p99), "ms", answeredLimit)
	return nil
}

// watchedPurges adds a round of purges, by each node in its turn.
func (n *nodes) watchedPurges(ctx context.Context, purges int, inForce, answered *latencies) error {
	force, answer := make([]time.Duration, purges), make([]time.Duration, purges)
	for i := range purges {
		var err error
		if force[i], answer[i], err = n.watchedPurge(ctx, n.all[i%len(n.all)]); err != nil {
			return fmt.Errorf("purge %d: %w", i+1, err)
		}
	}
	inForce.add(quantiles(force))
	answered.add(quantiles(answer))
	return nil
}

// watchedPurge purges by one node while all are asked for what is purged. inForce is when the last
// older answer came, answered when the purge was answered, both since it was sent.
func (n *nodes) watchedPurge(ctx context.Context, by *subject) (inForce, answered time.Duration, err error) {
	serial, err := n.storeEverywhere(ctx)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var watching sync.WaitGroup
	last, errs := make([]time.Time, len(n.all)), make([]error, len(n.all))
	for i, s := range n.all {
		watching.Go(func() { last[i], errs[i] = n.lastOld(ctx, s, serial) })
	}
	time.Sleep(2 * watchEvery)
	sent := time.Now()
	a, err := n.purgeFrom(ctx, by, `{"tags":["purged"]}`)
	if err == nil {
		err = n.holdsEverywhere(ctx, serial)
	}
	if err != nil {
		cancel()
	}
	watching.Wait()
	if err := errors.Join(errors.Join(errs...), err); err != nil {
		return 0, 0, err
	}
	if a.Nodes != len(n.all) {
		return 0, 0, fmt.Errorf("the purge holds on %d nodes, want %d", a.Nodes, len(n.all))
	}
	return max(0, slices.MaxFunc(last, time.Time.Compare).Sub(sent)), a.took, nil
}

// storeEverywhere asks until all nodes answer from what they have. It returns the greatest number
// of that: nodes that were in a hurry have fetched for themselves.
func (n *nodes) storeEverywhere(ctx context.Context) (serial int64, err error) {
	const tries = 100
	for range tries {
		hits := 0
		for _, s := range n.all {
			a, err := n.ask(ctx, s, purgedPath)
			if err != nil {
				return 0, err
			}
			got, err := serialOf(a)
			if err != nil {
				return 0, err
			}
			if serial = max(serial, got); isHit(a) {
				hits++
			}
		}
		if hits == len(n.all) {
			return serial, nil
		}
	}
	return 0, fmt.Errorf("not all nodes answer from what they have after %d tries", tries)
}

// lastOld asks a node until it answers with something newer than serial. It returns when the last
// other answer came.
func (n *nodes) lastOld(ctx context.Context, s *subject, serial int64) (last time.Time, err error) {
	for {
		a, err := n.ask(ctx, s, purgedPath)
		if err != nil {
			return last, err
		}
		got, err := serialOf(a)
		if err != nil || got > serial {
			return last, err
		}
		last = time.Now()
		time.Sleep(watchEvery)
	}
}

// holdsEverywhere is the promise: what is asked for after the answer is newer than serial.
func (n *nodes) holdsEverywhere(ctx context.Context, serial int64) error {
	for _, s := range n.all {
		a, err := n.ask(ctx, s, purgedPath)
		if err != nil {
			return err
		}
		if got, err := serialOf(a); err != nil || got <= serial {
			return errors.Join(err, fmt.Errorf("%s answers with %d after the purge of %d was answered", s.address, got, serial))
		}
	}
	return nil
}

// fleetCrash kills a node and purges by another, several times.
func fleetCrash(ctx context.Context, b *bench, c *benchCase, r *report) error {
	count, rounds, fence := purgeNodes, b.rounds, crashFence
	if b.short {
		count, rounds, fence = 3, 1, time.Second
	}
	n, err := b.serveSettled(ctx, count, fence)
	if err != nil {
		return err
	}
	var next, later []time.Duration
	for round := range rounds {
		crashed := n.all[1+round%(count-1)]
		crashed.process.kill()
		took, err := n.purgeWithout(ctx, 1)
		if err != nil {
			return err
		}
		next = append(next, took)
		for range crashLater {
			took, err := n.purgeWithout(ctx, 0)
			if err != nil {
				return err
			}
			later = append(later, took)
		}
		if err := b.run(ctx, crashed); err != nil {
			return err
		}
	}
	if b.short {
		return nil
	}
	r.atMost(c, fmt.Sprintf("the next purge, longest of %d", rounds), milliseconds(slices.Max(next)), "ms", milliseconds(fence+fence/20+crashSlack))
	r.note(c, "the same, shortest", milliseconds(slices.Min(next)), "ms")
	p50, p99 := quantiles(later)
	r.note(c, fmt.Sprintf("later purges, median of %d", len(later)), milliseconds(p50), "ms")
	r.atMost(c, "the same, p99", milliseconds(p99), "ms", answeredLimit)
	return nil
}

// purgeWithout purges by the first node. So many others have to be waited out.
func (n *nodes) purgeWithout(ctx context.Context, fenced int) (time.Duration, error) {
	a, err := n.purgeFrom(ctx, n.all[0], `{"tags":["purged"]}`)
	if err == nil && (len(a.Fenced) != fenced || a.Nodes != len(n.all)-1) {
		err = fmt.Errorf("a purge holds on %d nodes, and has waited for %v: want %d, and %d waited for", a.Nodes, a.Fenced, len(n.all)-1, fenced)
	}
	return a.took, err
}

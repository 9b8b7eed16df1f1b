package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// usualFence is Larder's default.
const usualFence = 10 * time.Second

const (
	sharedSize     = kib
	sharedEach     = 1000 // requests a round
	sharedP50Limit = 0.5  // ms
	sharedP99Limit = 5.0  // ms
	// sharedLate of the look-ups may take longer than Larder waits for one: the machine does other
	// things. They count with what they took.
	sharedLate = 0.005
)

// fleetHit compares hits of a node with those of a server that is alone.
func fleetHit(ctx context.Context, b *bench, c *benchCase, r *report) error {
	redis, err := b.startRedis(ctx, generatorCore)
	if err != nil {
		return err
	}
	node := inMemory
	node.name, node.shared = "larder in a fleet", redis.block("larder", usualFence)
	return throughput{
		reference: inMemory.name, target: fleetTarget,
		subjects: []subjectOf{inMemory, node},
		load:     load{conns: wrkConns, path: "/1024/hit"},
		hit:      true,
		unasked:  true,
	}.run(ctx, b, c, r)
}

// fleetShared has one node store and another find, each response once. Beside it, on a connection
// each in turn: hits in the second node's memory, and plain GETs of Redis.
func fleetShared(ctx context.Context, b *bench, c *benchCase, r *report) error {
	rounds, each := b.rounds, sharedEach
	if b.short {
		rounds, each = 1, 50
	}
	n, err := b.serveNodes(ctx, 2, usualFence, true)
	if err != nil {
		return err
	}
	if err := n.upload(ctx, fmt.Sprintf("/%d/shared%%d", sharedSize), rounds*each); err != nil {
		return err
	}
	crowd, err := gather(ctx, n.all[1], 1)
	if err != nil {
		return err
	}
	defer crowd.leave()
	before, err := b.fetches(ctx)
	if err != nil {
		return err
	}
	var shared, local, redis latencies
	for round := range rounds {
		for _, into := range []*latencies{&shared, &local} { // what was shared is local then
			if err := into.visits(crowd[0], fmt.Sprintf("/%d/shared%%d", sharedSize), round*each, each); err != nil {
				return err
			}
		}
		p50, p99, err := b.benchmarkGet(ctx, n.redis, sharedSize, each)
		if err != nil {
			return err
		}
		redis.add(p50, p99)
	}
	after, err := b.fetches(ctx)
	if err != nil {
		return err
	}
	late := float64(after-before) / float64(rounds*each)
	if late > sharedLate {
		return fmt.Errorf("%d of %d shared hits were none: the origin was asked", after-before, rounds*each)
	}
	if b.short {
		return nil
	}
	r.note(c, "look-ups of all that took longer than 100 ms, and were misses", late, "")
	reportShared(r, c, rounds, each, &shared, &local, &redis)
	return nil
}

// reportShared reports shared hits, and what they are held against.
func reportShared(r *report, c *benchCase, rounds, each int, shared, local, redis *latencies) {
	what := fmt.Sprintf("shared hit, %%s, median of %d rounds of %d", rounds, each)
	r.atMost(c, fmt.Sprintf(what, "p50"), median(shared.p50), "ms", sharedP50Limit)
	r.atMost(c, fmt.Sprintf(what, "p99"), median(shared.p99), "ms", sharedP99Limit)
	r.note(c, "hit in the node's own memory, p50 by the same client", median(local.p50), "ms")
	r.note(c, "the same, p99", median(local.p99), "ms")
	r.note(c, "plain GET of 1 KiB by redis-benchmark, p50", median(redis.p50), "ms")
	r.note(c, "the same, p99", median(redis.p99), "ms")
}

// upload stores count numbered URLs of path by the first node, and waits until all are shared.
func (n *nodes) upload(ctx context.Context, path string, count int) error {
	const batch = 500 // the queue of uploads is bounded
	for from := 0; from < count; from += batch {
		for i := from; i < min(from+batch, count); i++ {
			if _, err := n.ask(ctx, n.all[0], fmt.Sprintf(path, i)); err != nil {
				return err
			}
		}
		st, err := n.poll(ctx, n.all[0], func(st cacheStats) bool { return st.Shared.UploadBytes == 0 })
		if err != nil || st.Shared.Skipped > 0 {
			return errors.Join(err, fmt.Errorf("%d responses were not uploaded", st.Shared.Skipped))
		}
	}
	return nil
}

// latencies are the quantiles of rounds, in milliseconds.
type latencies struct{ p50, p99 []float64 }

func (l *latencies) add(p50, p99 time.Duration) {
	l.p50, l.p99 = append(l.p50, milliseconds(p50)), append(l.p99, milliseconds(p99))
}

// visits adds a round of count requests, one after the other, for numbered URLs of path.
func (l *latencies) visits(m member, path string, from, count int) error {
	took := make([]time.Duration, count)
	for i := range took {
		path := fmt.Sprintf(path, from+i)
		got, one, err := m.visit(path)
		if err != nil || got.status != 200 || got.size != wantSize(path) {
			return errors.Join(err, fmt.Errorf("%s: status %d with %d bytes", path, got.status, got.size))
		}
		took[i] = one
	}
	l.add(quantiles(took))
	return nil
}

package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	coldNodes = 10
	coldEach  = 100
	coldLimit = 50.0 // ms, of the last first byte behind the holder's last byte
)

// fleetCold sends a herd to all nodes at the same time, several times.
func fleetCold(ctx context.Context, b *bench, c *benchCase, r *report) error {
	count, each, herds := coldNodes, coldEach, herdCount
	if b.short {
		count, each, herds = 3, 10, 1
	}
	n, err := b.serveNodes(ctx, count, usualFence, false)
	if err != nil {
		return err
	}
	var all crowd
	defer func() { all.leave() }()
	for _, s := range n.all {
		some, err := gather(ctx, s, each)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	if _, err := all.stampede(fmt.Sprintf("/%d/open?slow", herdBody)); err != nil {
		return err
	}
	lags, most := make([]float64, herds), int64(0)
	busy := n.cpu()
	for i := range lags {
		lag, fetches, err := b.coldOnce(ctx, all, fmt.Sprintf("/%d/cold%d?slow", herdBody, i))
		if err != nil {
			return err
		}
		lags[i], most = milliseconds(lag), max(most, fetches)
	}
	busy = n.cpu() - busy
	if b.short {
		if most != 1 {
			return fmt.Errorf("%d fetches for all nodes, want 1", most)
		}
		return nil
	}
	r.atMost(c, fmt.Sprintf("most fetches, of %d herds", herds), float64(most), "", 1)
	what := fmt.Sprintf("last first byte of all %d behind the last byte of the first", count*each)
	r.atMost(c, what+", median", median(lags), "ms", coldLimit)
	r.note(c, what+", longest", slices.Max(lags), "ms")
	r.note(c, "processor time of all nodes and Redis for a herd", milliseconds(busy)/float64(herds), "ms")
	return nil
}

// coldOnce sends a herd after a cold URL and returns how far its last first byte came behind the
// last byte of the client whose request was fetched for, and how often the origin was asked.
func (b *bench) coldOnce(ctx context.Context, all crowd, path string) (lag time.Duration, fetches int64, err error) {
	before, err := b.fetches(ctx)
	if err != nil {
		return 0, 0, err
	}
	arrivals, err := all.stampede(path)
	if err != nil {
		return 0, 0, err
	}
	after, err := b.settledFetches(ctx)
	if err != nil {
		return 0, 0, err
	}
	return behindHolder(arrivals), after - before, nil
}

// behindHolder is how far the last first byte came behind the last byte of the first leader: the
// lease's holder if there was one fetch.
func behindHolder(arrivals []arrival) time.Duration {
	var holder, last time.Duration
	for _, a := range arrivals {
		last = max(last, a.first)
		if !a.follower && (holder == 0 || a.last < holder) {
			holder = a.last
		}
	}
	return last - holder
}

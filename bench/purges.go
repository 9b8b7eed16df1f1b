package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const (
	purgeEntries = 100_000
	purgeLimit   = 20.0 // ms
	busyLimit    = 50.0 // ms, beside misses
	purgeP99     = 1.5  // by the normal p99
	purgeTimes   = 5
	busyPurges   = 200 // while the writer is busy
	busyEvery    = 20 * time.Millisecond
)

// purgeTag purges one tag with many entries, several times, while hits on another URL go on. What
// the hits suffer is told by their p99 in the second of a purge, by that of a second just before:
// medians over the times.
func purgeTag(ctx context.Context, b *bench, c *benchCase, r *report) error {
	n, times := purgeEntries, purgeTimes
	if b.short {
		n, times = n/100, 1
	}
	s, err := b.serve(ctx, subjectOf{name: "larder+disk", kind: larderKind, memory: "512MiB", disk: true})
	if err != nil {
		return err
	}
	if _, err := b.warm(ctx, s, s.h1+"/1024/other"); err != nil {
		return err
	}
	var took, normal, during, factor []float64
	for i := range times {
		p, err := b.purgeOnce(ctx, s, fmt.Sprintf("many%d", i), n)
		if err != nil {
			return fmt.Errorf("purge %d: %w", i+1, err)
		}
		took = append(took, milliseconds(p.took))
		normal = append(normal, milliseconds(p.before.p99))
		during = append(during, milliseconds(p.during.p99))
		factor = append(factor, float64(p.during.p99)/float64(max(p.before.p99, time.Microsecond)))
	}
	if b.short {
		return nil
	}
	r.atMost(c, fmt.Sprintf("purge of %d entries answered after, median of %d", n, times), median(took), "ms", purgeLimit)
	r.atMost(c, "hits' p99 in the second of the purge by that of the second before, median", median(factor), "", purgeP99)
	r.note(c, "hits' p99 in the second before, median", median(normal), "ms")
	r.note(c, "hits' p99 in the second of the purge, median", median(during), "ms")
	return nil
}

// purged is one purge and the hits about it.
type purged struct {
	took           time.Duration
	before, during turn
}

// purgeOnce fills a tag and purges it at the beginning of a turn of hits. A turn is a second: the
// generator makes tens of thousands of requests in it, hundreds of which are behind the p99.
func (b *bench) purgeOnce(ctx context.Context, s *subject, tag string, n int) (p purged, err error) {
	had, err := b.stats(ctx, s)
	if err != nil {
		return p, err
	}
	path := "/1024/" + tag + "-%d?tag=" + tag
	if err := b.fillMany(ctx, s, path, n); err != nil {
		return p, err
	}
	quiet := func(st cacheStats) bool { return st.Queue == 0 && st.Pending == 0 }
	if _, err := b.poll(ctx, s, func(st cacheStats) bool { return quiet(st) && st.Disk.Entries >= had.Disk.Entries+int64(n) }); err != nil {
		return p, err
	}
	hits := load{conns: 8, path: "/1024/other"}
	if p.before, err = b.generate(ctx, s.h1, hits, time.Second); err != nil {
		return p, err
	}
	var matched int
	answered := make(chan error, 1)
	go func() {
		time.Sleep(100 * time.Millisecond) // the generator has its connections by then
		var err error
		p.took, matched, err = b.purge(ctx, s, fmt.Sprintf(`{"tags":[%q]}`, tag))
		answered <- err
	}()
	p.during, err = b.generate(ctx, s.h1, hits, time.Second)
	if err := errors.Join(err, <-answered); err != nil {
		return p, err
	}
	if matched != n {
		return p, fmt.Errorf("matched %d entries, want %d", matched, n)
	}
	if got, err := b.request(ctx, http.MethodGet, s.h1+fmt.Sprintf(path, n/2)); err != nil || isHit(got) {
		return p, fmt.Errorf("after the purge: Cache-Status %q, error %w", got.cacheStatus, err)
	}
	_, err = b.poll(ctx, s, quiet) // swept, before the next begins
	return p, err
}

// purgeSaturated purges small tags, one after the other, while misses come as fast as they can and
// the disk's writer is never idle.
func purgeSaturated(ctx context.Context, b *bench, c *benchCase, r *report) error {
	n := busyPurges
	if b.short {
		n = 5
	}
	s, err := b.serve(ctx, onDisk)
	if err != nil {
		return err
	}
	loaded := make(chan error, 1)
	go func() {
		misses := load{conns: wrkConns, path: "/1024/busy%d?tags=2"}
		_, err := b.generate(ctx, s.h1, misses, time.Duration(n)*2*busyEvery)
		loaded <- err
	}()
	var took []time.Duration
	var busy int
	for i := range n {
		time.Sleep(busyEvery)
		one, _, err := b.purge(ctx, s, fmt.Sprintf(`{"tags":["tag-%d"]}`, i))
		if err != nil {
			return errors.Join(err, <-loaded)
		}
		took = append(took, one)
		if st, err := b.stats(ctx, s); err == nil && st.Queue > 0 {
			busy++
		}
	}
	if err := <-loaded; err != nil {
		return err
	}
	if b.short {
		return nil
	}
	p50, p99 := quantiles(took)
	r.note(c, "purges with something waiting for the disk, of all", float64(busy)/float64(n), "")
	r.atMost(c, "purge answered after, median", milliseconds(p50), "ms", busyLimit)
	r.note(c, "purge answered after, 99th percentile", milliseconds(p99), "ms")
	r.note(c, "purge answered after, longest", milliseconds(slices.Max(took)), "ms")
	return nil
}

// purge posts body to the admin API.
func (b *bench) purge(ctx context.Context, s *subject, body string) (took time.Duration, matched int, err error) {
	a, err := b.purgeFrom(ctx, s, body)
	if err != nil {
		return 0, 0, err
	}
	return a.took, *a.Matched, nil
}

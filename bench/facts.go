package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The cases that are no race: each gives numbers that stand for themselves.

const (
	herdSize      = 1000
	herdBody      = 64 * kib
	herdCount     = 5
	herdLimit     = 50.0 // ms, of a follower's first byte behind the leader's
	memoryObjects = 200_000
	memoryPer     = 1.6 // KiB of RssAnon for an object of 1 KiB
	churnBudget   = 128 * mib
	churnFactor   = 1.3
	restartLimit  = 1000.0 // ms
	restartRSS    = 100.0  // MiB of RssAnon at the first hit
	tagObjects    = 50_000
	tagsEach      = 20
)

// arrival is one request of the herd.
type arrival struct {
	first, last time.Duration // since all set off
	follower    bool
	err         error
}

// herd sends many requests for one cold URL at the same time, and again for others.
func herd(ctx context.Context, b *bench, c *benchCase, r *report) error {
	s, err := b.serve(ctx, inMemory)
	if err != nil {
		return err
	}
	size := herdSize
	if b.short {
		size /= 10
	}
	// Connections are opened before, and what they cost is part of the base.
	if _, err := b.stampede(ctx, s, fmt.Sprintf("/%d/open?slow", herdBody), size); err != nil {
		return err
	}
	base, err := b.settledRSS(ctx, s)
	if err != nil {
		return err
	}
	herds := herdCount
	if b.short {
		herds = 1
	}
	lags, most := make([]float64, herds), int64(0)
	for i := range lags {
		lag, fetches, err := b.oneHerd(ctx, s, fmt.Sprintf("/%d/herd%d?slow", herdBody, i), size)
		if err != nil {
			return err
		}
		lags[i], most = milliseconds(lag), max(most, fetches)
	}
	settled, err := b.settledRSS(ctx, s)
	if err != nil {
		return err
	}
	if b.short {
		return nil
	}
	r.atMost(c, "most fetches for a herd", float64(most), "", 1)
	what := fmt.Sprintf("last first byte of %d followers behind the leader's", size-1)
	r.atMost(c, fmt.Sprintf("%s, median of %d herds", what, herds), median(lags), "ms", herdLimit)
	r.note(c, what+", longest", slices.Max(lags), "ms")
	r.atMost(c, "RssAnon after by RssAnon before", float64(settled)/float64(base), "", 1.1)
	return nil
}

// oneHerd sends a herd after a cold URL and returns how far its last follower's first byte came behind the leader's, and how often the origin was
// asked. It fails if that was not once, or by more than one.
func (b *bench) oneHerd(ctx context.Context, s *subject, path string, size int) (lag time.Duration, fetches int64, err error) {
	before, err := b.fetches(ctx)
	if err != nil {
		return 0, 0, err
	}
	arrivals, err := b.stampede(ctx, s, path, size)
	if err != nil {
		return 0, 0, err
	}
	after, err := b.fetches(ctx)
	if err != nil {
		return 0, 0, err
	}
	lag, leaders := lagOf(arrivals)
	fetches = after - before
	if leaders != 1 || fetches != 1 {
		return 0, 0, fmt.Errorf("%d fetches and %d leaders, want 1", fetches, leaders)
	}
	return lag, fetches, nil
}

// lagOf is how far the last follower's first byte came behind the leader's.
func lagOf(arrivals []arrival) (lag time.Duration, leaders int) {
	var leader, last time.Duration
	for _, a := range arrivals {
		if a.follower {
			last = max(last, a.first)
		} else {
			leader, leaders = a.first, leaders+1
		}
	}
	return last - leader, leaders
}

// stampede sends n requests for path at once and checks the bodies.
func (b *bench) stampede(ctx context.Context, s *subject, path string, n int) ([]arrival, error) {
	arrivals := make([]arrival, n)
	var ready, done sync.WaitGroup
	ready.Add(n)
	begin := make(chan struct{})
	var start time.Time
	for i := range arrivals {
		done.Go(func() {
			a := &arrivals[i]
			trace := &httptrace.ClientTrace{GotFirstResponseByte: func() { a.first = time.Since(start) }}
			req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodGet, s.h1+path, nil)
			ready.Done()
			if err != nil {
				a.err = err
				return
			}
			<-begin
			got, err := b.do(req)
			a.last, a.err = time.Since(start), err
			a.follower = strings.Contains(got.cacheStatus, "collapsed") || isHit(got)
			if err == nil && (got.status != http.StatusOK || got.size != herdBody) {
				a.err = fmt.Errorf("status %d with %d bytes, want 200 with %d", got.status, got.size, herdBody)
			}
		})
	}
	ready.Wait()
	start = time.Now()
	close(begin)
	done.Wait()
	for _, a := range arrivals {
		if a.err != nil {
			return nil, a.err
		}
	}
	return arrivals, nil
}

// settledRSS is RssAnon after a collection, when the runtime has given back what it will. A heap profile with gc=1 is Caddy's way to have one.
func (b *bench) settledRSS(ctx context.Context, s *subject) (int64, error) {
	if b.short {
		return s.process.rssAnon() // nobody looks at it
	}
	least := int64(-1)
	for unchanged := 0; unchanged < 5; {
		if _, err := b.request(ctx, http.MethodGet, s.admin+"/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
		rss, err := s.process.rssAnon()
		if err != nil {
			return 0, err
		}
		unchanged++
		if least < 0 || rss < least-least/100 {
			least, unchanged = rss, 0
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return least, nil
}

// fillMany stores n numbered URLs of path in s, with requests from 32 connections.
func (b *bench) fillMany(ctx context.Context, s *subject, path string, n int) error {
	const workers = 32
	var group sync.WaitGroup
	var once sync.Once
	var first error
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				if _, err := b.request(ctx, http.MethodGet, s.h1+fmt.Sprintf(path, i)); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(first, ctx.Err())
}

// memoryPerObject fills the memory tier and divides.
func memoryPerObject(ctx context.Context, b *bench, c *benchCase, r *report) error {
	n := memoryObjects
	if b.short {
		n /= 100
	}
	s, err := b.serve(ctx, subjectOf{name: "larder", kind: larderKind, memory: "1GiB", free: true})
	if err != nil {
		return err
	}
	if err := b.fillMany(ctx, s, "/1024/up%d?nostore", 2000); err != nil { // what serving costs is no part of the objects
		return err
	}
	base, err := b.settledRSS(ctx, s)
	if err != nil {
		return err
	}
	if err := b.fillMany(ctx, s, "/1024/object%d", n); err != nil {
		return err
	}
	raw, err := s.process.rssAnon()
	if err != nil {
		return err
	}
	settled, err := b.settledRSS(ctx, s)
	if err != nil {
		return err
	}
	st, err := b.stats(ctx, s)
	if err != nil {
		return err
	}
	if st.Memory.Entries < int64(n) {
		return fmt.Errorf("%d entries in memory, want %d", st.Memory.Entries, n)
	}
	if b.short {
		return nil
	}
	r.note(c, "RssAnon per object at the end of the filling, garbage included", float64(raw-base)/float64(n)/kib, "KiB")
	r.atMost(c, "RssAnon per object after a collection", float64(settled-base)/float64(n)/kib, "KiB", memoryPer)
	r.note(c, "what the budget is charged per object", float64(st.Memory.Bytes)/float64(n)/kib, "KiB")
	return nil
}

// memoryPerTag stores as many objects without tags and with, and divides the difference.
func memoryPerTag(ctx context.Context, b *bench, c *benchCase, r *report) error {
	n := tagObjects
	if b.short {
		n /= 100
	}
	var grown [2]int64
	for i, query := range []string{"", fmt.Sprintf("?tags=%d", tagsEach)} {
		s, err := b.serve(ctx, subjectOf{name: "larder", kind: larderKind, memory: "1GiB", free: true})
		if err != nil {
			return err
		}
		if err := b.fillMany(ctx, s, "/100/up%d?nostore", 2000); err != nil {
			return err
		}
		base, err := b.settledRSS(ctx, s)
		if err != nil {
			return err
		}
		if err := b.fillMany(ctx, s, "/100/object%d"+query, n); err != nil {
			return err
		}
		settled, err := b.settledRSS(ctx, s)
		if err != nil {
			return err
		}
		grown[i] = settled - base
	}
	if !b.short {
		r.note(c, fmt.Sprintf("RssAnon per tag of an entry, %d entries with %d of 1,000 tags each", n, tagsEach),
			float64(grown[1]-grown[0])/float64(n*tagsEach), "bytes")
	}
	return nil
}

// memoryChurn stores several times the budget and watches.
func memoryChurn(ctx context.Context, b *bench, c *benchCase, r *report) error {
	s, err := b.serve(ctx, subjectOf{name: "larder", kind: larderKind, memory: strconv.Itoa(churnBudget), free: true})
	if err != nil {
		return err
	}
	if err := b.fillMany(ctx, s, "/1024/up%d?nostore", 2000); err != nil {
		return err
	}
	base, err := s.process.rssAnon()
	if err != nil {
		return err
	}
	stop, peak := make(chan struct{}), make(chan int64, 1)
	go func() { peak <- s.process.watchRSS(stop) }()
	times := 4
	if b.short {
		times = 1
	}
	err = b.fillMany(ctx, s, "/16384/churn%d", times*churnBudget/(16*kib))
	close(stop)
	most := <-peak
	if err != nil || b.short {
		return err
	}
	r.atMost(c, "most RssAnon above the base, by the budget (128 MiB, 16 KiB objects)", float64(most-base)/churnBudget, "", churnFactor)
	return nil
}

// watchRSS is the most RssAnon until stop is closed.
func (p *process) watchRSS(stop <-chan struct{}) int64 {
	var most int64
	for {
		if rss, err := p.rssAnon(); err == nil {
			most = max(most, rss)
		}
		select {
		case <-stop:
			return most
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// restart fills the disk, stops the server and takes the time until it gives a hit again.
func restart(ctx context.Context, b *bench, c *benchCase, r *report) error {
	n := b.entries
	if b.short {
		n = 1000
	}
	s, err := b.serve(ctx, subjectOf{name: "larder+disk", kind: larderKind, memory: "64MiB", disk: true, free: true})
	if err != nil {
		return err
	}
	if err := b.fillMany(ctx, s, "/1024/entry%d", n); err != nil {
		return err
	}
	st, err := b.poll(ctx, s, func(st cacheStats) bool { return st.Queue == 0 })
	if err != nil {
		return err
	}
	s.process.stop()
	start := time.Now()
	if err := b.run(ctx, s); err != nil {
		return err
	}
	serving := time.Since(start)
	for {
		a, err := b.request(ctx, http.MethodGet, s.h1+fmt.Sprintf("/1024/entry%d", n/2))
		if err != nil {
			return err
		}
		if isHit(a) {
			break
		}
		if time.Since(start) > 30*time.Second {
			return fmt.Errorf("no hit 30 s after a restart: Cache-Status %q", a.cacheStatus)
		}
	}
	first := time.Since(start)
	rss, err := s.process.rssAnon()
	if err != nil || b.short {
		return err
	}
	r.note(c, "entries on disk", float64(st.Disk.Entries), "")
	r.note(c, "first answer after the process began", milliseconds(serving), "ms")
	r.atMost(c, "first hit after the process began", milliseconds(first), "ms", restartLimit)
	r.atMost(c, "RssAnon then", float64(rss)/mib, "MiB", restartRSS)
	return nil
}

// allocations runs the test that counts them.
func allocations(ctx context.Context, _ *bench, c *benchCase, r *report) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^TestHitAllocations$", "github.com/larder-cache/larder")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, out)
	}
	m := regexp.MustCompile(`(\d+) allocations, (\d+) bytes`).FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("no count in %q", out)
	}
	for i, what := range []struct {
		name  string
		limit float64
	}{{"allocations of a hit", 6}, {"bytes allocated by a hit", kib}} {
		v, err := strconv.ParseFloat(string(m[i+1]), 64)
		if err != nil {
			return err
		}
		r.atMost(c, what.name, v, "", what.limit)
	}
	return nil
}

// save writes what r has to a file.
func save(name string, r io.Reader) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

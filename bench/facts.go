package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// The cases that are no race: each gives numbers that stand for themselves.

const (
	memoryObjects = 200_000
	memoryPer     = 1.5 // KiB of RssAnon for an object of 1 KiB
	churnBudget   = 128 * mib
	churnFactor   = 1.25
	restartLimit  = 1000.0 // ms
	restartRSS    = 100.0  // MiB of RssAnon at the first hit
	tagObjects    = 50_000
	tagsEach      = 20
)

// settledRSS is RssAnon after a collection, when the runtime has given back what it will. A heap
// profile with gc=1 is Caddy's way to have one.
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
				if _, err := b.ask(ctx, s, fmt.Sprintf(path, i)); err != nil {
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
	// What serving costs is no part of the objects.
	if err := b.fillMany(ctx, s, "/1024/up%d?nostore", 2000); err != nil {
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
	s, err := b.serve(ctx, subjectOf{name: "larder", kind: larderKind, memory: strconv.Itoa(churnBudget) + "B", free: true})
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

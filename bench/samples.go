package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sample is the state of the server at one moment of a soak; sizes in bytes.
type sample struct {
	Elapsed time.Duration
	// The map is bbolt's of its file: the kernel takes it back when it needs it.
	RSSAnon, RSSMap    int64
	File               int64
	Memory, MemoryIn   int64 // charged, and entries
	Disk, DiskIn       int64
	Queue              int64
	Rate, Hits         float64 // since the sample before: requests a second, share of hits
	P50, P99           time.Duration
	Errors, OriginAsks int64 // so far
}

// sampleHead names the columns of the table.
var sampleHead = []string{
	"seconds", "rss_anon", "rss_map", "file", "memory_bytes", "memory_entries", "disk_bytes", "disk_entries", "queue_bytes",
	"requests_per_second", "hit_ratio", "p50_ms", "p99_ms", "errors", "fetches", "base", "memory_budget", "disk_budget",
}

// sampler watches a soak and writes a line for each look, so that the table is there however the
// run ends.
type sampler struct {
	*soak
	base  int64 // RssAnon before
	every time.Duration
	begun time.Time
	most  sample // of each value
	file  *os.File
	table *csv.Writer

	lastAt            time.Time
	lastAsked, lastHi int64
}

// newSampler begins the table beside the graph, if one is wanted.
func newSampler(s *soak, base int64, length time.Duration) (*sampler, error) {
	now := time.Now()
	p := &sampler{soak: s, base: base, every: min(max(length/720, time.Second), 5*time.Second), begun: now, lastAt: now}
	p.lastAsked, p.lastHi = s.counts.asked.Load(), s.counts.hits.Load()
	if s.graph == "" {
		return p, nil
	}
	var err error
	if p.file, err = os.Create(csvOf(s.graph)); err != nil {
		return nil, err
	}
	p.table = csv.NewWriter(p.file)
	return p, p.table.Write(sampleHead)
}

func (p *sampler) close() error {
	if p.file == nil {
		return nil
	}
	p.table.Flush()
	if err := p.table.Error(); err != nil {
		return fmt.Errorf("table of the soak: %w", err)
	}
	return p.file.Close()
}

// run takes samples until ctx is over.
func (p *sampler) run(ctx context.Context) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	said := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := p.look(ctx)
		if err != nil {
			if ctx.Err() == nil { // the admin API begins anew at a reload, so once means nothing
				fmt.Fprintf(os.Stderr, "%s  soak: no sample: %v\n", time.Now().Format(time.TimeOnly), err)
			}
			continue
		}
		p.keep(now)
		if time.Since(said) >= time.Minute {
			said = time.Now()
			fmt.Fprintf(os.Stderr, "%s  soak: %v, RssAnon %d MiB, file %d MiB, hits %.3f, %.0f req/s, p99 %v, errors %d\n", said.Format(time.TimeOnly),
				now.Elapsed.Round(time.Second), now.RSSAnon/mib, now.File/mib, now.Hits, now.Rate, now.P99, now.Errors)
		}
	}
}

// look takes one sample.
func (p *sampler) look(ctx context.Context) (sample, error) {
	st, err := p.stats(ctx, p.subject)
	if err != nil {
		return sample{}, err
	}
	now := sample{
		Memory: st.Memory.Bytes, MemoryIn: st.Memory.Entries, Disk: st.Disk.Bytes, DiskIn: st.Disk.Entries, Queue: st.Queue,
	}
	if now.RSSAnon, err = p.subject.process.rssAnon(); err != nil {
		return sample{}, err
	}
	database := filepath.Join(p.subject.diskFolder(), "larder.db")
	if now.RSSMap, err = p.subject.process.rssOf(database); err != nil {
		return sample{}, err
	}
	info, err := os.Stat(database)
	if err != nil {
		return sample{}, err
	}
	now.File = info.Size()
	if bodies, err := os.Stat(filepath.Join(p.subject.diskFolder(), "larder.bodies")); err == nil {
		now.File += bodies.Size()
	}
	if now.OriginAsks, err = p.fetches(ctx); err != nil {
		return sample{}, err
	}
	n := &p.counts
	at, asked, hits := time.Now(), n.asked.Load(), n.hits.Load()
	now.Elapsed = at.Sub(p.begun)
	now.Rate = float64(asked-p.lastAsked) / at.Sub(p.lastAt).Seconds()
	now.Hits = float64(hits-p.lastHi) / float64(max(asked-p.lastAsked, 1))
	p.lastAt, p.lastAsked, p.lastHi = at, asked, hits
	now.P50, now.P99 = quantiles(n.latencies())
	now.Errors = n.wrong.Load() + n.old.Load() + n.failed.Load() + n.broken.Load()
	return now, nil
}

// keep writes a sample and remembers the extremes.
func (p *sampler) keep(now sample) {
	p.most.RSSAnon = max(p.most.RSSAnon, now.RSSAnon)
	p.most.File = max(p.most.File, now.File)
	p.most.Memory = max(p.most.Memory, now.Memory)
	p.most.Disk = max(p.most.Disk, now.Disk)
	if p.table == nil {
		return
	}
	whole := func(n int64) string { return strconv.FormatInt(n, 10) }
	part := func(v float64) string { return strconv.FormatFloat(v, 'f', 4, 64) }
	_ = p.table.Write([]string{
		part(now.Elapsed.Seconds()), whole(now.RSSAnon), whole(now.RSSMap), whole(now.File), whole(now.Memory), whole(now.MemoryIn),
		whole(now.Disk), whole(now.DiskIn), whole(now.Queue), part(now.Rate), part(now.Hits), part(milliseconds(now.P50)),
		part(milliseconds(now.P99)), whole(now.Errors), whole(now.OriginAsks), whole(p.base), whole(p.memory), whole(p.disk),
	})
	p.table.Flush() // close tells what went wrong
}

// rssOf is how much of a mapped file is resident in the program, in bytes.
func (p *process) rssOf(file string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum int64
	within := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		// A field of the mapping; its own line has a range first.
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, "-") {
			if within && name == "Rss" {
				kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
				if err != nil {
					return 0, err
				}
				sum += kib << 10
			}
			continue
		}
		within = strings.HasSuffix(line, " "+file)
	}
	return sum, nil
}

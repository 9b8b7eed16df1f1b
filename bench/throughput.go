package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// throughput measures how many requests a second each of some subjects answers, in turns: what
// disturbs the machine then disturbs them alike.
type throughput struct {
	subjects  []subjectOf
	reference string // the name of the subject the others are compared with
	target    float64
	yardstick string  // the name of a second subject to compare with, where it is installed
	floor     float64 // the least of its rate
	p99       float64 // the most a latency may be of the reference's, 0 for any
	load      load

	hit      bool // load.path is to be stored before
	fill     int  // numbered URLs to be stored before
	distinct bool // no URL twice
	unasked  bool // the origin must not be asked meanwhile
	stored   bool // nearly all must be on disk in the end
}

// storedShare of the responses fetched have to be on disk in the end, where the disk tier is on.
const storedShare = 0.99

// contender is a subject with what its turns gave.
type contender struct {
	*subject
	turns   []turn
	cpu     []float64 // µs a request, by turn
	fetched int64     // at the origin, in its turns
	next    int       // first unused number
}

// run implements benchCase.run.
func (t throughput) run(ctx context.Context, b *bench, c *benchCase, r *report) error {
	if b.short && t.fill > 0 {
		t.fill /= 10
		t.load.count = t.fill
	}
	var all []*contender
	for _, of := range t.subjects {
		if !installed(of.kind) || b.short && of.kind != ceilingKind && of.kind != proxyKind && of.kind != larderKind {
			continue
		}
		s, err := b.serve(ctx, of)
		if err != nil {
			return err
		}
		all = append(all, &contender{subject: s})
		if err := t.warm(ctx, b, s); err != nil {
			return err
		}
	}
	rounds := b.rounds
	if b.short {
		rounds = 1
	}
	for range rounds {
		for _, s := range all {
			if err := t.turn(ctx, b, s, b.duration); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, s := range all {
		if err := t.check(ctx, b, c, r, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := t.profile(ctx, b, c, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if !b.short {
		t.report(c, r, all)
	}
	return nil
}

// warm stores what is to be hit, and opens the server's connections to the origin.
func (t throughput) warm(ctx context.Context, b *bench, s *subject) error {
	for i := range t.fill {
		if _, err := b.request(ctx, http.MethodGet, fmt.Sprintf(s.base(t.load)+t.load.path, i)); err != nil {
			return err
		}
	}
	if t.fill > 0 && s.disk {
		if _, err := b.poll(ctx, s, func(st cacheStats) bool { return st.Queue == 0 && st.Disk.Entries >= int64(t.fill) }); err != nil {
			return err
		}
	}
	if t.hit {
		_, err := b.warm(ctx, s, s.base(t.load)+t.load.path)
		return err
	}
	return nil
}

func (s *subject) base(l load) string {
	if l.h2 {
		return s.h2
	}
	return s.h1
}

// turn lets one subject serve for a while.
func (t throughput) turn(ctx context.Context, b *bench, s *contender, d time.Duration) error {
	l := t.load
	if t.distinct {
		l.from = s.next
	}
	before, err := b.fetches(ctx)
	if err != nil {
		return err
	}
	busy := s.process.cpu()
	got, err := b.generate(ctx, s.base(l), l, d)
	if err != nil {
		return err
	}
	busy = s.process.cpu() - busy
	after, err := b.settledFetches(ctx)
	if err != nil {
		return err
	}
	if got.requests == 0 {
		return fmt.Errorf("no requests answered")
	}
	s.fetched += after - before
	s.next += got.requests + 10*l.conns // what was under way at the end has used numbers as well
	s.turns = append(s.turns, got)
	s.cpu = append(s.cpu, float64(busy.Microseconds())/float64(got.requests))
	return nil
}

// check holds the subject to what the case says of it.
func (t throughput) check(ctx context.Context, b *bench, c *benchCase, r *report, s *contender) error {
	if s.kind != larderKind {
		return nil
	}
	if t.unasked && s.fetched > 0 {
		return fmt.Errorf("the origin was asked %d times: not all were hits", s.fetched)
	}
	if !t.stored {
		return nil
	}
	st, err := b.poll(ctx, s.subject, func(st cacheStats) bool { return st.Queue == 0 })
	if err != nil {
		return err
	}
	share := float64(st.Disk.Entries) / float64(s.fetched)
	if b.short && share < storedShare {
		return fmt.Errorf("%d fetched, %d on disk", s.fetched, st.Disk.Entries)
	}
	r.atLeast(c, "share of the responses fetched that are on disk in the end", share, "", storedShare)
	return nil
}

// profile takes a CPU profile of one more turn.
func (t throughput) profile(ctx context.Context, b *bench, c *benchCase, s *contender) error {
	if b.profiles == "" || s.kind == nginxKind || s.kind == varnishKind {
		return nil
	}
	ended := make(chan error, 1)
	go func() {
		ended <- b.takeProfile(ctx, s.subject, c.name+"-"+s.name, b.duration-time.Second)
	}()
	measured := *s
	if err := t.turn(ctx, b, &measured, b.duration+time.Second); err != nil {
		return err
	}
	return <-ended
}

// takeProfile writes a CPU profile of s for d to the folder of profiles, as soon as it takes
// requests.
func (b *bench) takeProfile(ctx context.Context, s *subject, name string, d time.Duration) error {
	if err := os.MkdirAll(b.profiles, 0o755); err != nil { //nolint:gosec // profiles are for everyone
		return err
	}
	if err := s.process.awaitPort(ctx, strings.TrimPrefix(s.admin, "http://")); err != nil {
		return err
	}
	a, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.admin, max(1, int(d.Seconds()))))
	if err != nil {
		return err
	}
	defer a.Body.Close()
	return save(filepath.Join(b.profiles, name+".pprof"), a.Body)
}

// report adds a row for each subject.
func (t throughput) report(c *benchCase, r *report, all []*contender) {
	reference := all[slices.IndexFunc(all, func(s *contender) bool { return s.name == t.reference })]
	for _, s := range all {
		line := row{Case: c.name, About: c.about, Subject: s.name}
		line.Rate = median(s.each(func(i int) float64 { return s.turns[i].rate }))
		line.P50 = median(s.each(func(i int) float64 { return milliseconds(s.turns[i].p50) }))
		line.P99 = median(s.each(func(i int) float64 { return milliseconds(s.turns[i].p99) }))
		line.CPU = median(slices.Clone(s.cpu))
		if s != reference {
			line.Reference = reference.name
			line.Ratio = s.rateBy(reference)
			line.CPURatio = median(s.each(func(i int) float64 { return reference.cpu[i] / max(s.cpu[i], 0.1) }))
		}
		if s.kind == larderKind && s != reference {
			line.Target = t.target
			t.reportYardstick(c, r, s, all)
			if t.p99 > 0 {
				factor := median(s.each(func(i int) float64 {
					return float64(s.turns[i].p99) / float64(max(reference.turns[i].p99, time.Microsecond))
				}))
				r.atMost(c, "p99 by the ceiling's", factor, "", t.p99)
			}
		}
		r.Rows = append(r.Rows, line)
	}
}

// reportYardstick compares s with the second subject, if that took part.
func (t throughput) reportYardstick(c *benchCase, r *report, s *contender, all []*contender) {
	at := slices.IndexFunc(all, func(s *contender) bool { return s.name == t.yardstick })
	if at < 0 {
		return
	}
	r.atLeast(c, "requests a second by those of "+t.yardstick, s.rateBy(all[at]), "", t.floor)
}

// rateBy is the rate by another's, the median over the turns.
func (s *contender) rateBy(other *contender) float64 {
	return median(s.each(func(i int) float64 { return s.turns[i].rate / other.turns[i].rate }))
}

func (s *contender) each(value func(i int) float64) []float64 {
	out := make([]float64, len(s.turns))
	for i := range out {
		out[i] = value(i)
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

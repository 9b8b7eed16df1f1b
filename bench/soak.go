package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/larder-cache/larder/bench/traces"
)

// The soak: the real binary under mixed load for as long as -soak says, over more data than memory
// and disk together may hold, with purges, validations, clients that leave and reloads. Every body
// is checked whole, and the budgets are held to what was seen at every sample.

const (
	soakMemory     = 128 * mib
	soakDisk       = 512 * mib
	soakRSSFactor  = 1.25 // of RssAnon above the base, by the memory budget
	soakFileFactor = 1.5  // of the file, by the disk budget
	soakWorkers    = 64
)

// soak is one run of the case.
type soak struct {
	*bench
	subject *subject
	memory  int64 // budgets
	disk    int64
	seed    uint64
	zipf    *traces.Zipf
	floors  versions // what must at least be seen
	counts  soakCounts
	samples *sampler
}

func runSoak(ctx context.Context, b *bench, c *benchCase, r *report) (err error) {
	s := &soak{bench: b, seed: uint64(time.Now().UnixNano()), zipf: traces.NewZipf(soakPages, 0.9), memory: soakMemory, disk: soakDisk}
	length := b.soak
	if b.short {
		s.memory, s.disk, length = 8*mib, 32*mib, 3*time.Second
	}
	if s.subject, err = b.serve(ctx, subjectOf{
		name: "soak", kind: larderKind, memory: fmt.Sprintf("%dB", s.memory), disk: true, budget: fmt.Sprintf("%dB", s.disk), block: soakBlock(0), free: true,
	}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "soak: seed %d, %v at %d requests/s\n", s.seed, length, b.rate)
	base, err := s.base(ctx, length/60)
	if err != nil {
		return err
	}
	if s.samples, err = newSampler(s, base, length); err != nil {
		return err
	}
	runErr := s.run(ctx, length)
	err = errors.Join(runErr, s.samples.close())
	judged := s.report(c, r, length)
	if b.graph != "" {
		err = errors.Join(err, draw(context.WithoutCancel(ctx), csvOf(b.graph), b.graph))
	}
	return errors.Join(err, judged)
}

// csvOf is the table beside a graph.
func csvOf(graph string) string { return strings.TrimSuffix(graph, filepath.Ext(graph)) + ".csv" }

// soakBlock is the block of the directive for the nth configuration: Caddy does nothing for one
// that is equal to the last.
func soakBlock(n int) string {
	return fmt.Sprintf("{\n\t\tstale_while_revalidate 1s\n\t\tstale_if_error 10s\n\t\tmax_variants %d\n\t}", 16+n%2)
}

// base is RssAnon of a server that has passed on what it may not store for a while: what serving
// costs, with the garbage of it.
func (s *soak) base(ctx context.Context, length time.Duration) (int64, error) {
	if !s.short {
		length = min(max(length, 5*time.Second), 30*time.Second)
	}
	s.clients(ctx, length, func(random *rand.Rand) page { return page(random.IntN(soakPages/pageKinds) * pageKinds) })
	if err := s.counts.trouble(); err != nil {
		return 0, fmt.Errorf("before the soak: %w", err)
	}
	return s.subject.process.rssAnon()
}

// run loads the server until the length is over, the server ends or the user interrupts.
func (s *soak) run(ctx context.Context, length time.Duration) error {
	ctx, end := context.WithTimeoutCause(ctx, length, errSoaked)
	defer end()
	ctx, died := context.WithCancelCause(ctx)
	defer died(nil)
	go func() {
		select {
		case <-s.subject.process.done:
			died(fmt.Errorf("the server has ended:\n%s", s.subject.process.tail()))
		case <-ctx.Done():
		}
	}()
	operated := make(chan error, 1)
	go func() { operated <- s.operate(ctx, length) }()
	sampled := make(chan struct{})
	go func() {
		defer close(sampled)
		s.samples.run(ctx)
	}()
	s.clients(ctx, length, s.visit)
	<-sampled
	err := <-operated
	if cause := context.Cause(ctx); !errors.Is(cause, errSoaked) {
		err = errors.Join(cause, err)
	}
	return errors.Join(err, s.idle(context.WithoutCancel(ctx)))
}

// errSoaked is how a soak ends.
var errSoaked = errors.New("soaked")

// idle waits until the server has nothing under way.
func (s *soak) idle(ctx context.Context) error {
	select {
	case <-s.subject.process.done:
		return nil // run has said so
	default:
	}
	_, err := s.poll(ctx, s.subject, func(st cacheStats) bool { return st.InFlight == 0 && st.Queue == 0 })
	return err
}

// operate is what operators do: purge what was made anew, reload now and then. One at a time, as a
// reload begins the admin API anew.
func (s *soak) operate(ctx context.Context, length time.Duration) error {
	random := rand.New(rand.NewPCG(s.seed, 1))
	reloadEvery := min(max(length/60, time.Second), time.Minute)
	reloadAt := time.Now().Add(reloadEvery)
	for reloads := 1; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(random.ExpFloat64() * float64(200*time.Millisecond))):
		}
		var err error
		if time.Now().After(reloadAt) {
			err = s.reload(ctx, reloads)
			reloadAt = time.Now().Add(reloadEvery)
			reloads++
		} else {
			err = s.renew(ctx, random)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// renew makes a page or a group of pages anew at the origin and purges it. Once that has answered
// nobody may see the old one.
func (s *soak) renew(ctx context.Context, random *rand.Rand) error {
	n := s.popular(random)
	what, number, body := "page", int(n), fmt.Sprintf(`{"urls":[%q]}`, s.subject.h1+n.path())
	if random.IntN(20) == 0 {
		what, number, body = "group", n.group(), fmt.Sprintf(`{"tags":["group-%d"]}`, n.group())
	}
	url := fmt.Sprintf("http://%s/renew/%s/%d", s.originAddress, what, number)
	if a, err := s.request(ctx, http.MethodPost, url); err != nil || a.status != http.StatusOK {
		return fmt.Errorf("renewing at the origin: status %d: %w", a.status, err)
	}
	if _, _, err := s.purge(ctx, s.subject, body); err != nil {
		return fmt.Errorf("purge %s: %w", body, err)
	}
	s.floors.renew(what, number)
	s.counts.purges.Add(1)
	return nil
}

// reload gives Caddy the nth configuration.
func (s *soak) reload(ctx context.Context, n int) error {
	s.subject.block = soakBlock(n)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.subject.admin+"/load", strings.NewReader(s.caddyfile(s.subject)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Idempotency-Key", "load") // see purge
	s.counts.reloaded.Store(time.Now().UnixNano())
	a, err := s.do(req)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", a.status, a.body)
	}
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	s.counts.reloads.Add(1)
	return nil
}

// report judges the whole soak. The error names what did not hold.
func (s *soak) report(c *benchCase, r *report, length time.Duration) error {
	n, m := &s.counts, &s.samples.most
	first := len(r.Facts)
	r.note(c, "length", length.Minutes(), "min")
	r.note(c, "requests", float64(n.asked.Load()), "")
	r.note(c, "hits, of all", float64(n.hits.Load())/float64(max(n.asked.Load(), 1)), "")
	r.note(c, "bodies checked", float64(n.checked.Load())/mib/1024, "GiB")
	r.note(c, "purges", float64(n.purges.Load()), "")
	r.note(c, "reloads", float64(n.reloads.Load()), "")
	r.note(c, "requests sent again as a reload closed their connection", float64(n.again.Load()), "")
	r.note(c, "clients that left", float64(n.left.Load()), "")
	r.note(c, "requests not sent because the machine was too slow", float64(n.unsent.Load()), "")
	r.note(c, "RssAnon before", float64(s.samples.base)/mib, "MiB")
	r.note(c, "most charged to memory, by the budget", float64(m.Memory)/float64(s.memory), "")
	r.note(c, "most pages allocated on disk, by the budget", float64(m.Disk)/float64(s.disk), "")
	if !s.short { // the budgets are other ones, and a few seconds show nothing
		r.atMost(c, "most RssAnon above the base, by the budget", float64(m.RSSAnon-s.samples.base)/float64(s.memory), "", soakRSSFactor)
		r.atMost(c, "largest file, by the budget", float64(m.File)/float64(s.disk), "", soakFileFactor)
	}
	r.atMost(c, "wrong bodies", float64(n.wrong.Load()), "", 0)
	r.atMost(c, "bodies older than a purge", float64(n.old.Load()), "", 0)
	r.atMost(c, "responses with status 5xx", float64(n.failed.Load()), "", 0)
	r.atMost(c, "requests without a whole answer", float64(n.broken.Load()), "", 0)
	var broken []error
	for _, f := range r.Facts[first:] {
		if f.missed() {
			broken = append(broken, fmt.Errorf("%s: %s, %s", f.What, trimmed(f.Value), f.verdict()))
		}
	}
	if s.short {
		r.Facts = r.Facts[:first]
	}
	return errors.Join(broken...)
}

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// soakCounts is what the clients of the soak have seen.
type soakCounts struct {
	asked, hits, checked    atomic.Int64 // checked in bytes
	wrong, old              atomic.Int64
	failed, broken          atomic.Int64
	left, unsent, again     atomic.Int64
	purges, reloads, crawls atomic.Int64

	reloaded atomic.Int64 // when last, in Unix nanoseconds

	mu    sync.Mutex
	took  []time.Duration // since the last sample
	first error           // of all that must not be
	said  int
}

// soakSaid is how many errors are told at once; the rest is only counted.
const soakSaid = 20

// complain counts what must not be.
func (n *soakCounts) complain(kind *atomic.Int64, err error) {
	kind.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.first == nil {
		n.first = err
	}
	if n.said++; n.said <= soakSaid {
		fmt.Fprintf(os.Stderr, "%s  soak: %v\n", time.Now().Format(time.TimeOnly), err)
	}
}

func (n *soakCounts) trouble() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.first
}

// latencies returns those since the last call.
func (n *soakCounts) latencies() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	took := n.took
	n.took = nil
	return took
}

// visit chooses a page for a client; one in twenty is a crawler that walks through them all.
func (s *soak) visit(random *rand.Rand) page {
	const crawler = 20
	if random.IntN(crawler) == 0 {
		return page(s.counts.crawls.Add(1) % soakPages)
	}
	return s.popular(random)
}

// popular chooses by Zipf's law over a ranking that drifts: what is hot today was not always.
func (s *soak) popular(random *rand.Rand) page {
	const drift, stride = 200, 7919 // the stride has no divisor in common with the pages
	rank := int64(s.zipf.Draw(random)) + s.counts.asked.Load()/drift
	return page(rank * stride % soakPages)
}

// clients send requests at the soak's rate, whatever the answers take, until the length or ctx is
// over.
func (s *soak) clients(ctx context.Context, length time.Duration, choose func(*rand.Rand) page) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	due := make(chan struct{}, soakWorkers)
	var workers sync.WaitGroup
	for w := range soakWorkers {
		random := rand.New(rand.NewPCG(s.seed, uint64(100+w)))
		workers.Go(func() {
			for range due {
				s.ask(ctx, choose(random), random)
			}
		})
	}
	s.pace(ctx, due)
	close(due)
	workers.Wait()
}

// pace puts a token into due for each request that ought to be sent. Where all workers wait, the
// request is given up: the load must not come in one heap after a pause.
func (s *soak) pace(ctx context.Context, due chan<- struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begun, sent := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for want := int(time.Since(begun).Seconds() * float64(s.rate)); sent < want; sent++ {
			select {
			case due <- struct{}{}:
			default:
				s.counts.unsent.Add(1)
			}
		}
	}
}

// ask asks for a page and judges the answer. One client in 200 leaves early.
func (s *soak) ask(ctx context.Context, n page, random *rand.Rand) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	if random.IntN(200) == 0 {
		defer time.AfterFunc(time.Duration(random.IntN(3000))*time.Microsecond, leave).Stop()
	}
	language := []string{"de", "en", "fr"}[random.IntN(3)]
	floor, begun := s.floors.of(n), time.Now()
	a, err := s.fetch(ctx, n, language)
	if err != nil {
		if ctx.Err() != nil {
			s.counts.left.Add(1)
		} else {
			s.counts.complain(&s.counts.broken, fmt.Errorf("%s: %w", n.path(), err))
		}
		return
	}
	took := time.Since(begun)
	s.counts.mu.Lock()
	s.counts.took = append(s.counts.took, took)
	s.counts.mu.Unlock()
	s.counts.asked.Add(1)
	s.counts.checked.Add(a.size)
	if isHit(a) {
		s.counts.hits.Add(1)
	}
	s.judge(n, a, language, floor)
}

// reloadPause is how long after a reload a connection may be found closed. A server that shuts down
// closes what is idle, and what has been open for five seconds without a request (net/http:
// Server.Shutdown); net/http's client sends a request again only on a connection that had one
// before.
const reloadPause = 10 * time.Second

// fetch asks for a page, again where a reload has closed the connection before anything was
// answered, as browsers do.
func (s *soak) fetch(ctx context.Context, n page, language string) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.subject.h1+n.path(), nil)
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Accept-Language", language)
	resp, err := s.client.Do(req)
	if err != nil && ctx.Err() == nil && time.Now().UnixNano()-s.counts.reloaded.Load() < int64(reloadPause) {
		s.counts.again.Add(1)
		resp, err = s.client.Do(req)
	}
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{
		status: resp.StatusCode, size: int64(len(body)), body: body, cacheStatus: resp.Header.Get("Cache-Status"),
	}, err
}

// judge counts what must not be.
func (s *soak) judge(n page, a reply, language string, floor version) {
	if a.status != http.StatusOK {
		s.counts.complain(&s.counts.failed, fmt.Errorf("%s: status %d (%s)", n.path(), a.status, a.cacheStatus))
		return
	}
	old, err := n.judge(a.body, language, floor)
	switch {
	case err != nil:
		s.counts.complain(&s.counts.wrong, fmt.Errorf("%s: %w (%s)", n.path(), err, a.cacheStatus))
	case old:
		s.counts.complain(&s.counts.old, fmt.Errorf("%s: older than version %s, which a purge made the least (%s)", n.path(), floor, a.cacheStatus))
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/bench/traces"
)

// visits are requests that come when they come, whatever the answers take: visitors of a site do
// not wait for each other.
type visits struct {
	pages  int
	rate   float64 // a second
	path   string  // with %d for the page
	length time.Duration
	// unseen is how long the load has gone on before what is counted begins.
	unseen time.Duration
	seed   uint64
}

// visitConns is how many of them may be under way: those of a fifth of a second at 1,000 a second,
// and some.
const visitConns = 300

// visitParts is in how many parts what is seen is told, one after the other.
const visitParts = 5

// visit is one of them.
type visit struct {
	at   time.Duration // since the first
	page int
}

// sequence is when they come, by Poisson, and for which page, by Zipf's law with exponent 1. It is
// the same for the same seed.
func (v *visits) sequence() (all []visit) {
	random := rand.New(rand.NewPCG(v.seed, 1))
	zipf := traces.NewZipf(v.pages, 1)
	for at := time.Duration(0); at < v.unseen+v.length; at += time.Duration(random.ExpFloat64() / v.rate * float64(time.Second)) {
		all = append(all, visit{at, zipf.Draw(random)})
	}
	return all
}

// seen is what the visitors have seen.
type seen struct {
	mu     sync.Mutex
	took   []time.Duration
	parts  [visitParts][]time.Duration // of took, by when they came
	waited int                         // for the origin: their answer was no hit
	stale  int
	failed int // with a status of 500 or above
	err    error
}

// send sends them to s.
func (v *visits) send(ctx context.Context, s *subject) (*seen, error) {
	crowd, err := gather(ctx, s, visitConns)
	if err != nil {
		return nil, err
	}
	defer crowd.leave()
	var out seen
	var visitors sync.WaitGroup
	due := make(chan visit)
	for _, m := range crowd {
		visitors.Go(func() {
			for one := range due {
				got, took, err := m.visit(fmt.Sprintf(v.path, one.page))
				out.note(got, took, err, v.part(one))
				if err != nil {
					return
				}
			}
		})
	}
	err = v.pace(ctx, due, &out)
	close(due)
	visitors.Wait()
	return &out, errors.Join(err, out.err)
}

// part is in which part of what counts a visit comes, negative if in none.
func (v *visits) part(one visit) int {
	if one.at < v.unseen {
		return -1
	}
	return min(int((one.at-v.unseen)*visitParts/v.length), visitParts-1)
}

// pace hands out each visit when its time has come.
func (v *visits) pace(ctx context.Context, due chan<- visit, out *seen) error {
	begun := time.Now()
	for _, one := range v.sequence() {
		time.Sleep(time.Until(begun.Add(one.at)))
		select {
		case due <- one:
		case <-time.After(herdTimeout):
			return errors.Join(fmt.Errorf("no visitor has been free for %v", herdTimeout), out.trouble())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// note adds one to what counts, if it does.
func (n *seen) note(got reply, took time.Duration, err error, part int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case err != nil:
		n.err = errors.Join(n.err, err)
	case part < 0:
	default:
		n.took = append(n.took, took)
		n.parts[part] = append(n.parts[part], took)
		if !isHit(got) {
			n.waited++
		}
		if strings.Contains(got.cacheStatus, "ttl=-") {
			n.stale++
		}
		if got.status >= http.StatusInternalServerError {
			n.failed++
		}
	}
}

func (n *seen) trouble() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// fill asks for each page once, so that none is cold.
func (v *visits) fill(ctx context.Context, b *bench, s *subject) error {
	for n := range v.pages {
		if _, err := b.request(ctx, http.MethodGet, s.h1+fmt.Sprintf(v.path, n)); err != nil {
			return err
		}
	}
	return nil
}

package stats

import (
	"sync"
	"sync/atomic"
	"time"
)

// Sampler draws events so that about limit of them a second are drawn at most: each one while there
// are few, one of 2, 4, 8 and so on while there are more. An event that is not drawn costs an
// atomic load.
type Sampler struct {
	limit int
	mask  atomic.Uint32 // one of mask+1 is drawn

	mu    sync.Mutex
	since time.Time
	drawn int // since then
}

// mostMask bounds how rarely an event is drawn: then limit is exceeded at 65,536 times as many
// events a second.
const mostMask = 1<<16 - 1

// NewSampler returns a Sampler that has drawn nothing yet.
func NewSampler(limit int) *Sampler { return &Sampler{limit: limit} }

// Draw returns for how many events the one in hand is to be counted: 0 if it is not drawn. random
// is a number at random, of all that there are.
func (s *Sampler) Draw(random uint32) uint64 {
	mask := s.mask.Load()
	if random&mask != 0 {
		return 0
	}
	return uint64(mask) + 1
}

// Drawn notes an event that was drawn.
func (s *Sampler) Drawn(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(now)
	if s.drawn++; s.drawn >= s.limit {
		s.mask.Store(min(s.mask.Load()<<1|1, mostMask))
		s.drawn = 0
	}
}

// Settle lets more events be drawn where there have become fewer. Drawn does the same. It is for a
// time without any.
func (s *Sampler) Settle(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(now)
}

// settle begins another second. Events are drawn more often by as much as leaves half of the limit
// free.
func (s *Sampler) settle(now time.Time) {
	passed := now.Sub(s.since)
	if passed < time.Second {
		return
	}
	mask, rate := s.mask.Load(), float64(s.drawn)/passed.Seconds()
	for mask > 0 && rate < float64(s.limit)/4 {
		mask, rate = mask>>1, rate*2+1
	}
	s.mask.Store(mask)
	s.since, s.drawn = now, 0
}

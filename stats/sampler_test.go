package stats

import (
	"math/rand/v2"
	"testing"
	"time"
)

// run sends events at an even rate through a sampler for so many seconds. It returns how many were
// drawn in the last second, and for how many those of it stand.
func run(s *Sampler, r *rand.Rand, now time.Time, rate, seconds int) (drawn int, standFor uint64, end time.Time) {
	for range seconds {
		drawn, standFor = 0, 0
		for i := range rate {
			if n := s.Draw(r.Uint32()); n > 0 {
				drawn, standFor = drawn+1, standFor+n
				s.Drawn(now.Add(time.Duration(i) * time.Second / time.Duration(rate)))
			}
		}
		now = now.Add(time.Second)
	}
	return drawn, standFor, now
}

func TestSamplerDrawsAllOfFew(t *testing.T) {
	s := NewSampler(1000)
	if drawn, standFor, _ := run(s, rand.New(rand.NewPCG(1, 2)), begin, 900, 5); drawn != 900 || standFor != 900 {
		t.Errorf("%d drawn for %d", drawn, standFor)
	}
}

// TestSamplerBoundsItsWork: of many events few are drawn, they stand for all, and it ends when
// there are few again.
func TestSamplerBoundsItsWork(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const limit, rate = 4096, 400_000
	r, s := rand.New(rand.NewPCG(seed, 0)), NewSampler(limit)
	first, _, now := run(s, r, begin, rate, 1)
	if first > 8*limit { // each halving takes as many as the limit
		t.Errorf("%d drawn in the first second", first)
	}
	drawn, standFor, now := run(s, r, now, rate, 10)
	if drawn > 2*limit || drawn < limit/8 {
		t.Errorf("%d drawn in a second", drawn)
	}
	if off := float64(standFor)/rate - 1; off < -0.25 || off > 0.25 {
		t.Errorf("%d drawn stand for %d, of %d", drawn, standFor, rate)
	}
	s.Settle(now.Add(10 * time.Second))
	s.Settle(now.Add(20 * time.Second))
	if n := s.Draw(1); n != 1 {
		t.Errorf("after a rest an event stands for %d", n)
	}
}

func BenchmarkSampler(b *testing.B) {
	s := NewSampler(4096)
	for b.Loop() {
		if s.Draw(rand.Uint32()) > 0 {
			s.Drawn(time.Now())
		}
	}
}

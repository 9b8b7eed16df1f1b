package rfc9111

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestEarlyRefresh(t *testing.T) {
	const delta = 200 * time.Millisecond
	e := func(x float64) float64 { return math.Exp(x) }
	for name, tc := range map[string]struct {
		beta             float64
		delta, remaining time.Duration
		draw             float64
		want             bool
	}{
		"the paper's rule, just early enough": {1, delta, time.Second, e(-5.0001), true},
		"just too soon":                       {1, delta, time.Second, e(-4.9999), false},
		"twice as eager":                      {2, delta, time.Second, e(-2.5001), true},
		"twice as eager, just too soon":       {2, delta, time.Second, e(-2.4999), false},
		"half as eager":                       {0.5, delta, time.Second, e(-10.0001), true},
		"a slower fetch":                      {1, time.Second, time.Second, e(-1.0001), true},
		"the largest draw":                    {1, delta, 1, 1, false},
		"at the end":                          {1, delta, 0, smallestDraw, false},
		"past the end":                        {1, delta, -1, smallestDraw, false},
		"farther than any draw reaches":       {1, delta, 37 * delta, smallestDraw, false},
		"as far as one reaches":               {1, delta, 36 * delta, smallestDraw, true},
		"off":                                 {0, delta, 1, smallestDraw, false},
		"an unknown time":                     {1, 0, 1, smallestDraw, false},
		"no number":                           {math.NaN(), delta, 1, smallestDraw, false},
		"a lifetime without end":              {1, delta, math.MaxInt64, smallestDraw, false},
	} {
		if got := EarlyRefresh(tc.beta, tc.delta, tc.remaining, tc.draw); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The part of hits that are chosen is the paper's, and so is how long before the end the first of
// many is. Bounds are seven standard deviations: one run in 10^11 would be outside.
func TestEarlyRefreshIsXFetch(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 18))
	draw := func() float64 { return 1 - random.Float64() }
	const delta, n = 200 * time.Millisecond, 100_000
	for _, beta := range []float64{0.5, 1, 3} {
		for _, remaining := range []time.Duration{delta / 10, delta, 3 * delta} {
			chosen := 0
			for range n {
				if EarlyRefresh(beta, delta, remaining, draw()) {
					chosen++
				}
			}
			p := math.Exp(-float64(remaining) / (beta * float64(delta)))
			if got, most := float64(chosen)/n-p, 7*math.Sqrt(p*(1-p)/n); math.Abs(got) > most {
				t.Errorf("beta %v, %v remaining: %v off, want at most %v", beta, remaining, got, most)
			}
		}
	}
	// Hits come at random, rate times in a delta. That none is chosen before x remains has the
	// chance e^(-rate*beta*e^(-x/(beta*delta))).
	const rate, beta, runs = 20.0, 1.0, 10_000
	before := 0 // a refresh that begins now is over before the end
	for range runs {
		for left := 10 * float64(delta); left > float64(delta); left -= random.ExpFloat64() * float64(delta) / rate {
			if EarlyRefresh(beta, delta, time.Duration(left), draw()) {
				before++
				break
			}
		}
	}
	// The walk begins with a hit at 10 delta, which is chosen one time in 22,000: within the bound.
	p := 1 - math.Exp(-rate*beta*math.Exp(-1/beta))
	if got, most := float64(before)/runs-p, 7*math.Sqrt(p*(1-p)/runs)+1e-3; math.Abs(got) > most {
		t.Errorf("%v off from %v of all are refreshed in time, want at most %v", got, p, most)
	}
}

func TestEarlyRemaining(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	for name, tc := range map[string]struct {
		lifetime, age, after, want time.Duration
	}{
		"it has come":          {time.Minute, 0, 0, 0},
		"before the half":      {time.Minute, 0, 29 * time.Second, 0},
		"at the half":          {time.Minute, 0, 30 * time.Second, 30 * time.Second},
		"near the end":         {time.Minute, 0, 59 * time.Second, time.Second},
		"the end":              {time.Minute, 0, time.Minute, 0},
		"past the end":         {time.Minute, 0, 2 * time.Minute, 0},
		"it came with an age":  {time.Minute, 40 * time.Second, 9 * time.Second, 0},
		"with an age, at half": {time.Minute, 40 * time.Second, 10 * time.Second, 10 * time.Second},
		"it came stale":        {time.Minute, 2 * time.Minute, 0, 0},
	} {
		f := Freshness{Lifetime: tc.lifetime, InitialAge: tc.age, ResponseTime: at}
		if got := f.EarlyRemaining(at.Add(tc.after)); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func BenchmarkEarlyRefresh(b *testing.B) {
	f := Freshness{Lifetime: time.Minute, ResponseTime: time.Now()}
	for name, now := range map[string]time.Time{"far": f.ResponseTime, "near": f.ResponseTime.Add(time.Minute - time.Second)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := f.EarlyRemaining(now); r > 0 && EarlyRefresh(1, 10*time.Millisecond, r, 1-rand.Float64()) {
					b.Fatal("chosen")
				}
			}
		})
	}
}

package traces

import (
	"math"
	"math/rand/v2"
	"sort"
)

// Zipf draws ranks from 0 by Zipf's law: rank r as often as 1/(r+1)^s. Unlike rand.Zipf it takes
// exponents up to 1 too, which is where the web lies.
type Zipf struct {
	cumulative []float64
}

// NewZipf makes a distribution over n ranks.
func NewZipf(n int, s float64) *Zipf {
	z := &Zipf{make([]float64, n)}
	var sum float64
	for r := range z.cumulative {
		sum += math.Pow(float64(r+1), -s)
		z.cumulative[r] = sum
	}
	return z
}

// Draw returns a rank below n.
func (z *Zipf) Draw(random *rand.Rand) int {
	last := len(z.cumulative) - 1
	u := random.Float64() * z.cumulative[last]
	return min(sort.SearchFloat64s(z.cumulative, u), last)
}

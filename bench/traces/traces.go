// Package traces asks how many hits the store's memory tier makes of a sequence of requests, beside
// what plain LRU would and what nobody could exceed. The sequences are generated: by Zipf's law,
// with crawlers, loops and drifts in it, and as file systems read blocks.
package traces

import (
	"math"
	"math/rand/v2"
)

// Trace is a sequence of requests for numbered objects.
type Trace struct {
	Name string
	// Requests are the objects asked for.
	Requests []Request
	// Sizes are the objects' lengths in bytes.
	Sizes []int64
}

// Request asks for an object.
type Request struct {
	Object int32
	// Passing: it is a crawler's, whose hits nobody waits for.
	Passing bool
}

// Scale says how large the traces are that All makes.
type Scale struct {
	Objects  int // distinct ones, without the crawler's
	Requests int // without the crawler's
	Scan     int // distinct objects that the crawler passes over
	Fit      int // about so many objects fit the cache
}

// Full is the scale of the bench, Short that of tests.
var (
	Full  = Scale{Objects: 100_000, Requests: 500_000, Scan: 1_000_000, Fit: 5_000}
	Short = Scale{Objects: 10_000, Requests: 100_000, Scan: 100_000, Fit: 500}
)

// The sizes of objects are log-normal.
const (
	sizeMedian = 2 << 10
	sizeSigma  = 1.0
	sizeLeast  = 100
	sizeMost   = 64 << 10
)

// Crawled ends the names of traces in which a crawler passes.
const Crawled = " and a crawler"

// All generates the traces from a seed.
func All(scale Scale, seed uint64) []*Trace {
	return []*Trace{
		scale.zipf("Zipf 0.7", 0.7, seed),
		scale.zipf("Zipf 0.9", 0.9, seed),
		scale.zipf("Zipf 1.1", 1.1, seed),
		scale.scanned("Zipf 0.7"+Crawled, 0.7, seed),
		scale.scanned("Zipf 0.9"+Crawled, 0.9, seed),
		scale.scanned("Zipf 1.1"+Crawled, 1.1, seed),
		scale.loop("loop over 1.2 x the cache", 1.2, seed),
		scale.loop("loop over 2 x the cache", 2, seed),
		scale.drift("Zipf 0.9, ranks drifting", 0.9, seed),
		scale.jump("Zipf 0.9, ranks changed ten times", 0.9, seed),
		scale.blocks("blocks of a file system", seed),
	}
}

func randomOf(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }

// newTrace draws the sizes of n objects.
func newTrace(name string, n int, seed uint64) *Trace {
	t := &Trace{Name: name, Sizes: make([]int64, n)}
	random := randomOf(seed, 1)
	for i := range t.Sizes {
		t.Sizes[i] = int64(min(max(sizeMedian*math.Exp(sizeSigma*random.NormFloat64()), sizeLeast), sizeMost))
	}
	return t
}

func (t *Trace) ask(object int) { t.Requests = append(t.Requests, Request{Object: int32(object)}) }

// zipf draws every request alike.
func (c Scale) zipf(name string, s float64, seed uint64) *Trace {
	t := newTrace(name, c.Objects, seed)
	z, random := NewZipf(c.Objects, s), randomOf(seed, 2)
	for range c.Requests {
		t.ask(z.Draw(random))
	}
	return t
}

// scanned has a crawler that passes over distinct objects while the others' requests are the same
// as in zipf.
func (c Scale) scanned(name string, s float64, seed uint64) *Trace {
	plain := c.zipf(name, s, seed)
	t := newTrace(name, c.Objects+c.Scan, seed)
	var passed int
	for i, q := range plain.Requests {
		t.Requests = append(t.Requests, q)
		for ; passed < c.Scan*(i+1)/len(plain.Requests); passed++ {
			t.Requests = append(t.Requests, Request{Object: int32(c.Objects + passed), Passing: true})
		}
	}
	return t
}

// loop goes round and round over somewhat more than the cache holds: LRU throws away each object
// just before it comes again.
func (c Scale) loop(name string, times float64, seed uint64) *Trace {
	n := int(times * float64(c.Fit))
	t := newTrace(name, n, seed)
	for i := range c.Requests {
		t.ask(i % n)
	}
	return t
}

// drift lets the ranking move by one object each 100 requests.
func (c Scale) drift(name string, s float64, seed uint64) *Trace {
	t := newTrace(name, c.Objects, seed)
	z, random := NewZipf(c.Objects, s), randomOf(seed, 2)
	for i := range c.Requests {
		t.ask((z.Draw(random) + i/100) % c.Objects)
	}
	return t
}

// jump changes the whole ranking ten times: what has been counted of the past misleads.
func (c Scale) jump(name string, s float64, seed uint64) *Trace {
	t := newTrace(name, c.Objects, seed)
	z, random := NewZipf(c.Objects, s), randomOf(seed, 2)
	ranking := random.Perm(c.Objects)
	for i := range c.Requests {
		if i > 0 && i%(c.Requests/10) == 0 {
			ranking = random.Perm(c.Objects)
		}
		t.ask(ranking[z.Draw(random)])
	}
	return t
}

// blocks mixes what a disk under a file system sees: a few hot blocks, sequential runs of all
// lengths through a large space, and blocks read again soon after.
func (c Scale) blocks(name string, seed uint64) *Trace {
	const hot, run = 0.4, 0.3 // shares of the choices; the rest reads again
	space := 4 * c.Objects
	t := newTrace(name, space, seed)
	z, random := NewZipf(c.Objects/5, 1), randomOf(seed, 2)
	for len(t.Requests) < c.Requests {
		switch choice := random.Float64(); {
		case choice < hot || len(t.Requests) == 0:
			t.ask(z.Draw(random))
		case choice < hot+run/32: // a run has some 50 blocks
			from := random.IntN(space)
			for i := range int(32 * math.Exp(random.NormFloat64())) {
				t.ask((from + i) % space)
			}
		default:
			back := 1 + int(random.ExpFloat64()*float64(2*c.Fit))
			t.ask(int(t.Requests[max(0, len(t.Requests)-back)].Object))
		}
	}
	t.Requests = t.Requests[:c.Requests]
	return t
}

// Memory is a budget into which about Fit objects go that take overhead bytes each beside their
// own.
func (c Scale) Memory(overhead int64) int64 {
	mean := sizeMedian * math.Exp(sizeSigma*sizeSigma/2)
	return int64(float64(c.Fit) * (mean + float64(overhead)))
}

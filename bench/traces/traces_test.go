package traces

import (
	"math"
	"testing"

	"github.com/larder-cache/larder/store"
)

// TestScanLeavesTheHotSet: a crawler that passes over two hundred times what the cache holds, as
// often asking as all others, leaves them a share of the hits that plain LRU has without it. Traces
// and keys are the same in each run, so this is no matter of time or chance.
func TestScanLeavesTheHotSet(t *testing.T) {
	if racing {
		t.Skip("one goroutine drives, a hundred times slower")
	}
	const seed, s = 20261121, 0.9
	calm, scanned := Short.zipf("calm", s, seed), Short.scanned("scanned", s, seed)
	overhead, err := Overhead(calm)
	if err != nil {
		t.Fatal(err)
	}
	memory := Short.Memory(overhead)
	before := LRU(calm, memory, overhead).Objects
	for _, tt := range []struct {
		policy store.Eviction
		keeps  float64
	}{
		{store.LRU, 1},
		{store.LFU, 1},
	} {
		t.Run(tt.policy.String(), func(t *testing.T) {
			during, err := Drive(scanned, memory, tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.4f of the others' requests are hits, %.4f of plain LRU's without the crawler", during.Objects, before)
			if during.Objects < tt.keeps*before {
				t.Errorf("%.2f of the hits are left, want %.2f", during.Objects/before, tt.keeps)
			}
		})
	}
}

// sequence is a trace of objects of one byte.
func sequence(objects ...int32) *Trace {
	t := &Trace{Sizes: make([]int64, 10)}
	for i := range t.Sizes {
		t.Sizes[i] = 1
	}
	for _, object := range objects {
		t.Requests = append(t.Requests, Request{Object: object})
	}
	return t
}

// TestReferences: the reference caches, against hits counted by hand.
func TestReferences(t *testing.T) {
	for _, tt := range []struct {
		name             string
		trace            *Trace
		capacity         int64
		lru, clairvoyant float64 // hits
	}{
		{"all fit", sequence(1, 2, 1, 2), 2, 2, 2},
		{"a loop that does not", sequence(1, 2, 3, 1, 2, 3, 1, 2, 3), 2, 0, 4},
		{"scan", sequence(1, 1, 2, 3, 4, 1), 1, 1, 2},
		// The textbooks' string has 9 faults where what comes must be taken in; one of them is
		// spared where it need not.
		{"the textbooks' string", sequence(7, 0, 1, 2, 0, 3, 0, 4, 2, 3, 0, 3, 2, 1, 2, 0, 1, 7, 0, 1), 3, 8, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := float64(len(tt.trace.Requests))
			if got := LRU(tt.trace, tt.capacity, 0).Objects * n; math.Abs(got-tt.lru) > 1e-9 {
				t.Errorf("LRU: %v hits, want %v", got, tt.lru)
			}
			if got := Clairvoyant(tt.trace, tt.capacity, 0).Objects * n; math.Abs(got-tt.clairvoyant) > 1e-9 {
				t.Errorf("clairvoyant: %v hits, want %v", got, tt.clairvoyant)
			}
		})
	}
}

// TestClairvoyantIsTheBound: on objects of one size nothing makes more hits.
func TestClairvoyantIsTheBound(t *testing.T) {
	small := Scale{Objects: 3000, Requests: 20_000, Scan: 20_000, Fit: 300}
	for _, trace := range All(small, 1) {
		for i := range trace.Sizes {
			trace.Sizes[i] = 1000
		}
		overhead, err := Overhead(trace)
		if err != nil {
			t.Fatal(err)
		}
		memory := int64(small.Fit) * (1000 + overhead)
		most := Clairvoyant(trace, memory, overhead).Objects
		if got := LRU(trace, memory, overhead).Objects; got > most {
			t.Errorf("%s: LRU %.4f, more than %.4f", trace.Name, got, most)
		}
		for _, policy := range []store.Eviction{store.LRU, store.LFU, store.FIFO} {
			got, err := Drive(trace, memory, policy)
			if err != nil {
				t.Fatal(err)
			}
			if got.Objects > most {
				t.Errorf("%s: %v %.4f, more than %.4f", trace.Name, policy, got.Objects, most)
			}
		}
	}
}

// TestZipf: the ranks come as often as the law says.
func TestZipf(t *testing.T) {
	const n, draws = 100, 200_000
	z, random := NewZipf(n, 0.9), randomOf(1, 1)
	var counts [n]int
	for range draws {
		counts[z.Draw(random)]++
	}
	for _, rank := range []int{1, 9, 99} {
		want := float64(counts[0]) * math.Pow(float64(rank+1), -0.9)
		if got := float64(counts[rank]); math.Abs(got-want) > 5*math.Sqrt(want)+0.05*want {
			t.Errorf("rank %d: drawn %v times, want about %.0f", rank, got, want)
		}
	}
}

package warm

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Bounds of what logs are counted in.
const (
	maxFrequencyURLs  = 1_000_000
	maxFrequencyBytes = 128 << 20
)

// frequency counts how often texts occur, in bounded memory. Up to the bounds it is exact. Past
// them all counts are lowered by one together, and those that are 0 are forgotten (Misra and
// Gries), so that what occurs often stays, and a count is too low by the total divided by the
// number of texts that fit, at most.
type frequency struct {
	counts          map[string]int
	bytes           int
	most, mostBytes int
}

func newFrequency(most, mostBytes int) *frequency {
	return &frequency{counts: make(map[string]int), most: most, mostBytes: mostBytes}
}

func (f *frequency) add(text string) {
	if n, known := f.counts[text]; known {
		f.counts[text] = n + 1
		return
	}
	if len(f.counts) >= f.most || f.bytes+len(text) > f.mostBytes {
		f.lower() // in place of text, which would be 1
		return
	}
	f.counts[text] = 1
	f.bytes += len(text)
}

func (f *frequency) lower() {
	for text, n := range f.counts {
		if n > 1 {
			f.counts[text] = n - 1
			continue
		}
		delete(f.counts, text)
		f.bytes -= len(text)
	}
}

// ranked returns the texts, the most frequent first, equal ones in their own order.
func (f *frequency) ranked() []string {
	return slices.SortedFunc(maps.Keys(f.counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.counts[b], f.counts[a]), strings.Compare(a, b))
	})
}

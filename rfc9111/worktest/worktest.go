// Package worktest holds what reads fields to a cost that grows with their length and no faster.
//
// A cost has two parts. What is allocated is counted, and nearly the same on every machine.
// Processor time is compared twice. First with that of passes over a harmless field of the same
// length: a parser that looks at each byte a few times takes some tens of passes, one that looks at
// each byte for each other takes tens of thousands. Within some hundreds of passes nothing else
// counts. Past that, as with all that a cache does for a request, or on a machine that has other
// work, the cost of a field is compared with that of an eighth of it: what is linear takes eight
// times as long, what is quadratic 64 times. Both are measured in turns, and of each the least
// counts: whatever else the machine does makes one measurement larger and none smaller. So a slow
// machine does not fail what is linear, and no time but the processor's is looked at.
package worktest

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/cputime"
)

const (
	// Length of the fields that are read.
	Length = 32 << 10
	// maxPasses is how many passes over a harmless field reading one may take, whatever its growth.
	// The square of Length is 32,768 passes.
	maxPasses = 1000
	// part is how much shorter the field is with which one is compared that takes more passes.
	part = 8
	// maxGrowth is how many times as long as that it may take: the middle between part and its
	// square, as factors.
	maxGrowth = 24
	// maxAllocated is how many bytes may be allocated for one byte that is read.
	maxAllocated = 512
	// slack is what may be allocated and is not of the field: the runtime's, other goroutines'.
	slack = 64 << 10
	// attempts is how often a cost beyond the limits is measured again, and hopeless how often one
	// that is far beyond them.
	attempts, hopeless = 20, 4
)

// Reader reads the lines of a field, as they stand in an http.Header.
type Reader func(lines []string)

// field makes the lines of a field of some length.
type field func(length int) []string

// Check fails the test if read costs more than its length allows, for any of the fields that are
// made of head, of as many units as there is room for, and of tail: one line of all, and a line for
// each unit. A # in the unit is its number, so that all are different.
func Check(t testing.TB, what string, read Reader, head, unit, tail string) {
	t.Helper()
	units := func(length int) []string { return repeat(unit, length-len(head)-len(tail)) }
	for form, fieldOf := range map[string]field{
		"one line":   func(length int) []string { return []string{head + strings.Join(units(length), "") + tail} },
		"many lines": func(length int) []string { return append(append([]string{head}, units(length)...), tail) },
	} {
		if c := measure(read, fieldOf); !c.ok() {
			t.Errorf("%s of %d bytes in %s, %q %q… %q: %s", what, Length, form, head, unit, tail, c)
		}
	}
}

// cost is what reading a field of Length has cost at least.
type cost struct {
	passes    int64
	growth    int64 // how many times as long it took as one of a part; 0 if that was not asked
	allocated int64 // bytes for each byte
}

func (c cost) ok() bool {
	return (c.passes <= maxPasses || 0 < c.growth && c.growth <= maxGrowth) && c.allocated <= maxAllocated
}

func (c cost) String() string {
	return fmt.Sprintf("%d passes (at most %d, or %d times what a part of 1/%d takes: %d), %d bytes allocated for a byte (at most %d)",
		c.passes, maxPasses, maxGrowth, part, c.growth, c.allocated, maxAllocated)
}

// repeat returns units of n bytes together, or a little more.
func repeat(unit string, n int) []string {
	if unit == "" {
		unit = "a"
	}
	var units []string
	for i := 0; n > 0; i++ {
		one := strings.ReplaceAll(unit, "#", strconv.Itoa(i))
		units = append(units, one)
		n -= len(one)
	}
	return units
}

// measure takes the least of several measurements. It ends with the first that is within the
// limits, or when more would be of no use.
func measure(read Reader, fieldOf field) (c cost) {
	const passesAtOnce = 32 // so many take a millisecond: the clock counts microseconds
	harmless, lines, shorter := strings.Repeat("a", Length), fieldOf(Length), fieldOf(Length/part)
	whole, some, fastest := time.Duration(1<<62), time.Duration(1<<62), time.Duration(1<<62)
	c.allocated = 1 << 62
	for attempt := 1; attempt <= attempts; attempt++ {
		fastest = min(fastest, timed(func() {
			for range passesAtOnce {
				pass(harmless)
			}
		})/passesAtOnce)
		before := totalAllocated()
		whole = min(whole, timed(func() { read(lines) }))
		c.allocated = min(c.allocated, max(0, totalAllocated()-before-slack)/Length)
		c.passes = int64(whole / max(fastest, time.Nanosecond))
		if c.passes > maxPasses {
			some = min(some, timed(func() { read(shorter) }))
			c.growth = max(1, int64(whole/max(some, time.Nanosecond)))
		}
		if c.ok() || attempt >= hopeless && (c.growth > 2*maxGrowth || c.allocated > 2*maxAllocated) {
			break
		}
	}
	return c
}

func timed(f func()) time.Duration {
	begun := cputime.Used()
	f()
	return cputime.Used() - begun
}

func totalAllocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}

// pass looks at each byte once, through a table, as the parsers do. Its result keeps the loop from
// being optimised away.
//
//go:noinline
func pass(s string) byte {
	sum := byte(0)
	for i := range len(s) {
		sum ^= table[s[i]]
	}
	return sum
}

var table = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i) * 7
	}
	return t
}()

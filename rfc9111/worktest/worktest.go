// Package worktest holds what reads fields to a cost that grows with their length and no faster.
//
// A cost has two parts. What is allocated is counted, and the same on every machine. Processor time
// is compared with that of passes over a harmless field of the same length, on the same machine in
// the same minute: a parser that looks at each byte a few times takes some tens of passes, one that
// looks at each byte for each other takes tens of thousands, and the limit lies in between, far
// from both.
package worktest

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// Length of the fields that are read.
	Length = 32 << 10
	// maxPasses is how many passes over a harmless field reading one may take. The square of Length
	// is 32,768 passes.
	maxPasses = 1000
	// maxAllocated is how many bytes may be allocated for one byte that is read.
	maxAllocated = 256
	// slack is what may be allocated and is not of the field: the runtime's, other goroutines'.
	slack = 64 << 10
)

// Reader reads the lines of a field, as they stand in an http.Header.
type Reader func(lines []string)

// Check fails the test if read costs more than its length allows, for any of the fields that are
// made of head, of as many units as there is room for, and of tail: one line of all, and a line for
// each unit. A # in the unit is its number, so that all are different.
func Check(t testing.TB, what string, read Reader, head, unit, tail string) {
	t.Helper()
	units := repeat(unit, Length-len(head)-len(tail))
	for _, lines := range [][]string{{head + strings.Join(units, "") + tail}, append(append([]string{head}, units...), tail)} {
		if passes, allocated, ok := measure(read, lines); !ok {
			t.Errorf("%s of %d bytes in %d lines, %q %q… %q: %d passes (at most %d), %d bytes allocated for a byte (at most %d)",
				what, Length, len(lines), head, unit, tail, passes, maxPasses, allocated, maxAllocated)
		}
	}
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

// measure takes the least of several measurements, since whatever else the machine does makes one
// larger and none smaller. It ends with the first that is within the limits, or when more would be
// of no use.
func measure(read Reader, lines []string) (passes, allocated int64, ok bool) {
	const attempts, patience = 20, 2 * time.Second
	const passesAtOnce = 32 // so many take a millisecond: the clock counts microseconds
	harmless := strings.Repeat("a", Length)
	least, fastest := time.Duration(1<<62), time.Duration(1<<62)
	allocated = 1 << 62
	begun := time.Now()
	for attempt := 1; attempt <= attempts; attempt++ {
		fastest = min(fastest, timed(func() {
			for range passesAtOnce {
				pass(harmless)
			}
		})/passesAtOnce)
		before := totalAllocated()
		least = min(least, timed(func() { read(lines) }))
		allocated = min(allocated, max(0, totalAllocated()-before-slack)/Length)
		passes = int64(least / max(fastest, time.Nanosecond))
		if passes <= maxPasses && allocated <= maxAllocated {
			return passes, allocated, true
		}
		if attempt >= 3 && time.Since(begun) > patience {
			break
		}
	}
	return passes, allocated, false
}

func timed(f func()) time.Duration {
	begun := cpuTime()
	f()
	return cpuTime() - begun
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

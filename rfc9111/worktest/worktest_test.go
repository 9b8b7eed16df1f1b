package worktest

import (
	"strings"
	"testing"
)

// TestMeasure holds that what is measured tells a parser that is linear from one that is not.
func TestMeasure(t *testing.T) {
	if Raced {
		t.Skip("the race detector has nothing to find here, and makes it ten times slower")
	}
	line := func(length int) []string { return []string{strings.Repeat("a", length)} }
	kept := 0
	for name, tc := range map[string]struct {
		read Reader
		ok   bool
	}{
		"nothing":                   {func([]string) {}, true},
		"looks":                     {func(lines []string) { kept += strings.Count(strings.ToUpper(lines[0]), "A") }, true},
		"looks behind":              {func(lines []string) { kept += lookBehind(lines[0]) }, false},
		"looks behind a part of it": {func(lines []string) { kept += lookBehind(lines[0][:len(lines[0])/2]) }, false},
		"is slow": {func(lines []string) {
			for range 4 * maxPasses {
				kept += int(pass(lines[0])) + 1
			}
		}, true},
		"is slow at the beginning": {func(lines []string) {
			for range 400_000_000 / len(lines[0]) {
				kept += int(pass(lines[0])) + 1
			}
		}, true},
		"keeps all": {func(lines []string) {
			for i := range lines[0] {
				copied = []byte(lines[0][i:])
				kept += len(copied)
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if c := measure(tc.read, line); c.ok() != tc.ok {
				t.Errorf("%s: within the limits %v, want %v", c, c.ok(), tc.ok)
			}
		})
	}
	if kept == 0 {
		t.Error("nothing was read")
	}
}

var copied []byte // escapes

// lookBehind counts, for each byte, those behind it that are the same.
func lookBehind(s string) (n int) {
	for i := range len(s) {
		for j := i + 1; j < len(s); j++ {
			if s[i] == s[j] {
				n++
			}
		}
	}
	return n
}

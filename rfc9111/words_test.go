package rfc9111

import (
	"fmt"
	"testing"
)

// TestWords holds that every constant of every enumeration has a word of its own, and that what is
// none says so.
func TestWords(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    int
		word func(uint8) fmt.Stringer
	}{
		{"Reason", int(reasonCount), func(i uint8) fmt.Stringer { return Reason(i) }},
		{"LifetimeSource", int(SourceHeuristic) + 1, func(i uint8) fmt.Stringer { return LifetimeSource(i) }},
		{"Use", int(UseNever) + 1, func(i uint8) fmt.Stringer { return Use(i) }},
		{"Forward", int(ForwardPartial) + 1, func(i uint8) fmt.Stringer { return Forward(i) }},
		{"Verdict", int(NotModified) + 1, func(i uint8) fmt.Stringer { return Verdict(i) }},
		{"SetCookie", int(SetCookieStore) + 1, func(i uint8) fmt.Stringer { return SetCookie(i) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen := make(map[string]int)
			for i := range tc.n {
				word := tc.word(uint8(i)).String()
				if other, twice := seen[word]; twice || word == "unknown" {
					t.Errorf("%d and %d are both %q", other, i, word)
				}
				seen[word] = i
			}
			if got := tc.word(uint8(tc.n)).String(); got != "unknown" {
				t.Errorf("%d is %q", tc.n, got)
			}
		})
	}
}

func TestReasons(t *testing.T) {
	for _, r := range Reasons() {
		if r == Storable || !isSFToken(r.String()) {
			t.Errorf("%d: %q is no token", r, r)
		}
	}
}

package spelling

import (
	"slices"
	"testing"
)

func TestNearest(t *testing.T) {
	names := []string{"query", "header", "headers", "stale_if_error", "stale_while_revalidate", "ttl"}
	for text, want := range map[string][]string{
		"qeury":    {"query"}, // two letters that have changed places are one mistake
		"Header":   {"header"},
		"heade":    {"header"},
		"headerz":  {"header", "headers"},
		"stale_if": {"stale_if_error"},
		"stale":    {"stale_if_error", "stale_while_revalidate"},
		"st":       nil,
		"tt":       {"ttl"},
		"cookie":   nil,
	} {
		if got := Nearest(text, names); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestEachNewestTagged goes through the tags of a file that begin alike, with the entry of each
// that came last.
func TestEachNewestTagged(t *testing.T) {
	clock := newTestClock()
	cfg := Config{Path: t.TempDir(), Required: true, Now: clock.now}
	s := openStore(t, cfg, Settings{Memory: 16 << 20, Disk: 64 << 20})
	put := func(n int, keep time.Duration, tags ...string) {
		e := testEntry(s, fmt.Sprintf("http://example.com/%d", n), nil, tags...)
		e.KeepUntil = clock.now().Add(keep)
		if r := s.Put(e, 0); r != Stored {
			t.Fatalf("Put = %v", r)
		}
	}
	put(1, time.Hour, "p\x00a", "p\x00b", "o")
	put(2, time.Hour, "p\x00a", "p\x00\x00")
	put(3, time.Second, "p\x00c")
	put(4, time.Hour, "p\x00d")
	put(5, time.Hour, "q")
	if err := s.Sync(); err != nil {
		t.Fatalf("Sync: %v", err)
	}
	clock.advance(time.Minute)
	ticket := s.Begin() // keeps the purge from being swept
	defer ticket.End()
	if _, err := s.Purge(Selectors{Tags: []string{"p\x00d"}}, PurgeOptions{}); err != nil {
		t.Fatalf("Purge: %v", err)
	}
	walk := func(prefix string, limit int) (seen []string) {
		err := s.EachNewestTagged(prefix, func(tag string, e *Entry) bool {
			seen = append(seen, tag+" "+e.URL[len("http://example.com/"):])
			return len(seen) < limit
		})
		if err != nil {
			t.Errorf("EachNewestTagged: %v", err)
		}
		return seen
	}
	for _, tt := range []struct {
		prefix string
		limit  int
		want   []string
	}{
		{"p\x00", 10, []string{"p\x00\x00 2", "p\x00a 2", "p\x00b 1"}},
		{"p\x00", 2, []string{"p\x00\x00 2", "p\x00a 2"}},
		{"q", 10, []string{"q 5"}},
		{"r", 10, nil},
	} {
		if seen := walk(tt.prefix, tt.limit); !slices.Equal(seen, tt.want) {
			t.Errorf("%q up to %d: %q, want %q", tt.prefix, tt.limit, seen, tt.want)
		}
	}
}

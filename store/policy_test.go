package store

import (
	"fmt"
	"slices"
	"testing"
)

// evictionOrder empties a policy and names the items in the order they went.
func evictionOrder(p policy) (names []string) {
	for it := p.victim(); it != nil; it = p.victim() {
		p.remove(it)
		names = append(names, it.entry.URL)
	}
	return names
}

func TestPolicyOrder(t *testing.T) {
	for _, tt := range []struct {
		policy Eviction
		uses   string // each letter uses the item of that name; a, b, c, d were added in this order
		want   []string
	}{
		{LRU, "", []string{"a", "b", "c", "d"}},
		{LRU, "acca", []string{"b", "d", "c", "a"}},
		{FIFO, "acca", []string{"a", "b", "c", "d"}},
		{None, "acca", []string{"a", "b", "c", "d"}},
		{LFU, "", []string{"a", "b", "c", "d"}},
		{LFU, "aaaaacccb", []string{"d", "b", "a", "c"}}, // a has 6 uses and c 4: of one class, a the older
		{LFU, "aaaaaaacb", []string{"d", "c", "b", "a"}},
	} {
		t.Run(fmt.Sprintf("%v after %q", tt.policy, tt.uses), func(t *testing.T) {
			p := newPolicy(tt.policy)
			items := map[rune]*item{}
			for _, name := range "abcd" {
				items[name] = &item{entry: &Entry{URL: string(name)}}
				p.add(items[name])
			}
			for _, name := range tt.uses {
				p.touch(items[name])
			}
			if got := evictionOrder(p); !slices.Equal(got, tt.want) {
				t.Errorf("evicted %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLFUForgets has an item that was used much, long ago, go before one that is used now.
func TestLFUForgets(t *testing.T) {
	p := newPolicy(LFU)
	old := &item{entry: &Entry{URL: "old"}}
	p.add(old)
	now := &item{entry: &Entry{URL: "now"}}
	p.add(now)
	for range 300 {
		p.touch(old)
	}
	for range 400 {
		p.touch(now)
	}
	if got := evictionOrder(p); !slices.Equal(got, []string{"old", "now"}) {
		t.Errorf("evicted %q", got)
	}
}

func TestParseEviction(t *testing.T) {
	for _, e := range []Eviction{LRU, LFU, FIFO, None} {
		if got, err := ParseEviction(e.String()); got != e || err != nil {
			t.Errorf("ParseEviction(%q) = %v, %v", e, got, err)
		}
	}
	if _, err := ParseEviction("mru"); err == nil {
		t.Error("an unknown policy is accepted")
	}
}

package store

import (
	"fmt"
	"testing"
)

// cast are items for a policy, by name, each of the same cost.
type cast struct {
	items *table
	names map[*item]rune
	of    map[rune]*item
}

func newCast(names string) *cast {
	c := &cast{items: newTable(), names: map[*item]rune{}, of: map[rune]*item{}}
	for _, name := range names {
		it := c.items.take()
		it.units = 1
		c.names[it], c.of[name] = name, it
	}
	return c
}

// evictionOrder empties a policy and names the items in the order they went.
func (c *cast) evictionOrder(p policy) (names string) {
	for it := p.victim(); it != nil; it = p.victim() {
		p.remove(it)
		names += string(c.names[it])
	}
	return names
}

func TestPolicyOrder(t *testing.T) {
	for _, tt := range []struct {
		policy Eviction
		uses   string // each letter uses the item of that name; a, b, c, d were added in this order
		want   string
	}{
		{LRU, "", "abcd"},
		{LRU, "acca", "bdca"},
		{FIFO, "acca", "abcd"},
		{None, "acca", "abcd"},
		{LFU, "", "abcd"},
		{LFU, "aaaaacccb", "dbac"}, // a has 6 uses and c 4: of one class, a the older
		{LFU, "aaaaaaacb", "dcba"},
	} {
		t.Run(fmt.Sprintf("%v after %q", tt.policy, tt.uses), func(t *testing.T) {
			c := newCast("abcd")
			p := newPolicy(tt.policy, c.items)
			for _, name := range "abcd" {
				p.add(c.of[name])
			}
			for _, name := range tt.uses {
				p.touch(c.of[name])
			}
			if got := c.evictionOrder(p); got != tt.want {
				t.Errorf("evicted %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLFUForgets has an item that was used much, long ago, go before one that is used now.
func TestLFUForgets(t *testing.T) {
	c := newCast("on") // old, now
	p := newPolicy(LFU, c.items)
	p.add(c.of['o'])
	p.add(c.of['n'])
	for range 300 {
		p.touch(c.of['o'])
	}
	for range 400 {
		p.touch(c.of['n'])
	}
	if got := c.evictionOrder(p); got != "on" {
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

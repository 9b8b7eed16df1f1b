package store

import (
	"fmt"
	"slices"
	"sync/atomic"
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
			p := newPolicy(tt.policy, c.items, new(atomic.Int64))
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

// slruModel is slru with slices for lists.
type slruModel struct {
	probation, protected []*item // the newest first
	share                int64   // of the budget
}

func (m *slruModel) cost(items []*item) (n int64) {
	for _, it := range items {
		n += it.cost()
	}
	return n
}

func (m *slruModel) remove(it *item) {
	isIt := func(o *item) bool { return o == it }
	m.probation, m.protected = slices.DeleteFunc(m.probation, isIt), slices.DeleteFunc(m.protected, isIt)
}

func (m *slruModel) touch(it *item) {
	m.remove(it)
	m.protected = slices.Insert(m.protected, 0, it)
	for m.cost(m.protected) > max(m.share, m.cost(m.protected)+m.cost(m.probation))*4/5 {
		last := len(m.protected) - 1
		m.probation = slices.Insert(m.probation, 0, m.protected[last])
		m.protected = m.protected[:last]
	}
}

func (m *slruModel) order() []*item {
	order := slices.Concat(m.protected, m.probation)
	slices.Reverse(order)
	return order
}

func TestSegmentedLRUAgainstModel(t *testing.T) {
	rng := seeded(t)
	items := newTable()
	var budget atomic.Int64
	budget.Store(2000 * shardCount)
	p, m := newSLRU(items, &budget), &slruModel{share: 2000}
	var have []*item
	for step := range 20_000 {
		switch n := rng.IntN(10); {
		case len(have) == 0 || (n < 3 && len(have) < 60):
			it := items.take()
			it.units = uint32(1+rng.IntN(20)) * 5 // so that a fifth is a whole number
			p.add(it)
			m.probation = slices.Insert(m.probation, 0, it)
			have = append(have, it)
		case n < 8:
			it := have[rng.IntN(len(have))]
			p.touch(it)
			m.touch(it)
		default:
			it := p.victim()
			if want := m.order()[0]; it != want {
				t.Fatalf("step %d: victim %d, want %d", step, it.self, want.self)
			}
			p.remove(it)
			m.remove(it)
			items.put(it)
			have = slices.DeleteFunc(have, func(o *item) bool { return o == it })
		}
		var order []*item
		p.each(func(it *item) { order = append(order, it) })
		if !slices.Equal(order, m.order()) {
			t.Fatalf("step %d: the order differs from the model's", step)
		}
	}
}

// TestScanLeavesTheHotSet: a crawler over many URLs evicts none of those that are asked for again
// and again, as long as they are no more than the protected may be.
func TestScanLeavesTheHotSet(t *testing.T) {
	s := openStore(t, Config{}, Settings{Memory: 8 << 20})
	hot := make([]Key, 1000)
	for i := range hot {
		e := testEntry(s, fmt.Sprintf("http://example.com/hot/%d", i), make([]byte, 1<<10))
		hot[i] = e.Key
		s.Put(e, 0)
		found := s.Lookup(e.Key, matchAny)
		found.Release()
	}
	for i := range 50_000 {
		s.Put(testEntry(s, fmt.Sprintf("http://example.com/scan/%d", i), make([]byte, 1<<10)), 0)
	}
	lost := 0
	for _, key := range hot {
		found := s.Lookup(key, matchAny)
		if found.Entry == nil {
			lost++
		}
		found.Release()
	}
	if lost > 0 {
		t.Errorf("%d of %d entries in use were lost to a scan", lost, len(hot))
	}
}

// TestLFUForgets has an item that was used much, long ago, go before one that is used now.
func TestLFUForgets(t *testing.T) {
	c := newCast("on") // old, now
	p := newPolicy(LFU, c.items, new(atomic.Int64))
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

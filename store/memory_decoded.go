package store

import "net/http"

// decodedSet keeps some resident entries of a shard in the form that Lookup returns, with what the
// handler has noted in their Derived, so that what is asked for all the time is not decoded each
// time. It is bounded by bytes, which count against the budget like everything else. Which one goes
// is CLOCK's choice: one that was used since the hand last came by stays another round. It is
// unlocked.
type decodedSet struct {
	slots []decodedSlot
	free  []uint32 // slots that are empty
	hand  int
	bytes int64
}

type decodedSlot struct {
	entry *Entry // nil: empty
	item  *item
	cost  int64
	used  bool
}

// decodedPart is the part of the budget for the decoded entries of all shards together.
const decodedPart = 32

// get returns an item's entry if it is there.
func (d *decodedSet) get(it *item) *Entry {
	if it.decoded == 0 {
		return nil
	}
	return d.slots[it.decoded-1].entry
}

// touch notes a use.
func (d *decodedSet) touch(it *item) {
	if it.decoded != 0 {
		d.slots[it.decoded-1].used = true
	}
}

// add takes in an entry unless it is too large for the limit; it returns by how much bytes has
// grown.
func (d *decodedSet) add(it *item, e *Entry, limit int64) int64 {
	before, cost := d.bytes, decodedCost(e)
	if it.decoded != 0 || cost > limit {
		return 0
	}
	d.shrink(limit - cost)
	var n int
	if last := len(d.free) - 1; last >= 0 {
		n = int(d.free[last])
		d.free = d.free[:last]
	} else {
		n = len(d.slots)
		d.slots = append(d.slots, decodedSlot{})
	}
	d.slots[n] = decodedSlot{entry: e, item: it, cost: cost}
	it.decoded = uint32(n + 1)
	d.bytes += cost
	return d.bytes - before
}

// shrink drops entries until at most limit bytes are left.
func (d *decodedSet) shrink(limit int64) {
	for d.bytes > limit {
		d.hand = (d.hand + 1) % len(d.slots)
		if slot := &d.slots[d.hand]; slot.used {
			slot.used = false
		} else if slot.entry != nil {
			d.remove(slot.item)
		}
	}
}

// remove drops an item's entry and returns its bytes.
func (d *decodedSet) remove(it *item) int64 {
	if it.decoded == 0 {
		return 0
	}
	slot := &d.slots[it.decoded-1]
	cost := slot.cost
	d.free = append(d.free, it.decoded-1)
	d.bytes -= cost
	*slot = decodedSlot{}
	it.decoded = 0
	return cost
}

// decodedEntry is an Entry with its body, in one allocation.
type decodedEntry struct {
	Entry
	extent extentBody
}

// decode makes the entry of an item. Its strings are its own; its body is read from the
// extent, which the caller has to hold.
func (s *Store) decode(it *item) *Entry {
	d := new(decodedEntry)
	r := s.memory.record(it)
	decodeInto(&d.Entry, it.id, r) // made here, or checked when it was read
	if s.memory.source(it) != 0 {
		d.Body = s.body(it)
	} else {
		d.extent = s.memory.bodyOf(it)
		d.Body = &d.extent
	}
	return &d.Entry
}

// body is the body of an item, which the caller has to hold.
func (s *Store) body(it *item) Body {
	if source := s.memory.source(it); source != 0 {
		r := s.memory.record(it)
		return &diskBody{s: s, id: source, key: r.key(), length: r.bodyLen()}
	}
	return s.memory.bodyOf(it)
}

// Estimates of what the runtime keeps for a decoded entry beside its strings. What the caller
// derives is about as much again: the header as it is sent.
const (
	decodedOverhead = 400               // the entry, a slot
	headerOverhead  = 48 + 300          // a map and its first slots
	fieldOverhead   = 16 + 24 + 16 + 24 // name, slice, value, map slot
	memoOverhead    = 300
)

// decodedCost estimates the bytes that a decoded entry and its Derived keep alive.
func decodedCost(e *Entry) int64 {
	n := int64(decodedOverhead + memoOverhead + len(e.URL) + len(e.Variant.Coding))
	// The header twice, for Derived.
	for i, h := range []http.Header{e.Header, e.Header, e.Trailer} {
		if i < 2 || len(h) > 0 {
			n += headerOverhead
		}
		for name, values := range h {
			n += fieldOverhead + int64(len(name))
			for _, v := range values {
				n += int64(len(v))
			}
		}
	}
	for i, name := range e.Variant.Names {
		n += 32 + int64(len(name)+len(e.Variant.Values[i]))
	}
	for _, tag := range e.Tags {
		n += 16 + int64(len(tag))
	}
	return n
}

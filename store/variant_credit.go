package store

import (
	"math"
	"sync"
)

// A client may name as many values of a field in Vary as it likes, and each is one more variant of
// the same URL. Of a key's variants those that have been asked for again have credit, and go after
// those that have only been stored: made-up values, each asked for once, push out each other. It is
// the memory tier's segmented lru once more, for the variants of one key.

// fullCredit is what a use of a variant gives it: for so many others that are stored while there
// is no room for all it is preferred to those that have none. So what is used no more goes in the
// end. 32 variants that take the place of 32 others, one after the other, need 32 rounds at most.
const fullCredit = 1 << 10

// creditShift is where the credit stands among the flags of an item.
const creditShift = 16

// credit is for how many more variants stored an item is preferred to those without. It changes
// under the shard's lock.
func (it *item) credit() uint32 { return it.flags.Load() >> creditShift }

func (it *item) setCredit(n uint32) {
	if it.credit() != n {
		it.clear(math.MaxUint16 << creditShift)
		it.set(n << creditShift)
	}
}

// spendCredit takes one off, and returns what there was.
func (it *item) spendCredit() uint32 {
	n := it.credit()
	if n > 0 {
		it.setCredit(n - 1)
	}
	return n
}

// variantUse is what is known of the use of a variant.
type variantUse struct {
	credit uint32
	age    uint64 // higher for what has not been used for longer, or stored
}

// variantToGo is which of the variants of a key goes, where there may be limit of them. Those with
// credit leave a fifth of the places to those without, so that a new one has time to be asked for
// again. While they have more than that it is the least recently used of all.
func variantToGo(uses []variantUse, limit int) int {
	least, oldest, proven := -1, -1, 0
	for i, u := range uses {
		if u.credit == 0 {
			if oldest < 0 || u.age > uses[oldest].age {
				oldest = i
			}
			continue
		}
		proven++
		if least < 0 || u.credit < uses[least].credit || u.credit == uses[least].credit && u.age > uses[least].age {
			least = i
		}
	}
	switch {
	case oldest < 0:
		return least
	case proven <= limit-max(1, limit/probationPart), uses[oldest].age > uses[least].age:
		return oldest
	}
	return least
}

// credits are those of entries with a Variant that disk look-ups have found, by id. Past
// their bound they are forgotten: a credit is a hint.
type credits struct {
	mu sync.Mutex
	of map[uint64]uint32
}

const maxCredits = 1 << 14

// use gives an entry full credit.
func (c *credits) use(id uint64) { c.give(id, fullCredit) }

func (c *credits) give(id uint64, n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.of[id]; c.of == nil || !known && len(c.of) >= maxCredits {
		c.of = make(map[uint64]uint32)
	}
	c.of[id] = n
}

// take returns the credit of an entry and forgets it.
func (c *credits) take(id uint64) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of[id]
	delete(c.of, id)
	return n
}

// spend takes one off, and returns what there was.
func (c *credits) spend(id uint64) uint32 {
	n := c.take(id)
	if n > 1 {
		c.give(id, n-1)
	}
	return n
}

// takeCredit is take, and spendCredit is spend, until the batch fails for want of room.
func (b *batch) takeCredit(id uint64) uint32 {
	return b.noteCredit(id, b.writer.credits.take(id))
}

func (b *batch) spendCredit(id uint64) uint32 {
	return b.noteCredit(id, b.writer.credits.spend(id))
}

func (b *batch) noteCredit(id uint64, credit uint32) uint32 {
	if credit > 0 {
		b.credits = append(b.credits, takenCredit{id, credit})
	}
	return credit
}

// idCredit is the credit of a resident entry.
type idCredit struct {
	id     uint64
	credit uint32
}

// spendCredits takes one off all resident variants of a key, and returns what they had.
func (m *memory) spendCredits(key *Key) (found []idCredit) {
	s := m.shard(*key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.variants(key, func(it *item) bool {
		found = append(found, idCredit{it.id, it.spendCredit()})
		return true
	})
	return found
}

package store

import (
	"math/bits"
	"sync/atomic"
)

// policy decides which resident item goes first. Implementations are unlocked structures: the shard
// that owns one holds its lock around every call.
type policy interface {
	add(it *item)
	touch(it *item)
	remove(it *item)
	// victim is the item to go next, still in the policy; nil when there is none.
	victim() *item
	// postpone has an item, which was the victim, go later, as if it were used now. Once it has
	// been asked to often enough all other items have been the victim.
	postpone(it *item)
	// each calls fn for every item, the one to go first first. fn must not change the policy.
	each(fn func(it *item))
}

// newPolicy makes a policy for one shard of a tier with a budget.
func newPolicy(e Eviction, items *table, budget *atomic.Int64) policy {
	switch e {
	case LFU:
		return newLFU(items)
	case FIFO, None: // None is asked for a victim only when the budget shrinks
		return &fifoPolicy{itemList{items: items}}
	case LRU:
	}
	return newSLRU(items, budget)
}

// itemList is an intrusive doubly linked list: front is the newest, back goes first. An item is in
// at most one list.
type itemList struct {
	items       *table
	front, back ref
}

func (l *itemList) pushFront(it *item) {
	it.prev, it.next = 0, l.front
	if l.front != 0 {
		l.items.at(l.front).prev = it.self
	} else {
		l.back = it.self
	}
	l.front = it.self
}

func (l *itemList) unlink(it *item) {
	if it.prev != 0 {
		l.items.at(it.prev).next = it.next
	} else {
		l.front = it.next
	}
	if it.next != 0 {
		l.items.at(it.next).prev = it.prev
	} else {
		l.back = it.prev
	}
	it.prev, it.next = 0, 0
}

// last is the item at the back, or nil.
func (l *itemList) last() *item {
	if l.back == 0 {
		return nil
	}
	return l.items.at(l.back)
}

// renew makes an item the newest.
func (l *itemList) renew(it *item) {
	l.unlink(it)
	l.pushFront(it)
}

// appendList moves all of o behind the back of l.
func (l *itemList) appendList(o *itemList) {
	switch {
	case o.front == 0:
		return
	case l.front == 0:
		l.front, l.back = o.front, o.back
	default:
		l.items.at(l.back).next, l.items.at(o.front).prev = o.front, l.back
		l.back = o.back
	}
	o.front, o.back = 0, 0
}

func (l *itemList) each(fn func(it *item)) {
	for r := l.back; r != 0; {
		it := l.items.at(r)
		r = it.prev
		fn(it)
	}
}

// fifoPolicy evicts what was stored first.
type fifoPolicy struct{ list itemList }

func (p *fifoPolicy) add(it *item)           { p.list.pushFront(it) }
func (p *fifoPolicy) touch(*item)            {}
func (p *fifoPolicy) remove(it *item)        { p.list.unlink(it) }
func (p *fifoPolicy) victim() *item          { return p.list.last() }
func (p *fifoPolicy) postpone(it *item)      { p.list.renew(it) }
func (p *fifoPolicy) each(fn func(it *item)) { p.list.each(fn) }

// probationPart is how much of a full shard is left to probation at least: a fifth.
const probationPart = 5

// slruPolicy is lru in two segments (Karedla, Love and Wherry, "Caching strategies to improve disk
// system performance", 1994). What is new is in probation; used a second time, it is protected. The
// victim is the least recently used of probation, and of the protected only when there is no other.
// So a crawler, which asks for each URL once, evicts what other crawlers left, and no more of what
// is asked for again and again than room for itself. When the protected have too many bytes, the
// least recently used of them go back to probation, where they are the last to go.
type slruPolicy struct {
	probation, protected itemList
	bytes                int64 // of both
	protectedBytes       int64
	budget               *atomic.Int64 // of all shards
}

func newSLRU(items *table, budget *atomic.Int64) *slruPolicy {
	return &slruPolicy{probation: itemList{items: items}, protected: itemList{items: items}, budget: budget}
}

func (p *slruPolicy) add(it *item) {
	it.protected = false
	p.probation.pushFront(it)
	p.bytes += it.cost()
}

func (p *slruPolicy) touch(it *item) {
	if it.protected {
		p.protected.unlink(it)
	} else {
		p.probation.unlink(it)
		it.protected = true
		p.protectedBytes += it.cost()
	}
	p.protected.pushFront(it)
	// A shard that is not full yet has room for both.
	full := max(p.bytes, p.budget.Load()/shardCount)
	for p.protectedBytes > full-full/probationPart {
		p.demote(p.protected.last())
	}
}

// demote sends an item back to probation, as the newest there.
func (p *slruPolicy) demote(it *item) {
	p.protected.unlink(it)
	p.probation.pushFront(it)
	it.protected = false
	p.protectedBytes -= it.cost()
}

func (p *slruPolicy) remove(it *item) {
	if p.bytes -= it.cost(); it.protected {
		p.protected.unlink(it)
		p.protectedBytes -= it.cost()
		it.protected = false
	} else {
		p.probation.unlink(it)
	}
}

func (p *slruPolicy) victim() *item {
	if it := p.probation.last(); it != nil {
		return it
	}
	return p.protected.last()
}

func (p *slruPolicy) postpone(it *item) { p.touch(it) }

func (p *slruPolicy) each(fn func(it *item)) {
	p.probation.each(fn)
	p.protected.each(fn)
}

// lfuClasses is one list for each power of two of uses, the last for 128 and more.
const lfuClasses = 9

// lfuPolicy evicts from the class with the fewest uses, within it the least recently used. Every
// use is O(1). Uses age: after ten uses for each item held, every class sinks into the one
// below, so that what was hot yesterday can go. Sinking splices whole lists; an item's own count is
// halved when it is next looked at, by the epochs that have passed.
type lfuPolicy struct {
	classes [lfuClasses]itemList
	count   int
	counted int // uses since the last epoch began
	epoch   uint32
}

func newLFU(items *table) *lfuPolicy {
	p := new(lfuPolicy)
	for i := range p.classes {
		p.classes[i].items = items
	}
	return p
}

func (p *lfuPolicy) add(it *item) {
	it.uses, it.epoch = 1, p.epoch
	p.classes[p.class(it)].pushFront(it)
	p.count++
}

func (p *lfuPolicy) touch(it *item) {
	p.classes[p.class(it)].unlink(it)
	it.uses >>= min(p.epoch-it.epoch, 8)
	it.epoch = p.epoch
	if it.uses < 255 {
		it.uses++
	}
	p.classes[p.class(it)].pushFront(it)
	if p.counted++; p.counted >= 10*p.count {
		p.age()
	}
}

func (p *lfuPolicy) remove(it *item) {
	p.classes[p.class(it)].unlink(it)
	p.count--
}

func (p *lfuPolicy) victim() *item {
	for i := range p.classes {
		if it := p.classes[i].last(); it != nil {
			return it
		}
	}
	return nil
}

// postpone moves an item up by a class: in its own it would be the victim again before those of
// higher ones.
func (p *lfuPolicy) postpone(it *item) {
	p.classes[p.class(it)].unlink(it)
	it.uses >>= min(p.epoch-it.epoch, 8)
	it.uses, it.epoch = uint8(min(max(2*uint16(it.uses), 1), 255)), p.epoch
	p.classes[p.class(it)].pushFront(it)
}

func (p *lfuPolicy) each(fn func(it *item)) {
	for i := range p.classes {
		p.classes[i].each(fn)
	}
}

// class is the list an item is in: that of its uses, less one for each epoch since they were
// counted. bits.Len(uses >> n) is bits.Len(uses) - n, which is why splicing and halving agree.
func (p *lfuPolicy) class(it *item) int {
	return bits.Len8(it.uses >> min(p.epoch-it.epoch, 8))
}

func (p *lfuPolicy) age() {
	p.counted = 0
	p.epoch++
	for i := 1; i < lfuClasses; i++ {
		p.classes[i].appendList(&p.classes[i-1])
		p.classes[i-1], p.classes[i] = p.classes[i], p.classes[i-1] // which is empty now
	}
}

package store

import (
	stdheap "container/heap"
	"math"
	"time"
)

// due is a moment at which something becomes of a resident item: from it on the item is only kept,
// or it has expired. The item may have left since.
type due struct {
	at  int64
	ref ref
}

// dueHeap has the next such moment of every resident of a shard, the soonest first: nothing is
// walked where nothing is due. A moment stays when its item leaves, and is dropped when its turn
// comes, or when there are too many of those.
type dueHeap []due

// dueBytes is what they take for each item, about: there are at most twice as many as items.
const dueBytes = 24

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

func (h *dueHeap) Push(x any) { *h = append(*h, x.(due)) }

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	*h = (*h)[:last]
	return d
}

// push and pop are those of the library without their allocations: every entry that is stored has
// one of each.
func (h *dueHeap) push(d due) {
	*h = append(*h, d)
	stdheap.Fix(h, len(*h)-1)
}

func (h *dueHeap) pop() due {
	soonest, last := (*h)[0], len(*h)-1
	h.Swap(0, last)
	if *h = (*h)[:last]; last > 0 {
		stdheap.Fix(h, 0)
	}
	h.giveBack()
	return soonest
}

// giveBack gives back what is left over when less than a quarter is used.
func (h *dueHeap) giveBack() {
	if n := len(*h); cap(*h) > expireStep && n < cap(*h)/4 {
		*h = append(make(dueHeap, 0, 2*n), *h...)
	}
}

// expect takes into account when something becomes of a resident next.
func (s *shard) expect(it *item) { s.expectAt(s.nextDue(it), it) }

// expectAt takes into account that something may become of a resident then.
func (s *shard) expectAt(at int64, it *item) {
	s.dues.push(due{at, it.self})
	if int64(len(s.dues)) > 2*s.entries.Load()+expireStep {
		s.dues = s.dues[:0]
		s.policy.each(func(it *item) { s.dues = append(s.dues, due{s.nextDue(it), it.self}) })
		stdheap.Init(&s.dues)
		s.dues.giveBack()
	}
	s.noteSoonest()
}

// nextDue is when something becomes of a resident next.
func (s *shard) nextDue(it *item) int64 {
	r := s.m.record(it)
	if it.is(isKept) {
		return r.keepUntil()
	}
	return min(r.keptFrom(), r.keepUntil())
}

func (s *shard) noteSoonest() {
	if len(s.dues) == 0 {
		s.soonest.Store(math.MaxInt64)
		return
	}
	s.soonest.Store(s.dues[0].at)
}

// settle does what is due, up to limit of it: residents that have expired are dropped, others go
// first from now on when room is needed.
func (s *shard) settle(now int64, limit int) {
	for ; limit > 0 && len(s.dues) > 0 && s.dues[0].at <= now; limit-- {
		it := s.m.items.at(s.dues.pop().ref)
		if !it.tryHold() {
			continue
		}
		if s.m.shards[it.shard] == s && it.is(isResident) && s.nextDue(it) <= now {
			if s.m.record(it).keepUntil() <= now {
				s.m.discard(s, it, Expired)
			} else {
				s.policy.keep(it)
				s.dues.push(due{s.nextDue(it), it.self})
			}
		}
		s.m.unhold(it)
	}
	s.noteSoonest()
}

// keptFirst is a policy under which residents that are only kept go first, the least recently used
// of them before others: what is fresh never makes room for them.
type keptFirst struct {
	policy // of all others
	kept   itemList
	shard  *shard
}

// keep moves an item to those that are only kept.
func (p *keptFirst) keep(it *item) {
	p.policy.remove(it)
	it.set(isKept)
	p.kept.pushFront(it)
	p.shard.keptBytes.Add(it.cost())
}

func (p *keptFirst) touch(it *item) {
	if !it.is(isKept) {
		p.policy.touch(it)
		return
	}
	p.kept.unlink(it)
	p.kept.pushFront(it)
}

func (p *keptFirst) remove(it *item) {
	if !it.is(isKept) {
		p.policy.remove(it)
		return
	}
	p.kept.unlink(it)
	it.clear(isKept)
	p.shard.keptBytes.Add(-it.cost())
}

func (p *keptFirst) victim() *item {
	if it := p.kept.last(); it != nil {
		return it
	}
	return p.policy.victim()
}

// keptAgain is when what is only kept, and was passed over because it was held, goes first again.
const keptAgain = time.Second

// postpone has what is only kept, and held, go in the order of the others for a while. It must not
// stand before those that give room: a search passes over few. After that it goes first again: by
// then it may have been given back.
func (p *keptFirst) postpone(it *item) {
	if !it.is(isKept) {
		p.policy.postpone(it)
		return
	}
	p.remove(it)
	p.policy.add(it)
	p.shard.expectAt(nanos(p.shard.m.now().Add(keptAgain)), it)
}

func (p *keptFirst) each(fn func(it *item)) {
	p.kept.each(fn)
	p.policy.each(fn)
}

// replace moves all other items to another policy, in their present order.
func (p *keptFirst) replace(next policy) {
	var items []*item
	p.policy.each(func(it *item) { items = append(items, it) })
	for _, it := range items {
		next.add(it)
	}
	p.policy = next
}

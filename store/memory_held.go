package store

import "sync"

// Items above 64 KiB count as held from when a look-up has found one until the last such hold is
// given up: see shrink. What is counted is exact. Of a large item every hold is taken away under
// the lock that it is counted under, which is its shard's: so the last one, and what it leaves, are
// seen by one release alone. The item is not freed while the lock is held, because its last hold
// would have to be taken away under it.
//
// A body that renewals have in common counts once, as long as the item that has it, or one of the
// renewals, is held by a look-up. A renewal's own hold on that item is none of a look-up, so they
// are told apart.

// bodyUse is what there is of an item's body beside the item.
type bodyUse struct {
	renewals int32 // items that have it in common with this one
	counted  int32 // those of them that count as held
}

// isLarge tells whether an item is counted while look-ups hold it.
func (it *item) isLarge() bool { return it.cost() > smallCharge }

// counting is the lock under which an item is counted as held, or not any more.
func (m *memory) counting(it *item) *sync.Mutex { return &m.shards[it.shard].counting }

// use is what there is of an item's body. The caller has the lock.
func (m *memory) use(it *item) bodyUse { return m.shards[it.shard].bodies[it.self] }

// change changes what there is of an item's body. The caller has the lock.
func (m *memory) change(it *item, renewals, counted int32) bodyUse {
	bodies := m.shards[it.shard].bodies
	use := bodies[it.self]
	use.renewals += renewals
	use.counted += counted
	if use == (bodyUse{}) {
		delete(bodies, it.self)
	} else {
		bodies[it.self] = use
	}
	return use
}

// noteHeld counts an item that a look-up has found, and holds, if it is large.
func (m *memory) noteHeld(it *item) {
	if !it.isLarge() {
		return
	}
	counting := m.counting(it)
	counting.Lock()
	defer counting.Unlock()
	if it.flags.Or(isHeld)&isHeld != 0 {
		return
	}
	if base := m.base(it); base == nil {
		if m.use(it).counted == 0 {
			m.held.Add(it.cost())
		}
	} else {
		m.held.Add(m.ownCost(it))
		if m.change(base, 0, 1).counted == 1 && !base.is(isHeld) {
			m.held.Add(base.cost())
		}
	}
}

// uncountHeld is the opposite. The caller has the lock.
func (m *memory) uncountHeld(it *item) {
	if it.flags.And(^isHeld)&isHeld == 0 {
		return
	}
	if base := m.base(it); base == nil {
		if m.use(it).counted == 0 {
			m.held.Add(-it.cost())
		}
	} else {
		m.held.Add(-m.ownCost(it))
		if m.change(base, 0, -1).counted == 0 && !base.is(isHeld) {
			m.held.Add(-base.cost())
		}
	}
}

// holdBase holds an item for one that has its body in common.
func (m *memory) holdBase(base *item) {
	counting := m.counting(base)
	counting.Lock()
	defer counting.Unlock()
	base.hold()
	m.change(base, 1, 0)
}

// release takes a hold away, and returns how many are left. Where only that of its shard is, and
// those of renewals, the item is not counted as held any more. ofRenewal says that the hold is that
// of one.
func (m *memory) release(it *item, ofRenewal bool) int32 {
	if !it.isLarge() && !ofRenewal {
		return it.holds.Add(-1)
	}
	counting := m.counting(it)
	counting.Lock()
	defer counting.Unlock()
	if ofRenewal {
		m.change(it, -1, 0)
	}
	use := m.use(it)
	n := it.holds.Add(-1)
	if left := n - use.renewals; left <= 0 || left == 1 && it.is(isResident) {
		m.uncountHeld(it)
	}
	return n
}

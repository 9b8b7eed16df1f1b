package store

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/store/internal/arena"
)

// shardCount is fixed: sixteen locks are enough for the cores a proxy has.
const shardCount = 16

// memory is the memory tier: shards under one byte budget. What counts is everything held: items,
// from when they are made until their last hold is given up, so those evicted but still queued for
// the disk or read by a client too; decoded entries; and reservations.
type memory struct {
	shards [shardCount]*shard
	items  *table
	arena  *arena.Arena
	now    func() time.Time
	used   atomic.Int64
	// inFlight is what used has of bodies in flight, see Store.Reserve.
	inFlight atomic.Int64
	budget   atomic.Int64
	evicts   atomic.Bool // the policy is not None
	counts   *counters
	queue    *queue // of the disk tier
	// tagSeed is of the hashes that indexes know tags by.
	tagSeed  maphash.Seed
	departed departures // of both tiers
}

func newMemory(settings Settings, counts *counters, now func() time.Time) *memory {
	m := &memory{now: now, counts: counts, items: newTable(), arena: arena.New(), tagSeed: maphash.MakeSeed()}
	m.budget.Store(settings.Memory)
	for i := range m.shards {
		m.shards[i] = newShard(m, settings.Eviction)
	}
	m.evicts.Store(settings.Eviction != None)
	return m
}

// decodedLimit is how many bytes of decoded entries one shard may keep.
func (m *memory) decodedLimit() int64 { return m.budget.Load() / decodedPart / shardCount }

func (m *memory) shard(key Key) *shard { return m.shards[key[0]%shardCount] }

// charge counts n bytes and evicts to make room. When that is not enough it takes them back and
// reports false.
func (m *memory) charge(n int64) bool {
	if n > m.budget.Load() {
		return false
	}
	m.used.Add(n)
	if m.used.Load() > m.budget.Load() {
		m.shrink(!m.evicts.Load())
	}
	if m.used.Load() > m.budget.Load() {
		m.used.Add(-n)
		return false
	}
	return true
}

// shrink evicts until the budget holds or nothing is left. Bytes of evicted items that wait for the
// disk or are being read are not free yet; counting them as freed keeps one slow disk from emptying
// the tier, at the price of an overshoot no larger than the queue and what is being read. keptOnly
// says that only those go that are only kept: a tier that evicts nothing else still gives their
// room to what comes.
func (m *memory) shrink(keptOnly bool) {
	var freed int64
	over := m.used.Load() - m.budget.Load()
	for over > freed && m.used.Load() > m.budget.Load() {
		n := m.evictOne(keptOnly)
		if n == 0 {
			return
		}
		freed += n
	}
}

// evictOne evicts one item and returns its cost; 0 when nothing is left. What is only kept goes
// first, from the shard with most of that. Of the others it is one of the fullest shard: keys are
// hashes, so its oldest is as old as any other's.
func (m *memory) evictOne(keptOnly bool) int64 {
	now := nanos(m.now())
	for _, s := range m.shards {
		if s.soonest.Load() <= now {
			m.settle(s, now, settleStep)
		}
	}
	for range shardCount {
		s := m.most(func(s *shard) int64 { return s.keptBytes.Load() })
		if s.keptBytes.Load() == 0 {
			if keptOnly {
				return 0
			}
			s = m.most(func(s *shard) int64 { return s.bytes.Load() })
		}
		s.mu.Lock()
		it := s.policy.victim()
		if it == nil || keptOnly && !it.is(isKept) { // emptied since it was chosen
			s.mu.Unlock()
			continue
		}
		before := s.decoded.bytes
		s.drop(it)
		freed := it.cost() + before - s.decoded.bytes
		m.departed.note(m.record(it).key(), Capacity, m.now())
		s.mu.Unlock()
		m.unhold(it)
		m.counts.evicted(MemoryTier, Capacity)
		return freed
	}
	return 0
}

// settleStep is how much of what is due in a shard an eviction sees to.
const settleStep = 64

// most is the shard with the most of something.
func (m *memory) most(of func(s *shard) int64) *shard {
	best := m.shards[0]
	for _, s := range m.shards[1:] {
		if of(s) > of(best) {
			best = s
		}
	}
	return best
}

// What slabs that are only partly used may take beyond the budget: a part of that, or the bytes.
const (
	scatteredPart  = 24
	scatteredBytes = 4 << 20
)

// overgrown tells whether what is resident, free slots included, has outgrown the budget by more
// than that. While there is room, free slots are left for entries of their size.
func (m *memory) overgrown(scattered int64) bool {
	budget := m.budget.Load()
	return m.evicts.Load() && m.used.Load()+scattered > budget+max(scatteredBytes, budget/scatteredPart)
}

// compact evicts what lies in the sparsest slab, so that its pages are free for other sizes: what
// is resident has to follow the budget, and not the largest there ever was of each size.
func (m *memory) compact() {
	var buf [arena.SlabSlots]uint32
	for _, r := range m.arena.Sparse(buf[:0]) {
		it := m.items.at(ref(r))
		if !it.tryHold() {
			continue
		}
		s := m.shards[it.shard]
		s.mu.Lock()
		m.discard(s, it, Capacity)
		s.mu.Unlock()
		m.unhold(it)
	}
}

// discard drops a resident item under the shard's lock held by the caller.
func (m *memory) discard(s *shard, it *item, why EvictionReason) {
	if !it.is(isResident) {
		return
	}
	s.drop(it)
	m.departed.note(m.record(it).key(), why, m.now())
	m.unhold(it)
	m.counts.evicted(MemoryTier, why)
}

// apply puts settings in force.
func (m *memory) apply(old, next Settings) {
	m.budget.Store(next.Memory)
	m.evicts.Store(next.Eviction != None)
	for _, s := range m.shards {
		s.mu.Lock()
		if old.Eviction != next.Eviction {
			s.setPolicy(next.Eviction)
		}
		before := s.decoded.bytes
		s.decoded.shrink(m.decodedLimit())
		m.used.Add(s.decoded.bytes - before)
		s.mu.Unlock()
	}
	m.shrink(false)
}

// clear drops everything; the caller has seen to it that nothing is put any more.
func (m *memory) clear() {
	for i := range m.shards {
		s := m.shards[i]
		s.mu.Lock()
		var items []*item
		s.policy.each(func(it *item) { items = append(items, it) })
		for _, it := range items {
			s.drop(it)
			m.unhold(it)
		}
		s.mu.Unlock()
	}
}

// expireStep is how many items one step handles under a shard's lock.
const expireStep = 512

// settle does a step of what is due in one shard.
func (m *memory) settle(s *shard, now int64, limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(now, limit)
}

// entries counts the resident items but for parts.
func (m *memory) entries() int64 {
	var n int64
	for _, s := range m.shards {
		n += s.entries.Load() - s.parts.Load()
	}
	return n
}

// usedSince tells whether an entry is resident and has been looked up since this was last asked.
func (m *memory) usedSince(key Key, id uint64) bool {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.find(&key, id)
	if it == nil || !it.is(isUsed) {
		return false
	}
	it.clear(isUsed)
	return true
}

// forgetDisk is for a file that has come anew: nothing is known to be the only variant any more,
// and of another file nothing is known to be there.
func (m *memory) forgetDisk(another bool) {
	for _, s := range m.shards {
		s.mu.Lock()
		for i := range s.stamps {
			s.stamps[i]++
		}
		s.policy.each(func(it *item) {
			it.clear(isComplete)
			if another {
				it.clear(isOnDisk)
			}
		})
		s.mu.Unlock()
	}
}

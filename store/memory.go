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
	// chunks is for bodies in flight, see Store.Chunk.
	chunks *arena.Arena
	now    func() time.Time
	used   atomic.Int64
	// inFlight is what used has of bodies in flight, see Store.Reserve, and refused is how often
	// there was no room for one.
	inFlight atomic.Int64
	refused  atomic.Uint64
	// beyond is what bodies on their way to disk take that is not in used.
	beyond atomic.Int64
	// passed is what bodies take that are passed on and not stored, beside used.
	passed atomic.Int64
	// fetches is what those under way take beside their bodies.
	fetches fetches
	// held is what used has of larger items that look-ups have found and that are not given back.
	held   atomic.Int64
	late   atomic.Int64 // how many items are to be written later
	budget atomic.Int64
	evicts atomic.Bool // the policy is not None
	// wanted says that nothing was left that would have given room.
	wanted  atomic.Bool
	readers memoryReaders
	counts  *counters
	queue   *queue // of the disk tier
	// tagSeed is of the hashes that indexes know tags by.
	tagSeed  maphash.Seed
	departed departures // of both tiers
}

func newMemory(settings Settings, counts *counters, now func() time.Time) *memory {
	m := &memory{now: now, counts: counts, items: newTable(), arena: arena.New(), chunks: arena.NewOfPages(), tagSeed: maphash.MakeSeed()}
	m.chunks.Keep(true) // there is often one body on its way, and then none
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
// reports false. large is as for shrink.
func (m *memory) charge(n int64, large bool) bool {
	if n > m.budget.Load() {
		return false
	}
	m.used.Add(n)
	if m.used.Load() > m.budget.Load() {
		m.shrink(!m.evicts.Load(), large)
	}
	if m.used.Load() > m.budget.Load() {
		m.used.Add(-n)
		return false
	}
	return true
}

// chargeItem is charge for an item.
func (m *memory) chargeItem(cost int64) bool { return m.charge(cost, cost > smallCharge) }

// smallCharge is up to where nothing makes room for bytes but the budget, see shrink.
const smallCharge = 64 << 10

// shrink evicts until the budget holds or nothing is left that would give room. keptOnly says that
// only those go that are only kept: a tier that evicts nothing else still gives their room to what
// comes.
//
// What is held gives none: a client that is slow to read, or reads nothing, holds what it is sent,
// and the queue of a slow disk what it is to write. Such items stay, and count as used now. Others
// would go for them one after the other, for nothing, until only they were left. When clients hold
// three quarters of the budget, of what is resident, what is not any more, bodies in flight and
// fetches, nothing goes for a large charge: it would be one more for them to hold. What they hold
// of what is small is not bounded so: see memory_readers.go.
func (m *memory) shrink(keptOnly, large bool) {
	for m.used.Load() > m.budget.Load() {
		if large && m.held.Load()+m.inFlight.Load()+m.fetches.charged.Load() > m.budget.Load()/4*3 {
			return
		}
		if !m.evictOne(keptOnly) {
			if !keptOnly {
				m.wanted.Store(true)
			}
			return
		}
	}
}

// evictOne evicts one item, and reports false when nothing is left that would give room. What is
// only kept goes first, from the shard with most of that. Of the others it is one of the fullest
// shard: keys are hashes, so its oldest is as old as any other's.
func (m *memory) evictOne(keptOnly bool) bool {
	now := nanos(m.now())
	for _, s := range m.shards {
		if s.soonest.Load() <= now {
			m.settle(s, now, settleStep)
		}
	}
	var without [shardCount]bool // nothing would give room there
	for range shardCount {
		i, n := m.most(&without, func(s *shard) int64 { return s.keptBytes.Load() })
		if n <= 0 {
			if keptOnly {
				return false
			}
			i, _ = m.most(&without, func(s *shard) int64 { return s.bytes.Load() })
		}
		s := m.shards[i]
		s.mu.Lock()
		it := s.victim(keptOnly)
		if it == nil {
			s.mu.Unlock()
			without[i] = true
			continue
		}
		s.drop(it)
		m.departed.note(m.record(it).key(), Capacity, m.now())
		s.mu.Unlock()
		m.unhold(it)
		m.counts.evicted(MemoryTier, Capacity)
		return true
	}
	return false
}

// settleStep is how much of what is due in a shard an eviction sees to.
const settleStep = 64

// most is the shard with the most of something, and how much that is, but for some shards.
func (m *memory) most(without *[shardCount]bool, of func(s *shard) int64) (best int, most int64) {
	most = -1
	for i, s := range m.shards {
		if n := of(s); !without[i] && n > most {
			best, most = i, n
		}
	}
	return best, most
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
		// Of one that is not resident yet the extent may not be written. But for this hold and the
		// shard's:
		if it.is(isResident) && m.givesRoom(it, 2) {
			m.discard(s, it, Capacity)
		}
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
	m.countFetches(0) // anew, by this budget
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
	m.shrink(false, false)
}

// clear drops everything; the caller has seen to it that nothing is put any more.
func (m *memory) clear() {
	m.chunks.Keep(false)
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
// and of another file nothing is known to be there. What was in the former is late.
func (m *memory) forgetDisk(another bool) {
	for _, s := range m.shards {
		s.mu.Lock()
		for i := range s.stamps {
			s.stamps[i]++
		}
		var gone []*item
		s.policy.each(func(it *item) {
			it.clear(isComplete)
			if another && it.is(isOnDisk) {
				it.clear(isOnDisk)
				gone = append(gone, it)
			}
		})
		for _, it := range gone {
			s.keepLate(it) // it was written once, so it does not count as skipped
		}
		s.mu.Unlock()
	}
}

package store

import (
	"sync/atomic"
	"time"
)

// shardCount is fixed: sixteen locks are enough for the cores a proxy has.
const shardCount = 16

// memory is the memory tier: shards under one byte budget. What counts is everything held: resident
// items, items evicted but still queued for the disk, and reservations.
type memory struct {
	shards [shardCount]*shard
	used   atomic.Int64
	budget atomic.Int64
	evicts atomic.Bool // the policy is not None
	counts *counters
}

func newMemory(settings Settings, counts *counters) *memory {
	m := &memory{counts: counts}
	for i := range m.shards {
		m.shards[i] = newShard(settings.Eviction)
	}
	m.budget.Store(settings.Memory)
	m.evicts.Store(settings.Eviction != None)
	return m
}

func (m *memory) shard(key Key) *shard { return m.shards[key[0]%shardCount] }

// charge counts n bytes and evicts to make room. When that is not enough it takes them back and
// reports false.
func (m *memory) charge(n int64) bool {
	if n > m.budget.Load() {
		return false
	}
	m.used.Add(n)
	if m.evicts.Load() {
		m.shrink()
	}
	if m.used.Load() > m.budget.Load() {
		m.used.Add(-n)
		return false
	}
	return true
}

// shrink evicts until the budget holds or nothing is left. Bytes of evicted items that wait for the
// disk are not free yet; counting them as freed keeps one slow disk from emptying the tier, at the
// price of an overshoot no larger than the queue.
func (m *memory) shrink() {
	var freed int64
	over := m.used.Load() - m.budget.Load()
	for over > freed && m.used.Load() > m.budget.Load() {
		n := m.evictOne()
		if n == 0 {
			return
		}
		freed += n
	}
}

// evictOne evicts from the fullest shard and returns the victim's cost; 0 when nothing is left. Keys
// are hashes, so the fullest shard's oldest is as old as anybody's.
func (m *memory) evictOne() int64 {
	for range shardCount {
		s := m.fullest()
		s.mu.Lock()
		it := s.policy.victim()
		if it != nil {
			s.drop(it)
			s.mu.Unlock()
			m.release(it, heldResident)
			m.counts.evicted(MemoryTier, Capacity)
			return it.cost
		}
		s.mu.Unlock() // emptied since it was chosen
	}
	return 0
}

func (m *memory) fullest() *shard {
	best := m.shards[0]
	for _, s := range m.shards[1:] {
		if s.bytes.Load() > best.bytes.Load() {
			best = s
		}
	}
	return best
}

// release clears what held the item and gives back its bytes when nothing else does.
func (m *memory) release(it *item, bit uint32) {
	if before := it.held.And(^bit); before == bit {
		m.used.Add(-it.cost)
	}
}

// discard drops a resident item under the shard's lock held by the caller.
func (m *memory) discard(s *shard, it *item, why Reason) {
	if !s.resident(it) {
		return
	}
	s.drop(it)
	m.release(it, heldResident)
	m.counts.evicted(MemoryTier, why)
}

// apply puts settings in force.
func (m *memory) apply(old, next Settings) {
	m.budget.Store(next.Memory)
	m.evicts.Store(next.Eviction != None)
	if old.Eviction != next.Eviction {
		for _, s := range m.shards {
			s.mu.Lock()
			s.setPolicy(next.Eviction)
			s.mu.Unlock()
		}
	}
	m.shrink()
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
			m.release(it, heldResident)
		}
		s.mu.Unlock()
	}
}

// expireStep is how many items one step looks at under a shard's lock.
const expireStep = 512

// expire drops the expired among the items of one shard that follow (url, id) in listing order and
// returns where to go on; an empty URL when the shard is through.
func (m *memory) expire(s *shard, now time.Time, url string, id uint64) (string, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var dead []*item
	seen := 0
	nextURL, nextID := "", uint64(0)
	s.index.urls.AscendGreaterOrEqual(&item{entry: &Entry{URL: url, ID: id}}, func(it *item) bool {
		if seen++; seen > expireStep {
			nextURL, nextID = it.entry.URL, it.entry.ID
			return false
		}
		if !now.Before(it.entry.KeepUntil) {
			dead = append(dead, it)
		}
		return true
	})
	for _, it := range dead {
		m.discard(s, it, Expired)
	}
	return nextURL, nextID
}

// entries counts the resident items.
func (m *memory) entries() int64 {
	var n int64
	for _, s := range m.shards {
		n += s.entries.Load()
	}
	return n
}

// find returns the resident item of an entry, or nil.
func (m *memory) find(key Key, id uint64) *item {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if node := s.keys[key]; node != nil {
		for _, it := range node.items {
			if it.entry.ID == id {
				return it
			}
		}
	}
	return nil
}

// forgetDisk is for a file that has come anew: nothing is known to be the only variant any more, and
// of another file nothing is known to be there.
func (m *memory) forgetDisk(another bool) {
	for _, s := range m.shards {
		s.mu.Lock()
		for i := range s.stamps {
			s.stamps[i]++
		}
		for _, node := range s.keys {
			node.complete = false
			for _, it := range node.items {
				if another {
					it.onDisk.Store(false)
				}
			}
		}
		s.mu.Unlock()
	}
}

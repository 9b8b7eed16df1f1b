package store

import (
	"math"
	"sync"
	"sync/atomic"
)

// stampCount is how many counters a shard has to notice that a key changed while its disk rows were
// read.
const stampCount = 64

// shard is one locked part of the memory tier. Lock order: shard, then queue.
type shard struct {
	m       *memory
	mu      sync.Mutex
	keys    hashMap[ref] // by keyPrefix: the first variant whose key begins so; see sibling
	policy  *keptFirst
	index   *index
	decoded decodedSet
	clock   uint32
	stamps  [stampCount]uint32
	absent  [stampCount]absence

	dues    dueHeap
	soonest atomic.Int64 // when the first of them is due

	entries, bytes atomic.Int64 // of resident items
	parts          atomic.Int64 // those of them with FlagPart
	keptBytes      atomic.Int64 // of those that are only kept

	late []ref // that are late, in no order to count on; some have left since. See disk_late.go

	counting sync.Mutex      // of what of its items is held, see memory_held.go
	bodies   map[ref]bodyUse // of those that have their body in common with others
}

func newShard(m *memory, e Eviction) *shard {
	s := &shard{m: m, index: newIndex(m), bodies: make(map[ref]bodyUse)}
	s.policy = &keptFirst{policy: newPolicy(e, m.items, &m.budget), kept: itemList{items: m.items}, shard: s}
	s.soonest.Store(math.MaxInt64)
	return s
}

// stamp counts the changes to the keys that share key's counter.
func (s *shard) stamp(key Key) *uint32 { return &s.stamps[key[1]%stampCount] }

// absence is a key of which there was nothing in memory, in the queue or on disk when its counter
// stood at stamp: nor is there anything as long as it does. A miss looks twice, before and after it
// joins a fetch, and what is not shareable is asked for again and again; the disk is asked once.
type absence struct {
	key   Key
	stamp uint32
	noted bool
}

// noteAbsent notes what a look-up that began at stamp has found out.
func (s *shard) noteAbsent(key *Key, stamp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent[key[1]%stampCount] = absence{*key, stamp, true}
}

// isAbsent tells whether it is still so. Of one counter the last key is known.
func (s *shard) isAbsent(key *Key) bool {
	a := &s.absent[key[1]%stampCount]
	return a.noted && a.stamp == *s.stamp(*key) && a.key == *key
}

// variants calls fn for every resident variant of a key, while fn agrees. fn may drop the item.
func (s *shard) variants(key *Key, fn func(it *item) bool) {
	for r, _ := s.keys.get(keyPrefix(*key)); r != 0; {
		it := s.m.items.at(r)
		r = it.sibling
		if s.hasKey(it, key) && !fn(it) {
			return
		}
	}
}

// hasKey compares the whole key: with some work, keys can be found that begin alike.
func (s *shard) hasKey(it *item, key *Key) bool {
	if e := s.decoded.get(it); e != nil {
		return e.Key == *key
	}
	return s.m.record(it).key() == *key
}

// complete tells whether the resident variants of a key are known to be all there are.
func (s *shard) complete(key *Key) (complete bool) {
	s.variants(key, func(it *item) bool { complete = it.is(isComplete); return false })
	return complete
}

// setComplete notes of all resident variants of a key whether they are all there are.
func (s *shard) setComplete(key *Key, complete bool) {
	s.variants(key, func(it *item) bool {
		if complete {
			it.set(isComplete)
		} else {
			it.clear(isComplete)
		}
		return true
	})
}

// count is how many variants of a key are resident.
func (s *shard) count(key *Key) (n int) {
	s.variants(key, func(*item) bool { n++; return true })
	return n
}

// find returns the resident item of an entry, or nil.
func (s *shard) find(key *Key, id uint64) (found *item) {
	s.variants(key, func(it *item) bool {
		if it.id == id {
			found = it
		}
		return found == nil
	})
	return found
}

// insert makes it resident.
func (s *shard) insert(it *item) {
	r := s.m.record(it)
	key := r.key()
	prefix := keyPrefix(key)
	it.sibling, _ = s.keys.get(prefix)
	if it.sibling != 0 && s.complete(&key) {
		it.set(isComplete)
	}
	s.keys.set(prefix, it.self)
	it.hold()
	it.set(isResident)
	s.policy.add(it)
	s.index.add(it)
	s.clock++
	it.lastUse = s.clock
	s.entries.Add(1)
	if r.isPart() {
		s.parts.Add(1)
	}
	s.bytes.Add(it.cost())
	s.expect(it)
}

// drop ends its residence. The caller gives up the hold (memory.unhold) when it is through with it.
func (s *shard) drop(it *item) {
	r := s.m.record(it)
	key := r.key()
	s.setComplete(&key, false)
	prefix := keyPrefix(key)
	if first, _ := s.keys.get(prefix); first != it.self {
		before := s.m.items.at(first)
		for before.sibling != it.self {
			before = s.m.items.at(before.sibling)
		}
		before.sibling = it.sibling
	} else if it.sibling != 0 {
		s.keys.set(prefix, it.sibling)
	} else {
		s.keys.delete(prefix)
	}
	it.sibling = 0
	s.endLate(it)
	it.clear(isResident | isComplete)
	s.policy.remove(it)
	s.index.remove(it)
	s.m.used.Add(-s.decoded.remove(it))
	s.entries.Add(-1)
	if r.isPart() {
		s.parts.Add(-1)
	}
	s.bytes.Add(-it.cost())
	if it.is(isQueued) {
		s.m.queue.leftMemory(it)
	}
}

// maxPassed is how many held items one search for a victim passes over in a shard.
const maxPassed = 64

// victim is the item to go next of those that give room when they go; nil where there is none.
// What is passed over counts as used now. keptOnly is as for shrink.
func (s *shard) victim(keptOnly bool) *item {
	for range maxPassed {
		it := s.policy.victim()
		if it == nil || keptOnly && !it.is(isKept) {
			return nil
		}
		if s.m.givesRoom(it, 1) {
			return it
		}
		s.policy.postpone(it)
	}
	return nil
}

// use notes a use of a resident item, whose entry is e.
func (s *shard) use(it *item, e *Entry) {
	s.clock++
	it.lastUse = s.clock
	s.policy.touch(it)
	if it.decoded == 0 {
		s.m.used.Add(s.decoded.add(it, e, s.m.decodedLimit()))
	} else {
		s.decoded.touch(it)
	}
}

// setPolicy puts another policy in force.
func (s *shard) setPolicy(e Eviction) { s.policy.replace(newPolicy(e, s.m.items, &s.m.budget)) }

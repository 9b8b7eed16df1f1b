package store

import (
	"slices"
	"time"
)

// Put stores e, in place of an entry of the same Key and an equal Variant. When the Key has more
// than maxVariants others, the least recently used goes; 0 means no limit. The entry belongs to the
// store from then on. It is found at once and on disk within a second, unless the write-behind
// queue is full: then it stays in memory only, and Stats.Skipped counts it.
func (s *Store) Put(e *Entry, maxVariants int) Refusal {
	if refusal := s.admit(e); refusal != Stored {
		return refusal
	}
	e.Tags = distinct(e.Tags)
	it := &item{entry: e, cost: cost(e)}
	toDisk := s.disk != nil && s.disk.up.Load() && s.keeper.fits(e, s.queue.waiting())
	resident := s.mayReside(it, toDisk) && s.makeRoom(it, maxVariants)
	if !resident && !toDisk {
		return RefusedFull
	}
	if resident {
		it.held.Store(heldResident)
	}
	sh := s.memory.shard(e.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e.ID = s.ids.Add(1) // under the lock: ids of a key ascend in the order of their effects
	*sh.stamp(e.Key)++
	s.replace(sh, e, maxVariants)
	if resident {
		sh.insert(it)
	} else if node := sh.keys[e.Key]; node != nil {
		node.complete = false
	}
	if !s.enqueue(it, maxVariants, toDisk) && !resident {
		return RefusedFull
	}
	return Stored
}

// distinct leaves out repeated tags: an index row is there once, and counted once.
func distinct(tags []string) []string {
	seen := make(map[string]struct{}, len(tags))
	for _, t := range tags {
		seen[t] = struct{}{}
	}
	if len(seen) == len(tags) {
		return tags
	}
	sorted := slices.Sorted(slices.Values(tags))
	return slices.Compact(sorted)
}

// admit checks what needs no room.
func (s *Store) admit(e *Entry) Refusal {
	settings := s.settings.Load()
	switch hard, _ := s.records.judge(e.URL, e.Tags, e.Generation, everything); {
	case !s.isOpen():
		return RefusedClosed
	case settings.MaxBody > 0 && e.Body.Len() > settings.MaxBody:
		return RefusedTooLarge
	case !s.now().Before(e.KeepUntil):
		return RefusedExpired
	case hard:
		return RefusedPurged
	}
	return Stored
}

// mayReside tells whether an entry should be in memory: not one that would push out much of the
// rest while the disk can have it, and not one whose body is read from the disk.
func (s *Store) mayReside(it *item, toDisk bool) bool {
	if _, onDisk := it.entry.Body.(*diskBody); onDisk {
		return false
	}
	return !toDisk || it.cost <= s.settings.Load().Memory/4
}

// makeRoom charges an item, at worst in place of the one it replaces: where nothing is evicted, a
// full tier could otherwise never be refreshed.
func (s *Store) makeRoom(it *item, maxVariants int) bool {
	if s.memory.charge(it.cost) {
		return true
	}
	sh := s.memory.shard(it.entry.Key)
	sh.mu.Lock()
	s.replace(sh, it.entry, maxVariants)
	sh.mu.Unlock()
	return s.memory.charge(it.cost)
}

// replace drops from memory and from the queue what e takes the place of.
func (s *Store) replace(sh *shard, e *Entry, maxVariants int) {
	if node := sh.keys[e.Key]; node != nil {
		for _, old := range node.items {
			if old.entry.Variant.Equal(&e.Variant) {
				old.dead.Store(true)
				s.memory.discard(sh, old, Replaced)
				break // there is one at most
			}
		}
	}
	var buf [4]*job
	for _, j := range s.queue.of(e.Key, buf[:0]) {
		if j.kind == jobPut && j.item.entry.Variant.Equal(&e.Variant) {
			j.item.dead.Store(true)
		}
	}
	for maxVariants > 0 {
		node := sh.keys[e.Key]
		if node == nil || len(node.items) < maxVariants {
			return
		}
		s.dropVariant(sh, node)
	}
}

// dropVariant drops the least recently used resident variant of a key, on disk too.
func (s *Store) dropVariant(sh *shard, node *keyNode) {
	oldest := node.items[0]
	for _, it := range node.items[1:] {
		if it.lastUse < oldest.lastUse {
			oldest = it
		}
	}
	oldest.dead.Store(true)
	s.memory.discard(sh, oldest, Variants)
	if s.disk != nil {
		s.queue.push(deletion(oldest.entry, Variants))
	}
}

// enqueue hands an item to the keeper; false when it has no room. Older rows of the variant are
// deleted then all the same, so that they do not come back when the item leaves memory. It runs
// under the shard's lock, so that jobs are in the order of their effects on memory.
func (s *Store) enqueue(it *item, maxVariants int, toDisk bool) bool {
	if s.disk == nil {
		return false
	}
	e := it.entry
	j := &job{
		kind: jobPut, item: it, key: e.Key, maxVariants: maxVariants, cost: it.cost + int64(deletionCost), at: time.Now(),
	}
	if body, ok := e.Body.(*diskBody); ok && toDisk {
		toDisk = s.disk.pins.pin(body.id) // until the job is done
	}
	if toDisk {
		if it.held.Or(heldQueued) == 0 {
			s.memory.used.Add(it.cost)
		}
		if s.queue.push(j) {
			return true
		}
		s.endPut(it)
	}
	s.counts.skipped.Add(1)
	s.queue.push(&job{kind: jobSupersede, item: it, key: e.Key, cost: deletionCost, at: j.at})
	return false
}

// endPut gives back what a jobPut holds.
func (s *Store) endPut(it *item) {
	s.memory.release(it, heldQueued)
	if body, ok := it.entry.Body.(*diskBody); ok {
		s.disk.pins.unpin(body.id)
	}
}

func deletion(e *Entry, why Reason) *job {
	return &job{kind: jobDelete, id: e.ID, key: e.Key, reason: why, cost: deletionCost, at: time.Now()}
}

// Remove forgets an entry that Lookup returned, in both tiers: one found unservable, say.
func (s *Store) Remove(e *Entry) {
	if !s.isOpen() {
		return
	}
	sh := s.memory.shard(e.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	*sh.stamp(e.Key)++
	if node := sh.keys[e.Key]; node != nil {
		for _, it := range node.items {
			if it.entry.ID == e.ID {
				it.dead.Store(true)
				s.memory.discard(sh, it, Removed)
				break
			}
		}
	}
	if s.disk == nil {
		return
	}
	var buf [4]*job
	for _, j := range s.queue.of(e.Key, buf[:0]) {
		if j.kind == jobPut && j.item.entry.ID == e.ID {
			j.item.dead.Store(true)
		}
	}
	s.queue.push(deletion(e, Removed))
}

package store

import (
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"
)

// Put stores e, in place of an entry of the same Key and an equal Variant, unless the request of
// that was later. A renewal takes the place of what it renews, or none. When the Key has more
// than maxVariants others one goes: first what has not been looked up since it was stored, then the
// least recently used; 0 means no limit. The entry belongs to the store from then on. It is found
// at once and on disk within a second, unless there is no room for now: then Stats.Skipped counts
// it, and it comes to disk later, if memory has it still.
func (s *Store) Put(e *Entry, maxVariants int) PutResult { return s.put(e, maxVariants, nil) }

// PutHeld is Put for a caller whose own copy of the body is still being read. Where e is stored,
// held.Entry is e with the body as the store has it, counted in its budget until held is released,
// so that the caller can let go of its copy. A body that is on disk already is not held.
func (s *Store) PutHeld(e *Entry, maxVariants int) (held Result, result PutResult) {
	result = s.put(e, maxVariants, &held)
	return held, result
}

func (s *Store) put(e *Entry, maxVariants int, held *Result) PutResult {
	kept, ok := s.tickets.keep(e.Generation)
	if !ok {
		return RefusedPurged
	}
	defer s.tickets.unkeep(kept)
	validated := e.renews
	if result := s.admit(e); result != Stored {
		return result
	}
	e.Tags = distinct(e.Tags)
	old := s.renewed(e)
	if old.base != nil {
		defer s.memory.unhold(old.base)
	}
	place := s.placeOf(e, old.id != 0)
	toDisk := place == placeNow
	j := s.newPut(e, old.id != 0, maxVariants, toDisk)
	it, resident := s.stage(e, old.base, maxVariants, toDisk)
	if it == nil {
		return s.refuseFull(e, validated)
	}
	defer s.memory.unhold(it)
	sh := s.memory.shard(e.Key)
	inOrder, none := s.lockInOrder(sh, e)
	defer sh.mu.Unlock()
	e.renews = nil
	// Once more: what a purge masks is not put while it counts.
	if s.purgedUnder(validated, e.Generation) || s.purges.purgedBy(e.URL, e.Tags, e.Generation, everything) == Hard {
		return RefusedPurged
	}
	if !inOrder {
		return outOfOrder(e)
	}
	// Under the lock: these numbers of a key ascend in the order of their effects.
	below := s.ids.Add(1)
	e.ID = old.idFor(e, below)
	if IsDamaged(e.Body) { // after the id: damage found from here on finds the job
		old.giveBack(e)
		return RefusedDamaged
	}
	newVariant := s.place(sh, it, e, resident, maxVariants) || none
	if !s.enqueue(j, it, e, below, place, newVariant) && !resident {
		old.giveBack(e)
		return RefusedFull
	}
	if held != nil && s.memory.source(it) == 0 {
		*held = s.hold(it, e)
	}
	return Stored
}

// refuseFull refuses e, for which there is no room. What it would have renewed stays, unless e says
// less of that: purges would miss it, or it would be good for longer.
func (s *Store) refuseFull(e, renewed *Entry) PutResult {
	if renewed != nil && renewed.ID != 0 && e.narrows(renewed) {
		s.Remove(renewed)
	}
	return RefusedFull
}

// place puts an item in place of what e replaces. newVariant says that nothing was stored of its
// variant.
func (s *Store) place(sh *shard, it *item, e *Entry, resident bool, maxVariants int) (newVariant bool) {
	it.id = e.ID
	it.variants = uint8(min(maxVariants, math.MaxUint8))
	alone := sh.count(&e.Key) == 0 && sh.isAbsent(&e.Key)
	complete := sh.complete(&e.Key)
	*sh.stamp(e.Key)++
	credit, elsewhere := s.replace(sh, e, maxVariants)
	it.setCredit(credit)
	if resident {
		if sh.insert(it); alone {
			it.set(isComplete)
		}
	} else {
		sh.setComplete(&e.Key, false)
	}
	return alone || complete && !elsewhere
}

// outOfOrder is why e is not stored. Damage of the body that a renewal has in common with what it
// renews has taken that away.
func outOfOrder(e *Entry) PutResult {
	if IsDamaged(e.Body) {
		return RefusedDamaged
	}
	return RefusedOlder
}

// hold is a result with the body of e as the store has it.
func (s *Store) hold(it *item, e *Entry) Result {
	it.hold()
	entry := e.Clone()
	entry.ID, entry.Body = e.ID, s.body(it)
	s.memory.noteHeld(it)
	return Result{Entry: entry, Tier: MemoryTier, Hold: Hold{memory: s.memory, item: it}}
}

// renewal is what an entry renews: the id that it takes over, and the item that has the body, held.
type renewal struct {
	id   uint64
	base *item
}

// idFor is the id that e is stored under: that of what it renews, or of its chunks on disk, which
// become its own, or else a new one.
func (r *renewal) idFor(e *Entry, next uint64) uint64 {
	id := next
	if d := bodyWriterOf(e); d != nil && d.take(e.Key) {
		id = d.id
	}
	if r.id != 0 {
		return r.id
	}
	return id
}

// giveBack gives the chunks of e, which is not stored, back to their BodyWriter.
func (r *renewal) giveBack(e *Entry) {
	if d := bodyWriterOf(e); d != nil && r.id == 0 && e.ID == d.id {
		d.untake()
	}
}

// renewed tells what e renews; id is 0 where e is stored like any other: a small body stands beside
// its record and is written with it in any case. Chunks on disk have the id of their entry, so that
// the renewed record finds them under its own. The same id always has the same body.
func (s *Store) renewed(e *Entry) (r renewal) {
	old := e.renews
	if old == nil || old.ID == 0 || old.Key != e.Key || old.URL != e.URL || !old.Variant.Equal(&e.Variant) || e.Body.Len() <= inlineSize {
		return r
	}
	if body, onDisk := e.Body.(*diskBody); onDisk && body.id != old.ID {
		return r
	}
	r.id = old.ID
	sh := s.memory.shard(e.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if it := sh.find(&e.Key, r.id); it != nil {
		if r.base = s.memory.base(it); r.base == nil {
			r.base = it
		}
		r.base.hold()
	}
	return r
}

// scratch has buffers to encode records in.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// stage makes the item of an entry, held and not to be found yet; nil when there is no room.
// resident says that it fits in memory. One that does not, but is on its way to disk, counts all
// the same for as long as that takes.
func (s *Store) stage(e *Entry, base *item, maxVariants int, toDisk bool) (it *item, resident bool) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	d := content{record: appendRecord((*buf)[:0], e), body: e.Body, base: base, tags: len(e.Tags)}
	*buf = d.record[:0]
	if body, onDisk := e.Body.(*diskBody); onDisk {
		d.source, d.base = body.id, nil
	}
	cost := s.memory.cost(&d)
	resident = s.mayReside(&d, cost, toDisk) && s.makeRoom(e, cost, maxVariants)
	if !resident {
		if !toDisk {
			return nil, false
		}
		s.memory.used.Add(cost)
	}
	it, err := s.memory.store(&d)
	if err != nil {
		// What the system has no memory for, it has none for the next.
		if s.counts.errors[MemoryTier].Add(1) == 1 {
			s.log.Warn("memory tier: an entry cannot be stored", slog.Any("error", err))
		}
		return nil, false
	}
	return it, resident
}

// distinct leaves out repeated tags: an index row is there once, and counted once.
func distinct(tags []string) []string {
	if len(tags) < 2 {
		return tags
	}
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
func (s *Store) admit(e *Entry) PutResult {
	settings := s.settings.Load()
	switch severity := s.purges.purgedBy(e.URL, e.Tags, e.Generation, everything); {
	case !s.isOpen():
		return RefusedClosed
	case settings.MaxBody > 0 && e.Body.Len() > settings.MaxBody:
		return RefusedTooLarge
	case !s.now().Before(e.KeepUntil):
		return RefusedExpired
	case severity == Hard, s.purgedUnder(e.renews, e.Generation):
		return RefusedPurged
	}
	return Stored
}

// purgedUnder tells whether an entry was purged, however severely, while it was validated under
// generation gen. What renews it may have other tags and another URL, by which no record of that
// purge masks it. Asked under the shard's lock it tells for good: a purge that comes later counts
// this shard later, and finds the entry renewed.
func (s *Store) purgedUnder(old *Entry, gen uint64) bool {
	if old == nil {
		return false
	}
	return s.purges.purgedBy(old.URL, old.Tags, gen, everything) != NotPurged
}

// mayReside tells whether an entry should be in memory: not one that would push out much of the
// rest while the disk can have it, and not one whose body is read from the disk.
func (s *Store) mayReside(d *content, cost int64, toDisk bool) bool {
	return d.source == 0 && (!toDisk || cost <= s.settings.Load().Memory/4)
}

// makeRoom charges an entry, at worst in place of the one it replaces: where nothing is evicted, a
// full tier could otherwise never be refreshed.
func (s *Store) makeRoom(e *Entry, cost int64, maxVariants int) bool {
	if s.memory.chargeItem(cost) {
		return true
	}
	sh := s.memory.shard(e.Key)
	if inOrder, _ := s.lockInOrder(sh, e); inOrder {
		s.replace(sh, e, maxVariants)
		e.renews = nil // it is replaced already
	}
	sh.mu.Unlock()
	return s.memory.chargeItem(cost)
}

// replace drops from memory and from the queue what e takes the place of. elsewhere tells whether
// that was in memory and may be on disk too. The credit is that of what was in memory: who asks for
// it asks for e.
func (s *Store) replace(sh *shard, e *Entry, maxVariants int) (credit uint32, elsewhere bool) {
	others, replaced := 0, false // of one variant there is one at most
	sh.variants(&e.Key, func(old *item) bool {
		if !replaced {
			v := s.memory.record(old).variant()
			replaced = v.Equal(&e.Variant)
			if replaced {
				elsewhere = !s.isHere(old)
				old.set(isDead)
				credit = old.credit()
				s.memory.discard(sh, old, Replaced)
				return true
			}
		}
		others++
		return true
	})
	if s.disk != nil {
		s.outdate(e)
	}
	for ; maxVariants > 0 && others >= maxVariants; others-- {
		s.dropVariant(sh, &e.Key, maxVariants)
	}
	return credit, elsewhere
}

// outdate marks what waits to be written and is replaced by e.
func (s *Store) outdate(e *Entry) {
	var buf [4]*job
	jobs := s.queue.of(e.Key, buf[:0])
	v := summed{Variant: &e.Variant}
	for _, j := range jobs {
		if j.kind == jobPut && j.variant == v.sum() {
			j.item.set(isDead)
		}
	}
	s.memory.unholdJobs(jobs)
}

// dropVariant drops a resident variant of a key that may have so many, on disk too.
func (s *Store) dropVariant(sh *shard, key *Key, limit int) {
	var items []*item
	var uses []variantUse
	sh.variants(key, func(it *item) bool {
		items = append(items, it)
		// The clock may have come round, so it is the distance that counts.
		uses = append(uses, variantUse{it.spendCredit(), uint64(sh.clock - it.lastUse)})
		return true
	})
	it := items[variantToGo(uses, limit)]
	id, complete, here := it.id, sh.complete(key), s.isHere(it)
	it.set(isDead)
	s.memory.discard(sh, it, Variants)
	switch {
	case here: // so that there are no others than before
		sh.setComplete(key, complete)
	case s.disk != nil:
		s.queue.push(deletion(id, *key, Variants))
	}
}

// isHere tells whether a resident item is in memory and nowhere else. It may be neither queued nor
// known to be on disk, and there under its id all the same: as what it renews, where the file had
// failed, or of a commit of which nothing was heard before the file was opened again.
func (s *Store) isHere(it *item) bool {
	return !it.is(isQueued|isOnDisk) && (s.disk == nil || s.disk.up.Load() && it.id > s.attachedAt.Load())
}

// newPut is a job to write an entry, nil where there is no disk tier. It has the body compressed
// where that is to be.
func (s *Store) newPut(e *Entry, renews bool, maxVariants int, toDisk bool) *job {
	if s.disk == nil {
		return nil
	}
	j := &job{kind: jobPut, key: e.Key, variant: e.Variant.sum(), renews: renews, maxVariants: maxVariants}
	j.narrows = renews && e.renews != nil && e.narrows(e.renews)
	if toDisk && !renews {
		s.pack(j, e)
	}
	return j
}

// enqueue hands an item to the disk writer by its job; false when there is no room for it now. If
// it is resident it is late then. Older rows of the variant are deleted all the same, so that they
// do not come back when the item leaves memory, but for those that have the body of what is not
// stored. It runs under the shard's lock, so that jobs are in the order of their effects on memory.
func (s *Store) enqueue(j *job, it *item, e *Entry, below uint64, place diskPlace, newVariant bool) bool {
	if j == nil {
		return false
	}
	j.alone = newVariant
	j.item, j.id, j.below, j.ahead, j.at = it, e.ID, below, aheadOf(e), time.Now()
	j.cost = s.memory.ownCost(it) + j.bookkeeping()
	toDisk := place == placeNow
	if body, onDisk := e.Body.(*diskBody); onDisk && toDisk {
		toDisk = s.disk.pins.pin(body.id, 0) // until the job is done
	}
	if toDisk && s.pushPut(j) {
		return true
	}
	if place == placeNever {
		s.counts.skipped.Add(1)
	} else {
		s.memory.shards[it.shard].noteLate(it)
	}
	if !newVariant && !s.leavesRenewed(j) {
		s.queue.push(j.supersession())
	}
	return false
}

// pushPut queues the item of a job, held; false when it has no room.
func (s *Store) pushPut(j *job) bool {
	j.item.hold()
	j.item.set(isQueued)
	if s.queue.push(j) {
		return true
	}
	j.item.clear(isQueued)
	s.giveBackPut(j.item)
	return false
}

// endPut ends a jobPut. What was not written for lack of room is late.
func (s *Store) endPut(j *job) {
	j.item.clear(isQueued)
	if j.refused {
		s.memory.noteLate(j)
	}
	s.giveBackPut(j.item)
}

// giveBackPut gives back what a jobPut holds.
func (s *Store) giveBackPut(it *item) {
	if source := s.memory.source(it); source != 0 {
		s.disk.pins.unpin(source)
	}
	s.memory.unhold(it)
}

func deletion(id uint64, key Key, why EvictionReason) *job {
	return &job{kind: jobDelete, id: id, key: key, reason: why, cost: deletionCost, at: time.Now()}
}

// Remove forgets an entry that Lookup returned, in both tiers: one found unservable, say.
func (s *Store) Remove(e *Entry) { s.forget(e.Key, e.ID, Removed) }

package store

import "time"

// What is stored and cannot be written for now stays in memory, and is late: the queue is full, the
// file has failed or is gone, or what clients read leaves no room. There is one rule for all of it.
// What is resident, and would be on disk but for something that passes, is in its shard's list. It
// is written when there is room, unless it was replaced, removed or purged by then, or has left
// memory: then it is gone. What is too large for the disk, and what the disk has evicted, is not
// late.
//
//	noteLate ─► list of the shard ─► takeLate ─► writeLate ─┬─► queue
//	                  ▲                                     └─► nothing: it is out of date
//	                  └────────── still no room ────────────┘
//
// A list has refs of items and nothing else, so that it is bounded by what memory has room for.

// noteLate notes that an item is to be written later, if it is resident, and counts it as skipped
// in any case. The caller has the shard's lock.
func (s *shard) noteLate(it *item) {
	s.m.counts.skipped.Add(1)
	s.keepLate(it)
}

// keepLate is noteLate for what is counted already.
func (s *shard) keepLate(it *item) {
	if !isBehind(it) || it.is(isLate) {
		return
	}
	it.set(isLate)
	s.m.late.Add(1)
	if s.late = append(s.late, it.self); int64(len(s.late)) <= 2*s.entries.Load()+expireStep {
		return
	}
	s.late = s.late[:0] // most of them have left
	s.policy.each(func(it *item) {
		if it.is(isLate) {
			s.late = append(s.late, it.self)
		}
	})
}

// isBehind tells whether an item is in memory and nowhere else.
func isBehind(it *item) bool { return it.is(isResident) && !it.is(isDead|isQueued|isOnDisk) }

// endLate says that an item is late no more. The caller has the shard's lock.
func (s *shard) endLate(it *item) {
	if it.is(isLate) {
		it.clear(isLate)
		s.m.late.Add(-1)
	}
}

// takeLate takes the first off the list, held; nil where it has left since.
func (s *shard) takeLate() *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.late) == 0 {
		return nil
	}
	it := s.m.items.at(s.late[0])
	if s.late = s.late[1:]; len(s.late) == 0 {
		s.late = nil
	}
	if !it.tryHold() {
		return nil
	}
	if s.m.shards[it.shard] == s && it.is(isLate) {
		if s.endLate(it); isBehind(it) {
			return it
		}
	}
	s.m.unhold(it)
	return nil
}

// noteLate notes the item of a job that has not been done. The caller has no lock of a shard.
func (m *memory) noteLate(j *job) {
	s := m.shards[j.item.shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.late {
		s.keepLate(j.item)
	} else {
		s.noteLate(j.item)
	}
}

// lateWalk is the disk writer's way through what is late, shard by shard. It looks once at each
// that is there when it comes to its shard, so that it ends also where some stay.
type lateWalk struct {
	shard int  // whose turn it is; shardCount: it is through
	left  int  // to look at there
	kept  bool // there was no room for some
	rest  int  // ticks until it may begin again
	// ending says that the store is being closed: no client that reads will matter any more.
	ending bool
}

const (
	// lateStep is how many are looked at in one turn.
	lateStep = 64
	// lateRest is how many ticks a walk waits that has left some for lack of room.
	lateRest = 10
	// lateAtEnd is how long an orderly stop writes what is late: memory may have more of it than a
	// slow disk takes in before who stops the process gives up waiting.
	lateAtEnd = 10 * time.Second
)

// begin begins a walk.
func (w *lateWalk) begin(m *memory) { w.shard, w.left, w.kept = 0, m.shards[0].lateLen(), false }

// through tells whether the walk has come to its end.
func (w *lateWalk) through() bool { return w.shard == shardCount }

// next is the next that is late, held; nil where the walk is through.
func (w *lateWalk) next(m *memory) *item {
	for !w.through() {
		if w.left == 0 {
			if w.shard++; !w.through() {
				w.left = m.shards[w.shard].lateLen()
			}
			continue
		}
		w.left--
		if it := m.shards[w.shard].takeLate(); it != nil {
			return it
		}
	}
	return nil
}

func (s *shard) lateLen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.late)
}

// lateTick begins a walk through what is late, where one is due.
func (dw *diskWriter) lateTick() {
	w := &dw.late
	if w.rest--; w.through() && w.rest <= 0 && dw.diskUp() && dw.memory.late.Load() > 0 && !dw.givesRoom() {
		w.begin(dw.memory)
	}
}

// queueLate queues some of what is late, up to one batch, behind which new stores do not wait long.
// It reports whether there is more to look at now.
func (dw *diskWriter) queueLate() (more bool) {
	w := &dw.late
	for range lateStep {
		if w.through() || dw.queue.waiting() >= int64(dw.batchLimit()) {
			return false
		}
		if it := w.next(dw.memory); it != nil {
			w.kept = !dw.s.writeLate(it, w.ending) || w.kept
		}
		if w.through() && w.kept {
			w.rest = lateRest
		}
	}
	return !w.through()
}

// writeLate queues an item that was taken as late. It reports false, and notes it anew, where there
// is no room yet. ending is as in lateWalk.
func (s *Store) writeLate(it *item, ending bool) bool {
	defer s.memory.unhold(it)
	sh := s.memory.shards[it.shard]
	r := s.memory.record(it)
	place := s.placeLate(r.writeSize(), ending)
	var j *job
	if place == placeNow {
		// It may compress, so not under the lock.
		j = s.newPut(s.decode(it), false, int(it.variants), true)
		j.item, j.id, j.renews, j.late, j.at = it, it.id, true, true, time.Now()
		j.cost = it.cost() + j.bookkeeping() // with the body of what it renews, which the file may lack
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if place == placeNever || !isBehind(it) {
		return true
	}
	if place == placeNow {
		// What waits is older, or there would be no item. The file may have it all the same, under
		// its own id: of a commit that has not come back, or as what it renews.
		j.below = s.ids.Add(1)
		j.alone = s.isHere(it) // what it replaced in this file is deleted, or to be deleted, by another job
		if s.pushPut(j) {
			return true
		}
	}
	sh.keepLate(it)
	return false
}

// drainLate writes what is late at the orderly end, for lateAtEnd at most. A file that has failed
// is tried once more.
func (dw *diskWriter) drainLate() {
	if dw.memory.late.Load() == 0 {
		return
	}
	if !dw.disk.up.Load() && !dw.retryAt.IsZero() {
		dw.retry()
	}
	begun := time.Now()
	dw.late.ending = true
	dw.late.begin(dw.memory)
	for !dw.late.through() && dw.diskUp() && time.Since(begun) < lateAtEnd {
		dw.queueLate()
		if dw.flush() != nil {
			return
		}
	}
}

package store

import (
	"sync"
	"time"
)

// What finds the queue full stays in memory, and comes to disk when the queue is half empty, if it
// is in memory still. Otherwise a burst of stores would leave pages of others, for as long as they
// are used, where a crash or the next burst takes them away.

// lateWrite is an entry that is to be written later.
type lateWrite struct {
	key         Key
	id, below   uint64 // as of its job
	maxVariants int
}

// latecomers are the entries that are to be written later, oldest first. They are bounded in
// number: what finds no place stays in memory only.
type latecomers struct {
	mu     sync.Mutex
	writes []lateWrite
}

// maxLate takes 4 MiB.
const maxLate = 1 << 16

// note notes what a job could not be queued for.
func (l *latecomers) note(j *job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.writes) < maxLate {
		l.writes = append(l.writes, lateWrite{j.key, j.id, j.below, j.maxVariants})
	}
}

// take takes the oldest away.
func (l *latecomers) take() (w lateWrite, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.writes) == 0 {
		return lateWrite{}, false
	}
	if w, l.writes = l.writes[0], l.writes[1:]; len(l.writes) == 0 {
		l.writes = nil
	}
	return w, true
}

func (l *latecomers) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.writes)
}

// lateAtEnd is how long an orderly stop writes what is late: memory may have more of it than a slow
// disk takes in before who stops the process gives up waiting.
const lateAtEnd = 10 * time.Second

// lateStep is how many are looked at in one turn.
const lateStep = 64

// queueLate queues some of what is to be written late, as long as the queue is half empty. It
// reports whether there is more to look at now.
func (s *Store) queueLate() (more bool) {
	for range lateStep {
		if s.queue.waiting() >= queueBytes/2 {
			return false
		}
		if w, ok := s.queue.late.take(); !ok || !s.writeLate(w) {
			return false
		}
	}
	return true
}

// writeLate queues an entry, if it is in memory and nowhere else. It reports false, and notes it
// anew, where the queue has no room.
func (s *Store) writeLate(w lateWrite) bool {
	sh := s.memory.shard(w.key)
	it := s.findLate(sh, &w)
	if it == nil {
		return true
	}
	defer s.memory.unhold(it)
	e := s.decode(it)
	if !s.fitsOnDisk(e, false) {
		return true
	}
	j := s.newPut(e, false, w.maxVariants, true) // may compress, so not under the lock
	j.item, j.id, j.below, j.at = it, w.id, w.below, time.Now()
	j.cost = s.memory.ownCost(it) + j.bookkeeping()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if isLate(it) && !s.pushPut(j) {
		s.queue.late.note(j)
		return false
	}
	return true
}

// findLate finds the item of an entry, and holds it.
func (s *Store) findLate(sh *shard, w *lateWrite) *item {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	it := sh.find(&w.key, w.id)
	if it == nil || !isLate(it) {
		return nil
	}
	it.hold()
	return it
}

// isLate tells whether an item is in memory and nowhere else.
func isLate(it *item) bool { return it.is(isResident) && !it.is(isDead|isQueued|isOnDisk) }

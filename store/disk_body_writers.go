package store

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// bodyWriters are the bodies on their way to disk.
type bodyWriters struct {
	store    *Store // that their bodies are read from
	disk     *disk  // nil when there is no disk tier
	settings *atomic.Pointer[Settings]
	wake     func() // the disk writer
	patience time.Duration

	mu        sync.Mutex
	accepting bool          // there is a file to write to
	list      []*BodyWriter // those not closed; those written last are last
	waiting   int64         // bytes appended and not on disk
	wrote     int64         // bytes written to slots,
	synced    int64         // and how many of these are synced
	syncing   bool          // a sync is under way
	held      int64         // bytes appended to bodies that may become entries, of all onItsWay
}

// roomFor tells whether n more bytes of d have a place: like any other body it may take half of the
// disk budget; all bodies on their way together, which nothing can evict, three quarters of what
// may be used of it. Entries would be evicted for more than that, as long as there are any.
func (set *bodyWriters) roomFor(d *BodyWriter, n int64) error {
	settings := set.settings.Load()
	budget, evicts := settings.Disk, settings.Eviction != None
	switch {
	case d.appended+n+entryRoom > settings.largestOnDisk():
		return fmt.Errorf("%w: more than half of %d bytes", ErrNoSpace, budget)
	case d.part && set.disk.pins.deleted()+set.waiting+n > budget/4:
		return fmt.Errorf("%w: a quarter of %d bytes is deleted and read", ErrNoSpace, budget)
	case set.held+n > set.disk.room(budget)/4*3:
		return fmt.Errorf("%w: with the others under way more than three quarters of %d bytes", ErrNoSpace, set.disk.room(budget))
	case set.disk.crowdedBy(budget, set.held+n):
		return fmt.Errorf("%w: it is full of what is read, much of which is deleted", ErrNoSpace)
	case !evicts && set.disk.used()+set.waiting+n > budget:
		return fmt.Errorf("%w: %d bytes are full and nothing is evicted", ErrNoSpace, budget)
	}
	return nil
}

// fail ends a writer that can take no more; nil is no failure. What the disk writer is just writing
// of it does not count.
func (set *bodyWriters) fail(d *BodyWriter, err error) {
	if d.err != nil || err == nil {
		return
	}
	d.err = err
	set.waiting -= d.appended - d.written
	if d.writing {
		d.left = d.pieces
	} else {
		giveBack(d.pieces)
	}
	d.pieces = nil
	d.moved()
}

// lose is fail for a body that stays on disk for those who read it. It counts as deleted, and no
// longer as on its way.
func (set *bodyWriters) lose(d *BodyWriter, err error) {
	if d.err != nil || err == nil || d.taken || d.closed {
		return
	}
	set.fail(d, err)
	set.release(d)
	set.disk.pins.delete(d.id, d.stored) // refused like that of Close
}

// release counts a body no longer as on its way.
func (set *bodyWriters) release(d *BodyWriter) {
	set.held -= d.onItsWay
	d.onItsWay = 0
}

// remove takes a writer off the list; false when it is off already.
func (set *bodyWriters) remove(d *BodyWriter) bool {
	set.mu.Lock()
	defer set.mu.Unlock()
	if d.closed {
		return false
	}
	set.fail(d, errSealed)
	d.closed = true
	set.release(d)
	set.forget(d)
	if !d.writing {
		d.giveSlots()
	}
	return true
}

func (set *bodyWriters) forget(d *BodyWriter) {
	set.list = slices.DeleteFunc(set.list, func(other *BodyWriter) bool { return other == d })
}

// setAccepting opens and shuts the set with the queue; shutting it fails all writers. None of them
// becomes an entry any more, unless it is one.
func (set *bodyWriters) setAccepting(accepting bool) {
	set.mu.Lock()
	defer set.mu.Unlock()
	set.accepting = accepting
	if accepting {
		set.syncing, set.synced = false, set.wrote
		return
	}
	for _, d := range set.list {
		set.lose(d, ErrNoDisk)
		set.fail(d, ErrNoDisk) // also what is an entry
	}
}

// queued is how many bytes wait for the disk.
func (set *bodyWriters) queued() int64 {
	set.mu.Lock()
	defer set.mu.Unlock()
	return set.waiting
}

// onTheirWay is how many bytes have come of bodies that may become entries.
func (set *bodyWriters) onTheirWay() int64 {
	set.mu.Lock()
	defer set.mu.Unlock()
	return set.held
}

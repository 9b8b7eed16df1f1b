package coalesce

import (
	"container/list"
	"sync"
)

// orphans lists the flights that all members have left, by how long ago that was. Each may still
// bring what is worth storing, but a client that asks and leaves costs its connection nothing, so
// their number is bounded: one more, and the oldest is given up. A body that comes slowly takes a
// connection and memory for as long as a header does that is late.
type orphans struct {
	limit int

	mu    sync.Mutex
	order list.List // of *Flight
}

// add lists a flight and returns the one that is to be given up for it, if any.
func (o *orphans) add(f *Flight) (oldest *Flight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.orphan == nil {
		f.orphan = o.order.PushBack(f)
	}
	if o.order.Len() <= o.limit {
		return nil
	}
	return o.take(o.order.Front())
}

// remove takes a flight off the list: it has a member again, or is over.
func (o *orphans) remove(f *Flight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.orphan != nil {
		o.take(f.orphan)
	}
}

func (o *orphans) take(e *list.Element) *Flight {
	f := o.order.Remove(e).(*Flight)
	f.orphan = nil
	return f
}

// giveUpOrphan cancels a flight that still goes on without members.
func (f *Flight) giveUpOrphan() {
	f.mu.Lock()
	defer f.unlock()
	if !f.ended && len(f.members) == 0 && (f.phase == fetching || f.phase == streaming) {
		f.stop(ErrNoClientLeft)
	}
}

// Attendant is told whether a fetch has members, while it goes on without. Its methods are called
// under the flight's lock, so they must not call the flight.
type Attendant interface {
	// Unattended says that the fetch goes on without members, and whether it has its header. It may
	// be called again.
	Unattended(answered bool)
	// Attended says that this is over: the fetch has a member again, or its header, or has ended.
	Attended()
}

// Attend has a told whether the fetch has members.
func (f *Flight) Attend(a Attendant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attendant = a
}

// GiveUp cancels a fetch that has no members and has not ended, because others need what it takes.
// It reports whether it did.
func (f *Flight) GiveUp() bool {
	f.mu.Lock()
	defer f.unlock()
	if f.ended || len(f.members) > 0 || f.phase == released || f.phase == rejected {
		return false
	}
	f.stop(ErrNoClientLeft)
	return true
}

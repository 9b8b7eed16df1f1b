package origin

import (
	"container/list"
	"time"
)

// A request that no client waits for any more keeps its place: what it brings may be worth having.
// Where another waits for a place it is given up. The holder says that its client has left, and how
// to give it up. The Budget decides, under its lock, when the place is needed.

// unattended lists the places whose requests no client waits for, by when they may be given up.
type unattended struct {
	list.List     // of *Place
	ceding    int // places that were asked for and have not been given back
}

// Unattended says that no client waits for what has the place. From then on giveUp may be called,
// once, if another request waits for a place. It is called on a goroutine of its own, and reports
// whether the place will be given back soon. Without a place, Unattended has no effect. Nor has it
// for one that it was called for already, before Attended.
func (b *Budget) Unattended(p *Place, from time.Time, giveUp func() bool) {
	if !p.held.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !p.held.Load() || p.uncounted || p.ceding || p.listed != nil {
		return
	}
	p.mayCede, p.giveUp = from, giveUp
	b.unattended.add(p)
	if b.queue.Len() > 0 {
		b.settle(time.Now())
	}
}

// Attended says that a client waits again for what has the place.
func (b *Budget) Attended(p *Place) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unattended.drop(p)
}

// add lists a place. The list is as long as there are places at most, and nearly always the new one
// is the last.
func (u *unattended) add(p *Place) {
	for e := u.Back(); e != nil; e = e.Prev() {
		if !e.Value.(*Place).mayCede.After(p.mayCede) {
			p.listed = u.InsertAfter(p, e)
			return
		}
	}
	p.listed = u.PushFront(p)
}

// drop takes a place off the list, if it is there.
func (u *unattended) drop(p *Place) {
	if p.listed != nil {
		u.Remove(p.listed)
		p.listed, p.giveUp = nil, nil
	}
}

// returned notes that a place is not its request's any more.
func (u *unattended) returned(p *Place) {
	u.drop(p)
	if p.ceding {
		p.ceding = false
		u.ceding--
	}
}

// reclaim asks for as many places as are missing. It returns when the next may be asked for, false
// if none is needed or there is none.
func (b *Budget) reclaim(now time.Time) (next time.Duration, more bool) {
	u := &b.unattended
	for u.ceding < b.queue.Len()+b.taken-b.limits.MaxConcurrent && u.Len() > 0 {
		p := u.Front().Value.(*Place)
		if now.Before(p.mayCede) {
			return p.mayCede.Sub(now), true
		}
		giveUp := p.giveUp
		u.drop(p)
		p.ceding = true
		u.ceding++
		go b.askFor(p, giveUp)
	}
	return 0, false
}

// askFor has a place given up, and asks for another one if that is kept: a client has come back.
func (b *Budget) askFor(p *Place, giveUp func() bool) {
	if giveUp() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unattended.returned(p)
	b.settle(time.Now())
}

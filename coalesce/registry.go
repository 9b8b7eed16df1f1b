package coalesce

import (
	"sync"
	"time"
)

// registry lists the flights whose fetch is under way, in the order in which they began, and tells
// each when its life is over. All have the same life, so one timer does, set for the oldest: a
// timer for each would cost a short flight more than its place in the list.
type registry struct {
	life time.Duration

	mu           sync.Mutex
	first, last  *Flight // linked by registration
	nextExpiring *Flight // the oldest whose life is not over yet
	n            int
	timer        *time.Timer   // nil before the first flight
	set          bool          // timer will call expire
	allEnded     chan struct{} // closed when the last one ends; nil when Drain does not wait
}

// registration is a flight's place in the registry, guarded by the registry's lock.
type registration struct {
	at         time.Time
	prev, next *Flight
}

func (r *registry) add(f *Flight) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	f.registration = registration{at: now, prev: r.last}
	if r.last == nil {
		r.first = f
	} else {
		r.last.registration.next = f
	}
	r.last = f
	r.n++
	if r.nextExpiring == nil {
		r.nextExpiring = f
	}
	if !r.set {
		r.wait(r.life)
	}
}

func (r *registry) remove(f *Flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	prev, next := f.registration.prev, f.registration.next
	if r.nextExpiring == f {
		r.nextExpiring = next
	}
	if prev == nil {
		r.first = next
	} else {
		prev.registration.next = next
	}
	if next == nil {
		r.last = prev
	} else {
		next.registration.prev = prev
	}
	f.registration.prev, f.registration.next = nil, nil
	r.n--
	if r.n == 0 && r.allEnded != nil {
		close(r.allEnded)
		r.allEnded = nil
	}
}

// wait has expire called after d.
func (r *registry) wait(d time.Duration) {
	r.set = true
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.expire)
		return
	}
	r.timer.Reset(d)
}

// expire tells the flights that have become too old, and waits for the next one's time.
func (r *registry) expire() {
	for _, f := range r.aged() {
		f.expire()
	}
}

// aged returns the flights whose life is over and that have not been told.
func (r *registry) aged() (old []*Flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for ; r.nextExpiring != nil; r.nextExpiring = r.nextExpiring.registration.next {
		if left := r.life - now.Sub(r.nextExpiring.registration.at); left > 0 {
			r.wait(left)
			return old
		}
		old = append(old, r.nextExpiring)
	}
	r.set = false
	return old
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func (r *registry) list() []*Flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Flight, 0, r.n)
	for f := r.first; f != nil; f = f.registration.next {
		all = append(all, f)
	}
	return all
}

// empty returns a channel that is closed as soon as no flight is listed.
func (r *registry) empty() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return alreadyClosed
	}
	if r.allEnded == nil {
		r.allEnded = make(chan struct{})
	}
	return r.allEnded
}

var alreadyClosed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

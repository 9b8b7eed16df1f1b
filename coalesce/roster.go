package coalesce

import (
	"sync"
	"time"
)

// roster lists the flights whose fetch is under way, in the order in which they began, and tells each when its life is
// over. All have the same life, so one timer does, set for the oldest: a timer for each would cost a short flight more
// than its places in all lists.
type roster struct {
	life time.Duration

	mu          sync.Mutex
	first, last *Flight // linked by entered
	young       *Flight // the first whose life is not over yet
	n           int
	timer       *time.Timer   // nil before the first flight
	set         bool          // timer will call expire
	idle        chan struct{} // closed when the last one ends; nil when nobody waits for that
}

// entered is a flight's place in the roster, guarded by the roster's lock.
type entered struct {
	at         time.Time
	prev, next *Flight
}

func (r *roster) add(f *Flight) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	f.entered = entered{at: now, prev: r.last}
	if r.last == nil {
		r.first = f
	} else {
		r.last.entered.next = f
	}
	r.last = f
	r.n++
	if r.young == nil {
		r.young = f
	}
	if !r.set {
		r.wait(r.life)
	}
}

func (r *roster) remove(f *Flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	prev, next := f.entered.prev, f.entered.next
	if r.young == f {
		r.young = next
	}
	if prev == nil {
		r.first = next
	} else {
		prev.entered.next = next
	}
	if next == nil {
		r.last = prev
	} else {
		next.entered.prev = prev
	}
	f.entered.prev, f.entered.next = nil, nil
	r.n--
	if r.n == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// wait has expire called after d.
func (r *roster) wait(d time.Duration) {
	r.set = true
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.expire)
		return
	}
	r.timer.Reset(d)
}

// expire tells the flights that have become too old, and waits for the next one's time.
func (r *roster) expire() {
	for _, f := range r.aged() {
		f.expire()
	}
}

// aged returns the flights whose life is over and that have not been told.
func (r *roster) aged() (old []*Flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for ; r.young != nil; r.young = r.young.entered.next {
		if left := r.life - now.Sub(r.young.entered.at); left > 0 {
			r.wait(left)
			return old
		}
		old = append(old, r.young)
	}
	r.set = false
	return old
}

func (r *roster) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

func (r *roster) list() []*Flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Flight, 0, r.n)
	for f := r.first; f != nil; f = f.entered.next {
		all = append(all, f)
	}
	return all
}

// empty returns a channel that is closed as soon as no flight is listed.
func (r *roster) empty() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == 0 {
		return alreadyClosed
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	return r.idle
}

var alreadyClosed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

package coalesce

import "time"

// What a flight holds that is not to be stored may still count among what is: a window does where
// windows have no room for what it has come with, and so does a whole body that the store has
// refused, or a part of one that has broken off. Where there was no room for what the store has
// refused, it does not even count. All of that keeps others from being stored, so its readers are
// dropped when they
//
//   - take so little in three times Limits.ReaderIdle that it would not be given back in thirty
//     times that (a quarter of an hour by the defaults, and 70 KiB/s of 64 MiB), if others, or
//     it, have found no room meanwhile, or
//   - take nothing in that time, and what silence adds, of a window that is to have more.
//
// A timer looks at that, as the fetch may wait for its origin, or be over.

// keptShare is the part of what is held that a reader has to take each time.
const keptShare = 30

// keptWatch looks at the readers of what a flight keeps from others.
type keptWatch struct {
	timer *time.Timer // nil before there is something to look at
	since time.Time   // of the first look
	pace  int64       // bytes that a reader has to take each time
	on    bool
}

// stint is how far a reader has to come by when.
type stint struct {
	until   time.Time
	goal    int64
	refused uint64 // Budget.Refused when it began
}

// keepsRoom tells whether the flight holds what others that are to be kept have no room for.
func (f *Flight) keepsRoom() bool {
	return f.inTheWay() > 0 && len(f.members) > 0 && (f.phase == windowed || f.settled)
}

// inTheWay is how much counts among what is to be kept, or not at all.
func (f *Flight) inTheWay() int64 {
	return f.reserved[kept] + f.reserved[beyond] + f.uncounted()
}

// watchKept begins to look at the readers, if there is a reason, and to find other room.
func (f *Flight) watchKept() {
	w, now := &f.watch, time.Now()
	if w.on || !f.keepsRoom() {
		return
	}
	f.due = append(f.due, f.recount)
	w.on, w.since, w.pace = true, now, max(1, f.inTheWay()/keptShare)
	refused, after := f.config.budget.Refused(), patience*f.config.limits.ReaderIdle
	for _, m := range f.members {
		m.reader.beginStint(now, refused)
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(after, f.lookAtKept)
	} else {
		w.timer.Reset(after)
	}
}

// lookAtKept drops the readers that are too slow, and comes again as long as there is a reason.
func (f *Flight) lookAtKept() {
	f.countAgain()
	for _, r := range f.dropKeeping() {
		go r.onDrop.call()
	}
	f.recount() // others may have given room back
}

// dropKeeping is one look.
func (f *Flight) dropKeeping() (dropped []*Reader) {
	f.mu.Lock()
	defer f.unlock()
	w := &f.watch
	if w.on = f.keepsRoom(); !w.on {
		return nil
	}
	now, refused, counts := time.Now(), f.config.budget.Refused(), f.uncounted() == 0
	due, dropped := f.dropInTheWay(now, func(r *Reader) (left time.Duration) {
		if s := &r.stint; r.pos >= s.goal || s.refused == refused && counts && !now.Before(s.until) {
			r.beginStint(now, refused)
		}
		left = r.stint.until.Sub(now)
		if f.phase == windowed && !f.ended {
			each := patience * f.config.limits.ReaderIdle
			left = min(left, each+r.silence()-now.Sub(later(r.taken, w.since)))
		}
		return left
	})
	if w.on = f.keepsRoom(); w.on {
		w.timer.Reset(due.Sub(now))
	}
	return dropped
}

// beginStint begins the next stint. It is longer for a reader whose client may have much in its
// buffer: of what that takes nothing shows until then, and a buffer of it may never do.
func (r *Reader) beginStint(now time.Time, refused uint64) {
	f := r.member.flight
	pace, each := f.watch.pace, patience*f.config.limits.ReaderIdle
	lasts := each + r.silence()
	shows := int64(float64(pace)*lasts.Seconds()/each.Seconds()) - min(r.pos, sendBuffer)
	r.stint = stint{now.Add(lasts), r.pos + max(pace, shows), refused}
}

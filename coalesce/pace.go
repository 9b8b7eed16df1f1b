package coalesce

import "time"

// A full window waits for its slowest readers. Those that others wait for are dropped when they
//
//   - take nothing for Limits.ReaderIdle, or
//   - take less than half a window while others have waited for them for three times that: 70 KiB/s
//     by the defaults. Else one client that takes a little now and then would leave all others with
//     that, or with nothing for as long as it has to catch up.
//
// Their time counts from when another began to wait, at the earliest: before that there was no
// reason to hurry. Where none waits, only a reader is dropped that takes nothing for three times
// Limits.ReaderIdle, of a flight that keeps others from being stored.

// patience is how often Limits.ReaderIdle a reader may be waited for.
const patience = 3

// hold is how long others have waited for a reader.
type hold struct {
	since  time.Time     // they do since then; zero if they do not
	lasted time.Duration // they have, in all
	from   int64         // where it was when that began
}

// endHolds counts how long others have waited, until now, for the readers that stood in the way.
func (f *Flight) endHolds(now time.Time) {
	for _, m := range f.members {
		if h := &m.reader.hold; !h.since.IsZero() {
			h.lasted += now.Sub(h.since)
			h.since = time.Time{}
		}
	}
}

// dropSlow drops the readers that others wait for and that are too slow. Idleness counts from since
// at the earliest. It returns when it is time to look again.
func (f *Flight) dropSlow(now, since time.Time) (due time.Time, dropped []*Reader) {
	limits := f.config.limits
	return f.dropInTheWay(now, func(r *Reader) (left time.Duration) {
		left = limits.ReaderIdle - now.Sub(later(r.taken, since))
		longest := patience * limits.ReaderIdle
		if r.hold.lasted >= longest && r.pos-r.hold.from >= limits.Window/2 || r.hold.lasted == 0 {
			r.hold = hold{from: r.pos}
		}
		r.hold.since = now
		return min(left, longest-r.hold.lasted)
	})
}

// dropIdle drops the readers that take nothing, and keep a window full that others have no part of.
func (f *Flight) dropIdle(now, since time.Time) (due time.Time, dropped []*Reader) {
	return f.dropInTheWay(now, func(r *Reader) (left time.Duration) {
		return patience*f.config.limits.ReaderIdle - now.Sub(later(r.taken, since))
	})
}

// dropInTheWay drops the readers that keep the first chunk of a window and have no time left. It
// returns when the next one's time is over.
func (f *Flight) dropInTheWay(now time.Time, left func(*Reader) time.Duration) (due time.Time, dropped []*Reader) {
	due = now.Add(patience * f.config.limits.ReaderIdle)
	end, _ := f.body.firstEnd()
	f.eachReader(func(r *Reader) {
		if r.pos >= end {
			return
		}
		if left := left(r); left > 0 {
			due = earlier(due, now.Add(left))
			return
		}
		dropped = append(dropped, r)
		f.drop(r)
	})
	return due, dropped
}

// starvedSince returns since when a reader has waited for more than a window holds; zero if none
// does. One that waits while there is more for it is about to take that.
func (f *Flight) starvedSince() (since time.Time) {
	for _, m := range f.members {
		r := &m.reader
		if !r.starved.IsZero() && r.pos >= f.body.size && (since.IsZero() || r.starved.Before(since)) {
			since = r.starved
		}
	}
	return since
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package coalesce

import (
	"math"
	"time"
)

// A full window waits for its slowest readers, where there is no disk to hold what they are behind
// with, see parts.go. Those that others wait for are dropped when they
//
//   - take nothing for Limits.ReaderIdle, and what silence adds to that,
//   - take less than half a window while others have waited for them for three times that: 70 KiB/s
//     by the defaults. Else one client that takes a little now and then would leave all others with
//     that, or
//   - have not come within a window of the others, from where these had to wait, when they have
//     waited for twelve times that, nor past what comes first on disk. Else the others had nothing
//     for as long as it has to catch up.
//
// Their time counts from when another began to wait, at the earliest: before that there was no
// reason to hurry. Where none waits, only readers are dropped of a flight that keeps others from
// being stored, see kept.go.

// How often Limits.ReaderIdle a reader may be waited for, until it takes what it should, and until
// it has caught up.
const (
	patience = 3
	catchUp  = 12
)

// wait is how others wait for a reader.
type wait struct {
	since time.Time // they do since then; zero if they do not
	// What it has to take, and where it has to be to have caught up.
	take, near lap
}

// lap is how far a reader has to come while others wait for it for a while.
type lap struct {
	lasted time.Duration // they have, in all
	goal   int64
}

// left is how long others wait still if it is for limit in all. The next lap begins when the reader
// has come to the goal of this one.
func (l *lap) left(limit time.Duration, pos, next int64) time.Duration {
	if l.lasted == 0 || pos >= l.goal {
		*l = lap{goal: next}
	}
	return limit - l.lasted
}

// slowestPace is what a reader takes at least that is not taken for a dead one, and what a body
// comes with at least that newcomers wait for, in bytes a second. sendBuffer is what the system may
// hold for a reader's client before it takes more: by default a third of 4 MiB has to be free
// again. In package store, disk_readers.go has the same two for what is deleted and read.
const (
	slowestPace = 8 << 10
	sendBuffer  = 4 << 20 / 3
)

// silence is for how long the reader may take nothing because its client may still be getting what
// it took before, 171 s at most. It is what credit is in package store.
func (r *Reader) silence() time.Duration {
	return time.Duration(min(r.pos, sendBuffer)) * time.Second / slowestPace
}

// endWaits counts how long others have waited, until now, for the readers that stood in the way.
func (f *Flight) endWaits(now time.Time) {
	for _, m := range f.members {
		if w := &m.reader.wait; !w.since.IsZero() {
			waited := now.Sub(w.since)
			w.take.lasted += waited
			w.near.lasted += waited
			w.since = time.Time{}
		}
	}
}

// dropSlow drops the readers that others wait for and that are too slow. Idleness counts from since
// at the earliest. It returns when it is time to look again.
func (f *Flight) dropSlow(now, since time.Time) (due time.Time, dropped []*Reader) {
	limits := f.config.limits
	near := f.body.size - limits.Window
	if end, ok := f.firstEnd(); ok {
		near = min(near, end) // the others go on from there
	}
	return f.dropInTheWay(now, func(r *Reader) (left time.Duration) {
		r.wait.since = now
		return min(
			limits.ReaderIdle+r.silence()-now.Sub(later(r.taken, since)),
			r.wait.take.left(patience*limits.ReaderIdle, r.pos, r.pos+limits.Window/2),
			r.wait.near.left(catchUp*limits.ReaderIdle, r.pos, near),
		)
	})
}

// dropInTheWay drops the readers that keep the first chunk of a window, or any of what is not one,
// and have no time left. It returns when the next one's time is over.
func (f *Flight) dropInTheWay(now time.Time, left func(*Reader) time.Duration) (due time.Time, dropped []*Reader) {
	due = now.Add(patience * f.config.limits.ReaderIdle)
	end, _ := f.body.firstEnd()
	if f.phase != windowed {
		end = f.body.size
	}
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

// pace is how a fetch comes on. Its times count from registration.at.
type pace struct {
	began time.Duration // the header came then, or the queue ended
	last  time.Duration // bytes of the body came last then; before that it is as began
	// A body that came at slowestPace from its header on, and made up for no silence, would have
	// been here by then. So it is never ahead: what came quickly at first is no excuse for later.
	due time.Duration
}

// begin has the pace count from now.
func (p *pace) begin(now time.Duration) { *p = pace{began: now, last: now, due: now} }

// advance counts n more bytes of the body.
func (p *pace) advance(now time.Duration, n int) {
	p.last = now
	p.excuse(now, time.Duration(n)*time.Second/slowestPace)
}

// excuse brings the body nearer to the pace by d.
func (p *pace) excuse(now, d time.Duration) { p.due = min(p.due+d, now) }

// behind is for how long the body of a fetch that is silent would have to be so to be as late.
func (p *pace) behind(now time.Duration) time.Duration { return now - p.due }

// secondsLeft is how long the rest of a body takes at the pace that it has had since its header;
// for ever if that is not known.
func (p *pace) secondsLeft(now time.Duration, size, length int64) float64 {
	if size == 0 || length < size {
		return math.Inf(1)
	}
	return (now - p.began).Seconds() * float64(length-size) / float64(size)
}

// excuse says that the fetch has waited since then for readers or a disk, and not for the origin.
func (f *Flight) excuse(since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pace.excuse(f.age(), time.Since(since))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// later is lastOf of package store.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

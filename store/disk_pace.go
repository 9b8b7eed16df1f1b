package store

import (
	"cmp"
	"time"
)

// Sweeping and expiring, which no request waits for, go at a pace. On one core every step of it
// keeps hits waiting, so that steps are short, and between them come pauses; but 100,000 entries
// are gone within 30 s.
const (
	paceRate  = 5000 // entries a second
	paceLeast = 64   // entries in a step: a commit costs a sync, and the pages above its rows
	paceMost  = 256  // after a slow sync
	// yieldTime is how long a step works before it lets others have the core.
	yieldTime = 250 * time.Microsecond
)

// No commit lets others have the core: neither bbolt, which lays out the pages that have changed,
// nor, where there is one core, the two syncs, until the runtime notices after up to 20 ms that the
// thread is in the kernel. One for 64 entries takes 2 ms and the syncs, one for 512 takes 8. So
// while requests wait for the core, what a few purges have hit is swept in large steps a second
// apart: then hits wait for commits a hundredth of the time. A purge is in force before. Who asks
// which URLs it has dropped waits for the sweep, which goes at its full pace then. Expiring takes
// turns with these steps, so that it comes as seldom: what has expired is not served, and where
// room lacks something is evicted.
const (
	busyRate = 500 // entries a second
	busyStep = 512 // entries, of expiring too
	// busyTime is how many seconds it takes, about, until all that a purge is to sweep is gone
	// nevertheless. Where several are left it is more, as it goes by those that are left: nearly
	// three times as much for busyPurges of the same size.
	busyTime = 200
	// busyPurges is how many purges may be left to be swept so: each costs memory, and those that
	// come later have to be counted against them.
	busyPurges = 8
)

// pace tells how much background work may be done when.
type pace struct {
	last time.Time // when the last step began; zero when there was nothing to do
	due  time.Time // when the next may begin
	rate int       // entries a second after the last step; 0 is paceRate
}

// step begins a step, of so many entries at most; 0 when it is too early.
func (p *pace) step(now time.Time) int {
	if now.Before(p.due) {
		return 0
	}
	n := paceLeast
	switch {
	case p.perSecond() < paceRate:
		n = busyStep
	case !p.last.IsZero():
		n = min(max(int(now.Sub(p.last).Seconds()*paceRate), paceLeast), paceMost)
	}
	p.last, p.rate = now, 0
	return n
}

func (p *pace) perSecond() int { return cmp.Or(p.rate, paceRate) }

// done ends a step that handled n entries. Without any the next may begin at once.
func (p *pace) done(n int) {
	p.due = p.last.Add(time.Duration(n) * time.Second / time.Duration(p.perSecond()))
}

// idle says that there is nothing to do.
func (p *pace) idle() { *p = pace{} }

// rest is how long until the next step; false when there was nothing to do.
func (p *pace) rest() (time.Duration, bool) { return time.Until(p.due), !p.last.IsZero() }

// othersWait tells whether others have wanted the core while the batch worked. Where none do,
// its yields take far less than a sixteenth of the time.
func (b *batch) othersWait() bool { return b.away > time.Since(b.began)/16 }

// sweepRate is how many entries a second are swept after a step of a sweep in which others waited
// for the core, or did not. Where the disk is full, or nearly so, the room is needed: what lives
// would have to go before what is purged, and what is late to wait.
func (dw *diskWriter) sweepRate(othersWait bool) int {
	left := dw.sweeps.disk
	if !othersWait || len(left) > busyPurges || dw.disk.used() > dw.diskRoom()/8*7 || dw.disk.full.Load() || dw.givesRoom() {
		return paceRate
	}
	rows := 0
	for _, rec := range left {
		// How many there are is not known of a purge that was read from the file, or counted
		// without it. None were of one that was counted while another was on its way.
		if rec.rows == 0 || dw.isAwaited(rec) {
			return paceRate
		}
		rows += rec.rows
	}
	return min(max(busyRate, rows/busyTime), paceRate)
}

// pacedStep does one step of what is paced, when it is due. Sweeping and expiring take turns.
func (dw *diskWriter) pacedStep() (bool, error) {
	n := dw.pace.step(time.Now())
	if n == 0 {
		return false, nil
	}
	works := [...]func(int) (int, bool, error){dw.sweepDisk, dw.expireStep}
	for range works {
		work := works[dw.pacedTurn]
		dw.pacedTurn = (dw.pacedTurn + 1) % len(works)
		if handled, did, err := work(n); did || err != nil {
			dw.pace.done(handled)
			return did, err
		}
	}
	dw.pace.idle()
	return false, nil
}

package store

import "time"

// Sweeping and expiring, which no request waits for, go at a pace. On one core every step of it
// keeps hits waiting, so that steps are short, and between them come pauses; but 100,000 entries
// are to be gone within 30 s.
const (
	paceRate  = 5000 // entries a second
	paceLeast = 64   // entries in a step: a commit costs a sync, and the pages above its rows
	paceMost  = 256  // after a slow sync
	// yieldTime is how long a step works before it lets others have the core.
	yieldTime = 250 * time.Microsecond
)

// pace tells how much background work may be done when.
type pace struct {
	last time.Time // when the last step began; zero when there was nothing to do
	due  time.Time // when the next may begin
}

// step begins a step, of so many entries at most; 0 when it is too early.
func (p *pace) step(now time.Time) int {
	if now.Before(p.due) {
		return 0
	}
	n := paceLeast
	if !p.last.IsZero() {
		n = min(max(int(now.Sub(p.last).Seconds()*paceRate), paceLeast), paceMost)
	}
	p.last = now
	return n
}

// done ends a step that handled n entries. Without any the next may begin at once.
func (p *pace) done(n int) { p.due = p.last.Add(time.Duration(n) * time.Second / paceRate) }

// idle says that there is nothing to do.
func (p *pace) idle() { *p = pace{} }

// rest is how long until the next step; false when there was nothing to do.
func (p *pace) rest() (time.Duration, bool) { return time.Until(p.due), !p.last.IsZero() }

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

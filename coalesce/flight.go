package coalesce

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// phase is a flight's state, see the picture in doc.go.
type phase uint8

const (
	fetching  phase = iota // no header yet
	streaming              // shared, whole body kept
	windowed               // shared, but grown out of its limits
	released               // not shareable
	rejected               // not shareable, and one more attempt follows
)

// String returns the word used in doc.go.
func (p phase) String() string {
	switch p {
	case fetching:
		return "fetching"
	case streaming:
		return "streaming"
	case windowed:
		return "windowed"
	case released:
		return "released"
	case rejected:
		return "rejected"
	}
	return fmt.Sprintf("phase(%d)", uint8(p))
}

// Overflow tells why a flight went on through a window, so that its body is not kept.
type Overflow uint8

// The ways to overflow.
const (
	NoOverflow Overflow = iota // the body is kept whole
	PastMax                    // larger than Share's max
	NoRoom                     // the Budget refused, and the Spill where there is one
	TooOld                     // under way for longer than Limits.Life
)

// String returns a word for logs and metrics; it is empty for NotOutgrown.
func (o Overflow) String() string {
	switch o {
	case NoOverflow:
		return ""
	case PastMax:
		return "past-max"
	case NoRoom:
		return "no-room"
	case TooOld:
		return "too-old"
	}
	return fmt.Sprintf("Overflow(%d)", uint8(o))
}

// Flight is one fetch and those who hold it. Its phase goes forward only, as doc.go shows.
type Flight struct {
	terms   *terms
	seat    mooring // nil: nobody can join
	attempt int     // 1, or 2 for an heir

	mu       sync.Mutex
	phase    phase
	overflow Overflow
	keep     bool
	closed   bool // nobody joins any more
	replaced bool // another has its place in the group although it has not ended
	ended    bool // by Finish or Fail
	settled  bool // ended, and the body is not waiting to be stored

	tag, head, trailer any
	err                error
	heir               *Flight // the second attempt

	ctx    context.Context // nil until somebody starts the fetch
	cancel context.CancelCauseFunc
	alone  *time.Timer // nil until the last member has left before the header

	leader  *Member // who started the fetch; nil until then
	members []*Member
	waiting int // followers parked for the header

	changed chan struct{} // closed at the next change that anybody may wait for; nil when nobody does
	room    chan struct{} // tells the fetch that a window has moved; nil before that
	done    chan struct{} // see Done; nil until asked for

	progress time.Duration // from entered.at to when something of the response last came
	body     body
	max      int64 // bytes kept; more make it windowed
	expected int64 // length announced by Expect, or -1
	reserved int64 // of the Budget, never more than body.held

	spiller Spiller // to begin spill with; nil when there is none, or it has been asked
	spill   *spill  // nil before the body spills

	onEmpty []func() // see OnEmpty
	storer  Storer   // nil when it has been told

	entered entered // see roster

	// What a change under the lock owes to others; unlock pays.
	owed      int64    // bytes for Budget.Unreserve
	vacated   bool     // the group knows that the flight is closed
	signedOff bool     // the roster knows that it is over
	due       []func() // of onEmpty and the storer, now that it is so, and the end of a spill

	first Member     // the starter's; here, as its place in members, to spare allocations
	alloc [1]*Member // of members, while there is one
}

// newFlight returns a flight that has begun, with its leader.
func newFlight(t *terms, seat mooring, tag any) (*Flight, *Member) {
	f := &Flight{terms: t, seat: seat, attempt: 1, expected: -1}
	f.members = f.alloc[:0]
	p := &f.first
	f.embark(p)
	f.begin(tag, p)
	return f, p
}

// begin makes p the leader of the fetch that its caller now has to run.
func (f *Flight) begin(tag any, p *Member) {
	f.tag, f.leader = tag, p
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.terms.roster.add(f)
}

// board adds a member to a flight that can be joined and is approved. An heir that nobody has started yet needs no
// approval, being as new as can be: the member starts it. No member and a verdict other than open mean that the flight is
// of no use to this joiner.
func (f *Flight) board(tag any, v verdict) (p *Member, started bool, still verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	started = f.leader == nil
	switch {
	case f.closed:
		return nil, false, verdictRefused
	case !started && v != verdictApproved:
		return nil, false, v
	}
	p = new(Member)
	f.embark(p)
	if started {
		f.begin(tag, p)
	}
	return p, started, verdictApproved
}

// embark adds p to those who hold the flight.
func (f *Flight) embark(p *Member) {
	p.flight, p.slot = f, len(f.members)
	p.reader.member = p
	f.members = append(f.members, p)
}

// disembark takes p off, and ends what only p was worth.
func (f *Flight) disembark(p *Member) {
	if p.slot < 0 {
		return
	}
	last := len(f.members) - 1
	f.members[p.slot] = f.members[last]
	f.members[p.slot].slot = p.slot
	f.members[last] = nil
	f.members = f.members[:last]
	p.slot = -1
	if p == f.leader {
		f.wake() // TakeOver may be waiting for its writer
	}
	f.freePassed()
	f.stopIfUseless()
	f.dispose()
}

// stopIfUseless cancels a fetch that serves nobody. Before the header it may still turn out worth storing, for a while.
func (f *Flight) stopIfUseless() {
	if len(f.members) > 0 || f.ended {
		return
	}
	switch f.phase {
	case fetching:
		if f.leader == nil { // an heir whose followers all left before one of them started it
			f.closed = true
			return
		}
		f.giveUpLater()
	case streaming:
		if !f.keep {
			f.stop(ErrNoClientLeft)
			return
		}
		f.giveUpLater()
	case windowed:
		f.stop(ErrNoClientLeft)
	case released, rejected: // the fetch learns it from TakeOver
	}
}

// giveUpLater has giveUp look in Limits.Unattended from now whether the fetch is still worth something.
func (f *Flight) giveUpLater() { f.giveUpIn(f.terms.limits.Unattended) }

func (f *Flight) giveUpIn(d time.Duration) {
	if f.alone == nil {
		f.alone = time.AfterFunc(d, f.giveUp)
		return
	}
	f.alone.Reset(d)
}

// giveUp is called when nobody was left Limits.Unattended ago. Somebody may have come since. A body that
// is to be kept and still grows goes on until nothing of it has come for as long; but not one that
// another has replaced: an origin that falls silent again and again would pile up fetches.
func (f *Flight) giveUp() {
	f.mu.Lock()
	defer f.unlock()
	if f.ended || len(f.members) > 0 || f.phase != fetching && f.phase != streaming {
		return
	}
	if f.phase == streaming && f.keep && !f.replaced {
		if left := f.terms.limits.Unattended - f.silence(); left > 0 {
			f.giveUpIn(left)
			return
		}
	}
	f.stop(ErrNoClientLeft)
}

// replace lets nobody join any more, now that a newer flight has this one's place. Without readers
// it is given up after a while, whether it still grows or not.
func (f *Flight) replace() {
	f.mu.Lock()
	defer f.unlock()
	f.closed, f.replaced = true, true
	f.stopIfUseless()
}

// stop cancels the fetch; nobody joins what is doomed.
func (f *Flight) stop(cause error) {
	f.closed = true
	if f.cancel != nil {
		f.cancel(cause)
	}
}

// expire is called when Limits.Life is over. After Release and Reject it means nothing: from there on the response lives
// as long as its one client, as it would alone.
func (f *Flight) expire() {
	f.mu.Lock()
	defer f.unlock()
	switch {
	case f.ended:
	case f.phase == fetching:
		f.stop(ErrExpired)
	case f.phase == streaming && f.spillInUse() != nil: // it costs no memory to keep it, but nor shall it go on for nobody
		f.closed, f.keep = true, false
		f.stopIfUseless()
	case f.phase == streaming:
		f.startWindow(TooOld)
	}
}

// Context is the fetch's context. It descends from no client's; it is cancelled by Cancel, when the flight ends, at
// Limits.Life before the header, and when nobody has a use for the fetch. context.Cause tells which.
func (f *Flight) Context() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ctx
}

// Cancel cancels the fetch's context with cause and lets nobody join any more. Those who hold the flight wait on until
// the fetch ends it.
func (f *Flight) Cancel(cause error) {
	f.mu.Lock()
	defer f.unlock()
	f.stop(cause)
}

// Keep says whether the fetch is worth finishing when nobody is left to read it. It is false until set, and counts
// while the flight is streaming.
func (f *Flight) Keep(keep bool) {
	f.mu.Lock()
	defer f.unlock()
	f.keep = keep
	f.stopIfUseless()
}

// unlock ends a change of the flight: it lets go of the lock, then pays what the change owes to others, who have locks
// of their own.
func (f *Flight) unlock() {
	owed := f.owed
	vacate := f.closed && !f.vacated && f.seat != nil
	signOff := f.settled && !f.signedOff && f.leader != nil
	heir, due := f.heir, f.due
	f.owed, f.due = 0, nil
	f.vacated = f.vacated || vacate
	f.signedOff = f.signedOff || signOff
	f.mu.Unlock()

	if owed > 0 {
		f.terms.budget.Unreserve(owed)
	}
	if vacate {
		f.seat.vacate(f, heir)
	}
	if signOff {
		f.terms.roster.remove(f)
	}
	for _, fn := range due {
		fn()
	}
}

// wake tells all who wait for a change to look again.
func (f *Flight) wake() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// change returns a channel that is closed at the next change.
func (f *Flight) change() <-chan struct{} {
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

// current returns the flight that stands for f in the group: its heir if it has one.
func (f *Flight) current() *Flight {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.heir != nil {
		return f.heir
	}
	return f
}

// begun tells whether somebody has started the fetch.
func (f *Flight) begun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader != nil
}

// joinable tells whether newcomers are let in.
func (f *Flight) joinable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed
}

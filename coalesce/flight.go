package coalesce

import (
	"container/list"
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

// Overflow is the reason why a flight went on through a window, so that its body is not kept.
type Overflow uint8

// The ways to overflow.
const (
	NoOverflow Overflow = iota // the body is kept whole
	PastMax                    // larger than Share's max
	NoRoom                     // the Budget refused, and the Spill where there is one
	TooOld                     // under way for longer than Limits.Life
)

// String returns a word for logs and metrics; it is empty for NoOverflow.
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

// Flight is one fetch and the members that share it. Its phase goes forward only, as doc.go shows.
type Flight struct {
	config  *config
	slot    groupSlot // nil: no other request can join
	attempt int       // 1, more for a retry
	former  any       // Tag of the attempt before

	mu        sync.Mutex
	phase     phase
	overflow  Overflow
	keep      bool
	closed    bool // no more requests can join
	replaced  bool // another has its place in the group although it has not ended
	ended     bool // by Finish or Fail
	settled   bool // ended, and the body is not waiting to be stored
	takenBack bool // what was handed over is
	isCopy    bool // of what is taken back a store has a copy

	tag, shared, trailer any
	err                  error
	retry                *Flight // the next attempt

	ctx        context.Context // nil until a member starts the fetch
	cancel     context.CancelCauseFunc
	unattended *time.Timer // nil until the last member has left
	background bool        // see Background
	queued     bool        // see SetQueued
	orphaned   bool        // among the orphans, or has been given up as one
	attendant  Attendant   // nil if there is none
	alone      bool        // the Attendant knows that there are no members

	leader  *Member // who started the fetch; nil until then
	members []*Member
	waiting int // followers parked for the header

	changed chan struct{} // closed at the next change; nil when no goroutine waits for one
	room    chan struct{} // tells the fetch that a window has moved; nil before that
	done    chan struct{} // see Done; nil until asked for

	pace     pace
	body     body
	max      int64   // bytes kept; more make it windowed
	expected int64   // length announced by Expect, or -1
	reserved amounts // of the Budget

	spiller Spiller // begins the Spill; nil if there is none, or once it has been asked
	spill   *spill  // nil before the body spills
	parts   partList
	watch   keptWatch

	onEmpty []func() // see OnEmpty
	storer  Storer   // nil when it has been told

	registration registration  // see registry
	orphan       *list.Element // guarded by the lock of orphans

	// What a change under the lock owes to others; unlock pays.
	owed         amounts  // bytes to give back to the Budget
	vacated      bool     // the group knows that the flight is closed
	unregistered bool     // the registry knows that it is over
	due          []func() // of OnEmpty and the Storer, and the close of a Spill

	first Member     // the leader of a new flight; it stands here to spare allocations
	alloc [1]*Member // backs members while there is one
}

// newFlight returns a flight that has begun, and its leader.
func newFlight(c *config, slot groupSlot, tag any) (*Flight, *Member) {
	f := &Flight{config: c, slot: slot, attempt: 1, expected: -1}
	f.members = f.alloc[:0]
	m := &f.first
	f.add(m)
	f.begin(tag, m)
	return f, m
}

// begin makes m the leader, whose caller now has to run the fetch.
func (f *Flight) begin(tag any, m *Member) {
	f.tag, f.leader = tag, m
	f.ctx, f.cancel = context.WithCancelCause(context.Background())
	f.config.registry.add(f)
}

// join adds a member to a flight that is open to newcomers and usable for them. A retry that no
// member has started yet is usable for all, because nothing is older than it; its new member starts
// it.
//
// Without a member, the result tells what is known of the flight's use: usabilityUnknown asks the
// caller to find out, usabilityNo says that the flight is of no use.
func (f *Flight) join(tag any, v usability) (m *Member, started bool, still usability) {
	f.mu.Lock()
	defer f.mu.Unlock()
	started = f.leader == nil
	switch {
	case f.closed:
		return nil, false, usabilityNo
	case !started && v != usabilityYes:
		return nil, false, v
	}
	m = new(Member)
	f.add(m)
	if started {
		f.begin(tag, m)
	}
	return m, started, usabilityYes
}

// add adds m to the members.
func (f *Flight) add(m *Member) {
	m.flight, m.index = f, len(f.members)
	m.reader.member = m
	f.members = append(f.members, m)
	f.adopt()
}

// adopt says that the flight does not go on without members: it has one again, or is over.
func (f *Flight) adopt() {
	if f.orphaned {
		f.orphaned = false
		f.config.orphans.remove(f)
	}
	f.tellAttended()
}

func (f *Flight) tellAttended() {
	if f.alone {
		f.alone = false
		f.attendant.Attended()
	}
}

// Background says that the flight was begun without a client that would wait for it. It is not
// given up because many others have none.
func (f *Flight) Background() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.background = true
}

// remove takes m off the members, and ends what was done for m alone.
func (f *Flight) remove(m *Member) {
	if m.index < 0 {
		return
	}
	last := len(f.members) - 1
	f.members[m.index] = f.members[last]
	f.members[m.index].index = m.index
	f.members[last] = nil
	f.members = f.members[:last]
	m.index = -1
	if m == f.leader {
		f.wake() // TakeOver may be waiting for its writer
	}
	f.freePassed()
	f.stopIfUseless()
	f.dispose()
}

// stopIfUseless cancels a fetch that has no members and whose response will not be stored. Before
// the header it may still turn out to be worth storing, so it goes on for a while.
func (f *Flight) stopIfUseless() {
	if f.phase != fetching {
		f.tellAttended() // of the wait for a header
	}
	if len(f.members) > 0 || f.ended {
		return
	}
	switch f.phase {
	case fetching:
		if f.leader == nil { // a retry whose followers all left before one of them started it
			f.closed = true
			return
		}
		if f.queued && !f.background {
			f.stop(ErrNoClientLeft)
			return
		}
		f.goOnAlone(false)
	case streaming:
		if !f.keep {
			f.stop(ErrNoClientLeft)
			return
		}
		f.goOnAlone(true)
	case windowed:
		f.stop(ErrNoClientLeft)
	case released, rejected: // the fetch learns it from TakeOver
		f.adopt()
	}
}

// goOnAlone has giveUp called in Limits.Unattended from now, tells the Attendant, and counts the
// flight as an orphan. The oldest of too many is given up.
func (f *Flight) goOnAlone(answered bool) {
	f.giveUpIn(f.config.limits.Unattended)
	if f.attendant != nil {
		f.alone = true
		f.attendant.Unattended(answered)
	}
	if f.background || f.orphaned {
		return
	}
	f.orphaned = true
	if oldest := f.config.orphans.add(f); oldest != nil {
		f.due = append(f.due, oldest.giveUpOrphan)
	}
}

func (f *Flight) giveUpIn(d time.Duration) {
	if f.unattended == nil {
		f.unattended = time.AfterFunc(d, f.giveUp)
		return
	}
	f.unattended.Reset(d)
}

// giveUp cancels a flight that has had no members for Limits.Unattended; it looks whether one has
// come since. A body that is to be kept and still grows goes on until nothing of it has come for as
// long. A flight that was replaced does not: an origin that falls silent again and again would pile
// up fetches.
func (f *Flight) giveUp() {
	f.mu.Lock()
	defer f.unlock()
	if f.ended || len(f.members) > 0 || f.phase != fetching && f.phase != streaming {
		return
	}
	if f.phase == streaming && f.keep && !f.replaced {
		if left := f.config.limits.Unattended - f.silence(); left > 0 {
			f.giveUpIn(left)
			return
		}
	}
	if f.background && f.phase == fetching {
		f.stop(ErrExpired) // no client left it: the origin has not answered
		return
	}
	f.stop(ErrNoClientLeft)
}

// replace closes the flight to newcomers, because a newer one has its place. Without readers it is
// given up after a while, whether it still grows or not.
func (f *Flight) replace() {
	f.mu.Lock()
	defer f.unlock()
	f.closed, f.replaced = true, true
	f.stopIfUseless()
}

// stop cancels the fetch and closes the flight to newcomers.
func (f *Flight) stop(cause error) {
	f.closed = true
	if f.cancel != nil {
		f.cancel(cause)
	}
}

// expire is called when Limits.Life is over. After Release and Reject it has no effect: from there
// on the response lives as long as its one client, as it would without this package.
func (f *Flight) expire() {
	f.mu.Lock()
	defer f.unlock()
	switch {
	case f.ended:
	case f.phase == fetching:
		f.stop(ErrExpired)
	case f.phase == streaming && f.spillInUse() != nil:
		// The body costs no memory, so it stays whole; but the fetch goes on for readers only.
		f.closed, f.keep = true, false
		f.stopIfUseless()
	case f.phase == streaming:
		f.startWindow(TooOld)
	}
}

// Context is the fetch's context. It descends from no client's context. It is cancelled by Cancel,
// when the flight ends, at Limits.Life before the header, and when the fetch is of no more use.
// context.Cause tells which.
func (f *Flight) Context() context.Context {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ctx
}

// Cancel cancels the fetch's context with cause, and closes the flight to newcomers. Its members
// wait on until the fetch ends the flight.
func (f *Flight) Cancel(cause error) {
	f.mu.Lock()
	defer f.unlock()
	f.stop(cause)
}

// Keep sets whether the fetch is worth finishing without readers. It is false until set, and counts
// while the flight is streaming.
func (f *Flight) Keep(keep bool) {
	f.mu.Lock()
	defer f.unlock()
	f.keep = keep
	f.stopIfUseless()
}

// SetQueued sets whether the fetch still waits for its turn. Then nothing has been spent on it, and
// what waits behind it has clients, so without members it is cancelled at once. Nor is the origin
// silent: Silent counts from the end of the queue.
func (f *Flight) SetQueued(queued bool) {
	f.mu.Lock()
	defer f.unlock()
	f.queued = queued
	f.pace.begin(f.age())
	f.stopIfUseless()
}

// unlock ends a change of the flight: it lets go of the lock, then pays what the change owes to
// others, who have locks of their own.
func (f *Flight) unlock() {
	owed := f.owed
	vacate := f.closed && !f.vacated && f.slot != nil
	unregister := f.settled && !f.unregistered && f.leader != nil
	retry, due := f.sharedRetry(), f.due
	f.owed, f.due = amounts{}, nil
	f.vacated = f.vacated || vacate
	f.unregistered = f.unregistered || unregister
	f.mu.Unlock()

	f.config.pay(&owed)
	if vacate {
		f.slot.vacate(f, retry)
	}
	if unregister {
		f.config.registry.remove(f)
	}
	for _, fn := range due {
		fn()
	}
}

// wake wakes all goroutines that wait for a change.
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

// sharedRetry returns the retry if others than f's members can join it.
func (f *Flight) sharedRetry() *Flight {
	if f.retry == nil || f.retry.slot == nil {
		return nil
	}
	return f.retry
}

// current returns the flight that stands for f in the group: its retry if it has one.
func (f *Flight) current() *Flight {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if retry := f.sharedRetry(); retry != nil {
		return retry
	}
	return f
}

// begun reports whether a member has started the fetch.
func (f *Flight) begun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader != nil
}

// joinable reports whether newcomers can join.
func (f *Flight) joinable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.closed
}

package coalesce

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Budget accounts for the bytes that flights hold, in accounts that are apart from each other. Its
// methods are called from many goroutines, never under a lock of this package, and must not call
// back into the flight they serve.
type Budget interface {
	// Reserve asks for n more bytes of a body that is to be kept and to have total bytes. Where
	// that is not known, total is what it has already, negative. False means that there is no room,
	// and reserves nothing.
	Reserve(n, total int64) bool
	// Unreserve gives n reserved bytes back.
	Unreserve(n int64)
	// ReserveBeyond asks for n more bytes of a body on its way to a Spill, which Reserve has
	// refused room. All that go beyond it are in this one account.
	ReserveBeyond(n int64) bool
	// UnreserveBeyond gives them back.
	UnreserveBeyond(n int64)
	// ReserveWindow asks for n more bytes of a body that is only passed on, beside held that its
	// flight holds. What these take keeps nothing from being stored, so they have an account of
	// their own. The fuller it is, the less may be held.
	ReserveWindow(n, held int64) bool
	// UnreserveWindow gives them back.
	UnreserveWindow(n int64)
	// Refused returns how often Reserve has refused room until now. Unlike the others it may be
	// called under a lock of this package.
	Refused() uint64
}

// Limits bound what a flight may cost. A field that is zero or less has its default.
type Limits struct {
	// Waiters is the largest number of followers parked for one flight's header; one more gets
	// Crowded. Default 10,000.
	Waiters int
	// Window is how many bytes a windowed flight holds before it waits for its slowest reader.
	// Default 4 MiB.
	Window int64
	// Resident is how many bytes of a body may be in memory before a flight that can spill does,
	// and how much of it the Spill may be behind with. Half of it stays for readers. A body that
	// the Budget refuses room for spills from a quarter of it on. Default 4 MiB.
	Resident int64
	// ReaderIdle is how long a windowed flight waits for a reader that takes nothing while another
	// waits for more, before it drops it, and up to three times as long for one whose system may
	// still hold what it took; three times as long for one that takes less than half a Window
	// meanwhile, and where none waits, but the flight keeps others from being stored; twelve times
	// as long for one that is behind by more than a Window. Default 10 s.
	ReaderIdle time.Duration
	// Life caps the time to the header (then the fetch is cancelled with ErrExpired) and the time
	// in which a flight may be joined and its body kept whole (then it becomes windowed). It does
	// not apply after Release and Reject. Default 10 min.
	Life time.Duration
	// Unattended is how long a fetch goes on without members: before its header, and after that
	// while nothing of its body comes. It may be worth storing, but clients that ask and leave must
	// not pile up fetches of an origin that hangs. Default 1 min.
	Unattended time.Duration
	// Orphans is how many fetches may go on that all members have left. One more, and the oldest is
	// cancelled. Default 256.
	Orphans int
}

func (l Limits) withDefaults() Limits {
	if l.Waiters <= 0 {
		l.Waiters = 10_000
	}
	if l.Window <= 0 {
		l.Window = 4 << 20
	}
	if l.Resident <= 0 {
		l.Resident = 4 << 20
	}
	if l.ReaderIdle <= 0 {
		l.ReaderIdle = 10 * time.Second
	}
	if l.Life <= 0 {
		l.Life = 10 * time.Minute
	}
	if l.Unattended <= 0 {
		l.Unattended = time.Minute
	}
	if l.Orphans <= 0 {
		l.Orphans = 256
	}
	return l
}

// Group holds the flights under way. At most one flight of a key can be joined at any time.
type Group[K comparable] struct {
	config config

	mu      sync.Mutex
	flights map[K]*Flight // those that can be joined
}

// config is what all flights of a group have in common.
type config struct {
	budget   Budget
	memory   Memory // nil: Go's heap
	limits   Limits
	registry *registry
	orphans  *orphans
}

// NewGroup returns an empty group whose flights reserve what they hold in b; a nil b has room for
// everything. A b that is a Memory has the larger chunks too.
func NewGroup[K comparable](b Budget, l Limits) *Group[K] {
	if b == nil {
		b = unlimited{}
	}
	l = l.withDefaults()
	// The registry's timer must not keep the group, and the budget, once they are given up.
	r := &registry{life: l.Life}
	memory, _ := b.(Memory)
	return &Group[K]{
		config:  config{budget: b, memory: memory, limits: l, registry: r, orphans: &orphans{limit: l.Orphans}},
		flights: make(map[K]*Flight),
	}
}

// Join joins the flight under way for key, or begins one.
//
// usable, which may be nil, is asked about a running flight. When it answers false (the key was
// purged since the flight began, or nothing has come of it for long, or too little, see
// TimeLeft), a new flight
// takes its place, and the old one goes on for its members. usable is called without a lock and may
// be asked more than once.
//
// started tells that the caller is the leader of a new fetch: it must run the fetch on another
// goroutine, and wait like the others. tag is attached to a flight that is started, and not used
// otherwise. The caller must leave with m.Leave.
func (g *Group[K]) Join(key K, tag any, usable func(*Flight) bool) (f *Flight, m *Member, started bool) {
	var approved, refused *Flight
	for {
		f, m, started, done := g.tryJoin(key, tag, func(f *Flight) usability {
			switch {
			case f == refused:
				return usabilityNo
			case usable == nil || f == approved:
				return usabilityYes
			}
			return usabilityUnknown
		})
		if done {
			if started && refused != nil {
				refused.replace()
			}
			return f, m, started
		}
		// usable is asked without the lock. Meanwhile the flight may end, be replaced or be purged
		// again. The flight that has the key by then is looked at anew, so an answer counts only
		// for the flight that it was given for.
		if usable(f) {
			approved = f
		} else {
			refused = f
		}
	}
}

// usability is what is known of a running flight's use to one joiner.
type usability uint8

const (
	usabilityUnknown usability = iota // not asked yet
	usabilityYes                      // may be joined
	usabilityNo                       // must be replaced
)

// tryJoin is one step of Join under the group's lock. done is false when the caller has to ask
// first whether f is usable.
func (g *Group[K]) tryJoin(key K, tag any, known func(*Flight) usability) (f *Flight, m *Member, started, done bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f = g.flights[key].current(); f != nil {
		var v usability
		if m, started, v = f.join(tag, known(f)); v == usabilityUnknown {
			return f, nil, false, false
		}
		if m != nil {
			g.flights[key] = f
			return f, m, started, true
		}
	}
	f, m = newFlight(&g.config, &slot[K]{group: g, key: key}, tag)
	g.flights[key] = f
	return f, m, true, true
}

// JoinRunning joins the flight under way for key, if there is one, and begins none. usable is as
// for Join. When ok, the caller must leave with m.Leave.
func (g *Group[K]) JoinRunning(key K, usable func(*Flight) bool) (f *Flight, m *Member, ok bool) {
	g.mu.Lock()
	f = g.flights[key].current()
	g.mu.Unlock()
	if f == nil || !f.begun() || usable != nil && !usable(f) {
		return nil, nil, false
	}
	m, _, _ = f.join(nil, usabilityYes) // it has begun, so nothing is started here
	return f, m, m != nil
}

// Solo begins a flight that no other request can join. Its member is the leader, which has to run
// the fetch.
func (g *Group[K]) Solo(tag any) (f *Flight, m *Member) {
	return newFlight(&g.config, nil, tag)
}

// Move gives a flight another key, because its header has told that its body is what others will
// ask for by that. Nobody joins it by the former key any more. Nothing changes for those who have.
// A flight that can be joined no more, or that began as Solo, gets no key; nor does one where
// another flight can be joined by it already.
//
// publish tells others of the new key. Meanwhile the flight can be joined by both: by the former
// until they know, by the new one as soon as they do. If it returns false, the flight stays where
// it was. Move returns what publish has.
func (g *Group[K]) Move(f *Flight, key K, publish func() bool) bool {
	place, ok := f.slot.(*slot[K])
	if ok {
		g.addKey(f, place, key)
	}
	moved := publish()
	if ok {
		g.keepKey(f, place, moved)
	}
	return moved
}

// addKey gives a flight that can be joined another key beside its own.
func (g *Group[K]) addKey(f *Flight, place *slot[K], key K) {
	g.mu.Lock()
	defer g.mu.Unlock()
	place.next = &key
	if g.flights[place.key].current() == f && g.flights[key] == nil && f.joinable() {
		g.flights[key] = f
	}
}

// keepKey takes one of two keys from a flight: its own if it has moved, or else the other.
func (g *Group[K]) keepKey(f *Flight, place *slot[K], moved bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	former, key := *place.next, place.key
	if moved {
		former, key = key, former
	}
	place.key, place.next = key, nil
	if former != key && g.flights[former].current() == f {
		delete(g.flights, former)
	}
}

// Len returns how many fetches are under way, those that can no longer be joined included.
func (g *Group[K]) Len() int { return g.config.registry.len() }

// CancelAll cancels the context of every flight under way, with cause.
func (g *Group[K]) CancelAll(cause error) {
	for _, f := range g.config.registry.list() {
		f.Cancel(cause)
	}
}

// Drain waits until no fetch is under way. When ctx ends before that it cancels those that are left
// with ErrDrained, does not wait for them, and returns an error that wraps the context's. It does
// not keep requests from beginning new flights.
func (g *Group[K]) Drain(ctx context.Context) error {
	select {
	case <-g.config.registry.empty():
		return nil
	case <-ctx.Done():
	}
	n := g.Len()
	if n == 0 {
		return nil
	}
	g.CancelAll(ErrDrained)
	return fmt.Errorf("draining: %d flights cancelled: %w", n, context.Cause(ctx))
}

// groupSlot is a flight's place in its group. It hides the type of the key.
type groupSlot interface {
	// vacate takes f out of the group; retry, if there is one and it can be joined, gets its place.
	vacate(f, retry *Flight)
}

type slot[K comparable] struct {
	group *Group[K]

	// Guarded by the group's lock, see Move.
	key  K
	next *K // while it moves
}

func (b *slot[K]) vacate(f, retry *Flight) {
	g := b.group
	g.mu.Lock()
	defer g.mu.Unlock()
	b.vacateKey(b.key, f, retry)
	if b.next != nil {
		b.vacateKey(*b.next, f, retry)
	}
}

func (b *slot[K]) vacateKey(key K, f, retry *Flight) {
	flights := b.group.flights
	if flights[key] != f {
		return // a newer one is there
	}
	// A retry that has already ended would stay in the map for good.
	if retry != nil && retry.joinable() {
		flights[key] = retry
		return
	}
	delete(flights, key)
}

// unlimited is the budget of a group that was given none.
type unlimited struct{}

func (unlimited) Reserve(_, _ int64) bool  { return true }
func (unlimited) Unreserve(int64)          {}
func (unlimited) ReserveBeyond(int64) bool { return true }
func (unlimited) UnreserveBeyond(int64)    {}

func (unlimited) ReserveWindow(_, _ int64) bool { return true }
func (unlimited) UnreserveWindow(int64)         {}
func (unlimited) Refused() uint64               { return 0 }

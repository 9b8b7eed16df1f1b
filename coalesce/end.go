package coalesce

import (
	"context"
	"errors"
)

// Finish ends the flight cleanly. trailer is for those who read to the end. A body that is whole stays joinable until
// Settle, so that no request falls between the flight and the store.
func (f *Flight) Finish(trailer any) {
	f.mu.Lock()
	defer f.unlock()
	if f.ended {
		return
	}
	if f.phase == fetching {
		f.end(ErrUndecided)
		return
	}
	f.trailer = trailer
	f.end(nil)
}

// Fail ends the flight with an error, which may wrap a *PanicError. Before the decision all who wait wake with Failed; after
// Share readers get it behind the bytes so far, never a clean end. Nil becomes ErrAbandoned.
func (f *Flight) Fail(err error) {
	f.mu.Lock()
	defer f.unlock()
	if f.ended {
		return
	}
	if err == nil {
		err = ErrAbandoned
	}
	f.end(err)
}

// end closes the books of the fetch. Those who read go on.
func (f *Flight) end(err error) {
	f.ended, f.err = true, err
	if f.alone != nil {
		f.alone.Stop()
	}
	f.cancel(err)
	if err == nil && f.phase == streaming {
		f.body.trim()
		f.owed += f.giveBack()
	} else {
		f.closed, f.settled = true, true // nothing to store
		f.unstorable()
	}
	if err != nil && f.phase != released && f.phase != rejected {
		f.bequeath()
	}
	if f.done != nil {
		close(f.done)
	}
	f.wake()
	f.dispose()
}

// bequeath makes the heir of a failed first attempt, with all followers aboard that have had no byte. It is made here,
// not by the first of them that wakes, so that the key is never without a flight to join.
func (f *Flight) bequeath() {
	if f.final() {
		return
	}
	for _, p := range f.members {
		if p != f.leader && !p.reader.touched {
			f.inherit(p)
		}
	}
}

// final tells whether no other attempt follows a failure: after the second one, and when the fetch was ended by shutdown.
func (f *Flight) final() bool {
	return f.attempt > 1 || errors.Is(context.Cause(f.ctx), ErrDrained)
}

// inherit gives p a place on the heir. One that is asked for so late that the heir can no longer be joined gets an heir
// of its own.
func (f *Flight) inherit(p *Member) {
	if f.heir == nil || !f.heir.joinable() {
		f.heir = &Flight{terms: f.terms, seat: f.seat, attempt: f.attempt + 1, expected: -1}
	}
	p.next = new(Member)
	f.heir.mu.Lock()
	defer f.heir.mu.Unlock()
	f.heir.embark(p.next)
}

// Settle ends the fetch's stake: the flight leaves its group, and what it has reserved goes back when the last member
// leaves, if HandOver has not given it back before. A flight that is neither finished nor failed fails with
// ErrAbandoned.
func (f *Flight) Settle() {
	f.mu.Lock()
	defer f.unlock()
	if !f.ended {
		f.end(ErrAbandoned)
	}
	f.settled, f.closed = true, true
	f.dispose()
}

// HandOver returns Body and gives its reservation back, to make room for a copy in another account (a store's). From then on
// the chunks are uncounted for as long as readers hold them, unless MoveTo lets go of them, or TakeBack counts them again where
// there was no copy made. A body that is Spilled is brought into the Spill to its end, which is waited for, and there are no
// chunks then.
func (f *Flight) HandOver() (chunks [][]byte, whole bool) {
	if s := f.spillOfWhole(); s != nil {
		return nil, f.sealSpill(s)
	}
	f.mu.Lock()
	defer f.unlock()
	if !f.whole() {
		return nil, false
	}
	f.owed += f.reserved
	f.reserved = 0
	return f.body.list(), true
}

// TakeBack counts the chunks again that HandOver has given, as far as there is room, while readers hold them.
func (f *Flight) TakeBack() {
	n := f.uncounted()
	if n == 0 || !f.terms.budget.Reserve(n) {
		return
	}
	f.mu.Lock()
	defer f.unlock()
	f.reserved += n
	f.owed += f.giveBack() // the last reader may have left meanwhile
}

// uncounted is how many bytes are held for readers and not reserved.
func (f *Flight) uncounted() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.whole() || len(f.members) == 0 {
		return 0
	}
	return f.body.held - f.reserved
}

// spillOfWhole is the Spill of a body that came to its clean end.
func (f *Flight) spillOfWhole() Spill {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.whole() {
		return nil
	}
	return f.spillInUse()
}

// Body returns the chunks of a flight that finished, or nil and false if it failed, was not shared, has spilled or overflowed its
// limits, or is settled and left by all. The chunks must not be changed.
func (f *Flight) Body() (chunks [][]byte, whole bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.whole() || f.spillInUse() != nil {
		return nil, false
	}
	return f.body.list(), true
}

func (f *Flight) whole() bool {
	return f.ended && f.err == nil && f.phase == streaming && !f.body.gone
}

// OnEmpty has fn called once, when the fetch has settled and the last member has left: what they all answered from can
// be given back then. Nobody boards after that.
func (f *Flight) OnEmpty(fn func()) {
	f.mu.Lock()
	defer f.unlock()
	f.onEmpty = append(f.onEmpty, fn)
	f.dispose()
}

// Storer waits for a body, to store it.
type Storer interface {
	// Unstorable is called once, on any goroutine and under no lock of this package.
	Unstorable()
}

// OnUnstorable has k told as soon as it is certain that the body will not be had whole for storing: at
// Release, Reject or a failure, or when a window begins. Nobody boards after that, and the fetch
// may go on for as long as its readers like.
func (f *Flight) OnUnstorable(k Storer) {
	f.mu.Lock()
	defer f.unlock()
	f.storer = k
	if f.phase != fetching && f.phase != streaming || f.ended && f.err != nil {
		f.unstorable()
	}
}

// unstorable tells the Storer. The flight is closed.
func (f *Flight) unstorable() {
	if f.storer != nil {
		f.due, f.storer = append(f.due, f.storer.Unstorable), nil
	}
}

// dispose gives up the body, and what OnEmpty was told of, when neither the fetch nor a member has a use for it.
func (f *Flight) dispose() {
	if !f.settled || len(f.members) > 0 {
		return
	}
	f.due, f.onEmpty = append(f.due, f.onEmpty...), nil
	if f.body.gone {
		return
	}
	f.owed += f.reserved
	f.reserved = 0
	f.body = body{gone: true}
	f.closeSpill()
}

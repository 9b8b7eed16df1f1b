package coalesce

import (
	"context"
	"errors"
	"math"
)

// Finish ends the flight cleanly. trailer is for members that read to the end. A body that is whole
// stays joinable until Settle, so that no request falls between the flight and the store.
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

// Fail ends the flight with an error, which may wrap a *PanicError; nil becomes ErrAbandoned.
// Before the decision, all who wait wake with Failed. After Share, readers get the error after the
// bytes so far, never a clean end.
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

// end ends the fetch's part. Members that read go on.
func (f *Flight) end(err error) {
	f.ended, f.err = true, err
	if f.unattended != nil {
		f.unattended.Stop()
	}
	f.adopt()
	f.cancel(err)
	if err == nil && f.phase == streaming {
		f.body.trim(f.config)
	} else {
		f.closed, f.settled = true, true // nothing to store
		f.tellStorer()
	}
	f.giveBack()
	f.watchKept()
	if err != nil && f.phase != released && f.phase != rejected {
		f.createRetry()
	}
	if f.done != nil {
		close(f.done)
	}
	f.wake()
	f.dispose()
}

// createRetry creates the attempt that follows a failed one, and moves all followers to it that
// have had no byte. It happens here, and not in the first Retry, so that the key is never without a
// flight to join after a first failure.
func (f *Flight) createRetry() {
	if f.final() {
		return
	}
	for _, m := range f.members {
		if m != f.leader && !m.reader.touched {
			f.moveToRetry(m)
		}
	}
}

// attempts is how many fetches are made for those who wait, if each fails.
const attempts = 3

// final reports whether no other attempt follows a failure: after the last one, and when shutdown
// has ended the fetch.
func (f *Flight) final() bool {
	return f.attempt >= attempts || errors.Is(context.Cause(f.ctx), ErrDrained)
}

// moveToRetry gives m a place on the next attempt. If m asks so late that this one can no longer be
// joined, it gets another one. A third attempt is for members of the second alone: a newcomer that
// began it might be one of those that the third is made without.
func (f *Flight) moveToRetry(m *Member) {
	if f.retry == nil || !f.retry.joinable() {
		f.retry = &Flight{config: f.config, attempt: f.attempt + 1, former: f.tag, expected: -1}
		if f.attempt == 1 {
			f.retry.slot = f.slot
		}
	}
	m.retry = new(Member)
	f.retry.mu.Lock()
	defer f.retry.mu.Unlock()
	f.retry.add(m.retry)
}

// Settle ends the fetch's use of the flight. The flight leaves its group. What it has reserved is
// given back when the last member leaves, if HandOver has not done so before. A flight that is
// neither finished nor failed fails with ErrAbandoned.
func (f *Flight) Settle() {
	f.countAgain() // one may have joined since TakeBack, which had no reader then
	f.mu.Lock()
	defer f.unlock()
	if !f.ended {
		f.end(ErrAbandoned)
	}
	f.settled, f.closed = true, true
	f.watchKept()
	f.dispose()
}

// HandOver returns Body, for as long as that says, and gives its reservation back, to make room for
// a copy in another account (a store's). From then on the chunks are uncounted for as long as
// readers hold them, unless MoveTo lets go of them, or TakeBack counts them again because no copy
// was made.
//
// HandOver brings a body that is Spilled into the Spill to its end, and waits for that. There are
// no chunks then.
func (f *Flight) HandOver() (chunks [][]byte, whole bool) {
	if s := f.spillOfWhole(); s != nil {
		return nil, f.sealSpill(s)
	}
	f.mu.Lock()
	defer f.unlock()
	if !f.whole() {
		return nil, false
	}
	f.giveBackAll()
	return f.body.list(), true
}

// TakeBack counts the chunks again that HandOver has given, while readers hold them. Where there is
// no room for that, they count as soon as there is, and readers that take too little of them are
// dropped.
func (f *Flight) TakeBack() { f.takeBack(false) }

// TakeBackCopy is TakeBack where a copy was made, for a body that is too small for MoveTo: a reader
// has all of it in hand. The chunks count as what is passed on, and never as what is to be kept: it
// is the copy that does.
func (f *Flight) TakeBackCopy() { f.takeBack(true) }

func (f *Flight) takeBack(isCopy bool) {
	f.mu.Lock()
	f.takenBack, f.isCopy = true, isCopy
	f.mu.Unlock()
	f.countAgain()
}

// countAgain counts what is uncounted, if there is room for it.
func (f *Flight) countAgain() {
	f.mu.Lock()
	n, from, isCopy := f.uncounted(), passed, f.isCopy
	f.mu.Unlock()
	if n == 0 {
		return
	}
	if b := f.config.budget; !b.ReserveWindow(n, 0) {
		if from = kept; isCopy || !b.Reserve(n, n) {
			return
		}
	}
	f.mu.Lock()
	defer f.unlock()
	f.reserved[from] += n
	f.giveBack() // the last reader may have left meanwhile
	f.watchKept()
}

// uncounted is how many bytes readers hold of what was to be taken back and is not reserved.
func (f *Flight) uncounted() int64 {
	if !f.takenBack || !f.whole() || len(f.members) == 0 {
		return 0
	}
	return max(0, f.body.held-f.reserved.sum())
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

// Body returns the chunks of a flight that finished. They must not be changed, nor used after
// MoveTo and Settle. It returns nil and false if the flight failed, was not shared, has spilled,
// has a window, or is settled and left by all.
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

// OnEmpty has fn called once, when the fetch has settled and the last member has left: what they
// all answered from can be given back then. No request can join after that.
func (f *Flight) OnEmpty(fn func()) {
	f.mu.Lock()
	defer f.unlock()
	f.onEmpty = append(f.onEmpty, fn)
	f.dispose()
}

// Storer waits for a whole body, to store it.
type Storer interface {
	// Unstorable is called once, on any goroutine and under no lock of this package.
	Unstorable()
}

// OnUnstorable has s called as soon as it is certain that the body will not be had whole: at
// Release, Reject or a failure, or when a window begins. No request can join after that, and the
// fetch may go on for as long as its readers like.
func (f *Flight) OnUnstorable(s Storer) {
	f.mu.Lock()
	defer f.unlock()
	f.storer = s
	if f.phase != fetching && f.phase != streaming || f.ended && f.err != nil {
		f.tellStorer()
	}
}

// tellStorer tells the Storer that the body is unstorable. The flight is closed.
func (f *Flight) tellStorer() {
	if f.storer != nil {
		f.due, f.storer = append(f.due, f.storer.Unstorable), nil
	}
}

// dispose gives up the body, and calls what OnEmpty was given, when neither the fetch nor a member
// has a use for it.
func (f *Flight) dispose() {
	if !f.settled || len(f.members) > 0 {
		return
	}
	f.due, f.onEmpty = append(f.due, f.onEmpty...), nil
	if f.body.gone {
		return
	}
	f.giveBackAll()
	f.body.clear()
	f.body = body{gone: true}
	f.closeSpill()
	f.closeParts(math.MaxInt64)
	if f.watch.timer != nil {
		f.watch.timer.Stop()
	}
}

package coalesce

import "math"

// Share decides that the response is for all who wait and for those who still come: head is what they need besides the
// body, opaque here. A body of more than limit bytes makes the flight windowed; a negative limit means none. Without
// effect when the flight is decided, ended or cancelled.
func (f *Flight) Share(head any, limit int64) {
	f.mu.Lock()
	defer f.unlock()
	if f.phase != fetching || f.ended || f.ctx.Err() != nil {
		return
	}
	if limit < 0 {
		limit = math.MaxInt64
	}
	f.phase, f.head, f.max = streaming, head, limit
	f.wake()
	f.stopIfUseless()
}

// Release decides that the response is for the leader alone. Followers wake with Released.
func (f *Flight) Release() { f.keepApart(released) }

// Reject is Release for a response that is a failure: the leader's client may have it by TakeOver, while followers wake
// with Failed and gather on a second attempt. On a second attempt, use Fail.
func (f *Flight) Reject() { f.keepApart(rejected) }

func (f *Flight) keepApart(to phase) {
	f.mu.Lock()
	defer f.unlock()
	if f.phase != fetching || f.ended {
		return
	}
	f.phase, f.closed = to, true
	if to == rejected {
		f.bequeath()
	}
	f.wake()
}

// TakeOver borrows what the parked leader gave to Wait, after Release or Reject. The leader stays parked until Finish
// or Fail; when its context ends meanwhile, the fetch's is cancelled. ok is false when the leader has gone, or the
// flight is cancelled or over. It waits for a leader that has not called Wait yet.
func (f *Flight) TakeOver() (writer any, ok bool) {
	lead := f.lend(lentToTheEnd)
	if lead == nil {
		return nil, false
	}
	return lead.writer, true
}

// Borrow calls fn with what the parked leader gave to Wait, before the decision: for what is the leader's alone and
// does not wait for the header, such as a 1xx. The leader stays parked while fn runs. It waits for a leader that has
// not called Wait yet, and does nothing when the leader has gone.
func (f *Flight) Borrow(fn func(writer any)) {
	lead := f.lend(lentForNow)
	if lead == nil {
		return
	}
	defer f.giveWriterBack(lead)
	fn(lead.writer)
}

// loan is what the fetch has of a leader's writer.
type loan uint8

const (
	notLent      loan = iota
	lentForNow        // by Borrow
	lentToTheEnd      // by TakeOver
)

// lend returns the leader once it is parked, with its writer lent; nil if it has gone, or the flight is not in the
// phase for that.
func (f *Flight) lend(as loan) *Party {
	for {
		lead, changed := f.tryLend(as)
		if changed == nil {
			return lead
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return nil
		}
	}
}

// tryLend is one step of lend; a channel means that the leader may still come.
func (f *Flight) tryLend(as loan) (lead *Party, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ready := f.phase == fetching
	if as == lentToTheEnd {
		ready = f.phase == released || f.phase == rejected
	}
	lead = f.leader
	switch {
	case !ready, f.ended, f.ctx.Err() != nil, lead.slot < 0:
		return nil, nil
	case !lead.parked:
		return nil, f.change()
	}
	lead.lent = as
	return lead, nil
}

func (f *Flight) giveWriterBack(lead *Party) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lead.lent = notLent
	f.wake()
}

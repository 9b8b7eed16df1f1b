package coalesce

import "math"

// Share decides that the response is for all members and for those who still join. shared is what
// they need besides the body; this package does not look at it. A body of more than limit bytes
// makes the flight windowed; a negative limit means none. Share has no effect when the flight is
// decided, ended or cancelled.
func (f *Flight) Share(shared any, limit int64) {
	f.mu.Lock()
	defer f.unlock()
	if f.phase != fetching || f.ended || f.ctx.Err() != nil {
		return
	}
	if limit < 0 {
		limit = math.MaxInt64
	}
	f.phase, f.shared, f.max = streaming, shared, limit
	f.pace.begin(f.age())
	f.wake()
	f.stopIfUseless()
}

// Release decides that the response is for the leader alone. Followers wake with Released.
func (f *Flight) Release() { f.decideUnshared(released) }

// Reject is Release for a response that is a failure. The leader's client may have it by TakeOver;
// followers wake with Failed and gather on a second attempt. On a later attempt, use Fail.
func (f *Flight) Reject() { f.decideUnshared(rejected) }

func (f *Flight) decideUnshared(to phase) {
	f.mu.Lock()
	defer f.unlock()
	if f.phase != fetching || f.ended {
		return
	}
	f.phase, f.closed = to, true
	f.tellStorer()
	if to == rejected {
		f.createRetry()
	}
	f.wake()
}

// TakeOver borrows what the parked leader gave to Wait, after Release or Reject. The leader stays
// parked until Finish or Fail; when its context ends meanwhile, the fetch's is cancelled.
//
// TakeOver waits for a leader that has not called Wait yet, or that is still in a call of Inform's.
// ok is false when the leader has gone, or the flight is cancelled or over.
func (f *Flight) TakeOver() (writer any, ok bool) {
	for {
		lead, changed := f.tryLend()
		switch {
		case lead != nil:
			return lead.writer, true
		case changed == nil:
			return nil, false
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return nil, false
		}
	}
}

// tryLend is one step of TakeOver. A channel means that the leader may still come.
func (f *Flight) tryLend() (lead *Member, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lead = f.leader
	switch {
	case f.phase != released && f.phase != rejected, f.ended, f.ctx.Err() != nil, lead.index < 0:
		return nil, nil
	case !lead.parked, lead.informing, len(lead.pending) > 0:
		return nil, f.change()
	}
	lead.lent = true
	return lead, nil
}

// maxPending is how many calls wait for a leader whose client takes nothing. More are dropped.
const maxPending = 16

// Inform has fn called with what the leader gives to Wait, before Wait returns. It is for what the
// leader gets before the header and does not share, such as a 1xx. It comes before the decision,
// and has no effect when the leader has gone.
//
// fn is called on the leader's goroutine, under no lock. The fetch goes on meanwhile, because the
// leader's client may take nothing.
func (f *Flight) Inform(fn func(writer any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lead := f.leader
	if f.phase != fetching || f.ended || lead.index < 0 || len(lead.pending) == maxPending {
		return
	}
	lead.pending = append(lead.pending, fn)
	f.wake()
}

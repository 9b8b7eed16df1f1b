package coalesce

import (
	"math"
	"time"
)

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
	f.phase, f.head, f.max, f.progress = streaming, head, limit, time.Since(f.entered.at)
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
	f.unstorable()
	if to == rejected {
		f.bequeath()
	}
	f.wake()
}

// TakeOver borrows what the parked leader gave to Wait, after Release or Reject. The leader stays parked until Finish
// or Fail; when its context ends meanwhile, the fetch's is cancelled. ok is false when the leader has gone, or the
// flight is cancelled or over. It waits for a leader that has not called Wait yet, or is still busy with what Inform has told.
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

// tryLend is one step of TakeOver; a channel means that the leader may still come.
func (f *Flight) tryLend() (lead *Member, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lead = f.leader
	switch {
	case f.phase != released && f.phase != rejected, f.ended, f.ctx.Err() != nil, lead.slot < 0:
		return nil, nil
	case !lead.parked, lead.telling, len(lead.news) > 0:
		return nil, f.change()
	}
	lead.lent = true
	return lead, nil
}

// maxNews is how many calls wait for a leader whose client takes nothing. More are left out.
const maxNews = 16

// Inform has fn called with what the leader gives to Wait, before that returns: for what is the leader's alone and does not
// wait for the header, such as a 1xx. It comes before the decision; without effect when the leader has gone. fn is called on the
// leader's goroutine, under no lock, and the fetch goes on meanwhile: its leader's client may take nothing.
func (f *Flight) Inform(fn func(writer any)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lead := f.leader
	if f.phase != fetching || f.ended || lead.slot < 0 || len(lead.news) == maxNews {
		return
	}
	lead.news = append(lead.news, fn)
	f.wake()
}

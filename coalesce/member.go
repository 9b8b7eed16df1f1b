package coalesce

import (
	"context"
	"fmt"
	"time"
)

// Outcome is the way a Wait ended.
type WaitResult uint8

// The ways a wait can end.
const (
	Shared    WaitResult = iota + 1 // read from Member.Reader
	Released                        // not shareable: fetch for yourself
	TakenOver                       // leader only: its writer was lent to the fetch, which has ended; see Flight.Err
	Failed                          // no response, or none that followers may have; see Flight.Err, Member.Retry
	TimedOut                        // follower only: no header within its timeout
	Left                            // its context ended
	Crowded                         // follower only: Limits.Waiters are parked already
)

// String returns a word for logs and metrics.
func (o WaitResult) String() string {
	switch o {
	case Shared:
		return "shared"
	case Released:
		return "released"
	case TakenOver:
		return "taken-over"
	case Failed:
		return "failed"
	case TimedOut:
		return "timed-out"
	case Left:
		return "left"
	case Crowded:
		return "crowded"
	}
	return fmt.Sprintf("WaitResult(%d)", uint8(o))
}

// Member is one request's stake in a flight: its leader's or a follower's. It belongs to one goroutine, and ends with
// Leave.
type Member struct {
	flight *Flight

	// Guarded by the flight's lock.
	slot   int     // place among the flight's members; -1 when it has left
	parked bool    // in Wait
	lent   bool    // the fetch has the writer, until it ends
	writer any     // what a parked leader lends
	next   *Member // place on the heir, given at the failure
	reader Reader

	news    []func(writer any) // what the leader is still to be told
	telling bool               // it is in such a call

	claimed bool // next belongs to the caller of Retry
}

// Leader tells whether this member started the fetch.
func (p *Member) Leader() bool {
	p.flight.mu.Lock()
	defer p.flight.mu.Unlock()
	return p.leads()
}

func (p *Member) leads() bool { return p.flight.leader == p }

// Wait parks until the header is decided upon and tells what to do then. A follower waits for timeout at most (0 or
// less: without a limit), a leader as long as the fetch takes. A leader's writer (an http.ResponseWriter, opaque here)
// may be lent to the fetch; Wait then returns when the fetch has ended, even if ctx ends before. A member whose outcome
// is TimedOut, Left or Crowded has left. What Inform has for a leader is called here; if that panics, it has left too.
func (p *Member) Wait(ctx context.Context, timeout time.Duration, writer any) WaitResult {
	if o := p.park(writer); o != 0 {
		return o
	}
	defer p.unpark()
	var late <-chan time.Time
	if timeout > 0 && !p.Leader() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	gone := ctx.Done()
	for {
		o, news, changed := p.look()
		if news != nil {
			p.hear(news)
			continue
		}
		if o != 0 {
			return o
		}
		select {
		case <-changed:
		case <-late:
			if o := p.give(TimedOut); o != 0 {
				return o
			}
		case <-gone:
			if o := p.give(Left); o != 0 {
				return o
			}
			p.flight.Cancel(context.Cause(ctx)) // the only client that the response is for has gone
			gone = nil
		}
	}
}

// hear calls what Inform has told.
func (p *Member) hear(news func(writer any)) {
	heard := false
	defer func() {
		if !heard {
			p.Leave()
		}
	}()
	news(p.writer)
	heard = true
}

// park enters the member among those who wait, unless there is nothing to wait for or no place.
func (p *Member) park(writer any) WaitResult {
	f := p.flight
	f.mu.Lock()
	defer f.unlock()
	if o := p.outcome(); o != 0 && len(p.news) == 0 {
		return o
	}
	if p.leads() {
		p.writer, p.parked = writer, true
		f.wake() // TakeOver may be waiting for the writer
		return 0
	}
	if f.waiting >= f.terms.limits.Waiters {
		f.disembark(p)
		return Crowded
	}
	f.waiting++
	p.parked = true
	return 0
}

func (p *Member) unpark() {
	f := p.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if !p.leads() {
		f.waiting--
	}
	p.parked, p.writer = false, nil
}

// look returns what there is to hear, or else the outcome, or else a channel that is closed when it is time to look again.
func (p *Member) look() (WaitResult, func(writer any), <-chan struct{}) {
	f := p.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p.news) > 0 {
		next := p.news[0]
		p.news, p.telling = p.news[1:], true
		return 0, next, nil
	}
	if p.telling {
		p.telling = false
		f.wake() // TakeOver may be waiting for the writer
	}
	if o := p.outcome(); o != 0 {
		return o, nil, nil
	}
	return 0, nil, f.change()
}

// give gives up waiting, unless the outcome is there after all. It returns 0 for a leader whose writer is lent: that
// one has to stay.
func (p *Member) give(up WaitResult) WaitResult {
	f := p.flight
	f.mu.Lock()
	defer f.unlock()
	if o := p.outcome(); o != 0 {
		return o
	}
	if p.lent {
		return 0
	}
	f.disembark(p)
	return up
}

// outcome is what the flight's state means for this member; 0 means wait.
func (p *Member) outcome() WaitResult {
	f := p.flight
	switch {
	case p.reader.dropped:
		return Released // a window went on without it before it looked
	case p.slot < 0:
		return Left
	}
	switch f.phase {
	case fetching:
		if f.ended {
			return Failed
		}
		return 0
	case streaming, windowed:
		if f.err != nil && !p.reader.touched {
			return Failed
		}
		return Shared
	case released, rejected:
		return p.apart()
	}
	return 0
}

// apart is outcome for a response that is not shared. A leader waits for the end of the fetch, which may still ask for
// its writer.
func (p *Member) apart() WaitResult {
	f := p.flight
	switch {
	case p.leads() && !f.ended:
		return 0
	case p.lent:
		return TakenOver
	case f.phase == rejected:
		return Failed
	}
	return Released
}

// Reader returns the member's reader of the body. It is of use after Wait has returned Shared.
func (p *Member) Reader() *Reader { return &p.reader }

// Leave ends the member's stake. It may be called more than once. What OnDrop was told of is over
// when it returns.
func (p *Member) Leave() {
	f := p.flight
	f.mu.Lock()
	f.disembark(p)
	next := p.next
	f.unlock()
	p.reader.onDrop.set(nil)
	if next != nil && !p.claimed {
		next.Leave()
	}
}

// Retry leaves a failed flight and boards the one that follows it, for which all gather whose wait ended with Failed or
// whose reader failed before its first byte. The first caller starts it: started tells it to run the fetch, with tag
// attached. After the failure of a second attempt, which is final, after ErrDrained, and when nothing has failed, it
// returns a nil flight, and the member is as before.
func (p *Member) Retry(tag any) (f *Flight, next *Member, started bool) {
	if !p.claim() {
		return nil, nil, false
	}
	p.Leave()
	next = p.next
	f = next.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader == nil {
		f.begin(tag, next)
		started = true
	}
	return f, next, started
}

// claim takes the member's place on the heir into the caller's hands.
func (p *Member) claim() bool {
	f := p.flight
	f.mu.Lock()
	defer f.unlock()
	failed := f.err != nil || f.phase == rejected
	if !failed || f.final() || p.claimed {
		return false
	}
	if p.next == nil { // a leader's, or one that has read already: it was not expected to come along
		f.inherit(p)
	}
	p.claimed = true
	return true
}

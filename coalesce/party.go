package coalesce

import (
	"context"
	"fmt"
	"time"
)

// Outcome is the way a Wait ended.
type Outcome uint8

// The ways a wait can end.
const (
	Shared    Outcome = iota + 1 // read from Party.Reader
	Released                     // not shareable: fetch for yourself
	TakenOver                    // leader only: its writer was lent to the fetch, which has ended; see Flight.Err
	Failed                       // no response, or none that followers may have; see Flight.Err, Party.Retry
	TimedOut                     // follower only: no header within its timeout
	Left                         // its context ended
	Crowded                      // follower only: Limits.Waiters are parked already
)

// String returns a word for logs and metrics.
func (o Outcome) String() string {
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
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Party is one request's stake in a flight: its leader's or a follower's. It belongs to one goroutine, and ends with
// Leave.
type Party struct {
	flight *Flight

	// Guarded by the flight's lock.
	slot   int    // place among the flight's parties; -1 when it has left
	parked bool   // in Wait
	lent   bool   // the fetch has the writer, until it ends
	writer any    // what a parked leader lends
	next   *Party // place on the heir, given at the failure
	reader Reader

	news    []func(writer any) // what the leader is still to be told
	telling bool               // it is in such a call

	claimed bool // next belongs to the caller of Retry
}

// Leader tells whether this party started the fetch.
func (p *Party) Leader() bool {
	p.flight.mu.Lock()
	defer p.flight.mu.Unlock()
	return p.leads()
}

func (p *Party) leads() bool { return p.flight.leader == p }

// Wait parks until the header is decided upon and tells what to do then. A follower waits for timeout at most (0 or
// less: without a limit), a leader as long as the fetch takes. A leader's writer (an http.ResponseWriter, opaque here)
// may be lent to the fetch; Wait then returns when the fetch has ended, even if ctx ends before. A party whose outcome
// is TimedOut, Left or Crowded has left. What Tell has for a leader is called here; if that panics, it has left too.
func (p *Party) Wait(ctx context.Context, timeout time.Duration, writer any) Outcome {
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

// hear calls what Tell has told.
func (p *Party) hear(news func(writer any)) {
	heard := false
	defer func() {
		if !heard {
			p.Leave()
		}
	}()
	news(p.writer)
	heard = true
}

// park enters the party among those who wait, unless there is nothing to wait for or no place.
func (p *Party) park(writer any) Outcome {
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

func (p *Party) unpark() {
	f := p.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if !p.leads() {
		f.waiting--
	}
	p.parked, p.writer = false, nil
}

// look returns what there is to hear, or else the outcome, or else a channel that is closed when it is time to look again.
func (p *Party) look() (Outcome, func(writer any), <-chan struct{}) {
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
func (p *Party) give(up Outcome) Outcome {
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

// outcome is what the flight's state means for this party; 0 means wait.
func (p *Party) outcome() Outcome {
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
func (p *Party) apart() Outcome {
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

// Reader returns the party's reader of the body. It is of use after Wait has returned Shared.
func (p *Party) Reader() *Reader { return &p.reader }

// Leave ends the party's stake. It may be called more than once. What OnDrop was told of is over
// when it returns.
func (p *Party) Leave() {
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
// returns a nil flight, and the party is as before.
func (p *Party) Retry(tag any) (f *Flight, next *Party, started bool) {
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

// claim takes the party's place on the heir into the caller's hands.
func (p *Party) claim() bool {
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

package coalesce

import (
	"context"
	"fmt"
	"time"
)

// WaitResult is the way a Wait ended.
type WaitResult uint8

// The ways a wait can end.
const (
	Shared    WaitResult = iota + 1 // read from Member.Reader
	Released                        // not shareable: fetch for yourself
	TakenOver                       // leader only: the fetch had its writer and has ended; see Err
	Failed                          // no response that followers may have; see Err, Retry
	TimedOut                        // follower only: no header within its timeout
	Left                            // its context ended
	Crowded                         // follower only: Limits.Waiters are parked already
)

// String returns a word for logs and metrics.
func (r WaitResult) String() string {
	switch r {
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
	return fmt.Sprintf("WaitResult(%d)", uint8(r))
}

// Member is one request's share in a flight: its leader's or a follower's. It belongs to one
// goroutine and ends with Leave.
type Member struct {
	flight *Flight

	// Guarded by the flight's lock.
	index      int  // place among the flight's members; -1 when it has left
	parked     bool // in Wait
	lent       bool // the fetch has the writer, until it ends
	informing  bool // it is in a call of pending
	retryTaken bool // the caller of Retry has the place on the next attempt

	writer  any                // what a parked leader lends
	pending []func(writer any) // calls that the leader has still to make for Inform
	retry   *Member            // place on the next attempt, given at the failure
	reader  Reader
}

// Leader reports whether this member started the fetch.
func (m *Member) Leader() bool {
	m.flight.mu.Lock()
	defer m.flight.mu.Unlock()
	return m.leads()
}

func (m *Member) leads() bool { return m.flight.leader == m }

// Wait parks until the fetch has decided about its header, and returns what to do then. A follower
// waits for at most timeout; 0 or less means no limit. A leader waits as long as the fetch takes.
//
// writer is what a leader may lend to the fetch (an http.ResponseWriter, opaque here). Once it is
// lent, Wait returns when the fetch has ended, even if ctx ends before.
//
// Wait calls on the leader's goroutine what Inform was given. If that panics, the member has left.
// It has also left if the result is TimedOut, Left or Crowded.
func (m *Member) Wait(ctx context.Context, timeout time.Duration, writer any) WaitResult {
	if result := m.park(writer); result != 0 {
		return result
	}
	defer m.unpark()
	var late <-chan time.Time
	if timeout > 0 && !m.Leader() {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		late = timer.C
	}
	gone := ctx.Done()
	for {
		result, inform, changed := m.poll()
		if inform != nil {
			m.deliver(inform)
			continue
		}
		if result != 0 {
			return result
		}
		select {
		case <-changed:
		case <-late:
			if result := m.stopWaiting(TimedOut); result != 0 {
				return result
			}
		case <-gone:
			if result := m.stopWaiting(Left); result != 0 {
				return result
			}
			m.flight.Cancel(context.Cause(ctx)) // the only client that the response is for has gone
			gone = nil
		}
	}
}

// deliver calls what Inform was given. The member leaves if that panics.
func (m *Member) deliver(inform func(writer any)) {
	delivered := false
	defer func() {
		if !delivered {
			m.Leave()
		}
	}()
	inform(m.writer)
	delivered = true
}

// park counts the member among those who wait, unless there is a result already or no room.
func (m *Member) park(writer any) WaitResult {
	f := m.flight
	f.mu.Lock()
	defer f.unlock()
	if result := m.result(); result != 0 && len(m.pending) == 0 {
		return result
	}
	if m.leads() {
		m.writer, m.parked = writer, true
		f.wake() // TakeOver may be waiting for the writer
		return 0
	}
	if f.waiting >= f.config.limits.Waiters {
		f.remove(m)
		return Crowded
	}
	f.waiting++
	m.parked = true
	return 0
}

func (m *Member) unpark() {
	f := m.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if !m.leads() {
		f.waiting--
	}
	m.parked, m.writer = false, nil
}

// poll returns the next call for the leader to make, or else the result, or else a channel that is
// closed at the next change.
func (m *Member) poll() (WaitResult, func(writer any), <-chan struct{}) {
	f := m.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(m.pending) > 0 {
		next := m.pending[0]
		m.pending, m.informing = m.pending[1:], true
		return 0, next, nil
	}
	if m.informing {
		m.informing = false
		f.wake() // TakeOver may be waiting for the writer
	}
	if result := m.result(); result != 0 {
		return result, nil, nil
	}
	return 0, nil, f.change()
}

// stopWaiting ends the wait with because, unless the flight has a result after all. It returns 0
// for a leader whose writer is lent, which has to stay.
func (m *Member) stopWaiting(because WaitResult) WaitResult {
	f := m.flight
	f.mu.Lock()
	defer f.unlock()
	if result := m.result(); result != 0 {
		return result
	}
	if m.lent {
		return 0
	}
	f.remove(m)
	return because
}

// result is what the flight's state means for this member; 0 means that it has to wait.
func (m *Member) result() WaitResult {
	f := m.flight
	switch {
	case m.reader.dropped:
		return Released // a window dropped it before it looked
	case m.index < 0:
		return Left
	}
	switch f.phase {
	case fetching:
		if f.ended {
			return Failed
		}
		return 0
	case streaming, windowed:
		if f.err != nil && !m.reader.touched {
			return Failed
		}
		return Shared
	case released, rejected:
		return m.unsharedResult()
	}
	return 0
}

// unsharedResult is result for a response that is not shared. A leader waits for the end of the
// fetch, which may still ask for its writer.
func (m *Member) unsharedResult() WaitResult {
	f := m.flight
	switch {
	case m.leads() && !f.ended:
		return 0
	case m.lent:
		return TakenOver
	case f.phase == rejected:
		return Failed
	}
	return Released
}

// Reader returns the member's reader of the body. It may be used after Wait has returned Shared.
func (m *Member) Reader() *Reader { return &m.reader }

// Leave ends the member's share in the flight. It may be called more than once. OnDrop's function
// is not running when Leave returns, and is not called after that.
func (m *Member) Leave() {
	f := m.flight
	f.mu.Lock()
	f.remove(m)
	m.reader.letGo()
	m.reader.forget()
	next := m.retry
	f.unlock()
	m.reader.onDrop.set(nil)
	if next != nil && !m.retryTaken {
		next.Leave()
	}
}

// Retry leaves a failed flight and joins its next attempt, on which all members gather whose Wait
// ended with Failed or whose reader failed before its first byte, and who call it. The first caller
// starts it: started then tells the caller to run the fetch, to which tag is attached.
//
// Retry returns a nil flight, and leaves the member as it was, if nothing has failed, after the
// failure of a third attempt, and after ErrDrained.
func (m *Member) Retry(tag any) (f *Flight, next *Member, started bool) {
	if !m.takeRetry() {
		return nil, nil, false
	}
	m.Leave()
	next = m.retry
	f = next.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.leader == nil {
		f.begin(tag, next)
		started = true
	}
	return f, next, started
}

// takeRetry makes the caller of Retry responsible for the member's place on the next attempt.
func (m *Member) takeRetry() bool {
	f := m.flight
	f.mu.Lock()
	defer f.unlock()
	failed := f.err != nil || f.phase == rejected
	if !failed || f.final() || m.retryTaken {
		return false
	}
	if m.retry == nil { // createRetry left out the leader, and members that had read
		f.moveToRetry(m)
	}
	m.retryTaken = true
	return true
}

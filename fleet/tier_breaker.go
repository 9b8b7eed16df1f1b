package fleet

import (
	"fmt"
	"sync"
	"time"
)

// A server that is slow or dead costs each look-up its timeout. So after some failures it is not
// asked any more, until a probe that no request waits for has succeeded:
//
//	           failures outweigh                pause is over
//	closed ──────────────────────► open ──────────────────────► half-open
//	  ▲                             ▲                               │
//	  │                             └──── the probe fails ──────────┤
//	  └──────────────────────────────── the probe succeeds ─────────┘

// BreakerState is whether the server is asked.
type BreakerState uint8

// The states.
const (
	// BreakerClosed: it is asked.
	BreakerClosed BreakerState = iota
	// BreakerOpen: it is not asked.
	BreakerOpen
	// BreakerHalfOpen: a probe is under way.
	BreakerHalfOpen
)

// String returns the word in the statistics.
func (s BreakerState) String() string {
	switch s {
	case BreakerClosed:
		return "closed"
	case BreakerOpen:
		return "open"
	case BreakerHalfOpen:
		return "half-open"
	}
	return fmt.Sprintf("breaker(%d)", uint8(s))
}

const (
	// breakerLimit is the weight of failures that opens the breaker. One has failureWeight, and a
	// success takes one away: five in a row are too many, and so is every second in the long run.
	breakerLimit  = 10
	failureWeight = 2
	// The pause between probes begins with breakerPause and doubles up to breakerLongest.
	breakerPause   = 500 * time.Millisecond
	breakerLongest = 8 * time.Second
)

// breaker is the machine of the picture. It has no clock and asks nothing.
type breaker struct {
	mu     sync.Mutex
	state  BreakerState
	weight int
	pause  time.Duration
	opened uint64 // how often it has opened from closed
}

// closed reports whether the server may be asked.
func (b *breaker) closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == BreakerClosed
}

// succeeded notes an answer.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == BreakerClosed && b.weight > 0 {
		b.weight--
	}
}

// failed notes a failure. It returns after which pause the server is to be probed, 0 if that is
// not this caller's to do.
func (b *breaker) failed() (probeIn time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state != BreakerClosed {
		return 0
	}
	if b.weight += failureWeight; b.weight < breakerLimit {
		return 0
	}
	b.state, b.pause = BreakerOpen, breakerPause
	b.opened++
	return b.pause
}

// probing notes that a probe begins.
func (b *breaker) probing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state = BreakerHalfOpen
}

// probed notes how a probe has ended. It returns the pause before the next, 0 for none.
func (b *breaker) probed(ok bool) (probeIn time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
		b.state, b.weight, b.pause = BreakerClosed, 0, 0
		return 0
	}
	b.state, b.pause = BreakerOpen, min(2*b.pause, breakerLongest)
	return b.pause
}

func (b *breaker) current() (state BreakerState, opened uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.opened
}

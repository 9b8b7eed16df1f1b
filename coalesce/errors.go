package coalesce

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// The errors of this package come from Write, from Reader.Next, or as the cause of a flight's
// context.
var (
	// ErrNoClientLeft ends a fetch that has no members and is not to be kept.
	ErrNoClientLeft = errors.New("no client waits for the response any more")
	// ErrExpired ends a fetch that had no header within Limits.Life, or one of the background that
	// had none within Limits.Unattended.
	ErrExpired = errors.New("no response header within the life of the flight")
	// ErrDrained ends a fetch that Drain no longer waited for.
	ErrDrained = errors.New("flight cancelled by shutdown")
	// ErrAbandoned is the error of a flight whose fetch called Settle without Finish or Fail.
	ErrAbandoned = errors.New("fetch stopped without a result")
	// ErrUndecided is the error of a flight whose fetch wrote or finished without Share, Release or
	// Reject.
	ErrUndecided = errors.New("fetch went on without a decision about its response")
	// ErrEnded is what Write answers after Finish, or when the body goes past the flight.
	ErrEnded = errors.New("flight takes no more body")
	// ErrTooSlow is what a reader gets that its flight has dropped because others waited, or had no
	// room, for what it took too little of.
	ErrTooSlow = errors.New("reader took too little for too long")
	// ErrPassed is what a reader gets that skipped back to bytes a windowed flight has freed.
	ErrPassed = errors.New("bytes no longer held")
	// ErrSpill is what a reader gets that is behind what is in memory, when the Spill does not give
	// the bytes. Others may read on.
	ErrSpill = errors.New("spilled bytes cannot be read")
	// ErrLeft is what a reader gets whose member has left.
	ErrLeft = errors.New("member has left the flight")
)

// PanicError is the error of a fetch that panicked. The caller whose request led the fetch can
// panic with its Value once more.
type PanicError struct {
	Value any    // what was panicked with
	Stack []byte // of the panicking goroutine, as debug.Stack gives it
}

// NewPanicError wraps a recovered value. The deferred function that recovers has to call it, so
// that the stack is the right one.
func NewPanicError(value any) *PanicError {
	return &PanicError{Value: value, Stack: debug.Stack()}
}

// Error names the value, without the stack.
func (p *PanicError) Error() string { return fmt.Sprintf("fetch panicked: %v", p.Value) }

// Unwrap returns the value if it is an error, so that errors.Is finds http.ErrAbortHandler.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

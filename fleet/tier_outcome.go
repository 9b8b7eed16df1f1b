package fleet

import (
	"context"
	"errors"
	"fmt"
)

// Op is what the shared tier was asked for.
type Op uint8

// The ops.
const (
	// OpGet: a stored response.
	OpGet Op = iota
	// OpPut: to keep one.
	OpPut
	// OpRemove: to remove a record that was refused.
	OpRemove
	// OpCount is how many there are.
	OpCount
)

// String returns the word.
func (o Op) String() string {
	switch o {
	case OpGet:
		return "get"
	case OpPut:
		return "put"
	case OpRemove:
		return "remove"
	case OpCount:
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// Outcome is what came of it.
type Outcome uint8

// The outcomes.
const (
	// OutcomeDone: it was put or removed.
	OutcomeDone Outcome = iota
	// OutcomeHit: a response was found.
	OutcomeHit
	// OutcomeMiss: there is none.
	OutcomeMiss
	// OutcomeRefused: the record is masked by a purge, of another epoch, foreign or damaged.
	OutcomeRefused
	// OutcomeSkipped: the queue is full, the breaker open, or the response without use to others.
	OutcomeSkipped
	// OutcomeSuperseded: another node has the lease by now, or has stored what is newer.
	OutcomeSuperseded
	// OutcomeTimeout: the server did not answer in time.
	OutcomeTimeout
	// OutcomeError: it answered with an error, or could not be reached.
	OutcomeError
	// OutcomeCount is how many there are.
	OutcomeCount
)

// String returns the word.
func (o Outcome) String() string {
	switch o {
	case OutcomeDone:
		return "done"
	case OutcomeHit:
		return "hit"
	case OutcomeMiss:
		return "miss"
	case OutcomeRefused:
		return "refused"
	case OutcomeSkipped:
		return "skipped"
	case OutcomeSuperseded:
		return "superseded"
	case OutcomeTimeout:
		return "timeout"
	case OutcomeError:
		return "error"
	case OutcomeCount:
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// outcomeOf names an error of the engine.
func outcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return OutcomeDone
	case errors.Is(err, errBreakerOpen):
		return OutcomeSkipped
	case errors.Is(err, errSuperseded):
		return OutcomeSuperseded
	case errors.Is(err, errForeign), errors.Is(err, errLost):
		return OutcomeRefused
	case errors.Is(err, errTooLarge), errors.Is(err, errExpired):
		return OutcomeSkipped
	case errors.Is(err, context.DeadlineExceeded):
		return OutcomeTimeout
	}
	return OutcomeError
}

// LeaseOutcome is how a fetch that asked for a lease went on.
type LeaseOutcome uint8

// The outcomes.
const (
	// LeaseTaken: it fetches for all.
	LeaseTaken LeaseOutcome = iota
	// LeaseStored: another node has fetched and stored.
	LeaseStored
	// LeaseAlone: the response is not for sharing, or not in the shared tier. It fetches for
	// itself.
	LeaseAlone
	// LeaseDiffers: another node fetches for other values of the Vary. It fetches for itself.
	LeaseDiffers
	// LeaseFailed: two fetches of other nodes have failed.
	LeaseFailed
	// LeaseTimeout: the wait was over. It fetches for itself.
	LeaseTimeout
	// LeaseHeld: another node had it, and was not waited for, or for less than `coalesce wait`. It
	// fetches for itself.
	LeaseHeld
	// LeaseError: the server gave no answer. It fetches for itself.
	LeaseError
	// LeaseLost: it was taken, and was another node's before its end.
	LeaseLost
	// LeaseOutcomeCount is how many there are.
	LeaseOutcomeCount
)

// String returns the word.
func (o LeaseOutcome) String() string {
	switch o {
	case LeaseTaken:
		return "taken"
	case LeaseStored:
		return "stored"
	case LeaseAlone:
		return "alone"
	case LeaseDiffers:
		return "differs"
	case LeaseFailed:
		return "failed"
	case LeaseTimeout:
		return "timeout"
	case LeaseHeld:
		return "held"
	case LeaseError:
		return "error"
	case LeaseLost:
		return "lost"
	case LeaseOutcomeCount:
	}
	return fmt.Sprintf("lease(%d)", uint8(o))
}

package fleet

import (
	"errors"
	"fmt"
)

// Condition is how a node stands to its fleet.
type Condition uint8

// The conditions of a node. Only the first three have contact.
const (
	// Joining: it reads the log for the first time, and has had no pass yet.
	Joining Condition = iota
	// Held: it has a pass, and so answers from what it has.
	Held
	// Lost: its pass is over, and it is catching up.
	Lost
	// Suspect: like Lost, and purges may have been lost meanwhile, so that all it had is validated
	// before its next use.
	Suspect
	// ReadOnly: the server takes no writes, see ErrReadOnly.
	ReadOnly
	// Refused: the server does not let it in, see ErrRefused.
	Refused
	// Unreachable: the server does not answer.
	Unreachable
	// Left: it was closed.
	Left
)

// Conditions are all of them.
var Conditions = [...]Condition{Joining, Held, Lost, Suspect, ReadOnly, Refused, Unreachable, Left}

// String returns the word for it in statistics, metrics, logs and the list of nodes.
func (c Condition) String() string {
	switch c {
	case Joining:
		return "joining"
	case Held:
		return "held"
	case Lost:
		return "lost"
	case Suspect:
		return "suspect"
	case ReadOnly:
		return "read-only"
	case Refused:
		return "refused"
	case Unreachable:
		return "unreachable"
	case Left:
		return "left"
	default:
		return fmt.Sprintf("condition(%d)", uint8(c))
	}
}

// conditionOf is that of a node without a pass whose last call has failed.
func conditionOf(err error) Condition {
	switch {
	case errors.Is(err, ErrReadOnly):
		return ReadOnly
	case errors.Is(err, ErrRefused):
		return Refused
	default:
		return Unreachable
	}
}

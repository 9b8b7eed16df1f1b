package store

import "fmt"

// Severity is what a purge makes of the responses that it names, and what purges have made of one:
// of several the severest counts.
type Severity uint8

// The severities, ascending.
const (
	// NotPurged is that of a response that no purge has hit. As an option of a purge it is Hard.
	NotPurged Severity = iota
	// Soft makes a response stale. It may still be served where a stale one may be.
	Soft
	// Invalid puts a response "in need of mandatory validation" (RFC 9111 4.4) before its next use:
	// it may not even be served where a stale one may be.
	Invalid
	// Hard makes a response gone.
	Hard
)

// String returns the severity as one word.
func (s Severity) String() string {
	switch s {
	case NotPurged:
		return "not purged"
	case Soft:
		return "soft"
	case Invalid:
		return "invalid"
	case Hard:
		return "hard"
	default:
		return fmt.Sprintf("severity(%d)", uint8(s))
	}
}

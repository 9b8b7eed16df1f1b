package origin

import (
	"fmt"
	"time"
)

// Why is why a request may not go to the origin.
type Why uint8

// The reasons.
const (
	// Admitted: it may go.
	Admitted Why = iota
	// Busy: no place is free, and the request can do without.
	Busy
	// Paused: the origin has said when to come again.
	Paused
	// Failing: the last request failed, and this one can do without.
	Failing
	// QueueFull: no place is free, and too many wait already.
	QueueFull
	// QueueWait: no place became free in time.
	QueueWait
	// Refresh: a refresh found no place, or the origin failing.
	Refresh
	// GaveUp: the request did not wait any longer, because its client left.
	GaveUp

	// WhyCount is how many there are.
	WhyCount
)

// String returns the word of metrics and logs, empty for Admitted.
func (w Why) String() string {
	switch w {
	case Admitted:
		return ""
	case Busy:
		return "busy"
	case Paused:
		return "paused"
	case Failing:
		return "failing"
	case QueueFull:
		return "queue-full"
	case QueueWait:
		return "queue-wait"
	case Refresh:
		return "refresh"
	case GaveUp:
		return "gave-up"
	case WhyCount:
	}
	return fmt.Sprintf("why(%d)", uint8(w))
}

// RefusedError is the error of a request that may not go to the origin.
type RefusedError struct {
	// Origin is the name of the Budget, empty if it has none.
	Origin string
	// Why is the reason.
	Why Why
	// RetryAfter is when it is worth to try again: what is left of a pause, or a guess from the
	// length of the queue. At least a second.
	RetryAfter time.Duration
}

// Error implements error.
func (r *RefusedError) Error() string {
	if r.Origin == "" {
		return fmt.Sprintf("the origin cannot take the request: %s", r.Why)
	}
	return fmt.Sprintf("the origin %s cannot take the request: %s", r.Origin, r.Why)
}

const (
	leastRetryAfter = time.Second
	// mostGuessed bounds a guess. A pause is told as it is.
	mostGuessed = time.Minute
)

// refusal returns the error for a request that is refused at now.
func (b *Budget) refusal(now time.Time, why Why) *RefusedError {
	r := &RefusedError{Origin: b.name, Why: why, RetryAfter: leastRetryAfter}
	switch rest := b.health.pausedUntil.Sub(now); {
	case rest > 0:
		r.RetryAfter = max(rest, leastRetryAfter)
	case b.limits.Rate.Count > 0:
		drained := time.Duration(float64(b.queue.Len()+1) / float64(b.limits.Rate.perSecond()) * float64(time.Second))
		r.RetryAfter = min(max(drained, leastRetryAfter), mostGuessed)
	}
	return r
}

// Interface guards.
var _ error = (*RefusedError)(nil)

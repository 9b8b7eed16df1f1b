package origin

import (
	"time"

	"golang.org/x/time/rate"
)

// What [Limits] mean where nothing is said. Configurations take their defaults from here.
const (
	// DefaultQueue is how many requests wait for a place.
	DefaultQueue = 1000
	// DefaultWait is how long a request waits for a place.
	DefaultWait = 10 * time.Second
	// DefaultBackoffMin is the first pause after a failure.
	DefaultBackoffMin = time.Second
	// DefaultBackoffMax is the longest pause after a failure.
	DefaultBackoffMax = time.Minute
)

// Limits are what an origin can take. The zero value has no limit and the default back-off.
type Limits struct {
	// MaxConcurrent is how many requests may be under way. 0: any number.
	MaxConcurrent int
	// Rate is how many requests may begin in a time. The zero value is any number.
	Rate Rate
	// Queue is how many requests may wait for a place. 0: none.
	Queue int
	// Wait is how long a request may wait for a place.
	Wait time.Duration
	// BackoffMin is the pause after a first failure. It doubles with each that follows, up to
	// BackoffMax. 0: the defaults. A smaller BackoffMax than BackoffMin counts as that.
	BackoffMin, BackoffMax time.Duration
	// Pauses says that Retry-After stops every request, not only those that can do without.
	Pauses bool
}

// Rate is a number of requests in a time.
type Rate struct {
	// Count of requests in Per. 0: any number.
	Count int
	// Per is the time in which they are counted. 0: any number may begin.
	Per time.Duration
	// Burst is how many may begin together after a rest. 0: as many as in a second, at least 1.
	Burst int
}

// WithDefaults returns a copy with the default back-off and burst where none is given.
func (l Limits) WithDefaults() Limits {
	if l.BackoffMin <= 0 {
		l.BackoffMin = DefaultBackoffMin
	}
	if l.BackoffMax <= 0 {
		l.BackoffMax = DefaultBackoffMax
	}
	l.BackoffMax = max(l.BackoffMax, l.BackoffMin)
	if l.Rate.Count <= 0 || l.Rate.Per <= 0 {
		l.Rate = Rate{}
		return l
	}
	if l.Rate.Burst <= 0 {
		l.Rate.Burst = max(1, int(l.Rate.perSecond()))
	}
	return l
}

// perSecond is the rate as x/time knows it.
func (r Rate) perSecond() rate.Limit { return rate.Limit(float64(r.Count) / r.Per.Seconds()) }

// limiter returns a limiter for the rate, which has all of its burst; nil for any number.
func (r Rate) limiter() *rate.Limiter {
	if r == (Rate{}) {
		return nil
	}
	return rate.NewLimiter(r.perSecond(), r.Burst)
}

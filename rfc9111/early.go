package rfc9111

import (
	"math"
	"time"
)

// This file is XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede
// Prevention" (VLDB 2015). A hit has the response fetched anew before its lifetime ends, with a
// chance that rises to 1 at the end:
//
//	now - delta * beta * ln(draw) >= end of the lifetime
//
// delta is how long a fetch takes, beta how eager the operator is, and draw is uniform in (0, 1].
// The more hits there are, the earlier one of them draws it. So what is asked for all the time is
// renewed before a request has to wait, and what is hardly asked for is not fetched in vain.
//
// The paper bounds nothing. Here a response is not refreshed in the first half of its stay: where
// hits are many, or a fetch takes as long as a lifetime, the origin is then asked at most twice as
// often as without.

// EarlyRefresh reports whether a hit with so much of the lifetime remaining has the response
// fetched anew. A fetch takes delta. draw is uniform in (0, 1].
func EarlyRefresh(beta float64, delta, remaining time.Duration, draw float64) bool {
	return draw <= EarlyChance(beta, delta, remaining)
}

// smallestDraw is the least that 53 random bits give. A chance below it is none.
const smallestDraw = 0x1p-53

// EarlyChance is the chance that EarlyRefresh chooses such a hit, over all draws: from 0 to 1. It
// is 0 where nothing remains: that would not be early.
func EarlyChance(beta float64, delta, remaining time.Duration) float64 {
	scale := beta * float64(delta)
	if remaining <= 0 || !(scale > 0) {
		return 0
	}
	if chance := math.Exp(-float64(remaining) / scale); chance >= smallestDraw {
		return chance
	}
	return 0
}

// EarlyRemaining returns what is left of the lifetime at now, 0 while it is too soon to refresh the
// response, or too late: before half of the time is over for which it was fresh when it arrived.
func (f *Freshness) EarlyRemaining(now time.Time) time.Duration {
	remaining := f.TTL(now)
	if remaining <= 0 || remaining > (f.Lifetime-f.InitialAge)/2 {
		return 0
	}
	return remaining
}

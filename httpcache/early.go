package httpcache

import "time"

// fetchTimeWeight is the part that the last fetch of a response has in its average, as 1/weight. A
// response is fetched once in a lifetime, so the average has to follow within a few fetches.
const fetchTimeWeight = 4

// averageFetchTime is the moving average of how long the origin takes for a response, now that it
// has answered once more: from the call of the handlers to now, without the wait for a place at the
// origin.
func (x *Fetch) averageFetchTime() time.Duration {
	took := max(time.Since(x.calledAt), 1)
	if x.usually == 0 {
		return took
	}
	return max(x.usually+(took-x.usually)/fetchTimeWeight, 1)
}

// fetchTime is the FetchTime of a response that has come whole. One from another machine has that
// machine's.
func (x *Fetch) fetchTime(shared *sharedResponse) time.Duration {
	if shared.elsewhere {
		return shared.was.FetchTime
	}
	return x.averageFetchTime()
}

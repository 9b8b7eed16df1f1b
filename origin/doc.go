// Package origin keeps what is asked of an origin within what it can take. It knows no cache and no
// server, only requests that want to go, and what came of those that went.
//
// A [Budget] is one origin. A request takes a [Place] before it goes, reports what came of it, and
// gives the place back:
//
//	Take ─┬─ a place is free ─────────────────► Place ─► Succeeded | Failed ─► Done
//	      ├─ none, and nothing else to answer ► queue, first come first served ─┬─► Place
//	      │                                                                     └─► Refusal
//	      └─ none, and it can do without ─────► Refusal, at once
//
// # Where to read
//
//	limits.go      what an origin can take
//	budget.go      taking a place and giving it back
//	queue.go       waiting for one
//	unattended.go  places that no client needs any more
//	health.go      failures: back-off, pauses, probes, recovery
//	load.go        what it has taken on
//	refusal.go     the ways to be refused, by name
//	retryafter.go  Retry-After, either form
//
// # The rules
//
//   - A place is free while fewer than MaxConcurrent are taken, the rate has a token, none waits
//     and the origin is not paused.
//   - A request that has nothing else to answer with ([ClassWaiting]) waits in the queue for a
//     place. It is refused if the queue is full, if its time runs out, or at once if a pause lasts
//     longer than it may wait.
//   - A request that has a stale response ([ClassStale]) is refused at once. So is a refresh, for
//     which no client waits ([ClassRefresh]). Neither goes before a request that waits: there is no
//     free place as long as one does.
//   - Who gives up leaves no hole. A place that was given to a request at the moment when it gave
//     up goes to the next in the queue, with its token.
//   - What has a place and no client any more goes on while none waits: it may bring what is worth
//     storing. Otherwise the holder is asked to give it up, see [Budget.Unattended]: of those that
//     may be given up the oldest, and as many as wait. Where the rate or a pause holds the queue
//     back, none is.
//
// # Failure
//
// After a failed request the origin is failing, until the first success:
//
//	           Failed                      retryAt
//	healthy ──────────► failing, backing off ────► failing, a probe may go
//	   ▲                   ▲  back-off doubled           │
//	   │                   └──────────── Failed ─────────┤
//	   └──────────────────────────── Succeeded ──────────┘
//
// While it is failing, requests that have a stale response are refused, and of the refreshes one at
// a time may go, at the pace of the back-off: the probe. Requests that have nothing else go all the
// same. Their success ends the outage too.
//
// Many requests fail together when an origin goes down. Only the probe's failure doubles the
// back-off. Otherwise thirty requests at once would bring it to its maximum, and requests that have
// nothing else would put the next probe off for ever. A probe that hangs gives its turn away.
//
// Not every failure is the origin's. One counts only if no request that began later has succeeded:
// one that has hung since the outage says nothing about an origin that has recovered. And one of a
// request for which nothing is stored begins no outage if the origin has answered another within
// the shortest back-off: it may be a page that is broken, or a client that asks for what fails.
//
// # What a client can do to that
//
// A client chooses the pages that it asks for, and may know one that always fails, or a field with
// which a page does. It must not have all others served stale for long by an origin that is well:
//
//   - While any page is answered at least every second, a failure counts for its own page alone, or
//     for none.
//   - Otherwise it counts for all. But until a second page of which a response is stored has
//     failed, the other pages may probe after the shortest back-off, whatever the first one's
//     Retry-After and however often it has failed. So each stale page is served stale once more,
//     and the refresh that this leaves behind ends the outage. Pages of which nothing is stored
//     confirm nothing: a client could name any number of them.
//   - Requests of other kinds, which have other header fields, may probe after the shortest
//     back-off, until a second kind has failed. A client that changes a field each time fails for
//     several. Where a page fails alone, and so the origin is well, they may after a part of the
//     back-off all the same.
//   - What failed last, or had no result, probes after what else is asked for. A probe that hangs
//     gives its turn away.
//
// Not held: a client that knows fields with which two stored pages fail, and changes them each
// time, on a site of which nothing else is fetched meanwhile. Then the back-off holds, a minute at
// most by default.
//
// Nor can a client hide an outage to any effect. If it has something answered every second, as a
// page without a database, failures count for their own page, and for one page at a time: with
// several that fail in turn each request asks the origin first, and gets the stale response when
// that has failed. What a success ends is the sparing of an origin that does answer, no response.
//
// Retry-After sets when the next probe may go, where that is later than the back-off. With
// [Limits.Pauses] it pauses the origin as well: then nothing goes until it has passed. Success ends
// an outage and no pause.
//
// # What is not here
//
// golang.org/x/time/rate has the tokens. golang.org/x/sync/semaphore has a queue as well, and does
// not serve: its size is fixed, its queue has no bound, and it cannot hold the head of the queue
// back until a token or the end of a pause. So places are a number and the queue is a list, under
// one lock.
//
// # Caveats
//
//   - The rate holds for when places are given. The network may bring two requests closer together.
//   - What a proxy behind the Budget does by itself is not counted, such as trying again.
//   - Standing and RefreshDue may be a moment behind. They serve to answer without the origin at
//     once; Take decides, under the lock.
package origin

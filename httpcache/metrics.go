package httpcache

import (
	"fmt"
	"time"

	"github.com/larder-cache/larder/rfc9111"
)

// Metrics counts what becomes of requests, of fetches and of responses. Many goroutines call it,
// and a hit waits for it. What it is given is valid during the call.
type Metrics interface {
	// Request counts a request whose answer has ended, or has broken off. One that handlers abort
	// before its header has no answer and is not counted.
	Request(q *Request)
	// FetchDone counts a request to the origin. took is its time there, 0 if it was refused or is
	// passed on: an event stream is open for hours.
	FetchDone(kind FetchKind, result FetchResult, took time.Duration, of Subject)
	// NotStored counts a response from the origin that is not stored.
	NotStored(reason rfc9111.Reason, of Subject)
	// Observed is told of a request on a route that observes, when its answer has ended. It may be
	// called after Request, and found may be kept.
	Observed(found *Observed)
}

// Subject is what a count is about: a [*Request], or the [*Fetch] that was begun for one.
type Subject interface {
	// URL returns the URL by which the response is purged and listed. It is made when it is asked
	// for, which costs as much as the rest of a hit.
	URL() string
	// Route returns the route that the request came to.
	Route() *Route
}

// FetchKind is why the origin was asked.
type FetchKind uint8

// The kinds.
const (
	// FetchMiss: a client waits for a response that others may share. Validations are among them.
	FetchMiss FetchKind = iota
	// FetchRefresh: in the background, of what has been answered from the store.
	FetchRefresh
	// FetchPass: a client's own request was passed on.
	FetchPass
	// FetchSlice: a client waits for a part of a large file, or reads it and will soon need the
	// next.
	FetchSlice
	// FetchBatch: for the items of several fetches of the other kinds.
	FetchBatch

	// FetchKindCount is how many there are.
	FetchKindCount
)

// String returns the word.
func (k FetchKind) String() string {
	switch k {
	case FetchMiss:
		return "miss"
	case FetchRefresh:
		return "refresh"
	case FetchPass:
		return "pass"
	case FetchSlice:
		return "slice"
	case FetchBatch:
		return "batch"
	case FetchKindCount:
	}
	return fmt.Sprintf("fetch(%d)", uint8(k))
}

// FetchResult is what came of asking the origin.
type FetchResult uint8

// The results.
const (
	// FetchOK: an answer that says nothing against the origin, a 404 for example.
	FetchOK FetchResult = iota
	// FetchNotModified: a 304.
	FetchNotModified
	// FetchError: an answer that says the origin fails, or none, or one that broke off or is too
	// short for its Content-Length.
	FetchError
	// FetchTimeout: no answer in time. A 504 says so, too.
	FetchTimeout
	// FetchRefused: the budget of the origin had no place for it, so the origin was not asked.
	FetchRefused
	// FetchCancelled: it was given up, because its clients had left.
	FetchCancelled

	// FetchResultCount is how many there are.
	FetchResultCount
)

// String returns the word.
func (r FetchResult) String() string {
	switch r {
	case FetchOK:
		return "ok"
	case FetchNotModified:
		return "not_modified"
	case FetchError:
		return "error"
	case FetchTimeout:
		return "timeout"
	case FetchRefused:
		return "refused"
	case FetchCancelled:
		return "cancelled"
	case FetchResultCount:
	}
	return fmt.Sprintf("result(%d)", uint8(r))
}

type noMetrics struct{}

func (noMetrics) Request(*Request)                                         {}
func (noMetrics) FetchDone(FetchKind, FetchResult, time.Duration, Subject) {}
func (noMetrics) NotStored(rfc9111.Reason, Subject)                        {}
func (noMetrics) Observed(*Observed)                                       {}

// Interface guards.
var (
	_ Subject = (*Request)(nil)
	_ Subject = (*Fetch)(nil)
)

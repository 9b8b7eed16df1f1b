package larder

import "fmt"

// Outcome is how a request was answered: the word of {http.larder.status}, of the access log and of
// caddy_larder_requests_total.
type Outcome uint8

// The outcomes.
const (
	// OutcomeHit: from the store, fresh.
	OutcomeHit Outcome = iota
	// OutcomeStale: from the store, stale, as a window or the client allows.
	OutcomeStale
	// OutcomeRevalidated: from the store, after the origin said 304.
	OutcomeRevalidated
	// OutcomeMiss: fetched for this request.
	OutcomeMiss
	// OutcomeCollapsed: fetched for another request that was under way.
	OutcomeCollapsed
	// OutcomeBypass: passed to the origin without a look at the store.
	OutcomeBypass

	outcomeCount
)

// String returns the word.
func (o Outcome) String() string {
	switch o {
	case OutcomeHit:
		return "hit"
	case OutcomeStale:
		return "stale"
	case OutcomeRevalidated:
		return "revalidated"
	case OutcomeMiss:
		return "miss"
	case OutcomeCollapsed:
		return "collapsed"
	case OutcomeBypass:
		return "bypass"
	case outcomeCount:
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// outcomeWords are the words as Caddy's replacer takes them, made once.
var outcomeWords = func() (words [outcomeCount]any) {
	for o := range outcomeCount {
		words[o] = o.String()
	}
	return words
}()

// Bypass is why a request did not go through the cache: the detail beside fwd=bypass.
type Bypass uint8

// The reasons to bypass.
const (
	// NotBypassed: it does go through the cache.
	NotBypassed Bypass = iota
	// BypassMethod: the handler does not cache the method.
	BypassMethod
	// BypassUpgrade: the connection is to become another protocol's.
	BypassUpgrade
	// BypassTarget: no URL that a purge could name is asked for.
	BypassTarget
	// BypassBody: a body on GET or HEAD, or one too large for the key.
	BypassBody
	// BypassConnection: Connection names more than the connection's own business (C10).
	BypassConnection
	// BypassOverride: a field asks for another method or URL than the request line (C1, C8).
	BypassOverride
	// BypassStore: no store is open.
	BypassStore
	// BypassCoalesceWait: another's fetch had no header in time, or has too many waiting.
	BypassCoalesceWait
)

// String returns the word, empty for NotBypassed.
func (b Bypass) String() string {
	switch b {
	case NotBypassed:
		return ""
	case BypassMethod:
		return "method"
	case BypassUpgrade:
		return "upgrade"
	case BypassTarget:
		return "target"
	case BypassBody:
		return "body"
	case BypassConnection:
		return "connection"
	case BypassOverride:
		return "override"
	case BypassStore:
		return "store"
	case BypassCoalesceWait:
		return "coalesce-wait"
	}
	return fmt.Sprintf("bypass(%d)", uint8(b))
}

// Details of answers that were served stale.
const (
	detailSWR = "swr" // within stale-while-revalidate, refreshed behind
	detailSIE = "sie" // after the origin failed
)

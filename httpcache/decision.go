package httpcache

import (
	"fmt"

	"github.com/larder-cache/larder/rfc9111"
)

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

	// OutcomeCount is how many there are.
	OutcomeCount
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
	case OutcomeCount:
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Bypass is why a request did not go through the cache: the detail beside fwd=bypass.
type Bypass uint8

// The reasons to bypass.
const (
	// NotBypassed: it does go through the cache.
	NotBypassed Bypass = iota
	// BypassMethod: the route does not cache the method.
	BypassMethod
	// BypassUpgrade: the connection is to become another protocol's.
	BypassUpgrade
	// BypassTarget: the request does not ask for a URL that a purge could name, or spells its Host
	// in a way that handlers in front have passed on.
	BypassTarget
	// BypassBody: a body on GET or HEAD, or one too large for the key.
	BypassBody
	// BypassConnection: Connection names fields that are not about the connection (C10).
	BypassConnection
	// BypassOverride: a field asks for another method or URL than the request line (C1, C8).
	BypassOverride
	// BypassFields: more field lines than each origin reads (C11a).
	BypassFields
	// BypassMutation: it asks for a GraphQL mutation or subscription.
	BypassMutation
	// BypassGraphQL: it is to be a GraphQL request, and cannot be read as one for one operation.
	BypassGraphQL
	// BypassStore: no store is open.
	BypassStore
	// BypassObserve: the route observes, see Decision.Would.
	BypassObserve
	// BypassCoalesceWait: the fetch of another request had no header in time, or too many requests
	// wait for it.
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
	case BypassFields:
		return "fields"
	case BypassMutation:
		return "mutation"
	case BypassGraphQL:
		return "graphql"
	case BypassStore:
		return "store"
	case BypassObserve:
		return "observe"
	case BypassCoalesceWait:
		return "coalesce-wait"
	}
	return fmt.Sprintf("bypass(%d)", uint8(b))
}

// Detail is what else there is to say about an answer.
type Detail uint8

// The details.
const (
	// NoDetail: the outcome says all.
	NoDetail Detail = iota
	// DetailSWR: stale within stale-while-revalidate, refreshed in the background.
	DetailSWR
	// DetailSIE: stale after the origin failed.
	DetailSIE
	// DetailOnlyIfCached: the request has only-if-cached, and no stored response may answer it.
	DetailOnlyIfCached
	// DetailClientGone: the client left before its answer.
	DetailClientGone
	// DetailError: the handlers returned an error instead of a response: nothing listens at the
	// origin, or file_server found no file.
	DetailError
	// DetailNoPass: what is stored was not used, or a fetch under way not waited for, because this
	// machine may not know of every purge.
	DetailNoPass
	// DetailOriginBusy: the origin cannot take the request, or has asked to be left alone.
	DetailOriginBusy
	// DetailRepeats: the client has asked for the same thing too often, see repeats.go.
	DetailRepeats
)

// String returns the word, empty for NoDetail.
func (d Detail) String() string {
	switch d {
	case NoDetail:
		return ""
	case DetailSWR:
		return "swr"
	case DetailSIE:
		return "sie"
	case DetailOnlyIfCached:
		return "only-if-cached"
	case DetailClientGone:
		return "client-gone"
	case DetailError:
		return "error"
	case DetailNoPass:
		return "no-pass"
	case DetailOriginBusy:
		return "origin-busy"
	case DetailRepeats:
		return "repeats"
	}
	return fmt.Sprintf("detail(%d)", uint8(d))
}

// Decision is how a request is answered, and why. Cache-Status, placeholders, metrics and the
// access log tell it, each in its own form.
type Decision struct {
	Outcome   Outcome         // what the client got
	Bypass    Bypass          // beside OutcomeBypass
	Forward   rfc9111.Forward // why the origin answered: fwd of Cache-Status
	NotStored rfc9111.Reason  // why it is not stored; Storable if it is, or was not fetched
	Detail    Detail          // what more there is to say: detail of Cache-Status
	Would     Outcome         // beside BypassObserve: what the outcome would have been
}

// observed is how a request was answered for which d would have been made.
func (d Decision) observed() Decision {
	return Decision{
		Outcome: OutcomeBypass, Bypass: BypassObserve, Forward: rfc9111.ForwardBypass,
		Would: d.Outcome, NotStored: d.NotStored, Detail: d.Detail,
	}
}

// Reason is the one word beside the outcome, empty where that says all.
func (d *Decision) Reason() string {
	switch {
	case d.Bypass != NotBypassed:
		return d.Bypass.String()
	case d.Detail != NoDetail:
		return d.Detail.String()
	}
	return d.NotStored.String()
}

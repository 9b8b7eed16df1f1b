package rfc9111

// Reason names why a response was not stored. The words of [Reason.String] are the ones that stand
// in the detail of Cache-Status, in metrics and in logs.
type Reason uint8

// The reasons. The zero value says that the response may be stored. [Policy.Storable] returns those
// up to ReasonContentType. The last eight are found after it: the cache that asks adds them.
const (
	// Storable is no reason at all: the response may be stored.
	Storable Reason = iota
	// ReasonMethod: responses to this request method are not stored.
	ReasonMethod
	// ReasonStatus: the status is not final, not understood, or of no use to a cache, or none was
	// written.
	ReasonStatus
	// ReasonPartial: a 206 never answers for the whole, a 304 has no body to store.
	ReasonPartial
	// ReasonNoStore: the response carries no-store (RFC 9111 5.2.2.5).
	ReasonNoStore
	// ReasonRequestNoStore: the request carried no-store (RFC 9111 5.2.1.5).
	ReasonRequestNoStore
	// ReasonPrivate: the response is for one user (RFC 9111 5.2.2.7).
	ReasonPrivate
	// ReasonAuthorization: the request was authorised and the response does not say that it may be
	// shared (RFC 9111 3.5).
	ReasonAuthorization
	// ReasonSetCookie: the response sets a cookie and the operator did not allow that.
	ReasonSetCookie
	// ReasonVaryStar: Vary: * matches no later request (RFC 9111 4.1).
	ReasonVaryStar
	// ReasonNoLifetime: nothing gives the response a lifetime. A validator does not make up for
	// that: what says nothing of caching is not cached.
	ReasonNoLifetime
	// ReasonNoValidator: it would have to be validated before its first use, as it is stale when it
	// arrives or says no-cache, and cannot be: it has no validator, or answers a POST, which
	// validates nothing, or the operator keeps nothing for that.
	ReasonNoValidator
	// ReasonCookie: the operator's ttl, force_ttl or heuristic would give it a lifetime, had the
	// request not carried a Cookie that is not in the key.
	ReasonCookie
	// ReasonField: a field's name or value cannot stand in a message (RFC 9110 5.1, 5.5): it has
	// CR, LF or NUL, or the name is no token.
	ReasonField
	// ReasonContentType: the extension in the URL and the Content-Type do not agree, and the
	// operator guards against that.
	ReasonContentType
	// ReasonSession: the response begins a session (Mcp-Session-Id), which is for one client.
	ReasonSession
	// ReasonTooLarge: the body is larger than the limit.
	ReasonTooLarge
	// ReasonIncomplete: the body ended early or the fetch failed.
	ReasonIncomplete
	// ReasonPurged: a purge came while the response was being fetched.
	ReasonPurged
	// ReasonFull: the store has no room and may not evict.
	ReasonFull
	// ReasonGraphQL: it answers a GraphQL query and reports errors, or is no answer to one, or one
	// that grows too much when it is decoded.
	ReasonGraphQL
	// ReasonObserved: it was stored while observing, for a request that a fetch would have sent
	// otherwise. It is never a reason against storing, only against using what is stored.
	ReasonObserved
	// ReasonLaterRelease: a later release has stored it and says of it what this one does not know.
	// It is never a reason against storing, either.
	ReasonLaterRelease

	reasonCount
)

var reasonNames = [reasonCount]string{
	Storable:             "",
	ReasonMethod:         "method",
	ReasonStatus:         "status",
	ReasonPartial:        "partial",
	ReasonNoStore:        "no-store",
	ReasonRequestNoStore: "request-no-store",
	ReasonPrivate:        "private",
	ReasonAuthorization:  "authorization",
	ReasonSetCookie:      "set-cookie",
	ReasonVaryStar:       "vary-star",
	ReasonNoLifetime:     "no-lifetime",
	ReasonNoValidator:    "no-validator",
	ReasonCookie:         "cookie",
	ReasonField:          "field",
	ReasonContentType:    "content-type",
	ReasonSession:        "session",
	ReasonTooLarge:       "too-large",
	ReasonIncomplete:     "incomplete",
	ReasonPurged:         "purged",
	ReasonFull:           "full",
	ReasonGraphQL:        "graphql-errors",
	ReasonObserved:       "observed",
	ReasonLaterRelease:   "later-release",
}

// String returns the reason as one lower-case word, empty for [Storable].
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons returns every reason but [Storable], so that metrics can be made before the first one
// happens.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := Storable + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}

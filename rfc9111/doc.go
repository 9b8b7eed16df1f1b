// Package rfc9111 holds the decisions of HTTP caching for a shared cache: what may be stored, how
// long it is fresh, what may be done with it when a request comes, how it is validated, updated,
// negotiated, cut into ranges and invalidated. Every rule stands under the number of its clause.
//
// The package is pure. It reads headers, times and a [Policy], and returns small values; it does no
// I/O, reads no clock, logs nothing and changes no argument but where its name says so
// ([MakeConditional], [ClearConditions], [AppendCDNLoop], [CacheStatus.Append]). All of it is safe
// for concurrent use.
//
// One file answers one question:
//
//	storable.go      may it be stored                        RFC 9111 3
//	header.go        which fields are stored, which updated  3.1, 3.2
//	vary.go          which variant suits a request           4.1
//	freshness.go     how long is it fresh                    4.2.1, 4.2.2, RFC 5861
//	age.go           how old is it                           4.2.3, 5.1
//	reuse.go         may it be used now                      4, 4.2.4, 5.2.1
//	failure.go       may it be used after a failure          RFC 5861 4
//	early.go         is it fetched anew while it is fresh    XFetch
//	validate.go      asking the origin                       4.3.1, 4.3.4, 4.3.5
//	precondition.go  the client's own conditions             4.3.2, RFC 9110 13
//	ranges.go        parts of a whole                        RFC 9110 14
//	invalidate.go    what an unsafe method makes stale       4.4
//	directives.go    Cache-Control                           5.2
//	lists.go         fields that are lists                   RFC 9110 5.6.1
//	targeted.go      CDN-Cache-Control                       RFC 9213
//	cachestatus.go   Cache-Status                            RFC 9211
//	tags.go          surrogate keys, Cache-Groups            RFC 9875
//	forwarding.go    Incremental, CDN-Loop                   RFC 10036, RFC 8586
//	novarysearch.go  No-Vary-Search                          draft-ietf-httpbis-no-vary-search
//	deception.go     does the Content-Type fit the URL       SECURITY.md, C7
//
// percent.go percent-encodes URLs. policy.go has what the operator says, reason.go the words for
// why a response is not stored.
//
// # Choices
//
// The RFCs leave room. Where they do, the rule is the one that serves less from the store, unless a
// choice below says otherwise.
//
// Damaged Cache-Control: each directive is parsed by itself, and what is no directive is searched
// for no-store, private, no-cache, must-revalidate and proxy-revalidate, which then hold. An
// invalid max-age or s-maxage, or one that stands in what is no directive, is 0. Of several the
// smallest counts.
//
// A field whose reading costs more than a look at each byte is read up to a length: 8 KiB, and 1
// KiB where it is normalised for Vary. A longer Cache-Control forbids to store.
//
// s-maxage implies proxy-revalidate (5.2.2.10), which by the letter forbids any stale answer. Those
// who write stale-while-revalidate or stale-if-error beside s-maxage mean it, and other shared
// caches take it so. Here s-maxage binds the client (its max-stale and stale-if-error are without
// effect) and leaves the windows of the response and of the operator alone. must-revalidate,
// proxy-revalidate and no-cache forbid them all.
//
// must-understand lifts no-store for every registered status (5.2.2.3), if the field is
// well-formed.
//
// A qualified private="f" or no-cache="f" stores the response without f. Where f
// says who gets the body, for how long, or how to read it (Vary, No-Vary-Search, Cache-Control and
// targeted fields, Expires, Date, Age, Pragma, Content-Type, Content-Encoding, Content-Range), the
// directive counts as unqualified, as 5.2.2.4 and 5.2.2.7 allow.
//
// The operator's ttl and force_ttl count from the arrival of the response, whatever age it has by
// then. max_ttl caps the lifetime, which counts from its origin, so that nothing older is served.
//
// A response that could be used for nothing is not stored: with no-cache, or already stale, it
// needs a validator or (stale only) a window.
//
// A 304 updates Content-Type: 3.2 lets those caches leave it alone that store what they made of the
// body, and this one stores the body.
//
// A 304 whose entity tag differs from the stored one in its weakness alone updates the stored
// response; see [Selects].
//
// # Caveats
//
// Dates of RFC 850 have two digits for the year, read as 1969 to 2068. By the fifty years of RFC
// 9110 5.6.7 "01-Jan-70", which is how an old server says that something has expired, would be 2070
// today.
//
// Partial responses are not stored, so nothing is combined (RFC 9111 3.4).
//
// Conditions other than If-None-Match, If-Modified-Since and If-Range are not evaluated; a cache
// does not (4.3.2).
package rfc9111

package httpcache

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/larder-cache/larder/internal/advice"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// What follows is what explain says to change. It may not lead to one visitor's page being answered
// to others: where a page may be for one visitor, no rule is told that would have all share it.

// reasonChanges says for each reason what to change so that a response is stored.
var reasonChanges = map[rfc9111.Reason]string{
	rfc9111.ReasonMethod:         "`methods`, and `body` in `key`, let POST be cached.",
	rfc9111.ReasonPartial:        "ask for the whole once: it answers ranges, too.",
	rfc9111.ReasonNoStore:        "have the origin leave no-store out; where that cannot be, and only if all may see the answer, `ignore Cache-Control` decides as if it had, and `ttl 10m` gives a lifetime, in a larder of its own for these paths: the lifetimes that the origin states for others would go, too.",
	rfc9111.ReasonRequestNoStore: "with `client_directives ignore` a client's Cache-Control has no effect.",
	rfc9111.ReasonPrivate:        "have the origin say public; where that cannot be, and only if all may see the answer, `ignore Cache-Control` decides as if private were not there, and `ttl 10m` gives a lifetime, in a larder of its own for these paths: the lifetimes that the origin states for others would go, too.",
	rfc9111.ReasonAuthorization:  "have the origin send `Cache-Control: public` if the answer is for all, or put it in the key: `header Authorization` in `key`.",
	rfc9111.ReasonSetCookie:      "where no client needs the cookie, `set_cookie strip` stores the response without it, and only the client that it is fetched for gets it; where one does, as for a session, have the origin set it on pages of its own.",
	rfc9111.ReasonVaryStar:       "have the origin name the fields that differ; `ignore Vary` gives one answer to all.",
	rfc9111.ReasonNoValidator:    "have the origin send an ETag, or a lifetime; `force_ttl 10m` replaces what it says of freshness.",
	rfc9111.ReasonField:          "mend what writes that field.",
	rfc9111.ReasonContentType:    "have the origin send the Content-Type of the extension, or `deception_guard off`.",
	rfc9111.ReasonSession:        "what begins a session is for one client; `header Mcp-Session-Id` in `key` stores what comes within one.",
	rfc9111.ReasonTooLarge:       "raise `max_body`, in the global option as well.",
	rfc9111.ReasonIncomplete:     "the log of the proxy or the origin says why the body breaks off.",
	rfc9111.ReasonGraphQL:        "mend what the answer's `errors` tell of; one in the coding gzip or zstd can be read, up to a hundred times as long as it came, as can one in none.",
	rfc9111.ReasonFull:           "raise `memory` or `disk`; `eviction none` refuses what does not fit.",
}

// personalChanges are the same where the request had Authorization or a cookie, and the key lacks
// them. Then the response may be for one visitor, and no rule that would store it for all is told.
var personalChanges = map[rfc9111.Reason]string{
	rfc9111.ReasonNoStore:   "the request had a cookie or Authorization, so the answer may be for one visitor; have the origin leave no-store out where it is for all.",
	rfc9111.ReasonPrivate:   "the request had a cookie or Authorization, so the answer may be for one visitor; have the origin say public where it is for all.",
	rfc9111.ReasonSetCookie: "the request had a cookie or Authorization, so the answer may be for one visitor; have the origin set the cookie on pages of its own.",
	rfc9111.ReasonVaryStar:  "the request had a cookie or Authorization, so the answer may be for one visitor; have the origin name the fields that differ.",
}

// changeFor says what to change so that a response of this status is stored. personal says that the
// request that it answered had Authorization or a cookie, and the key lacks them, as q may.
func (q *Request) changeFor(reason rfc9111.Reason, status int, personal bool) string {
	if change := personalChanges[reason]; change != "" && (personal || q.personal()) {
		return change
	}
	switch reason {
	case rfc9111.ReasonCookie:
		return q.changeForCookies()
	case rfc9111.ReasonNoLifetime:
		return q.lifetimeFor(status)
	case rfc9111.ReasonStatus:
		switch {
		case status == statusUnwritten:
			return changeOfUnwritten
		case status >= http.StatusInternalServerError:
			return "the origin failed; `stale_if_error` answers with what is stored while it does."
		}
		return "no rule stores this status, or a page that is stored stands before it."
	default:
		return reasonChanges[reason]
	}
}

// changeOfUnwritten is the change where the handlers have written nothing.
const changeOfUnwritten = "have a handler behind larder write a response. A proxy writes none where the origin has sent a 101 that was not asked for, which it logs with `debug`."

// lifetimeFor says what gives a response of this status a lifetime.
func (q *Request) lifetimeFor(status int) string {
	ttl := "`ttl 10m`"
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusPermanentRedirect:
	default:
		ttl = fmt.Sprintf("`ttl 10m %d`", status)
	}
	switch {
	case q.keyed.method == http.MethodPost && !q.route.Policy.SafePost:
		return "the origin sends no lifetime, and ttl leaves POST alone: where the POSTs that come here change nothing, " + ttl + " with `safe_post` gives one."
	case q.personal():
		return "the origin sends no lifetime. " + ttl + " gives one to requests without Authorization and without a cookie outside the key, and to no other."
	}
	return "the origin sends no lifetime: " + ttl + " would give it one."
}

// hasWhatWasRefused reports whether this request has what a response to an earlier one was not
// stored for.
func (q *Request) hasWhatWasRefused(reason rfc9111.Reason) bool {
	switch reason {
	case rfc9111.ReasonRequestNoStore:
		return q.directives.NoStore
	case rfc9111.ReasonAuthorization:
		return q.authorized
	case rfc9111.ReasonCookie:
		return q.unkeyedCookie
	default:
		return true
	}
}

// prospect tells why the answer to the request will hardly be stored, where nothing is stored yet
// and the request alone says so. It has no sentence otherwise.
func (q *Request) prospect() verdictText {
	last, known := q.lastUnstored()
	switch p := &q.route.Policy; {
	case q.found.Entry != nil || known && q.hasWhatWasRefused(last.reason):
		// The cause tells as much.
	case q.authorized:
		return verdictText{
			"The answer will not be stored unless the origin says that it may be shared (public, s-maxage or must-revalidate): the request has Authorization",
			reasonChanges[rfc9111.ReasonAuthorization], "RFC 9111 3.5",
		}
	case q.unkeyedCookie && p.Assumes():
		return verdictText{
			sentence: "The answer will not be stored unless the origin gives it a lifetime: the request has a cookie that is not in the key, so ttl, force_ttl and heuristic do not apply to it",
			change:   q.changeForCookies(),
		}
	case p.Unsafe(q.keyed.method) && p.Assumes():
		return verdictText{
			sentence: "The answer will not be stored unless the origin gives it a lifetime: ttl, force_ttl and heuristic leave POST alone",
			change:   "where the POSTs that come here change nothing, `safe_post` has these apply.",
		}
	}
	return verdictText{}
}

// The names of cookies of analytics, and those that are like the names of logins, sessions and
// carts. What is like neither may be anything.
var (
	analyticsCookie = regexp.MustCompile(`(?i)^(` + advice.Analytics + `)$`)
	sessionCookie   = regexp.MustCompile(`(?i)ses|sid|auth|log.?[io]n|logged|token|jwt|sso|user|member|account|customer|remember|csrf|xsrf|cart|basket|nonce|` +
		`ident|secur|passw|__host|^(wordpress|wp[-_]|woocommerce|comment_author)`)
)

// plainName is that of a cookie which can be written into a Caddyfile as it is.
var plainName = regexp.MustCompile(`^[\w.-]{1,64}$`)

// changeForCookies says what to do about the cookies that keep ttl, force_ttl and heuristic from
// applying. To take a cookie out of the request is told only of what does not look like a
// session's, and where the origin has not answered for one visitor; and never to take out all,
// because those of other visitors may have a session's among them.
func (q *Request) changeForCookies() string {
	var keep, drop []string
	for _, name := range q.route.Key.unkeyedCookies(q.r.Header) {
		switch session := sessionCookie.MatchString(name) && !analyticsCookie.MatchString(name); {
		case !plainName.MatchString(name):
		case session || q.answeredPrivately():
			keep = append(keep, name)
		default:
			drop = append(drop, name)
		}
	}
	switch {
	case len(keep) > 0 && q.answeredPrivately():
		return "the origin has answered for one visitor here, so leave the cookies in the request. " + copiesByCookie(keep)
	case len(keep) > 0 && len(drop) > 0:
		return namedLikeSession(keep) + copiesByCookie(keep) + " Where " + dropOf(drop)
	case len(keep) > 0:
		return namedLikeSession(keep) + copiesByCookie(keep)
	case len(drop) > 0:
		return "where " + dropOf(drop) + " Where one does, `cookie " + strings.Join(some(drop), " ") + "` in `key` puts it there."
	}
	return "`cookie NAME` in `key` puts a cookie there."
}

// changeForAuthorization says what to do where Authorization keeps these from applying.
func (q *Request) changeForAuthorization() string {
	const key = "put it in the key: `header Authorization` in `key`."
	if q.answeredPrivately() {
		return "the origin has answered for one visitor here, so " + key
	}
	return "if the answer is for all, take the field out in front of larder (`request_header -Authorization`) or have the origin send a lifetime and public; if not, " + key
}

func namedLikeSession(names []string) string {
	return "leave " + quoted(names) + " in the request: cookies of such names are those of sessions, and without them the origin does not know who asks. "
}

func copiesByCookie(names []string) string {
	return "`cookie " + strings.Join(some(names), " ") + "` in `key` stores a copy for each value."
}

// dropOf says, behind "where", how to take out cookies that change no page.
func dropOf(names []string) string {
	patterns := make([]string, 0, mostNamed)
	for _, name := range some(names) {
		patterns = append(patterns, regexp.QuoteMeta(name))
	}
	return "no page depends on " + quoted(names) + ", take that out in front of larder, and no other cookie: " + advice.TakeOut(strings.Join(patterns, "|")) + "."
}

// some are the first of names, as many as are told.
func some(names []string) []string { return names[:min(len(names), mostNamed)] }

func quoted(names []string) string { return "`" + strings.Join(some(names), "`, `") + "`" }

// answeredPrivately reports whether the origin is known to make pages of this key for one visitor:
// its last response said so, or one that is stored varies by what tells visitors apart.
func (q *Request) answeredPrivately() bool {
	last, unstored := q.cache().unstoredReasons.of(q.key)
	switch {
	case !unstored:
	case last.reason == rfc9111.ReasonPrivate, last.reason == rfc9111.ReasonNoStore, last.reason == rfc9111.ReasonSetCookie, last.reason == rfc9111.ReasonSession:
		return true
	}
	return slices.ContainsFunc(q.variedBy(), isCredential)
}

// isCredential reports whether a field tells who has sent a request.
func isCredential(field string) bool {
	switch field {
	case "Cookie", "Authorization", "Proxy-Authorization", "X-Api-Key":
		return true
	}
	return false
}

// variedBy are the fields by which what is stored under the key of the request is selected.
func (q *Request) variedBy() (names []string) {
	q.cache().store.Peek(q.key, func(v *store.Variant) int {
		for _, name := range varyNamesOf(v.Names) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		return 0
	})
	return names
}

// changeForVary says what to change where a URL has many variants.
func (q *Request) changeForVary() string {
	names := q.variedBy()
	if slices.ContainsFunc(names, isCredential) {
		return "have the origin vary by what differs in few ways. It varies by what tells visitors apart, so leave that in the request."
	}
	return "have the origin vary by what differs in few ways, or take the fields out of the request: `request_header -NAME`."
}

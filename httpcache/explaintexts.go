package httpcache

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// bypassTexts has the words of each Bypass.
var bypassTexts = [...]struct{ sentence, change, clause string }{
	NotBypassed:   {},
	BypassMethod:  {"the route does not cache its method", "`methods` names those that it caches; POST needs `body` in `key` as well.", "RFC 9110 9.2.3"},
	BypassUpgrade: {"it asks for another protocol (Upgrade, or CONNECT)", "", "RFC 9110 7.8"},
	BypassTarget:  {"it asks for no URL that a purge could name, or handlers in front have passed on how it spells its Host", "ask for a path, of a host that a URL can have, in lower case and without the default port.", "RFC 9112 3.2"},
	BypassBody: {
		"it is a GET or HEAD with a body, or its body is too large for the key or has trailers",
		"leave the body out; that of a POST or QUERY may have 64 KiB.", "RFC 9110 9.3.1",
	},
	BypassConnection: {"its Connection names fields that are not about the connection", "have the client leave them out of Connection.", "RFC 9110 7.6.1"},
	BypassOverride:   {"one of its fields asks for another method or URL (X-HTTP-Method-Override, X-Original-URL), or for the rest of a stream (Last-Event-ID)", "take the field out (`request_header -NAME`), or put it in the key: `header NAME` in `key`.", ""},
	BypassFields:     {"it has more than 80 field lines, and some origins read no more than 100", "have the client send fewer fields.", ""},
	BypassMutation:   {"it asks for a GraphQL mutation or subscription, whose answer is never stored", "", "RFC 9110 9.2.1"},
	BypassGraphQL: {
		"it cannot be read as a GraphQL request for one operation",
		"send one query for each request, as application/json with its document; of persisted documents by GET.", "",
	},
	BypassStore:        {"the store is not open", "the log says why it could not be opened.", ""},
	BypassObserve:      {"the route only observes, so the origin answers", "take `observe` out of the configuration.", ""},
	BypassCoalesceWait: {"another's fetch had no header in time, or too many wait for it", "`coalesce wait` says how long a request waits.", ""},
}

// changeForBypass says what to change so that the request goes through the cache.
func (q *Request) changeForBypass(why Bypass) string {
	if why != BypassMethod {
		return bypassTexts[why].change
	}
	switch q.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, "QUERY":
		return bypassTexts[why].change
	case "PURGE":
		return "to purge, ask Caddy's admin API: `caddy larder purge --url " + q.URL() + "`; `purge_method` has Larder answer PURGE."
	}
	return "" // no cache stores what answers it
}

// departureTexts has the words for what is not there any more.
var departureTexts = map[store.EvictionReason]verdictText{
	store.Capacity:   {"what was stored has been evicted, because the room was needed for others", "a larger budget (`memory`, `disk`) keeps more.", ""},
	store.Expired:    {"what was stored has expired: its lifetime, its stale windows and `keep` are over", "a longer lifetime, or `keep`, has it stored for longer.", ""},
	store.Variants:   {"what was stored has been evicted, because the URL has more variants than max_variants", "have the origin vary by less, or raise `max_variants`.", ""},
	store.PurgedHard: {"what was stored has been purged", "", ""},
	store.Removed:    {"what was stored has been removed: the origin has answered 404 or 410 since, or otherwise by another Vary", "", ""},
	store.Damaged:    {"what was stored was damaged on disk, and has been deleted", "look after the disk.", ""},
}

// explainWay is the verdict on a request that goes this way. useless is why what is stored is not
// used at all, if so.
func (q *Request) explainWay(way way, useless verdictText) verdictText {
	ttl := func() string {
		return max(q.freshness.TTL(q.now), -q.freshness.TTL(q.now)).Truncate(time.Second).String()
	}
	switch way.course {
	case courseHit:
		if q.lacksSlices() {
			return verdictText{sentence: "Partial hit: the file is stored in slices, and fresh for another " + ttl() + ". Those that the request asks for and that are not stored are fetched, and stored."}
		}
		return verdictText{sentence: "Hit: it is answered from the store, and fresh for another " + ttl() + "."}
	case courseStale:
		return verdictText{sentence: "Stale hit: it is answered from the store " + ttl() + " past its lifetime, which the request's max-stale accepts."}
	case courseRefresh:
		return q.explainRefresh(way, q.stalenessWords(ttl()))
	case courseSpare:
		return verdictText{sentence: "Stale hit: it is answered from the store, because " + whySpared(way) + ".", change: standingChanges[way.standing]}
	case courseRefuse:
		cause := q.cause(useless)
		return verdictText{sentence: "Refused with 504: the request says only-if-cached, and nothing stored may answer it: " + cause.sentence + ".", change: cause.change}
	case courseUnstored:
		return verdictText{sentence: "Miss: the request says no-store, so it is passed on and nothing of it is stored.", change: reasonChanges[rfc9111.ReasonRequestNoStore]}
	case courseForced:
		return verdictText{
			sentence: "Miss: what is stored is fresh, but the request says otherwise, and it does not want the whole: what is stored has no validator, so the request is passed on by itself.",
			change:   "an ETag lets what is stored be validated; with `client_directives ignore` a client's Cache-Control has no effect.",
		}
	case courseEvents:
		return verdictText{sentence: "Miss: the client accepts text/event-stream, so it is passed on by itself: each client has a stream of its own."}
	case courseHitForMiss:
		cause := q.cause(useless)
		return verdictText{sentence: "Miss (hit-for-miss): " + cause.sentence + ". Until one can be shared, each request is passed on by itself.", change: cause.change}
	case courseHead:
		cause := q.cause(useless)
		return verdictText{sentence: "Miss: a HEAD of which nothing is stored is passed on as it is, and stores nothing: " + cause.sentence + ".", change: "one GET stores the response, which then answers HEAD."}
	case courseSolo, courseJoin, courseDecided:
	}
	return q.explainFetch(way, useless)
}

// explainRefresh is the verdict on a request that is answered within stale-while-revalidate.
func (q *Request) explainRefresh(way way, staleness string) verdictText {
	sentence := "Stale hit: it is answered from the store " + staleness
	switch {
	case way.standing != origin.Admitted:
		return verdictText{sentence: sentence + ", and not fetched anew, because the origin is " + standings[way.standing] + ".", change: standingChanges[way.standing]}
	case q.directives.NoStore:
		return verdictText{sentence: sentence + ", and not fetched anew, because the request says no-store."}
	}
	return verdictText{sentence: sentence + ", and fetched anew in the background (stale-while-revalidate)."}
}

// stalenessWords says how stale a response is that is answered from.
func (q *Request) stalenessWords(ttl string) string {
	if q.found.Severity != store.NotPurged {
		return "after a soft purge"
	}
	return ttl + " past its lifetime"
}

// explainFetch is the verdict on a request for which the origin is asked.
func (q *Request) explainFetch(way way, useless verdictText) verdictText {
	cause := q.cause(useless)
	v := verdictText{sentence: "Miss: " + cause.sentence, change: cause.change}
	var prospect verdictText
	if useless.sentence == "" { // which tells as much
		prospect = q.prospect()
	}
	if prospect.sentence != "" {
		v.change = prospect.change
	}
	if q.found.Entry != nil {
		v.sentence = "Revalidation: " + cause.sentence
	}
	if why, left := q.outlook(); why != origin.Admitted && why != origin.Failing {
		v.sentence += "; the origin is " + standingWords(why, left) + ", so the request waits for a place, or gets 503"
		v.change = standingChanges[why]
	} else if why == origin.Failing {
		v.sentence += "; the origin is failing, and asked all the same"
	}
	if way.course == courseSolo && q.route.CoalesceOff {
		v.sentence += "; it is fetched for this request alone (coalesce off)"
	}
	v.sentence += "."
	if prospect.sentence != "" {
		v.sentence += " " + prospect.sentence + "."
	}
	return v
}

// whySpared tells why the origin is not asked for what is answered stale.
func whySpared(way way) string {
	if way.standing == origin.Admitted {
		return "bodies of this page have broken off lately, and it is fetched anew in the background"
	}
	return "the origin is " + standings[way.standing]
}

// standings and standingChanges have the words for how the origin stands.
var (
	standings = map[origin.Why]string{
		origin.Paused: "paused by its Retry-After", origin.Failing: "failing", origin.Busy: "busy",
	}
	standingChanges = map[origin.Why]string{
		origin.Paused:  "the origin has asked to be left alone until then.",
		origin.Failing: "mend the origin; `backoff` says how often it is asked meanwhile.",
		origin.Busy:    "`max_concurrent`, `rate` and `queue` in `origin` say what the origin can take.",
	}
)

// cause tells why what is stored, or is not, does not answer.
func (q *Request) cause(useless verdictText) verdictText {
	switch {
	case q.found.Entry == nil && useless.sentence != "":
		return useless
	case q.found.Entry == nil:
		return q.whyNothing()
	case q.withheld == DetailNoPass:
		return verdictText{
			sentence: "this machine has been without contact to its fleet for longer than `fence`, so the origin has to confirm what is stored",
			change:   "see that the server of the fleet is reached; `lost serve` answers meanwhile.",
		}
	}
	validity := validityOf(q.found.Severity)
	if use, _ := q.freshness.UseFor(q.directives, q.arrivedAt(), q.now, validity); use == rfc9111.UseRefresh {
		return verdictText{sentence: "it is stale, and the last refresh brought an answer that may not replace it"}
	}
	ex := exchangeOf(q.found.Entry)
	steps := q.freshness.ExplainUse(&ex, q.directives, q.arrivedAt(), q.now, validity)
	rule := strings.TrimPrefix(steps[len(steps)-1].Answer, "no, ")
	change := "a longer lifetime, or `stale_while_revalidate`, answers from the store for longer."
	if q.forward == rfc9111.ForwardRequest || q.directives.NoCache {
		change = "with `client_directives ignore` a client's Cache-Control has no effect."
	} else if q.freshness.NoCache {
		change = "`force_ttl 10m` replaces what the origin says of freshness."
	}
	return verdictText{sentence: rule, change: change}
}

// explainDecision is the verdict on a request that is answered.
func (q *Request) explainDecision(words string) verdictText {
	d := &q.decision
	v := verdictText{sentence: strings.ToUpper(d.Outcome.String()[:1]) + d.Outcome.String()[1:] + ": " + words + "."}
	switch {
	case d.Bypass != NotBypassed:
		v.change = q.changeForBypass(d.Bypass)
	case d.Detail == DetailRepeats:
		v.change = changeOfRepeats
	case d.NotStored != rfc9111.Storable:
		last, _ := q.cache().unstoredReasons.of(q.key)
		v.change = q.changeFor(d.NotStored, cmp.Or(last.status, http.StatusOK), false)
	}
	return v
}

// whyNotStored is the reason's sentence for an answer that is judged by this status.
func whyNotStored(reason rfc9111.Reason, status int) string {
	if reason == rfc9111.ReasonStatus && status == statusUnwritten {
		return "the handlers behind wrote no response"
	}
	return reason.Sentence()
}

// words tells a decision. passed says that the request was passed on, and status is that of what
// was last not stored.
func (d *Decision) words(passed bool, status int) string {
	var words string
	switch d.Outcome {
	case OutcomeHit:
		words = "from the store, fresh"
	case OutcomeStale:
		words = "from the store, stale"
	case OutcomeRevalidated:
		words = "from the store, after the origin has confirmed it"
	case OutcomeMiss:
		words = "from the origin, for this request"
		if d.Detail == DetailOnlyIfCached {
			words = "504, and the origin was not asked: the request says only-if-cached, and nothing stored may answer it"
		}
		if d.Detail == DetailRepeats {
			words = "429, and the origin was not asked: " + repeatedTooOften
		}
		if d.Detail == DetailError {
			words = "by an error, of which Caddy makes a response in front of larder"
		}
	case OutcomeCollapsed:
		words = "from the origin, by the fetch of another request"
	case OutcomeBypass:
		words = "from the origin: " + bypassTexts[d.Bypass].sentence
	case OutcomeCount:
	}
	switch {
	case d.NotStored != rfc9111.Storable:
		words += ", and not stored: " + whyNotStored(d.NotStored, status)
	case d.Detail == DetailOnlyIfCached, d.Detail == DetailError, d.Detail == DetailRepeats:
	case d.Detail != NoDetail:
		words += " (" + d.Detail.String() + ")"
	case d.Outcome == OutcomeMiss && passed:
		words += ", which was passed on by itself, so nothing of it is stored"
	case d.Outcome == OutcomeMiss:
		words += ", and stored if it comes whole"
	}
	return words
}

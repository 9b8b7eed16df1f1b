package httpcache

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/origin"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
)

// explainRequest tells what there is in a request that decides.
func (q *Request) explainRequest() []Step {
	steps := []Step{{Question: "does it go through the cache?", Answer: "yes: " + q.r.Method + " " + q.URL()}}
	if q.mustValidate {
		steps = append(steps, Step{
			Question: "may it be answered from what is stored?",
			Answer:   "not unconfirmed: this machine has been without contact to its fleet for longer than `fence`",
		})
	}
	if q.authorized {
		steps = append(steps, step("whose answer is it?", "it has Authorization, which is not in the key", "RFC 9111 3.5"))
	}
	if q.unkeyedCookie {
		steps = append(steps, Step{Question: "whose answer is it?", Answer: "it has a cookie that is not in the key: ttl, force_ttl and heuristic do not apply"})
	}
	steps = append(steps, q.keyed.content.explain()...)
	if len(q.hints.all()) > 0 {
		steps = append(steps, step("which of the query counts?", "what the origin says of the path by No-Vary-Search", "No-Vary-Search"))
	}
	return steps
}

// explainFound tells what a look-up has found, and how it may be used. useless says why it is not
// used at all, if so.
func (q *Request) explainFound() (steps []Step, useless verdictText) {
	e := q.found.Entry
	if e == nil {
		why := q.whyNothing()
		return []Step{step("is something stored?", why.sentence, why.clause)}, verdictText{}
	}
	steps = []Step{{
		Question: "is something stored?",
		Answer: fmt.Sprintf("yes, in %s: status %d, %d bytes, from %s", q.found.Tier, e.Status, q.route.evaluated(e).bodyLen(e),
			e.ResponseTime.UTC().Format(time.RFC3339)),
	}}
	if o := q.route.evaluated(e).object; o != nil {
		steps = append(steps, step("which slices are there?", q.explainSlices(o), "RFC 9111 3.4"))
	}
	if len(e.Variant.Names) > 0 {
		steps = append(steps, step("which variant is it?", variantWords(&e.Variant), "RFC 9111 4.1"))
	}
	if q.found.Severity != store.NotPurged {
		steps = append(steps, step("has it been purged?", purgedWords(q.found.Severity)+q.invalidated(), "RFC 9111 4.4"))
	}
	ex := exchangeOf(e)
	ex.Personal = q.personal() && q.route.evaluated(e).freshness.Source.Assumed()
	f, validity := q.evaluate(e), validityOf(q.found.Severity)
	steps = append(steps, q.route.Policy.ExplainStorable(&ex, f)...)
	steps = append(steps, f.ExplainUse(&ex, q.directives, q.arrivedAt(), q.now, validity)...)
	if use, _ := f.UseFor(q.directives, q.arrivedAt(), q.now, validity); use == rfc9111.UseNever {
		useless = q.uselessness(f.Reason, ex.Personal)
	}
	return steps, useless
}

// uselessness tells why what is stored is not used at all. personal says that what gives it a
// lifetime does not apply to this request.
func (q *Request) uselessness(reason rfc9111.Reason, personal bool) verdictText {
	switch {
	case reason == rfc9111.Storable:
		return verdictText{sentence: "what is stored is not used: its time in the store is over"}
	case personal && q.authorized:
		return verdictText{
			sentence: "what is stored is not used for this request: it has Authorization, so ttl, force_ttl and heuristic do not apply to it, and nothing else gives the response a lifetime",
			change:   q.changeForAuthorization(),
		}
	case personal:
		return verdictText{
			sentence: "what is stored is not used for this request: it has a cookie that is not in the key, so ttl, force_ttl and heuristic do not apply to it, and nothing else gives the response a lifetime",
			change:   q.changeForCookies(),
		}
	}
	return verdictText{
		sentence: "what is stored is not used, as today's rules would not store it: " + reason.Sentence(),
		change:   "purge it, or go back to the rules under which it was stored.",
	}
}

func purgedWords(s store.Severity) string {
	if s == store.Soft {
		return "yes, softly: it counts as stale"
	}
	return "it has to be confirmed before it is used"
}

func variantWords(v *store.Variant) string {
	if isVaryIgnored(v) {
		return "that for all requests: Vary is ignored"
	}
	names, values, written := fieldsOfVariant(v)
	words := make([]string, len(names))
	for i, name := range names {
		words[i] = name + ": " + fieldWords(name, values[i])
	}
	if written != "" {
		words = append(words, "by what handlers behind larder write (mark "+written+")")
	}
	return strings.Join(words, ", ")
}

// fieldWords tells a value of a field. One with which somebody could pass for the client who sent
// it is told by its length and a few digits of its hash.
func fieldWords(name, value string) string {
	if isCredential(name) {
		sum := sha256.Sum256([]byte(value))
		return fmt.Sprintf("%d bytes (%x)", len(value), sum[:4])
	}
	return strconv.Quote(value)
}

// whyNothing tells why nothing is found, as far as it is known.
func (q *Request) whyNothing() verdictText {
	if q.found.Known != nil {
		return verdictText{
			"the URL is stored, and not the variant that the request selects: stored " + q.knownVariants(),
			q.changeForVary(),
			"RFC 9111 4.1",
		}
	}
	last, unstored := q.lastUnstored()
	gone, at, departed := q.cache().store.Departed(q.key)
	switch {
	case q.found.Passed:
		words := departureTexts[q.found.PassedFor]
		if q.found.PassedFor == store.PurgedHard {
			words.sentence += q.invalidated()
		}
		return words
	case departed && !unstored:
		words := departureTexts[gone]
		if words.sentence += ", " + q.ago(at); gone == store.PurgedHard {
			words.sentence += q.invalidated()
		}
		return words
	case unstored && last.isError && last.status < http.StatusInternalServerError:
		return verdictText{
			sentence: fmt.Sprintf(
				"nothing is stored: the handlers behind last returned an error with status %d, %s, and Caddy makes a response of that in front of larder", last.status, q.ago(last.at),
			),
			change: "have a handler behind larder write the response, to which `ttl` then applies: `file_server` with `pass_thru`, and `respond 404` behind it in the same `route`.",
		}
	case unstored && last.status == statusUnwritten:
		return verdictText{
			sentence: "nothing is stored: the handlers behind last wrote no response, " + q.ago(last.at) + ", and the client got an empty 200",
			change:   changeOfUnwritten,
		}
	case unstored && !q.hasWhatWasRefused(last.reason):
		return verdictText{sentence: fmt.Sprintf(
			"nothing is stored: the last response (status %d, %s) was not, for what another request had: %s", last.status, q.ago(last.at), last.reason.Sentence(),
		)}
	case unstored:
		return verdictText{
			fmt.Sprintf("the last response (status %d, %s) was not stored: %s", last.status, q.ago(last.at), last.reason.Sentence()),
			q.changeFor(last.reason, last.status, last.personal), last.reason.Clause(),
		}
	}
	if q.trace.only() {
		if same, _ := q.neighbours(); same > 0 {
			return verdictText{
				sentence: "the URL is stored, " + times(same) + " and under another key",
				change:   "explain the request that is a hit, too, and compare `key`: take the part that differs out of the key, or have both send the same.",
			}
		}
	}
	return verdictText{sentence: NothingRemembered}
}

// NothingRemembered is in a verdict on a key of which nothing is known.
const NothingRemembered = "nothing is stored, and no response to this key is remembered"

// lastUnstored returns why the last response of the key was not stored, unless one was stored after
// it and has gone.
func (q *Request) lastUnstored() (last unstoredReason, ok bool) {
	if q.found.Known != nil || q.found.Passed {
		return last, false
	}
	last, ok = q.cache().unstoredReasons.of(q.key)
	_, at, departed := q.cache().store.Departed(q.key)
	return last, ok && (!departed || at.Unix() < last.at.Unix())
}

func (q *Request) ago(at time.Time) string {
	return max(q.now.Sub(at), 0).Truncate(time.Second).String() + " ago"
}

// mostVariants is how many variants of a URL are told.
const mostVariants = 5

// knownVariants lists variants of the key that are stored.
func (q *Request) knownVariants() string {
	var known []string
	q.cache().store.Peek(q.key, func(v *store.Variant) int {
		if words := variantWords(v); len(known) < mostVariants && !slices.Contains(known, words) {
			known = append(known, words)
		}
		return 0
	})
	slices.Sort(known)
	return "are " + strings.Join(known, "; ")
}

// explainOrigin tells how the origin stands, where that decides.
func (q *Request) explainOrigin(way way) (steps []Step) {
	if why, left := q.outlook(); why != origin.Admitted {
		steps = append(steps, Step{Question: "how does the origin stand?", Answer: standingWords(why, left)})
	}
	switch sharing := q.sharing(); {
	case way.isStored(): // it waits for none
	case sharing == sharingHitForMiss:
		steps = append(steps, Step{Question: "does it wait for another's fetch?", Answer: fmt.Sprintf("no: the last response to %s could not be shared (hit-for-miss)", q.whoseAnswers(sharing))})
	case sharing == sharingDoubtful:
		steps = append(steps, Step{Question: "does it wait for another's fetch?", Answer: fmt.Sprintf("for %s: a response to %s could not be shared a while ago", lateHeader, q.whoseAnswers(sharing))})
	default:
		steps = append(steps, Step{Question: "does it wait for another's fetch?", Answer: q.waitWords()})
	}
	steps = append(steps, q.explainBatch(way)...)
	if q.found.Entry != nil && q.route.RefreshEarly != 0 {
		chance := rfc9111.EarlyChance(q.route.RefreshEarly, q.found.Entry.FetchTime, q.freshness.EarlyRemaining(q.now))
		steps = append(steps, Step{Question: "is it fetched anew before its lifetime ends?", Answer: fmt.Sprintf("each hit does so with a chance of %.3g (refresh_early)", chance)})
	}
	return steps
}

// outlook is [origin.Budget.Outlook] for the fetch that the request would begin.
func (q *Request) outlook() (why origin.Why, left time.Duration) {
	return q.route.Budget.Outlook(q.now, pageOf(q.flightKey()), q.fieldsSum())
}

// whoseAnswers says which requests sharing holds for: all for the key, or those with the same
// fields.
func (q *Request) whoseAnswers(sharing sharing) string {
	if q.cache().sharingOf(q.hitForMissKey(), q.now) == sharing {
		return "the key"
	}
	return "requests with these fields"
}

func (q *Request) waitWords() string {
	if q.route.CoalesceOff {
		return "no: coalesce off"
	}
	words := fmt.Sprintf("yes, for up to %s", q.route.Wait)
	if q.wasLate(q.flightKey()) {
		words += fmt.Sprintf(", for the first one %s: one for the key had no header in time a while ago", min(lateHeader, q.route.Wait))
	}
	underWay := false
	q.cache().flights.JoinRunning(q.flightKey(), func(*coalesce.Flight) bool { underWay = true; return false })
	if underWay {
		words += "; one is under way"
	}
	return words
}

func standingWords(why origin.Why, left time.Duration) string {
	left = (left + time.Second - 1).Truncate(time.Second)
	switch why {
	case origin.Paused:
		return fmt.Sprintf("paused by its Retry-After for another %s", left)
	case origin.Failing:
		return fmt.Sprintf("failing: it is asked again in %s", left)
	default:
		return "busy: all its places are taken, or its rate is used up"
	}
}

// mostNeighbours is how many stored URLs are looked at, and mostNamed how many are told.
const mostNeighbours, mostNamed = 50, 3

// neighbours returns how often the URL of the request is stored, whatever the key, and some other
// URLs of its path that are.
func (q *Request) neighbours() (same int, others []string) {
	url := q.URL()
	path, _, _ := strings.Cut(url, "?")
	items, _, err := q.cache().store.List(store.Filter{Prefixes: []string{path}}, mostNeighbours, "")
	if err != nil {
		return 0, nil
	}
	for _, item := range items {
		switch rest := strings.TrimPrefix(item.URL, path); {
		case item.URL == url:
			same++
		case (rest == "" || rest[0] == '?') && len(others) < mostNamed && !slices.Contains(others, item.URL):
			others = append(others, item.URL)
		}
	}
	return same, others
}

// explainNeighbours tells what is stored for the same path.
func (q *Request) explainNeighbours() (steps []Step) {
	same, others := q.neighbours()
	if same > 0 && q.found.Known == nil {
		steps = append(steps, Step{Question: "is the URL stored under another key?", Answer: "yes, " + times(same) + ": another part of `key` differs"})
	}
	if len(others) > 0 {
		steps = append(steps, Step{Question: "is something stored for the same path?", Answer: "yes: " + strings.Join(others, " ")})
	}
	return steps
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// explainResponse tells how a response of the origin was judged.
func (rt *Route) explainResponse(ex *rfc9111.Exchange, f *rfc9111.Freshness) []Step {
	answered := Step{Question: "what did the origin answer?", Answer: fmt.Sprintf("status %d", ex.Status)}
	judged := rt.Policy.ExplainStorable(ex, f)
	if ex.Status == statusUnwritten {
		answered.Answer = "nothing: the handlers behind wrote no response, so the client gets an empty 200"
		judged[0].Answer = "no: " + whyNotStored(f.Reason, ex.Status)
	}
	return slices.Concat([]Step{answered}, judged)
}

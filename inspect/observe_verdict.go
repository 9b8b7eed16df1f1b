package inspect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/larder-cache/larder/internal/advice"
)

// ObservedReport is the JSON of GET /larder/observed.
type ObservedReport struct {
	Since time.Time `json:"since"` // when counting began
	ObservedCounts
	Groups []ObservedGroup `json:"groups"` // by requests, the most first
}

// ObservedCounts are what the requests of a group, or all of them, would have come to.
type ObservedCounts struct {
	Requests int64 `json:"requests"`
	// Would has the requests by what their outcome would have been.
	Would map[string]int64 `json:"would"`
	// SavedRequests would not have reached the origin.
	SavedRequests int64 `json:"saved_requests"`
	// Bytes is the length of all bodies, and SavedBytes of those that the origin would not have
	// sent.
	Bytes      int64 `json:"bytes"`
	SavedBytes int64 `json:"saved_bytes"`
	// Rescued requests got a failure of the origin, in place of which something would have been
	// served. They are not among the compared.
	Rescued int64 `json:"rescued"`
	// Compared answers were compared with what would have been served, and Differ of them differ.
	Compared int64 `json:"compared"`
	Differ   int64 `json:"differ"`
}

// ObservedGroup is what was observed of the URLs of one host and first path segment.
type ObservedGroup struct {
	// Group is host and first path segment.
	Group string `json:"group"`
	ObservedCounts
	Differs   []Count   `json:"differs,omitempty"`    // by what differs
	NotStored []Count   `json:"not_stored,omitempty"` // by why
	Bypass    []Count   `json:"bypass,omitempty"`     // by why
	Examples  []Example `json:"examples,omitempty"`   // that differ
	Verdict   Verdict   `json:"verdict"`
	// Because says in sentences what the verdict is made of, and Advice what to add to the
	// configuration.
	Because []string `json:"because"`
	Advice  []string `json:"advice,omitempty"`
}

// Example is a URL whose answers differ, and by what.
type Example struct {
	URL    string `json:"url"`
	Reason string `json:"reason"`
}

// Verdict is what to do with a group.
type Verdict string

// The verdicts.
const (
	// VerdictServe: answers would have been saved, and none would have been wrong.
	VerdictServe Verdict = "serve"
	// VerdictCheck: some fields would have been others, and no body or status.
	VerdictCheck Verdict = "check"
	// VerdictWrong: some clients would have got another answer than the origin's.
	VerdictWrong Verdict = "wrong"
	// VerdictNothing: nothing would have been saved.
	VerdictNothing Verdict = "nothing"
)

// Report returns what has been observed so far.
func (o *Observations) Report() ObservedReport {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := ObservedReport{Since: o.since, Groups: make([]ObservedGroup, 0, len(o.groups))}
	all := newGroup()
	for name, g := range o.groups {
		all.merge(g)
		r.Groups = append(r.Groups, g.report(name))
	}
	slices.SortFunc(r.Groups, func(a, b ObservedGroup) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Group, b.Group))
	})
	r.ObservedCounts = all.counts()
	return r
}

func (g *group) counts() ObservedCounts {
	would := make(map[string]int64, len(g.would))
	maps.Copy(would, g.would)
	return ObservedCounts{
		Requests: g.requests, Would: would, SavedRequests: g.saved, Bytes: g.bytes, SavedBytes: g.savedBytes,
		Rescued:  g.rescued,
		Compared: g.compared.compared, Differ: g.compared.differ,
	}
}

func (g *group) report(name string) ObservedGroup {
	r := ObservedGroup{
		Group: name, ObservedCounts: g.counts(), Differs: g.differs.counts(), NotStored: g.notStored.counts(),
		Bypass: g.bypass.counts(), Examples: slices.Clone(g.examples),
	}
	switch {
	case g.wrong > 0:
		r.Verdict = VerdictWrong
		g.explainWrong(&r)
	case g.compared.differ > 0:
		r.Verdict = VerdictCheck
		g.explainFields(&r)
	case g.saved > 0 && g.compared.compared == 0:
		r.Verdict = VerdictCheck
		r.because("Of %s %d would have been saved, and nothing could be compared.", plural(g.requests, "request"), g.saved)
	case g.saved > 0:
		r.Verdict = VerdictServe
		r.because("Of %s %d would have been saved, and none of the %d that were compared differs.", plural(g.requests, "request"), g.saved, g.compared.compared)
	default:
		r.Verdict = VerdictNothing
	}
	if g.rescued > 0 {
		r.because("In place of %s of the origin something stored would have been served.", plural(g.rescued, "failure"))
	}
	g.explainNotStored(&r)
	return r
}

// isWrong reports whether an answer that differs in this would have been wrong in more than a
// field: to give one visitor the cookie of another, or none, is as bad as another body.
func isWrong(differs string) bool {
	return differs == "status" || differs == "body" || differs == "Set-Cookie"
}

func (g *ObservedGroup) because(format string, args ...any) {
	g.Because = append(g.Because, fmt.Sprintf(format, args...))
}

func (g *ObservedGroup) advise(format string, args ...any) {
	g.Advice = append(g.Advice, fmt.Sprintf(format, args...))
}

// explainWrong says who would have got a wrong answer, and what to do about it.
func (g *group) explainWrong(r *ObservedGroup) {
	r.because("%d of %s would not have been the origin's: %s.", g.wrong, plural(g.compared.compared, "compared answer"), joined(r.Differs))
	without := agreement{g.compared.compared - g.withCookie.compared, g.compared.differ - g.withCookie.differ}
	found := false
	if g.withCookie.differ > 0 && g.withCookie.moreOften(without) {
		found = true
		g.explainCookie(r)
	}
	rest := agreement{g.compared.compared - g.authorized.compared, g.compared.differ - g.authorized.differ}
	if g.authorized.differ > 0 && g.authorized.moreOften(rest) {
		found = true
		r.because("Answers to requests with Authorization differ, so the page depends on who asks, although the origin lets it be shared.")
		r.adviseNotToShare("Authorization *")
	}
	rest = agreement{g.compared.compared - g.parameters.compared, g.compared.differ - g.parameters.differ}
	if g.parameters.differ > 0 && g.parameters.moreOften(rest) {
		found = true
		r.because("Answers to requests with parameters that `query` in `key` leaves out differ, so the page depends on one of them.")
		r.advise("Name fewer parameters in `query ignore`, or more in `query only`.")
	}
	if !found {
		r.because("The differences follow no cookie, no Authorization and no parameter: the page changes within its lifetime, or each answer is another one.")
		r.advise("If it changes: shorten its lifetime with `max_ttl`, or purge it when it changes. If each answer is another one (a token, a time): " +
			"have the origin send `Cache-Control: no-store`, or leave it out with a matcher, `larder @cacheable`.")
	}
}

// moreOften reports whether answers differ clearly more often than others do.
func (a agreement) moreOften(others agreement) bool {
	return a.compared > 0 && a.differ*max(others.compared, 1) > 2*others.differ*a.compared
}

// explainCookie names the cookies that the page seems to depend on.
func (g *group) explainCookie(r *ObservedGroup) {
	names := g.decisiveCookies()
	if len(names) == 0 {
		r.because("Answers differ where the stored one was fetched for a request with a cookie: it was made for one visitor, and others would have got it.")
		r.advise("Have the origin send `Cache-Control: private` or `Vary: Cookie` with what it makes for one visitor.")
		r.adviseNotToShare("Cookie *")
		return
	}
	quoted := make([]string, min(len(names), 4))
	for i := range quoted {
		quoted[i] = "`" + names[i] + "`"
	}
	r.because("The page depends on a cookie: answers to requests with %s differ from what others get, although the origin lets it be shared.", strings.Join(quoted, ", "))
	r.adviseNotToShare("Cookie *" + names[0] + "=*")
	r.advise("Where few values are shared by many: `cookie %s` in `key`. The origin says so itself by `Cache-Control: private` or `Vary: Cookie`.", names[0])
}

// adviseNotToShare says how requests with a field get their pages from the origin. What they change
// still goes through Larder, which invalidates by it.
func (g *ObservedGroup) adviseNotToShare(field string) {
	g.advise("Leave such pages to the origin: `larder @shared`, with `@shared not { … }` of the lines `method GET HEAD` and `header %s`.", field)
}

// decisiveCookies returns the cookies with which answers differ more often than without, and about
// as often as with any other: cookies of analytics come along with those of a login.
func (g *group) decisiveCookies() (names []string) {
	most := 0.0
	for _, a := range g.cookies {
		most = max(most, a.rate())
	}
	for name, a := range g.cookies {
		others := agreement{g.compared.compared - a.compared, g.compared.differ - a.differ}
		if a.differ > 0 && a.rate() >= 0.8*most && (a.moreOften(others) || others.compared == 0) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		one, other := g.cookies[a], g.cookies[b]
		return cmp.Or(cmp.Compare(other.rate(), one.rate()), cmp.Compare(other.differ, one.differ), cmp.Compare(a, b))
	})
	return names
}

// rate is the part of the answers that differ.
func (a agreement) rate() float64 { return float64(a.differ) / float64(max(a.compared, 1)) }

// explainFields says which fields would have been others.
func (g *group) explainFields(r *ObservedGroup) {
	r.because("Status and body would have been the origin's, and these fields would not: %s.", joined(r.Differs))
	r.advise("A field that names the request or the server (a request id, a time, a node) does no harm. If clients depend on it, " +
		"set it in front of Larder, with `header` in the site.")
}

// explainNotStored says why requests would not have been saved, and what would change that.
func (g *group) explainNotStored(r *ObservedGroup) {
	if len(r.NotStored) > 0 {
		most := r.NotStored[0]
		r.because("%s would not have been stored, mostly because of %s (%d).", plural(total(r.NotStored), "answer"), most.Reason, most.Count)
		if advice := adviceFor[most.Reason]; advice != "" && most.Count*4 >= g.requests {
			r.Advice = append(r.Advice, advice)
		}
	}
	if len(r.Bypass) > 0 {
		r.because("%s would have passed by the cache, mostly because of %s (%d).", plural(total(r.Bypass), "request"), r.Bypass[0].Reason, r.Bypass[0].Count)
	}
	if len(r.Because) == 0 {
		r.because("No URL was asked for twice while its answer was fresh.")
	}
}

// adviceFor is what one may do about a reason against storing.
var adviceFor = map[string]string{
	"no-lifetime": "The origin states no lifetime. `ttl 10m` gives one to answers that state none.",
	"set-cookie":  "The answers set cookies. If these are of no use to a visitor who gets the page, `set_cookie strip` stores it without them.",
	"cookie":      "Requests carry cookies that `ttl` does not apply to: " + advice.Cookies() + ".",
	"vary-star":   "The answers vary by what no cache sees. `ignore Vary` stores them all the same, where that is known to be wrong.",
	"too-large":   "The answers are larger than `max_body`.",
	"full":        "The memory has no room for them while they arrive: raise `memory`.",
	"no-store":    "The origin forbids to store them. Where that is known to be too careful, `force_ttl` does not override it: change the origin, or `ignore Cache-Control` and give a `ttl`.",
}

func total(counts []Count) (n int64) {
	for _, c := range counts {
		n += c.Count
	}
	return n
}

// joined joins counts as words: body 3, status 1.
func joined(counts []Count) string {
	texts := make([]string, len(counts))
	for i, c := range counts {
		texts[i] = fmt.Sprintf("%s %d", c.Reason, c.Count)
	}
	return strings.Join(texts, ", ")
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

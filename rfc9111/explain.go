package rfc9111

import (
	"fmt"
	"strings"
	"time"
)

// Step is one question of a decision, with its answer and the clause that the answer follows from.
// Steps are rendered of the values that decide, by the functions that do.
type Step struct {
	Question string `json:"question"` // in words
	Answer   string `json:"answer"`   // the same
	Clause   string `json:"clause"`   // as "RFC 9111 4.2", empty where there is none
}

// ExplainStorable tells whether a response may be stored, and by what it is fresh. f is what
// [Policy.Freshness] makes of x; its Reason may say more.
func (p *Policy) ExplainStorable(x *Exchange, f *Freshness) []Step {
	s := p.statement(x.Header)
	steps := []Step{{"may it be stored?", "yes", "RFC 9111 3"}}
	if f.Reason != Storable {
		steps[0] = Step{"may it be stored?", "no: " + f.Reason.Sentence(), f.Reason.Clause()}
	}
	if s.targeted {
		steps = append(steps, Step{
			"which field speaks to this cache?",
			s.field + ", so Cache-Control, Expires and Pragma have no effect here", "RFC 9213 2.2",
		})
	}
	return append(steps, p.explainLifetime(x, &s))
}

// explainLifetime tells where the lifetime comes from.
func (p *Policy) explainLifetime(x *Exchange, s *statement) Step {
	lifetime, source := p.lifetime(x, s)
	step := Step{"how long is it fresh?", "", lifetimeClauses[source]}
	if source == SourceNone {
		step.Answer = "nothing gives it a lifetime"
		return step
	}
	step.Answer = fmt.Sprintf("%s, by %s", lifetime, source.words())
	if p.MaxTTL > 0 && p.MaxTTL < lifetime {
		step.Answer += fmt.Sprintf("; max_ttl caps that at %s", p.MaxTTL)
	}
	return step
}

var lifetimeClauses = [...]string{
	SourceNone: "RFC 9111 4.2.1", SourceSMaxAge: "RFC 9111 5.2.2.10", SourceMaxAge: "RFC 9111 5.2.2.1",
	SourceExpires: "RFC 9111 5.3", SourceTTL: "", SourceForceTTL: "", SourceHeuristic: "RFC 9111 4.2.2",
}

// words names the source as a reader of the response and of the configuration knows it.
func (s LifetimeSource) words() string {
	switch s {
	case SourceSMaxAge:
		return "s-maxage of the response"
	case SourceMaxAge:
		return "max-age of the response"
	case SourceExpires:
		return "Expires of the response"
	case SourceTTL:
		return "ttl of the configuration"
	case SourceForceTTL:
		return "force_ttl of the configuration"
	case SourceHeuristic:
		return "heuristic, a tenth of the age of Last-Modified"
	case SourceNone:
	}
	return "nothing"
}

// ExplainUse tells how a stored response may be used, as [Freshness.UseFor] decides. x is the
// exchange that f was made of.
func (f *Freshness) ExplainUse(x *Exchange, d RequestDirectives, received, now time.Time, validity Validity) []Step {
	arrived, age := arrivalAgeOf(x), f.Age(now)
	steps := []Step{
		{"how old was it when it arrived?", arrived.words(), "RFC 9111 4.2.3"},
		{
			"how old is it now?",
			fmt.Sprintf("%s, which is %s and %s here: %s", whole(age), whole(f.InitialAge), whole(age-f.InitialAge), f.left(now)),
			"RFC 9111 4.2.3",
		},
	}
	if windows := f.windows(); windows != "" {
		steps = append(steps, Step{"how long may it be used past that?", windows, "RFC 5861"})
	}
	if asked := d.words(); asked != "" {
		steps = append(steps, Step{"what does the request ask for?", asked, "RFC 9111 5.2.1"})
	}
	rule := useRules[f.useFor(d, received, now, validity)]
	return append(steps, Step{"may it be used?", rule.text, rule.clause})
}

// words tells the sum.
func (a arrivalAge) words() string {
	return fmt.Sprintf("%s: the larger of %s by its Date, and of %s by its Age with the %s that the answer took",
		whole(a.initial()), whole(a.apparentAge), whole(a.ageValue), whole(a.responseDelay))
}

// left tells what is left of the lifetime.
func (f *Freshness) left(now time.Time) string {
	if ttl := f.TTL(now); ttl > 0 {
		return fmt.Sprintf("fresh for %s of %s", whole(ttl), whole(f.Lifetime))
	}
	return fmt.Sprintf("past its lifetime of %s by %s", whole(f.Lifetime), whole(-f.TTL(now)))
}

// windows tells what may happen past the lifetime.
func (f *Freshness) windows() string {
	var parts []string
	for _, w := range [...]struct {
		text string
		d    time.Duration
	}{
		{"%s while it is fetched anew (stale-while-revalidate)", f.StaleWhileRevalidate},
		{"%s if the origin fails (stale-if-error)", f.StaleIfError},
		{"kept for %s after that, to be confirmed", f.Keep},
	} {
		if w.d > 0 {
			parts = append(parts, fmt.Sprintf(w.text, whole(w.d)))
		}
	}
	return strings.Join(parts, "; ")
}

// words lists the directives.
func (d *RequestDirectives) words() string {
	var parts []string
	for _, flag := range [...]struct {
		name string
		set  bool
	}{{"no-store", d.NoStore}, {"no-cache", d.NoCache}, {"only-if-cached", d.OnlyIfCached}} {
		if flag.set {
			parts = append(parts, flag.name)
		}
	}
	for _, limit := range [...]struct {
		name string
		set  bool
		d    time.Duration
	}{
		{"max-age", d.HasMaxAge, d.MaxAge},
		{"min-fresh", d.HasMinFresh, d.MinFresh},
		{"max-stale", d.HasMaxStale, d.MaxStale},
		{"stale-if-error", d.HasStaleIfError, d.StaleIfError},
	} {
		switch {
		case limit.set && limit.d == maxDelta:
			parts = append(parts, limit.name)
		case limit.set:
			parts = append(parts, limit.name+"="+whole(limit.d))
		}
	}
	return strings.Join(parts, ", ")
}

// whole writes a duration in whole seconds, and in milliseconds below one.
func whole(d time.Duration) string {
	if d > -time.Second && d < time.Second {
		return d.Truncate(time.Millisecond).String()
	}
	return d.Truncate(time.Second).String()
}

// Sentence says why a response is not stored, empty for [Storable].
func (r Reason) Sentence() string {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r].sentence
	}
	return r.String()
}

// Clause names the clause that the reason follows from, empty where there is none.
func (r Reason) Clause() string {
	if int(r) < len(reasonTexts) {
		return reasonTexts[r].clause
	}
	return ""
}

var reasonTexts = [reasonCount]struct{ sentence, clause string }{
	ReasonMethod:         {"responses to this method are not stored", "RFC 9111 3"},
	ReasonStatus:         {"a response with this status is not stored", "RFC 9111 3"},
	ReasonPartial:        {"it is a 206 or 304, which is not the whole response", "RFC 9111 3.3"},
	ReasonNoStore:        {"the response says no-store", "RFC 9111 5.2.2.5"},
	ReasonRequestNoStore: {"the request says no-store", "RFC 9111 5.2.1.5"},
	ReasonPrivate:        {"the response says private", "RFC 9111 5.2.2.7"},
	ReasonAuthorization:  {"the request has Authorization, and the response does not say that it may be shared (public, s-maxage or must-revalidate)", "RFC 9111 3.5"},
	ReasonSetCookie:      {"the response sets a cookie", "RFC 9111 7.3"},
	ReasonVaryStar:       {"the response has Vary: *, or varies by a field that a handler behind the cache writes", "RFC 9111 4.1"},
	ReasonNoLifetime:     {"nothing gives the response a lifetime", "RFC 9111 4.2.1"},
	ReasonNoValidator:    {"the response is stale when it arrives, or says no-cache, and has no ETag or Last-Modified to confirm it by", "RFC 9111 4.3.1"},
	ReasonCookie:         {"the request has a cookie that is not in the key, and nothing but ttl, force_ttl or heuristic would give the response a lifetime", ""},
	ReasonField:          {"the response has CR, LF or NUL in a field", "RFC 9110 5.5"},
	ReasonContentType:    {"the Content-Type does not agree with the extension in the URL (deception_guard)", ""},
	ReasonSession:        {"the response gives its client a session (Mcp-Session-Id) that the key of the request lacks", ""},
	ReasonTooLarge:       {"the body is larger than max_body", ""},
	ReasonIncomplete:     {"the body broke off before its end", "RFC 9111 3.3"},
	ReasonPurged:         {"the response was purged while it was fetched, or a newer one came first", ""},
	ReasonFull:           {"there was no room in the store", ""},
	ReasonGraphQL:        {"the answer to the GraphQL query reports errors, or is no JSON object that can be read, or far longer than it came coded", ""},
	ReasonObserved:       {"it was stored while observing, for a request that a fetch would have sent otherwise", ""},
	ReasonLaterRelease:   {"a later release has stored it, and says of it what this one does not know", ""},
}

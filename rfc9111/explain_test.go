package rfc9111

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRulesSayWhatTheyDo: the answer of each rule begins with yes where what is stored is used.
func TestRulesSayWhatTheyDo(t *testing.T) {
	for rule, words := range useRules {
		used := words.use != UseValidate && words.use != UseNever
		if used != strings.HasPrefix(words.text, "yes") || used == strings.HasPrefix(words.text, "no") {
			t.Errorf("rule %d has the use %v and says %q", rule, words.use, words.text)
		}
		if used != (words.forward == ForwardNone) {
			t.Errorf("rule %d has the use %v and the forward %v", rule, words.use, words.forward)
		}
		if !strings.HasPrefix(words.clause, "RFC ") {
			t.Errorf("rule %d has the clause %q", rule, words.clause)
		}
	}
}

func TestEveryReasonHasASentence(t *testing.T) {
	for _, r := range Reasons() {
		if r.Sentence() == "" || r.Sentence() == r.String() {
			t.Errorf("%v: sentence %q", r, r.Sentence())
		}
	}
	if Storable.Sentence() != "" || Storable.Clause() != "" {
		t.Errorf("storable: %q %q", Storable.Sentence(), Storable.Clause())
	}
}

// TestExplainedSum: the steps have the numbers that decide, and end with the rule that did.
func TestExplainedSum(t *testing.T) {
	arrived := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	x := &Exchange{
		Method: "GET", Status: 200, RequestTime: arrived.Add(-2 * time.Second), ResponseTime: arrived,
		Header: http.Header{
			"Date": {arrived.Add(-5 * time.Second).Format(http.TimeFormat)}, "Age": {"9"}, "Etag": {`"v"`},
			"Cache-Control":     {"max-age=600"},
			"Cdn-Cache-Control": {"max-age=60, stale-while-revalidate=30"},
		},
	}
	p := &Policy{MaxTTL: 40 * time.Second}
	f := p.Freshness(x)
	answers := func(steps []Step) string {
		var b strings.Builder
		for _, s := range steps {
			b.WriteString(s.Question + " " + s.Answer + " [" + s.Clause + "]\n")
		}
		return b.String()
	}
	for _, tc := range []struct {
		after time.Duration
		d     RequestDirectives
		want  []string
	}{
		{20 * time.Second, RequestDirectives{}, []string{
			"may it be stored? yes [RFC 9111 3]",
			"which field speaks to this cache? Cdn-Cache-Control, so ",
			"how long is it fresh? 1m0s, by max-age of the response; max_ttl caps that at 40s [RFC 9111 5.2.2.1]",
			"11s: the larger of 5s by its Date, and of 9s by its Age with the 2s that the answer took",
			"31s, which is 11s and 20s here: fresh for 9s of 40s",
			"30s while it is fetched anew",
			"may it be used? yes, it is fresh [RFC 9111 4.2]",
		}},
		{20 * time.Second, RequestDirectives{HasMaxAge: true, MaxAge: 30 * time.Second}, []string{
			"what does the request ask for? max-age=30s", "older than the request's max-age [RFC 9111 5.2.1.1]",
		}},
		{35 * time.Second, RequestDirectives{}, []string{"past its lifetime of 40s by 6s", "yes, stale: it is within stale-while-revalidate"}},
		{100 * time.Second, RequestDirectives{HasMaxStale: true, MaxStale: maxDelta}, []string{
			"ask for? max-stale [RFC", "yes, stale: the request's max-stale accepts that [RFC 9111 5.2.1.2]",
		}},
	} {
		now := arrived.Add(tc.after)
		got := answers(append(p.ExplainStorable(x, &f), f.ExplainUse(x, tc.d, now, now, Valid)...))
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("after %v: no %q in\n%s", tc.after, want, got)
			}
		}
	}
}

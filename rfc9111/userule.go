package rfc9111

// useRule is the rule by which [Freshness.Use] decides. It says what is done, so that what is told
// of a decision is the decision itself.
type useRule uint8

const (
	ruleFresh useRule = iota
	// ruleMadeMeanwhile: the response arrived while the request was waiting.
	ruleMadeMeanwhile
	// ruleWhileRevalidate: it is in the window of stale-while-revalidate.
	ruleWhileRevalidate
	// ruleMaxStale: the client accepts it stale.
	ruleMaxStale
	// ruleStale: it is stale, and nothing lets it be used so.
	ruleStale
	// rulePurgedSoftly: a purge has marked it stale, and nothing lets it be used so.
	rulePurgedSoftly
	// ruleMustRevalidate: it is stale, and must not be used so.
	ruleMustRevalidate
	// ruleNotStale: it is stale, and the client wants nothing stale.
	ruleNotStale
	// ruleNoCache: each use needs a validation.
	ruleNoCache
	// ruleInvalid: it was invalidated.
	ruleInvalid
	// ruleRequestNoCache, ruleRequestMaxAge and ruleRequestMinFresh: it is fresh, and the client
	// asks for more.
	ruleRequestNoCache
	ruleRequestMaxAge
	ruleRequestMinFresh
	// ruleUnstorable: today's rules would not store it.
	ruleUnstorable
	// ruleNotKept: by today's rules its time is over.
	ruleNotKept

	useRuleCount
)

// useRules says for each rule what it does, and its words.
var useRules = [useRuleCount]struct {
	use          Use
	forward      Forward
	text, clause string
}{
	ruleFresh: {UseFresh, ForwardNone, "yes, it is fresh", "RFC 9111 4.2"},
	ruleMadeMeanwhile: {
		UseFresh, ForwardNone, "yes, it arrived while the request waited, so it answers all that waited", "RFC 9111 4",
	},
	ruleWhileRevalidate: {
		UseRefresh, ForwardNone, "yes, stale: it is within stale-while-revalidate, and is fetched anew behind the answer", "RFC 5861 3",
	},
	ruleMaxStale: {UseStale, ForwardNone, "yes, stale: the request's max-stale accepts that", "RFC 9111 5.2.1.2"},
	ruleStale: {
		UseValidate, ForwardStale, "no, it is stale, and no window lets it be used so: the origin is asked whether it still holds", "RFC 9111 4.2.4",
	},
	rulePurgedSoftly: {
		UseValidate, ForwardStale, "no, a soft purge has marked it stale: the origin is asked whether it still holds", "RFC 9111 4.4",
	},
	ruleMustRevalidate: {
		UseValidate, ForwardStale, "no, it is stale, and it says must-revalidate or proxy-revalidate", "RFC 9111 5.2.2.2",
	},
	ruleNotStale: {
		UseValidate, ForwardStale, "no, it is stale, and the request's no-cache, max-age or min-fresh accepts nothing stale", "RFC 9111 5.2.1",
	},
	ruleNoCache: {
		UseValidate, ForwardStale, "no, it says no-cache: each use has to be confirmed by the origin", "RFC 9111 5.2.2.4",
	},
	ruleInvalid: {
		UseValidate, ForwardStale, "no, it was invalidated: the origin has to confirm it", "RFC 9111 4.4",
	},
	ruleRequestNoCache: {
		UseValidate, ForwardRequest, "no, it is fresh, but the request says no-cache", "RFC 9111 5.2.1.4",
	},
	ruleRequestMaxAge: {
		UseValidate, ForwardRequest, "no, it is fresh, but older than the request's max-age", "RFC 9111 5.2.1.1",
	},
	ruleRequestMinFresh: {
		UseValidate, ForwardRequest, "no, it is fresh, but not for as long as the request's min-fresh", "RFC 9111 5.2.1.3",
	},
	ruleUnstorable: {
		UseNever, ForwardURIMiss, "no, by the rules of today it would not be stored", "RFC 9111 3",
	},
	ruleNotKept: {
		UseNever, ForwardURIMiss, "no, by the rules of today its time in the store is over", "RFC 9111 4.2.4",
	},
}

// outcome is what the rule does.
func (r useRule) outcome() (Use, Forward) { return useRules[r].use, useRules[r].forward }

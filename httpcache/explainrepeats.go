package httpcache

import (
	"fmt"
	"time"
)

// repeatedTooOften and changeOfRepeats are the words for a request that is refused.
const (
	repeatedTooOften = "the client has asked for the same thing more often than `repeats` lets it"
	changeOfRepeats  = "have the client keep what it gets, or raise the number or shorten the time of `repeats`; without `refuse` it is told and answered."
)

// counted is told how often the client has asked for the same thing, and how long that is counted
// on. times is 0 if it is not.
func (t *Trace) counted(q *Request, times uint16, left time.Duration) bool {
	if t == nil {
		return false
	}
	t.add(&t.request, Step{Question: "how often has the client asked for it?", Answer: q.repeatWords(times, left)})
	if q.repeats == 0 || !q.route.Repeats.Refuse {
		return false
	}
	v := verdictText{sentence: "Refused with 429: " + repeatedTooOften + ".", change: changeOfRepeats}
	if q.route.Observe {
		v.sentence += observesAnyway
	}
	t.conclude(v)
	return t.explainsOnly
}

// repeatWords says how often the client has asked for the same thing, and what follows.
func (q *Request) repeatWords(times uint16, left time.Duration) string {
	rules := &q.route.Repeats
	if times == 0 {
		return "that is not counted: nothing in the request stands for the text by which `repeats` tells clients apart"
	}
	words := fmt.Sprintf("%d times, this one among them, in a time of %v that ends in %v: ", times, rules.Within, left.Round(time.Second))
	switch {
	case q.repeats == 0:
		return words + fmt.Sprintf("`repeats` lets it ask %d times", rules.Count)
	case rules.Refuse:
		return words + fmt.Sprintf("`repeats` lets it ask %d times, so it is refused", rules.Count)
	}
	return words + fmt.Sprintf("`repeats` lets it ask %d times, so client and origin get Larder-Repeats", rules.Count)
}

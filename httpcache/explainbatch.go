package httpcache

import (
	"fmt"

	"github.com/larder-cache/larder/batch"
)

const askedTogether = "is it asked for together with others?"

// explainBatch says whether the request is put together with others, and nothing where no rule
// speaks of it.
func (q *Request) explainBatch(way way) []Step {
	n, _, fit := q.batchFit()
	if fit == fitOtherPath || way.isStored() {
		return nil
	}
	if fit == fitAlike && q.batchesRest(q.batchGroup(n)) {
		fit = fitLate
	}
	return []Step{explainFit(q.route.Batches[n], fit, way)}
}

// explainFit says whether a request for an item is put together with others.
func explainFit(rule *batch.Rule, fit batchFit, way way) Step {
	switch {
	case fit != fitAlike:
		return Step{Question: askedTogether, Answer: "no: " + fit.String()}
	case way.course != courseJoin:
		return Step{Question: askedTogether, Answer: "no: it waits for no other request"}
	}
	return Step{Question: askedTogether, Answer: fmt.Sprintf(
		"yes, if a GET for another %s comes within %s: up to %d ids make one request", rule.Path, rule.Window, rule.Max,
	)}
}

// explain says what came of asking together with others.
func (m *batchMember) explain() Step {
	result := &m.result
	answer := result.outcome.String()
	if result.err != nil && result.outcome != batchRefused {
		answer += ": " + result.err.Error()
	}
	switch result.outcome {
	case batchItem, batchMissing:
		return Step{Question: askedTogether, Answer: fmt.Sprintf("yes, %d ids in one request: %s", len(result.run.ids), answer)}
	case batchRefused:
		return Step{Question: askedTogether, Answer: "yes, but " + answer}
	case batchAlone:
		return Step{Question: askedTogether, Answer: "no: " + answer}
	default:
		return Step{Question: askedTogether, Answer: fmt.Sprintf("%d ids were, but %s. So it is asked for alone", len(result.run.ids), answer)}
	}
}

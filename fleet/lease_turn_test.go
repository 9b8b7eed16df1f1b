package fleet

import (
	"bytes"
	"testing"

	"github.com/larder-cache/larder/store"
)

// Each thing that a fetch may see of a lease, and what it does next. A row goes on from an earlier
// one where it says after.
func TestTurn(t *testing.T) {
	mine := store.Variant{Names: []string{"X-Lang"}, Values: []string{"de"}}
	other := store.Variant{Names: []string{"X-Lang"}, Values: []string{"en"}}
	first, second := []byte("first"), []byte("second")
	free := sight{}
	for name, tc := range map[string]struct {
		sights  []sight
		moves   []move
		outcome LeaseOutcome // of the last
		seen    []byte
		attempt int
	}{
		"free, taken":        {[]sight{free, {taken: true}}, []move{moveTake, moveLead}, LeaseTaken, nil, 1},
		"held":               {[]sight{{held: true}}, []move{moveWait}, 0, nil, 0},
		"held, then free":    {[]sight{{held: true}, free}, []move{moveWait, moveTake}, 0, nil, 1},
		"storable, for us":   {[]sight{{held: true, news: news{kind: newsStorable, variant: mine}}}, []move{moveWait}, 0, nil, 0},
		"storable, not ours": {[]sight{{held: true, news: news{kind: newsStorable, variant: other}}}, []move{moveFetch}, LeaseDiffers, nil, 0},
		"storable, no Vary":  {[]sight{{held: true, news: news{kind: newsStorable}}}, []move{moveWait}, 0, nil, 0},
		"stored":             {[]sight{{news: news{kind: newsStored}, raw: first}}, []move{moveLook}, LeaseStored, first, 1},
		"stored in vain": {
			[]sight{{news: news{kind: newsStored}, raw: first}, {held: true}, {news: news{kind: newsStored}, raw: second}, {news: news{kind: newsStored}, raw: first}},
			[]move{moveLook, moveWait, moveLook, moveFetch},
			LeaseAlone, second, 1,
		},
		"unstored": {[]sight{{held: true}, {news: news{kind: newsUnstored}}}, []move{moveWait, moveFetch}, LeaseAlone, nil, 0},
		"let go": {
			[]sight{{held: true}, {news: news{kind: newsLate}, raw: first}, {held: true}},
			[]move{moveWait, moveTake, moveWait},
			0, nil, 1,
		},
		"let go in a queue": {
			[]sight{{held: true}, {news: news{kind: newsQueued}, raw: first}, {taken: true}},
			[]move{moveWait, moveTake, moveLead},
			LeaseTaken, nil, 1,
		},
		"alone": {[]sight{{news: news{kind: newsAlone}}}, []move{moveFetch}, LeaseAlone, nil, 0},
		"failed once": {
			[]sight{{news: news{kind: newsFailed, attempt: 1, status: 503}, raw: first}, {taken: true}},
			[]move{moveTake, moveLead},
			LeaseTaken, first, 2,
		},
		"failed once, another was quicker": {
			[]sight{{news: news{kind: newsFailed, attempt: 1, status: 503}, raw: first}, {held: true}, {news: news{kind: newsFailed, attempt: 2, status: 502}}},
			[]move{moveTake, moveWait, moveFail},
			LeaseFailed, first, 2,
		},
		"failed twice for others": {[]sight{{news: news{kind: newsFailed, attempt: 2, status: 502}, raw: first}}, []move{moveTake}, 0, first, 1},
		"failed once, then gone":  {[]sight{{news: news{kind: newsFailed, attempt: 1}, raw: first}, free}, []move{moveTake, moveTake}, 0, nil, 1},
		"the second was no failure": {
			[]sight{{news: news{kind: newsFailed, attempt: 1}, raw: first}, {news: news{kind: newsStored}, raw: second}},
			[]move{moveTake, moveLook},
			LeaseStored, second, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var turn turn
			selected := func(v *store.Variant) bool { return len(v.Names) == 0 || v.Equal(&mine) }
			for i, s := range tc.sights {
				next, outcome := turn.next(s, selected)
				if next != tc.moves[i] {
					t.Fatalf("move %d is %d, want %d", i, next, tc.moves[i])
				}
				if i == len(tc.sights)-1 && outcome != tc.outcome {
					t.Errorf("%v, want %v", outcome, tc.outcome)
				}
			}
			if !bytes.Equal(turn.seen, tc.seen) || turn.attempt != tc.attempt {
				t.Errorf("it has seen %q and would be attempt %d, want %q and %d", turn.seen, turn.attempt, tc.seen, tc.attempt)
			}
		})
	}
}

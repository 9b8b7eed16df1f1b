package warm

import (
	"fmt"
	"testing"
	"time"
)

// TestReasonsAreBounded: reasons are words of the site, which may send another one with each
// answer. All were held, and printed in one line.
func TestReasonsAreBounded(t *testing.T) {
	tally := newTally(time.Now())
	for i := range 1000 {
		tally.add("http://h/", new(variant), result{notStored, fmt.Sprintf("reason-%d", i%500)})
	}
	s := tally.summary(time.Now())
	if len(s.NotStored) != maxReasons+1 || s.NotStored["reason-0"] != 2 || s.NotStored[reasonOther] != 1000-2*maxReasons {
		t.Errorf("%d reasons, %d of others", len(s.NotStored), s.NotStored[reasonOther])
	}
}

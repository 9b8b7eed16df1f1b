package stats

import (
	"reflect"
	"testing"
	"time"
)

// TestRowsOfSeveral: they are those of one Top that was given everything.
func TestRowsOfSeveral(t *testing.T) {
	now := time.Unix(1e9, 0)
	one, a, b := NewTop(10, time.Hour), NewTop(10, time.Hour), NewTop(10, time.Hour)
	for _, add := range []struct {
		to     *Top
		key    string
		weight uint64
		why    string
	}{
		{a, "both", 5, "stale"}, {b, "both", 7, "cold"}, {a, "first", 9, "cold"}, {b, "second", 1, ""},
	} {
		one.Add(now, add.key, add.weight, add.why)
		add.to.Add(now, add.key, add.weight, add.why)
	}
	for limit := 1; limit < 5; limit++ {
		if got, want := RowsOf(now, limit, a, b), one.Rows(now, limit); !reflect.DeepEqual(got, want) {
			t.Errorf("of %d: %v, want %v", limit, got, want)
		}
	}
	if got := RowsOf(now, 3); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}

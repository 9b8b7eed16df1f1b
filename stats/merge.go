package stats

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// RowsOf returns the rows of several as if they were one: a key that several have counts with the
// sum of its weights, and with the reason that it has where it weighs the most.
func RowsOf(now time.Time, limit int, tops ...*Top) []Row {
	if len(tops) == 1 {
		return tops[0].Rows(now, limit)
	}
	var total uint64
	var rows []Row
	for _, t := range tops {
		rows = append(rows, t.all(now)...)
		t.mu.Lock()
		total += t.total
		t.mu.Unlock()
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), cmp.Compare(b.Count, a.Count))
	})
	merged := rows[:0]
	for _, r := range rows {
		if last := len(merged) - 1; last >= 0 && merged[last].Key == r.Key {
			merged[last].Count += r.Count
			continue
		}
		merged = append(merged, r)
	}
	for i := range merged {
		merged[i].Share = float64(merged[i].Count) / float64(max(total, 1))
	}
	sortRows(merged)
	return merged[:min(limit, len(merged))]
}

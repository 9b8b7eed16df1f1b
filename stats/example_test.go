package stats_test

import (
	"fmt"
	"time"

	"github.com/larder-cache/larder/stats"
)

// The URLs with the most requests, in memory that does not grow with their number.
func ExampleTop() {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	top := stats.NewTop(100, time.Hour)
	for range 3 {
		top.Add(now, "/popular", 1, "")
	}
	top.Add(now, "/rare", 1, "")
	for _, row := range top.Rows(now, 1) {
		fmt.Println(row.Key, row.Count)
	}
	// Output: /popular 3
}

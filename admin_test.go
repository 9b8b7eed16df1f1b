package larder

import (
	"testing"
	"time"

	"github.com/larder-cache/larder/store"
)

// A listing tells how long fetches take in milliseconds, to the microsecond.
func TestListedFetchTime(t *testing.T) {
	for took, want := range map[time.Duration]float64{
		0: 0, 999: 0, 1500: 0.001, 212_400 * time.Microsecond: 212.4, time.Minute: 60_000,
	} {
		if got := listed(&store.Item{FetchTime: took}, time.Now()).FetchMS; got != want {
			t.Errorf("%v: %v ms, want %v", took, got, want)
		}
	}
}

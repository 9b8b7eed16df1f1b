package caddyfile

import "testing"

// What the directive says of renewing early reaches the cache, and off is 0 there.
func TestRefreshEarlyReachesTheCache(t *testing.T) {
	for _, beta := range []float64{0, 1.5} {
		config := HandlerConfig{RefreshEarly: beta}.WithDefaults()
		if got := config.Rules().RefreshEarly; got != beta {
			t.Errorf("%v, want %v", got, beta)
		}
	}
}

package larder

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// All waits of a follower together are as long as `coalesce wait`: for a first fetch that fails, for the one that follows, for another variant's.
func TestPatienceOfAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(Handler)
		h.Coalesce = &cfg.CoalesceConfig{Wait: caddy.Duration(10 * time.Second)}
		q := &request{h: h}
		for _, tc := range []struct {
			passes, want time.Duration
		}{
			{0, 10 * time.Second},
			{4 * time.Second, 6 * time.Second},
			{5 * time.Second, time.Second},
			{5 * time.Second, 1},
		} {
			time.Sleep(tc.passes)
			if got := q.patience(seat{}); got != tc.want {
				t.Errorf("it waits for %v more, want %v", got, tc.want)
			}
		}
		if got := q.patience(seat{fetch: new(fetch)}); got != 0 {
			t.Errorf("a leader waits for %v, want as long as it takes", got)
		}
	})
}

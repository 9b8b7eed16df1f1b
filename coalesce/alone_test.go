package coalesce

import (
	"context"
	"testing"
	"time"
)

// A fetch that has no header yet outlives those who asked for it, but not for ever.
func TestAlone(t *testing.T) {
	limits := Limits{Alone: time.Minute}
	t.Run("nobody comes", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			start := time.Now()
			f, lead := join(t, g, true)
			lead.Leave()
			<-f.Context().Done()
			if d := time.Since(start); d != time.Minute {
				t.Errorf("cancelled after %v, want 1m", d)
			}
			expectCause(t, f, ErrNobodyLeft)
			f.Fail(context.Cause(f.Context()))
		})
	})
	t.Run("somebody comes", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			f, lead := join(t, g, true)
			lead.Leave()
			time.Sleep(50 * time.Second)
			_, second := join(t, g, false)
			time.Sleep(5 * time.Minute)
			expectCause(t, f, nil)
			second.Leave() // the minute begins anew
			time.Sleep(50 * time.Second)
			expectCause(t, f, nil)
			time.Sleep(11 * time.Second)
			expectCause(t, f, ErrNobodyLeft)
			f.Fail(context.Cause(f.Context()))
		})
	})
	t.Run("the header comes", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			f, lead := join(t, g, true)
			lead.Leave()
			f.Keep(true)
			f.Share(nil, -1)
			time.Sleep(5 * time.Minute)
			expectCause(t, f, nil)
			f.Finish(nil)
			f.Settle()
		})
	})
}

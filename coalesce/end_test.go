package coalesce

import (
	"errors"
	"testing"
)

// TestOnEmpty: what a flight's parties answer from is given back once, after the fetch and the last of them.
func TestOnEmpty(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(f *Flight)
	}{
		{"finished", func(f *Flight) { f.Share("head", -1); f.Finish(nil) }},
		{"failed", func(f *Flight) { f.Fail(errors.New("broken")) }},
		{"released", func(f *Flight) { f.Release(); f.Finish(nil) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, leader := join(t, g, true)
				_, follower := join(t, g, false)
				calls := 0
				f.OnEmpty(func() {
					calls++
					f.Waiting() // takes the lock, which must not be held now
				})
				tc.end(f)
				f.Settle()
				leader.Leave()
				if calls != 0 {
					t.Errorf("%d calls while a party is aboard", calls)
				}
				follower.Leave()
				follower.Leave()
				if calls != 1 {
					t.Errorf("%d calls, want one", calls)
				}
				f.OnEmpty(func() { calls++ })
				if calls != 2 {
					t.Error("no call for a flight that is empty already")
				}
			})
		})
	}
}

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

// A flight in whose place there is a newer one is kept for its readers, and for a while without
// any, whatever Keep says.
func TestReplaced(t *testing.T) {
	limits := Limits{Alone: time.Minute}
	refuse := func(*Flight) bool { return false }
	begin := func(t *testing.T, g *Group[string]) (old *Flight, lead, next *Party) {
		t.Helper()
		old, lead = join(t, g, true)
		old.Keep(true)
		old.Share(nil, -1)
		newer, next, started := g.Join("k", nil, refuse)
		if !started || !old.Replaced() || newer.Replaced() {
			t.Errorf("started %v, the old one is replaced %v, the newer one %v", started, old.Replaced(), newer.Replaced())
		}
		return old, lead, next
	}
	t.Run("with a reader", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			f, lead, next := begin(t, g)
			time.Sleep(5 * time.Minute)
			expectCause(t, f, nil)
			write(t, f, []byte("late"))
			f.Finish(nil)
			if _, whole := f.Body(); !whole {
				t.Error("what came late is not whole")
			}
			f.Settle()
			expectBody(t, lead.Reader(), []byte("late"), nil)
			lead.Leave()
			next.flight.Settle()
			next.Leave()
		})
	})
	t.Run("without", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			f, lead, next := begin(t, g)
			lead.Leave()
			time.Sleep(time.Minute - 1)
			expectCause(t, f, nil)
			time.Sleep(time.Nanosecond)
			<-f.Context().Done()
			expectCause(t, f, ErrNobodyLeft)
			f.Fail(ErrNobodyLeft)
			next.flight.Settle()
			next.Leave()
		})
	})
}

// Silent counts from what came last, and ends with the flight.
func TestSilent(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		expect := func(want time.Duration) {
			t.Helper()
			if got := f.Silent(); got != want {
				t.Errorf("silent for %v, want %v", got, want)
			}
		}
		time.Sleep(time.Second)
		expect(time.Second)
		f.Share(nil, -1)
		expect(0)
		time.Sleep(2 * time.Second)
		expect(2 * time.Second)
		write(t, f, []byte("a"))
		expect(0)
		time.Sleep(3 * time.Second)
		expect(3 * time.Second)
		f.Finish(nil)
		expect(0) // it is on its way into the store
		f.Settle()
		lead.Leave()
	})
}

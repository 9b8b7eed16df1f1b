package coalesce

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

func TestJoinAsksWhetherAFlightIsOfUse(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		newerThan := func(n int) func(*Flight) bool {
			return func(f *Flight) bool {
				g.Len() // takes the locks that Join must not hold now
				f.Waiting()
				return f.Tag().(int) > n
			}
		}
		old, oldLead, started := g.Join("k", 1, newerThan(0))
		if !started {
			t.Fatal("first request did not start")
		}
		same, oldFollower, started := g.Join("k", 2, newerThan(0))
		if same != old || started {
			t.Fatal("a flight of use was not joined")
		}
		fresh, freshLead, started := g.Join("k", 3, newerThan(1))
		if fresh == old || !started {
			t.Fatal("a flight of no use was joined")
		}
		next, freshFollower, started := g.Join("k", 4, newerThan(1))
		if next != fresh || started {
			t.Fatal("the one that took its place was not joined")
		}
		for _, f := range []*Flight{old, fresh} {
			f.Share(f.Tag(), -1)
			f.Finish(nil)
			f.Settle()
		}
		for _, m := range []*Member{oldLead, oldFollower, freshLead, freshFollower} {
			park(m, 0, nil).expect(t, Shared)
			m.Leave()
		}
	})
}

// While the question is put, another request may put a new flight in the place: the answer for the
// old one says nothing of it.
func TestJoinWhileTheFlightIsReplaced(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		a, pa, _ := g.Join("k", "a", nil)
		var asked []any
		var b *Flight
		var pb *Member
		f, m, started := g.Join("k", "c", func(f *Flight) bool {
			asked = append(asked, f.Tag())
			if f == a {
				a.Release()
				b, pb, _ = g.Join("k", "b", nil)
			}
			return true
		})
		if f != b || started || len(asked) != 2 || asked[1] != "b" {
			t.Errorf("joined %v, started %v, asked %v", f.Tag(), started, asked)
		}
		for _, f := range []*Flight{a, b} {
			f.Settle()
		}
		for _, m := range []*Member{pa, pb, m} {
			m.Leave()
		}
	})
}

func TestSoloCannotBeJoined(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		solo, alone := g.Solo("tag")
		f, m := join(t, g, true)
		if f == solo || solo.Tag() != "tag" || !alone.Leader() || g.Len() != 2 {
			t.Errorf("solo flight joined, or tag %v, leader %v, in flight %d", solo.Tag(), alone.Leader(), g.Len())
		}
		for _, f := range []*Flight{solo, f} {
			f.Share(nil, -1)
			write(t, f, []byte("body"))
			f.Finish(nil)
			f.Settle()
		}
		for _, m := range []*Member{alone, m} {
			expectBody(t, m.Reader(), []byte("body"), nil)
			m.Leave()
		}
	})
}

func TestBoardBeginsNothing(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		yes, no := func(*Flight) bool { return true }, func(*Flight) bool { return false }
		running := func(when string, usable func(*Flight) bool, want *Flight) {
			t.Helper()
			f, m, ok := g.JoinRunning("k", usable)
			if f != want && ok || ok != (want != nil) {
				t.Errorf("%s: joined %v, want %v", when, ok, want != nil)
			}
			if ok {
				m.Leave()
			}
		}
		running("nothing under way", nil, nil)
		f, lead, followers := failing(t, g, 1)
		running("under way", nil, f)
		running("of use", yes, f)
		running("of no use", no, nil)
		f.Fail(errOrigin)
		running("the second attempt is not started", yes, nil)
		retry, again := retryAll(t, followers, 1)
		running("second attempt", yes, retry)
		retry.Release()
		running("released", yes, nil)
		retry.Settle()
		lead.expect(t, Failed)
		again[0].expect(t, Released)
		for _, w := range append(again, lead) {
			w.m.Leave()
		}
	})
}

func TestDrain(t *testing.T) {
	t.Run("nothing under way", func(t *testing.T) {
		inBubble(t, 0, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
			if err := g.Drain(t.Context()); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("flights end in time", func(t *testing.T) {
		inBubble(t, 0, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
			f, m := join(t, g, true)
			solo, alone := g.Solo(nil)
			time.AfterFunc(time.Second, f.Settle)
			time.AfterFunc(2*time.Second, solo.Settle)
			start := time.Now()
			if err := g.Drain(t.Context()); err != nil || time.Since(start) != 2*time.Second {
				t.Errorf("Drain: %v after %v, want nil after 2s", err, time.Since(start))
			}
			m.Leave()
			alone.Leave()
		})
	})
	t.Run("flights are cancelled", func(t *testing.T) {
		inBubble(t, 0, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
			f, m := join(t, g, true)
			w := park(m, 0, nil)
			_, follower := join(t, g, false)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := g.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain: %v", err)
			}
			expectCause(t, f, ErrDrained)
			synctest.Wait()
			w.expectParked(t)
			f.Fail(context.Cause(f.Context()))
			w.expect(t, Failed)
			park(follower, 0, nil).expect(t, Failed)
			if next, _, _ := follower.Retry(nil); next != nil {
				t.Error("a second attempt begins after shutdown")
			}
			m.Leave()
			follower.Leave()
		})
	})
}

// TestGroupIsGivenUp: the timer for the lives of flights, which runs on when the last one is over,
// does not keep the group, nor what its budget is.
func TestGroupIsGivenUp(t *testing.T) {
	given := func() weak.Pointer[Group[string]] {
		g := NewGroup[string](nil, Limits{Life: time.Hour})
		f, lead := g.Solo(nil)
		f.Finish(nil)
		f.Settle()
		lead.Leave()
		return weak.Make(g)
	}()
	runtime.GC()
	if given.Value() != nil {
		t.Error("the group is kept")
	}
}

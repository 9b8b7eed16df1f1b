package coalesce

import (
	"context"
	"testing"
	"time"
)

// A fetch that has no header yet outlives those who asked for it, but not for ever.
func TestUnattended(t *testing.T) {
	limits := Limits{Unattended: time.Minute}
	t.Run("no request comes", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			start := time.Now()
			f, lead := join(t, g, true)
			lead.Leave()
			<-f.Context().Done()
			if d := time.Since(start); d != time.Minute {
				t.Errorf("cancelled after %v, want 1m", d)
			}
			expectCause(t, f, ErrNoClientLeft)
			f.Fail(context.Cause(f.Context()))
		})
	})
	t.Run("a request comes", func(t *testing.T) {
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
			expectCause(t, f, ErrNoClientLeft)
			f.Fail(context.Cause(f.Context()))
		})
	})
}

// A body that is to be kept goes on without readers for as long as it grows, and is given up when
// nothing of it has come for Limits.Unattended.
func TestStalledBodyWithoutReaders(t *testing.T) {
	for name, grow := range map[string]time.Duration{"stalls at once": 0, "stalls after an hour of dribbling": time.Hour} {
		t.Run(name, func(t *testing.T) {
			limits := Limits{Unattended: time.Minute, Life: 2 * time.Hour}
			inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
				f := readerless(t, g)
				for range grow / (3 * time.Second) {
					time.Sleep(3 * time.Second)
					write(t, f, []byte("b"))
				}
				stalled := time.Now()
				expectCause(t, f, nil)
				<-f.Context().Done()
				if d := time.Since(stalled); d != time.Minute {
					t.Errorf("cancelled after %v of silence, want 1m", d)
				}
				expectCause(t, f, ErrNoClientLeft)
				f.Fail(context.Cause(f.Context()))
			})
		})
	}
}

// readerless begins a flight that has a header and a byte, and no members any more.
func readerless(t *testing.T, g *Group[string]) *Flight {
	f, lead := join(t, g, true)
	f.Keep(true)
	f.Share(nil, -1)
	write(t, f, []byte("a"))
	lead.Leave()
	return f
}

// The header is progress of a flight without members.
func TestHeaderWithoutBodyOrReaders(t *testing.T) {
	inBubble(t, 1<<20, Limits{Unattended: time.Minute}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		lead.Leave()
		time.Sleep(50 * time.Second)
		f.Keep(true)
		f.Share(nil, -1) // the minute begins anew
		time.Sleep(time.Minute - 1)
		expectCause(t, f, nil)
		time.Sleep(time.Nanosecond)
		<-f.Context().Done()
		expectCause(t, f, ErrNoClientLeft)
		f.Fail(context.Cause(f.Context()))
	})
}

// A body that stalls is not given up while it has a reader.
func TestStalledBodyWithAReader(t *testing.T) {
	inBubble(t, 1<<20, Limits{Unattended: time.Minute}, func(t *testing.T, g *Group[string], _ *ledger) {
		f := readerless(t, g)
		_, reader := join(t, g, false)
		time.Sleep(5 * time.Minute)
		expectCause(t, f, nil)
		f.Finish(nil)
		f.Settle()
		expectBody(t, reader.Reader(), []byte("a"), nil)
		reader.Leave()
	})
}

// Limits.Life ends a body that dribbles for ever.
func TestDribbleWithoutReaders(t *testing.T) {
	inBubble(t, 1<<20, Limits{Unattended: time.Minute}, func(t *testing.T, g *Group[string], _ *ledger) {
		start := time.Now()
		f := readerless(t, g)
		for context.Cause(f.Context()) == nil && time.Since(start) < time.Hour {
			time.Sleep(3 * time.Second)
			_, _ = f.Write([]byte("b"))
		}
		if d := time.Since(start); d < 10*time.Minute || d > 10*time.Minute+3*time.Second {
			t.Errorf("cancelled after %v, want Limits.Life, which is 10m", d)
		}
		f.Fail(context.Cause(f.Context()))
	})
}

// A flight in whose place there is a newer one is kept for its readers, and for a while without
// any, whatever Keep says.
func TestReplaced(t *testing.T) {
	limits := Limits{Unattended: time.Minute}
	refuse := func(*Flight) bool { return false }
	begin := func(t *testing.T, g *Group[string]) (old *Flight, lead, next *Member) {
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
			expectCause(t, f, ErrNoClientLeft)
			f.Fail(ErrNoClientLeft)
			next.flight.Settle()
			next.Leave()
		})
	})
}

// Silent counts from what came last, not while the fetch is queued, and ends with the flight.
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
		f.SetQueued(true)
		time.Sleep(time.Second)
		expect(0)
		f.SetQueued(false)
		expect(0)
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

// A queued fetch has cost nothing, so it ends with its last member. One of the background goes on.
func TestQueuedFetchEndsWithItsClients(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		for _, tc := range []struct {
			name    string
			prepare func(f *Flight)
			cause   error
		}{
			{"queued", func(f *Flight) { f.SetQueued(true) }, ErrNoClientLeft},
			{"has its turn", func(f *Flight) { f.SetQueued(true); f.SetQueued(false) }, nil},
			{"of the background", func(f *Flight) { f.Background(); f.SetQueued(true) }, nil},
		} {
			f, m, _ := g.Join(tc.name, nil, nil)
			tc.prepare(f)
			if _, follower, _ := g.Join(tc.name, nil, nil); follower != nil {
				m.Leave()
				expectCause(t, f, nil) // one member is left
				follower.Leave()
			}
			expectCause(t, f, tc.cause)
			f.Fail(errOrigin)
		}
		// One that comes back to the queue without members ends as well.
		f, m, _ := g.Join("back in the queue", nil, nil)
		m.Leave()
		expectCause(t, f, nil)
		f.SetQueued(true)
		expectCause(t, f, ErrNoClientLeft)
		f.Fail(errOrigin)
	})
}

// Fetches that their clients have left are bounded in number, before the header and behind it: the
// oldest is given up. One that has a member again is none of them, nor is one of the background.
// Behind the header nothing bounded them.
func TestOrphansAreBounded(t *testing.T) {
	inBubble(t, 1<<20, Limits{Orphans: 2}, func(t *testing.T, g *Group[string], _ *ledger) {
		leave := func(key string, prepare func(f *Flight)) *Flight {
			f, m, _ := g.Join(key, nil, nil)
			prepare(f)
			m.Leave()
			return f
		}
		nothing := func(*Flight) {}
		background := leave("background", (*Flight).Background)
		answered := func(f *Flight) {
			f.Keep(true)
			f.Share(nil, -1)
		}
		header := leave("header", nothing)
		answered(header)
		body := leave("body", answered)
		taken := leave("taken up", nothing)
		_, back, _ := g.Join("taken up", nil, nil)
		first := leave("first", nothing)
		expectCause(t, header, ErrNoClientLeft)
		expectCause(t, body, nil)
		second := leave("second", answered)
		expectCause(t, body, ErrNoClientLeft)
		expectCause(t, first, nil)
		third := leave("third", nothing)
		expectCause(t, first, ErrNoClientLeft)
		for _, f := range []*Flight{background, taken, second, third} {
			expectCause(t, f, nil)
		}
		second.Fail(errOrigin) // over, so there is room
		fourth := leave("fourth", nothing)
		expectCause(t, third, nil)
		back.Leave()
		expectCause(t, third, ErrNoClientLeft)
		for _, f := range []*Flight{background, header, body, taken, first, third, fourth} {
			f.Fail(errOrigin)
		}
	})
}

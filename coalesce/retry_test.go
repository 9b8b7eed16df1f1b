package coalesce

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// failing begins a flight with a leader and n followers, all parked.
func failing(t *testing.T, g *Group[string], n int) (f *Flight, lead *waiter, followers []*waiter) {
	t.Helper()
	f, p := join(t, g, true)
	lead = park(p, 0, "writer")
	for range n {
		_, p := join(t, g, false)
		followers = append(followers, park(p, time.Minute, nil))
	}
	synctest.Wait()
	return f, lead, followers
}

// retryAll lets every follower that failed go on to the heir, and returns it with their new waits.
func retryAll(t *testing.T, followers []*waiter, wantStarts int) (heir *Flight, again []*waiter) {
	t.Helper()
	starts := 0
	for _, w := range followers {
		w.expect(t, Failed)
		f, p, started := w.p.Retry("second")
		switch {
		case f == nil:
			t.Fatal("no second attempt")
		case heir != nil && f != heir:
			t.Fatal("followers gather on several flights")
		case started:
			starts++
		}
		heir = f
		again = append(again, park(p, time.Minute, nil))
	}
	if starts != wantStarts {
		t.Errorf("%d second attempts started, want %d", starts, wantStarts)
	}
	synctest.Wait()
	return heir, again
}

func TestRetryGathersOnOneFlight(t *testing.T) {
	for _, tc := range []struct {
		name string
		fail func(*Flight)
	}{
		{"failed before the header", func(f *Flight) { f.Fail(errOrigin) }},
		{"failed after the header, before the first byte", func(f *Flight) { f.Share(nil, -1); f.Fail(errOrigin) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead, followers := failing(t, g, 4)
				tc.fail(f)
				if o := <-lead.done; o != Failed && o != Shared { // it may have seen the header before the failure
					t.Errorf("leader's outcome %v", o)
				}
				lead.p.Leave()
				heir, again := retryAll(t, followers, 1)
				newcomer, p := join(t, g, false)
				if newcomer != heir || heir.Attempt() != 2 || heir.Tag() != "second" {
					t.Errorf("newcomer on the heir: %v, attempt %d, tag %v", newcomer == heir, heir.Attempt(), heir.Tag())
				}
				again = append(again, park(p, time.Minute, nil))
				heir.Share(nil, -1)
				write(t, heir, []byte("body"))
				heir.Finish(nil)
				heir.Settle()
				for _, w := range again {
					w.expect(t, Shared)
					expectBody(t, w.p.Reader(), []byte("body"), nil)
					w.p.Leave()
				}
			})
		})
	}
}

func TestSecondFailureIsFinal(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 3)
		f.Fail(errClient)
		lead.expect(t, Failed)
		lead.p.Leave()
		heir, again := retryAll(t, followers, 1)
		heir.Fail(errOrigin)
		for _, w := range again {
			w.expect(t, Failed)
			if f, _, _ := w.p.Retry(nil); f != nil {
				t.Error("a third attempt")
			}
			w.p.Leave()
		}
		if !errors.Is(heir.Err(), errOrigin) {
			t.Errorf("err %v, want the second attempt's", heir.Err())
		}
		fresh, p := join(t, g, true)
		if fresh.Attempt() != 1 {
			t.Errorf("the next request begins with attempt %d", fresh.Attempt())
		}
		fresh.Settle()
		p.Leave()
	})
}

// Between the failure and the first Retry the heir is there already, so a newcomer makes no third fetch.
func TestNewcomerStartsTheHeir(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 3)
		f.Fail(errOrigin)
		heir, p, started := g.Join("k", "newcomer", func(*Flight) bool {
			t.Error("asked about a flight that nobody has started")
			return false
		})
		if !started || heir.Attempt() != 2 || !p.Leader() {
			t.Errorf("started %v, attempt %d, leader %v", started, heir.Attempt(), p.Leader())
		}
		gathered, again := retryAll(t, followers, 0)
		if gathered != heir || heir.Tag() != "newcomer" {
			t.Error("followers gather elsewhere")
		}
		heir.Release()
		for _, w := range again {
			w.expect(t, Released)
			w.p.Leave()
		}
		heir.Settle()
		for _, p := range []*Member{lead.p, p} {
			p.Leave()
		}
		lead.expect(t, Failed)
	})
}

func TestHeirThatNobodyWants(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 2)
		f.Fail(errOrigin)
		for _, w := range append(followers, lead) {
			w.expect(t, Failed)
			w.p.Leave()
		}
		expectEmpty(t, g, newLedger(0))
		fresh, p := join(t, g, true)
		if fresh.Attempt() != 1 {
			t.Errorf("attempt %d, want a fresh start", fresh.Attempt())
		}
		fresh.Settle()
		p.Leave()
	})
}

func TestRejectLeavesTheAnswerToTheLeader(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 3)
		f.Reject()
		if writer, ok := f.TakeOver(); writer != "writer" || !ok {
			t.Fatalf("TakeOver = %v, %v", writer, ok)
		}
		heir, again := retryAll(t, followers, 1) // while the leader's client still gets the first answer
		lead.expectParked(t)
		f.Finish(nil)
		lead.expect(t, TakenOver)
		lead.p.Leave()
		heir.Share(nil, -1)
		heir.Finish(nil)
		heir.Settle()
		for _, w := range again {
			w.expect(t, Shared)
			w.p.Leave()
		}
	})
}

func TestRetryOfALeader(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, _ := failing(t, g, 0)
		if f, _, _ := lead.p.Retry(nil); f != nil {
			t.Fatal("retry of a flight that has not failed")
		}
		f.Fail(errOrigin)
		lead.expect(t, Failed)
		heir, p, started := lead.p.Retry(nil)
		if !started || heir.Attempt() != 2 || !p.Leader() {
			t.Errorf("started %v, attempt %d, leader %v", started, heir.Attempt(), p.Leader())
		}
		if again, _, _ := lead.p.Retry(nil); again != nil {
			t.Error("retried twice")
		}
		heir.Settle()
		p.Leave()
	})
}

// A follower in mid-body cannot start over: it is not expected on the heir.
func TestReaderInMidBodyHasNoHeir(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		_, reading := join(t, g, false)
		_, waiting := join(t, g, false)
		f.Share(nil, -1)
		write(t, f, []byte("bo"))
		if _, err := reading.Reader().Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Fail(errOrigin)
		expectBody(t, reading.Reader(), nil, errOrigin)
		if f.heir == nil || len(f.heir.members) != 1 {
			t.Errorf("want exactly the untouched follower on the heir")
		}
		park(waiting, 0, nil).expect(t, Failed)
		for _, p := range []*Member{lead, reading, waiting} {
			p.Leave()
		}
	})
}

// The heir of a failed flight may be over before the failed one has left the group: another goroutine runs it. It must not
// be put into the map then, where nothing would ever take it out again.
func TestHeirThatIsOverIsNotPlaced(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, p := join(t, g, true)
		heir, alone := g.Solo(nil)
		heir.Settle()
		alone.Leave()
		f.seat.vacate(f, heir)
		f.Settle()
		p.Leave()
	})
}

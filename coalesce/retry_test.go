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
	f, m := join(t, g, true)
	lead = park(m, 0, "writer")
	for range n {
		_, m := join(t, g, false)
		followers = append(followers, park(m, time.Minute, nil))
	}
	synctest.Wait()
	return f, lead, followers
}

// retryAll lets every follower that failed go on to the retry, and returns it with their new waits.
func retryAll(t *testing.T, followers []*waiter, wantStarts int) (retry *Flight, again []*waiter) {
	t.Helper()
	starts := 0
	for _, w := range followers {
		w.expect(t, Failed)
		f, m, started := w.m.Retry("second")
		switch {
		case f == nil:
			t.Fatal("no second attempt")
		case retry != nil && f != retry:
			t.Fatal("followers gather on several flights")
		case started:
			starts++
		}
		retry = f
		again = append(again, park(m, time.Minute, nil))
	}
	if starts != wantStarts {
		t.Errorf("%d second attempts started, want %d", starts, wantStarts)
	}
	synctest.Wait()
	return retry, again
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
				if o := <-lead.done; o != Failed && o != Shared { // it may have seen the header
					t.Errorf("leader's result %v", o)
				}
				lead.m.Leave()
				retry, again := retryAll(t, followers, 1)
				newcomer, m := join(t, g, false)
				if newcomer != retry || retry.Attempt() != 2 || retry.Tag() != "second" {
					t.Errorf("newcomer on the retry: %v, attempt %d, tag %v", newcomer == retry, retry.Attempt(), retry.Tag())
				}
				again = append(again, park(m, time.Minute, nil))
				retry.Share(nil, -1)
				write(t, retry, []byte("body"))
				retry.Finish(nil)
				retry.Settle()
				for _, w := range again {
					w.expect(t, Shared)
					expectBody(t, w.m.Reader(), []byte("body"), nil)
					w.m.Leave()
				}
			})
		})
	}
}

func TestThirdFailureIsFinal(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 3)
		f.Fail(errClient)
		lead.expect(t, Failed)
		lead.m.Leave()
		retry, again := retryAll(t, followers, 1)
		retry.Fail(errClient)
		last, again := retryAll(t, again, 1)
		if last.Attempt() != 3 || last.Former() != "second" || retry.Former() != f.Tag() {
			t.Errorf("attempt %d follows %v, the second %v", last.Attempt(), last.Former(), retry.Former())
		}
		fresh, m := join(t, g, true) // it cannot join the third
		last.Fail(errOrigin)
		for _, w := range again {
			w.expect(t, Failed)
			if f, _, _ := w.m.Retry(nil); f != nil {
				t.Error("a fourth attempt")
			}
			w.m.Leave()
		}
		if !errors.Is(last.Err(), errOrigin) {
			t.Errorf("err %v, want the third attempt's", last.Err())
		}
		if fresh.Attempt() != 1 {
			t.Errorf("the next request begins with attempt %d", fresh.Attempt())
		}
		fresh.Settle()
		m.Leave()
	})
}

// Between the failure and the first Retry the retry is there already, so a newcomer makes no third
// fetch.
func TestNewcomerStartsTheRetry(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 3)
		f.Fail(errOrigin)
		retry, m, started := g.Join("k", "newcomer", func(*Flight) bool {
			t.Error("asked about a flight that is not started")
			return false
		})
		if !started || retry.Attempt() != 2 || !m.Leader() {
			t.Errorf("started %v, attempt %d, leader %v", started, retry.Attempt(), m.Leader())
		}
		gathered, again := retryAll(t, followers, 0)
		if gathered != retry || retry.Tag() != "newcomer" {
			t.Error("followers gather elsewhere")
		}
		retry.Release()
		for _, w := range again {
			w.expect(t, Released)
			w.m.Leave()
		}
		retry.Settle()
		for _, m := range []*Member{lead.m, m} {
			m.Leave()
		}
		lead.expect(t, Failed)
	})
}

func TestRetryWithoutMembers(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 2)
		f.Fail(errOrigin)
		for _, w := range append(followers, lead) {
			w.expect(t, Failed)
			w.m.Leave()
		}
		expectEmpty(t, g, newLedger(0))
		fresh, m := join(t, g, true)
		if fresh.Attempt() != 1 {
			t.Errorf("attempt %d, want a fresh start", fresh.Attempt())
		}
		fresh.Settle()
		m.Leave()
	})
}

func TestRejectLeavesTheAnswerToTheLeader(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, followers := failing(t, g, 3)
		f.Reject()
		if writer, ok := f.TakeOver(); writer != "writer" || !ok {
			t.Fatalf("TakeOver = %v, %v", writer, ok)
		}
		retry, again := retryAll(t, followers, 1)
		lead.expectParked(t)
		f.Finish(nil)
		lead.expect(t, TakenOver)
		lead.m.Leave()
		retry.Share(nil, -1)
		retry.Finish(nil)
		retry.Settle()
		for _, w := range again {
			w.expect(t, Shared)
			w.m.Leave()
		}
	})
}

func TestRetryOfALeader(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead, _ := failing(t, g, 0)
		if f, _, _ := lead.m.Retry(nil); f != nil {
			t.Fatal("retry of a flight that has not failed")
		}
		f.Fail(errOrigin)
		lead.expect(t, Failed)
		retry, m, started := lead.m.Retry(nil)
		if !started || retry.Attempt() != 2 || !m.Leader() {
			t.Errorf("started %v, attempt %d, leader %v", started, retry.Attempt(), m.Leader())
		}
		if again, _, _ := lead.m.Retry(nil); again != nil {
			t.Error("retried twice")
		}
		retry.Settle()
		m.Leave()
	})
}

// A follower in mid-body cannot start over: it is not expected on the retry.
func TestReaderInMidBodyHasNoRetry(t *testing.T) {
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
		if f.retry == nil || len(f.retry.members) != 1 {
			t.Errorf("want exactly the untouched follower on the retry")
		}
		park(waiting, 0, nil).expect(t, Failed)
		for _, m := range []*Member{lead, reading, waiting} {
			m.Leave()
		}
	})
}

// The retry of a failed flight may be over before the failed one has left the group: another
// goroutine runs it. It must not be put into the map then, where nothing would ever take it out
// again.
func TestRetryThatIsOverIsNotPlaced(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, m := join(t, g, true)
		retry, alone := g.Solo(nil)
		retry.Settle()
		alone.Leave()
		f.slot.vacate(f, retry)
		f.Settle()
		m.Leave()
	})
}

package coalesce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestFetchOutlivesItsLeader(t *testing.T) {
	for _, tc := range []struct {
		name           string
		keep, follower bool
		// The leader leaves afterShare, or before the header.
		afterShare, cancelled bool
	}{
		{"before the header, a follower waits", false, true, false, false},
		{"before the header, worth keeping", true, false, false, false},
		{"before the header, of no use", false, false, false, true},
		{"after the header, a follower reads", false, true, true, false},
		{"after the header, worth keeping", true, false, true, false},
		{"after the header, of no use", false, false, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead := join(t, g, true)
				var follower *Member
				if tc.follower {
					_, follower = join(t, g, false)
				}
				w := park(lead, 0, nil)
				if !tc.afterShare {
					w.cancel(errClient)
					w.expect(t, Left)
				}
				expectCause(t, f, nil)
				f.Keep(tc.keep)
				f.Share(nil, -1)
				if tc.afterShare {
					w.expect(t, Shared)
					lead.Leave()
				}
				if _, err := f.Write([]byte("body")); tc.cancelled {
					expectUnused(t, g, f, err)
					return
				}
				f.Finish(nil)
				if chunks, whole := f.Body(); !whole || string(slices.Concat(chunks...)) != "body" {
					t.Errorf("body %q, whole %v", chunks, whole)
				}
				if follower != nil {
					expectBody(t, follower.Reader(), []byte("body"), nil)
					follower.Leave()
				}
				f.Settle()
			})
		})
	}
}

// expectUnused fails the test unless the fetch was cancelled because it has no members. err is what
// its Write returned.
func expectUnused(t *testing.T, g *Group[string], f *Flight, err error) {
	t.Helper()
	expectCause(t, f, ErrNoClientLeft)
	if !errors.Is(err, ErrNoClientLeft) {
		t.Errorf("Write: %v", err)
	}
	next, m := join(t, g, true) // a flight that will fail cannot be joined
	next.Fail(errOrigin)
	m.Leave()
	f.Fail(err)
}

func TestReleaseAndTakeOver(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		followers := []*waiter{}
		for range 5 {
			_, m := join(t, g, false)
			followers = append(followers, park(m, time.Second, nil))
		}
		w := park(lead, 0, "writer")
		synctest.Wait()
		f.Release()
		for _, follower := range followers {
			follower.expect(t, Released)
			follower.m.Leave()
		}
		next, m := join(t, g, true)
		next.Settle()
		m.Leave()

		writer, ok := f.TakeOver()
		if writer != "writer" || !ok {
			t.Fatalf("TakeOver = %v, %v", writer, ok)
		}
		if _, err := f.Write([]byte("x")); !errors.Is(err, ErrEnded) {
			t.Errorf("Write past the lent writer: %v", err)
		}
		w.cancel(errClient)
		synctest.Wait()
		expectCause(t, f, errClient)
		w.expectParked(t) // its writer is still in use
		f.Fail(errOrigin)
		w.expect(t, TakenOver)
		if !errors.Is(f.Err(), errOrigin) {
			t.Errorf("err %v, want the fetch's", f.Err())
		}
		lead.Leave()
	})
}

func TestTakeOverWaitsForTheLeader(t *testing.T) {
	for _, tc := range []struct {
		name  string
		then  func(f *Flight, lead *Member) *waiter
		taken bool
	}{
		{"which parks", func(_ *Flight, lead *Member) *waiter { return park(lead, 0, "writer") }, true},
		{"which leaves", func(_ *Flight, lead *Member) *waiter { lead.Leave(); return nil }, false},
		{"until cancelled", func(f *Flight, _ *Member) *waiter { f.Cancel(errOrigin); return nil }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead := join(t, g, true)
				f.Release()
				taken := make(chan bool)
				go func() {
					_, ok := f.TakeOver()
					taken <- ok
				}()
				synctest.Wait()
				select {
				case <-taken:
					t.Fatal("TakeOver did not wait")
				default:
				}
				w := tc.then(f, lead)
				if ok := <-taken; ok != tc.taken {
					t.Errorf("taken over: %v, want %v", ok, tc.taken)
				}
				f.Finish(nil)
				if w != nil {
					w.expect(t, TakenOver)
				}
				lead.Leave()
			})
		})
	}
}

// TestInform: what is the leader's alone is told on its own goroutine, in order, before it learns
// the decision, and holds up no one else.
func TestInform(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		_, m := join(t, g, false)
		follower := park(m, 0, nil)
		var heard []int
		taken := make(chan struct{}) // the client takes something again
		for i := range 3 {
			f.Inform(func(writer any) {
				if writer != "writer" {
					t.Errorf("told %v", writer)
				}
				<-taken
				heard = append(heard, i)
			})
		}
		w := park(lead, 0, "writer")
		synctest.Wait()
		f.Share(nil, -1)
		follower.expect(t, Shared)
		w.expectParked(t)
		f.Inform(func(any) { t.Error("told after the decision") })
		close(taken)
		w.expect(t, Shared)
		if !slices.Equal(heard, []int{0, 1, 2}) {
			t.Errorf("heard %v, want all in order", heard)
		}
		f.Settle()
		lead.Leave()
		m.Leave()
	})
}

// TestInformBeforeTheLeaderParks: a decision that comes first does not swallow what was told
// before, of which only so much is kept for a leader that takes nothing.
func TestInformBeforeTheLeaderParks(t *testing.T) {
	for told, want := range map[int]int{1: 1, 3 * maxPending: maxPending} {
		t.Run(fmt.Sprint(told), func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead := join(t, g, true)
				calls := 0
				for range told {
					f.Inform(func(any) { calls++ })
				}
				f.Share(nil, -1)
				if o := lead.Wait(t.Context(), 0, "writer"); o != Shared || calls != want {
					t.Errorf("result %v after %d calls, want Shared after %d", o, calls, want)
				}
				f.Settle()
				lead.Leave()
			})
		})
	}
}

// TestTakeOverWaitsUntilTheLeaderHasHeard: two would write to one client otherwise.
func TestTakeOverWaitsUntilTheLeaderHasHeard(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		w := park(lead, 0, "writer")
		f.Inform(func(any) { time.Sleep(time.Second) })
		f.Inform(func(any) { time.Sleep(time.Second) })
		start := time.Now()
		f.Release()
		if _, ok := f.TakeOver(); !ok || time.Since(start) != 2*time.Second {
			t.Errorf("taken over %v after %v, want after 2s", ok, time.Since(start))
		}
		f.Finish(nil)
		w.expect(t, TakenOver)
		lead.Leave()
	})
}

// TestInformALeaderThatGoes: one that has gone is told nothing, and one that panics has gone.
func TestInformALeaderThatGoes(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		panicked := make(chan any)
		go func() {
			defer func() { panicked <- recover() }()
			lead.Wait(context.Background(), 0, "writer")
		}()
		f.Inform(func(any) { panic("a mistake") })
		if v := <-panicked; v != "a mistake" {
			t.Errorf("recovered %v", v)
		}
		f.Inform(func(any) { t.Error("told a leader that has gone") })
		expectCause(t, f, nil) // the fetch outlives its client
		f.Release()
		if _, ok := f.TakeOver(); ok {
			t.Error("taken over from a leader that has gone")
		}
		f.Settle()
	})
}

// A fetch that was the wrong one for its leader (the whole, where a range was asked for) lets it go
// too.
func TestReleaseWithoutTakeOver(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		w := park(lead, 0, "writer")
		synctest.Wait()
		f.Release()
		f.Cancel(errOrigin)
		synctest.Wait()
		w.expectParked(t) // TakeOver may still come
		f.Fail(errOrigin)
		w.expect(t, Released)
		lead.Leave()
	})
}

func TestLeaderLeavesBetweenReleaseAndTakeOver(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		w := park(lead, 0, "writer")
		synctest.Wait()
		f.Release()
		w.cancel(errClient)
		w.expect(t, Left)
		if writer, ok := f.TakeOver(); ok {
			t.Errorf("took over %v from a leader that has gone", writer)
		}
		f.Settle()
	})
}

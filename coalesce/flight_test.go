package coalesce

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test with fake time, on a fresh group. When it returns, no goroutine is left
// (synctest sees to that) and all that flights held has been given back.
func inBubble(t *testing.T, budget int64, l Limits, test func(t *testing.T, g *Group[string], b *ledger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newLedger(budget)
		g := NewGroup[string](poisoned{b}, l)
		test(t, g, b)
		synctest.Wait()
		expectEmpty(t, g, b)
	})
}

func TestFollowersStreamFromTheStart(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(1, 100_000)
		f, lead := join(t, g, true)
		_, early := join(t, g, false)
		waiting := []*waiter{park(lead, 0, nil), park(early, time.Second, nil)}
		synctest.Wait()
		if f.Waiting() != 1 || f.Readers() != 0 {
			t.Errorf("waiting %d, readers %d, want 1, 0", f.Waiting(), f.Readers())
		}
		f.Keep(true)
		f.Share("response", -1)
		for _, w := range waiting {
			w.expect(t, Shared)
		}
		write(t, f, want[:1000])
		got, err := early.Reader().Next(t.Context())
		if err != nil || !bytes.Equal(got, want[:1000]) {
			t.Fatalf("first bytes: %d, %v, want them while the fetch goes on", len(got), err)
		}
		write(t, f, want[1000:])

		_, late := join(t, g, false)
		park(late, time.Second, nil).expect(t, Shared)
		if f.Shared() != "response" || f.Readers() != 3 {
			t.Errorf("shared %v, readers %d, want response, 3", f.Shared(), f.Readers())
		}
		f.Finish("trailer")
		_, afterwards := join(t, g, false) // not stored yet, so still to be had here
		f.Settle()
		expectBody(t, early.Reader(), want[1000:], nil)
		for _, m := range []*Member{lead, late, afterwards} {
			expectBody(t, m.Reader(), want, nil)
		}
		if f.Trailer() != "trailer" || f.Err() != nil {
			t.Errorf("trailer %v, err %v", f.Trailer(), f.Err())
		}
		for _, m := range []*Member{lead, early, late, afterwards} {
			m.Leave()
		}
	})
}

func TestKeepTakenBack(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		f.Keep(true)
		f.Share(nil, -1)
		lead.Leave()
		expectCause(t, f, nil)
		f.Keep(false)
		expectCause(t, f, ErrNoClientLeft)
		f.Settle()
		if !errors.Is(f.Err(), ErrAbandoned) {
			t.Errorf("err %v, want %v", f.Err(), ErrAbandoned)
		}
	})
}

func TestWaitLimits(t *testing.T) {
	inBubble(t, 1<<20, Limits{Waiters: 2}, func(t *testing.T, g *Group[string], _ *ledger) {
		start := time.Now()
		f, lead := join(t, g, true)
		leader := park(lead, time.Second, nil)
		var followers []*waiter
		for range 2 {
			_, m := join(t, g, false)
			followers = append(followers, park(m, 10*time.Second, nil))
		}
		synctest.Wait()
		_, third := join(t, g, false)
		if o := third.Wait(t.Context(), 10*time.Second, nil); o != Crowded || time.Since(start) != 0 {
			t.Errorf("result %v after %v, want %v at once", o, time.Since(start), Crowded)
		}
		for _, w := range followers {
			w.expect(t, TimedOut)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("timed out after %v, want 10s", d)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		leader.expectParked(t)
		if f.Waiting() != 0 {
			t.Errorf("%d waiting, want none", f.Waiting())
		}
		f.Fail(errOrigin)
		leader.expect(t, Failed)
		lead.Leave()
	})
}

// A header that comes at the very moment at which a follower gives up is not thrown away.
func TestDecisionBeatsTimeout(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		_, follower := join(t, g, false)
		f.Share(nil, -1)
		if o := follower.stopWaiting(TimedOut); o != Shared {
			t.Errorf("result %v, want %v", o, Shared)
		}
		f.Settle()
		lead.Leave()
		follower.Leave()
	})
}

func TestThousandRequestsMakeOneFetch(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(15, 200_000)
		var started, right atomic.Int32
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				f, m, leads := g.Join("k", nil, nil)
				defer m.Leave()
				if leads {
					started.Add(1)
					time.AfterFunc(time.Second, func() {
						defer f.Settle()
						f.Share(nil, -1)
						for part := range slices.Chunk(want, 1000) {
							if _, err := f.Write(part); err != nil {
								t.Error(err)
							}
							time.Sleep(time.Millisecond)
						}
						f.Finish(nil)
					})
				}
				if o := m.Wait(t.Context(), 10*time.Second, nil); o != Shared {
					t.Errorf("result %v", o)
				}
				if got, err := readAll(m.Reader()); err == nil && bytes.Equal(got, want) {
					right.Add(1)
				}
			})
		}
		wg.Wait()
		if started.Load() != 1 || right.Load() != 1000 {
			t.Errorf("%d fetches, %d right bodies, want 1, 1000", started.Load(), right.Load())
		}
	})
}

// life is the time that a flight has in the tests of Limits.Life.
var life = Limits{Life: time.Minute}

// Limits.Life ends a fetch that has no header.
func TestLifeWithoutHeader(t *testing.T) {
	inBubble(t, 1<<20, life, func(t *testing.T, g *Group[string], _ *ledger) {
		start := time.Now()
		f, lead := join(t, g, true)
		<-f.Context().Done()
		if d := time.Since(start); d != time.Minute {
			t.Errorf("cancelled after %v, want 1m", d)
		}
		expectCause(t, f, ErrExpired)
		next, m := join(t, g, true) // although the old fetch has not come back
		next.Settle()
		m.Leave()
		f.Fail(context.Cause(f.Context()))
		park(lead, 0, nil).expect(t, Failed)
		lead.Leave()
	})
}

// One timer ends the lives of all flights, each in its own time.
func TestEachFlightHasItsOwnLife(t *testing.T) {
	inBubble(t, 1<<20, life, func(t *testing.T, g *Group[string], _ *ledger) {
		var ages [5]time.Duration
		var wg sync.WaitGroup
		for i := range ages {
			f, lead := g.Solo(nil)
			// The oldest, one in the middle and the youngest end before.
			start, short := time.Now(), i%2 == 0
			wg.Go(func() {
				if short {
					time.Sleep(15 * time.Second)
				} else {
					<-f.Context().Done()
				}
				ages[i] = time.Since(start)
				f.Fail(context.Cause(f.Context()))
				lead.Leave()
			})
			time.Sleep(10 * time.Second)
		}
		wg.Wait()
		if want := [5]time.Duration{15 * time.Second, time.Minute, 15 * time.Second, time.Minute, 15 * time.Second}; ages != want {
			t.Errorf("ended after %v, want %v", ages, want)
		}
	})
}

// A flight that streams when its life is over goes on through a window.
func TestOldFlightIsWindowed(t *testing.T) {
	inBubble(t, 1<<20, life, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		f.Keep(true)
		f.Share(nil, -1)
		write(t, f, []byte("before "))
		time.Sleep(time.Minute)
		synctest.Wait()
		next, m := join(t, g, true)
		next.Settle()
		m.Leave()
		write(t, f, []byte("after"))
		f.Finish(nil)
		expectBody(t, lead.Reader(), []byte("before after"), nil)
		if _, whole := f.Body(); whole || f.Overflow() != TooOld {
			t.Errorf("whole %v, overflow %v, want false, %v", whole, f.Overflow(), TooOld)
		}
		lead.Leave()
	})
}

// A released flight lives as long as its client.
func TestReleasedFlightHasNoLife(t *testing.T) {
	inBubble(t, 1<<20, life, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		w := park(lead, 0, "writer")
		f.Release()
		if _, ok := f.TakeOver(); !ok {
			t.Fatal("no writer")
		}
		time.Sleep(time.Hour)
		expectCause(t, f, nil)
		f.Finish(nil)
		w.expect(t, TakenOver)
		lead.Leave()
	})
}

func TestReadersOfABrokenBody(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(4, 10_000)
		f, lead := join(t, g, true)
		_, follower := join(t, g, false)
		f.Share(nil, -1)
		write(t, f, want)
		if _, err := follower.Reader().Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.Fail(NewPanicError(io.ErrClosedPipe))
		expectBody(t, lead.Reader(), want, io.ErrClosedPipe)
		if _, err := follower.Reader().Next(t.Context()); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("follower in mid-body got %v, want the panic's value", err)
		}
		var m *PanicError
		if !errors.As(f.Err(), &m) || !bytes.Contains(m.Stack, []byte("TestReadersOfABrokenBody")) {
			t.Errorf("err %v carries no stack of the panic", f.Err())
		}
		if chunks, whole := f.HandOver(); whole || chunks != nil {
			t.Error("a broken body was handed over")
		}
		lead.Leave()
		follower.Leave()
	})
}

func TestReadyAndSkip(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		r := lead.Reader()
		f.Share(nil, -1)
		expectReady := func(when string, want bool) {
			t.Helper()
			if r.Ready() != want {
				t.Errorf("%s: ready %v, want %v", when, !want, want)
			}
		}
		expectNext := func(want string) {
			t.Helper()
			if b, err := r.Next(t.Context()); string(b) != want || err != nil {
				t.Errorf("Next = %q, %v, want %q", b, err, want)
			}
		}
		expectReady("nothing yet", false)
		write(t, f, []byte("0123"))
		expectReady("written", true)
		expectNext("0123")
		expectReady("all read", false)
		r.Skip(6)
		write(t, f, []byte("4567"))
		expectNext("67")
		r.Skip(2)
		expectNext("234567")
		r.Skip(99)
		expectReady("beyond the end", false)
		f.Finish(nil)
		expectReady("ended", true)
		if b, err := r.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("Next = %q, %v, want EOF", b, err)
		}
		lead.Leave()
		if _, err := r.Next(t.Context()); !errors.Is(err, ErrLeft) {
			t.Errorf("Next after Leave: %v", err)
		}
		f.Settle()
	})
}

func TestNextEndsWithItsContext(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		f.Share(nil, -1)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errClient) })
		if _, err := lead.Reader().Next(ctx); !errors.Is(err, errClient) {
			t.Errorf("Next: %v", err)
		}
		lead.Leave()
		f.Settle()
	})
}

func TestWriteWithoutDecision(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		if _, err := f.Write([]byte("x")); !errors.Is(err, ErrUndecided) {
			t.Errorf("Write: %v", err)
		}
		f.Finish(nil)
		park(lead, 0, nil).expect(t, Failed)
		if !errors.Is(f.Err(), ErrUndecided) {
			t.Errorf("err %v, want %v", f.Err(), ErrUndecided)
		}
		lead.Leave()
	})
}

// What a flight ended with stays, whatever its fetch calls afterwards.
func TestEndsOnce(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*Flight)
		err  error
	}{
		{"finished", func(f *Flight) { f.Finish("trailer") }, nil},
		{"failed", func(f *Flight) { f.Fail(errOrigin) }, errOrigin},
		{"failed without a cause", func(f *Flight) { f.Fail(nil) }, ErrAbandoned},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				f, lead := join(t, g, true)
				f.Share(nil, -1)
				write(t, f, []byte("body"))
				done := f.Done()
				tc.end(f)
				<-done
				trailer := f.Trailer()
				f.Fail(errClient)
				f.Finish("another")
				f.Release()
				if _, err := f.Write([]byte("more")); !errors.Is(err, ErrEnded) {
					t.Errorf("Write: %v", err)
				}
				expectBody(t, lead.Reader(), []byte("body"), tc.err)
				if f.Trailer() != trailer || !errors.Is(f.Err(), tc.err) {
					t.Errorf("trailer %v, err %v", f.Trailer(), f.Err())
				}
				<-f.Done()
				lead.Leave()
				lead.Leave()
				f.Settle()
				f.Settle()
			})
		})
	}
}

package coalesce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test with fake time, on a fresh group. When it returns, no goroutine is left (synctest sees to that)
// and all that flights held has been given back.
func inBubble(t *testing.T, budget int64, l Limits, test func(t *testing.T, g *Group[string], b *ledger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newLedger(budget)
		g := NewGroup[string](b, l)
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
		f.Share("head", -1)
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
		if f.Head() != "head" || f.Readers() != 3 {
			t.Errorf("head %v, readers %d, want head, 3", f.Head(), f.Readers())
		}
		f.Finish("trailer")
		_, afterwards := join(t, g, false) // not stored yet, so still to be had here
		f.Settle()
		expectBody(t, early.Reader(), want[1000:], nil)
		for _, p := range []*Member{lead, late, afterwards} {
			expectBody(t, p.Reader(), want, nil)
		}
		if f.Trailer() != "trailer" || f.Err() != nil {
			t.Errorf("trailer %v, err %v", f.Trailer(), f.Err())
		}
		for _, p := range []*Member{lead, early, late, afterwards} {
			p.Leave()
		}
	})
}

func TestFetchOutlivesItsLeader(t *testing.T) {
	for _, tc := range []struct {
		name       string
		keep       bool
		follower   bool
		afterShare bool // when the leader leaves
		cancelled  bool
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
				if f.Context().Err() != nil {
					t.Fatal("cancelled before its header")
				}
				f.Keep(tc.keep)
				f.Share(nil, -1)
				if tc.afterShare {
					w.expect(t, Shared)
					lead.Leave()
				}
				_, err := f.Write([]byte("body"))
				if tc.cancelled {
					expectCause(t, f, ErrNoClientLeft)
					if !errors.Is(err, ErrNoClientLeft) {
						t.Errorf("Write: %v", err)
					}
					next, p := join(t, g, true) // nobody joins what is doomed
					next.Fail(errOrigin)
					p.Leave()
					f.Fail(err)
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

func TestReleaseAndTakeOver(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		followers := []*waiter{}
		for range 5 {
			_, p := join(t, g, false)
			followers = append(followers, park(p, time.Second, nil))
		}
		w := park(lead, 0, "writer")
		synctest.Wait()
		f.Release()
		for _, follower := range followers {
			follower.expect(t, Released)
			follower.p.Leave()
		}
		next, p := join(t, g, true)
		next.Settle()
		p.Leave()

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

// TestInform: what is the leader's alone is told on its own goroutine, in order, before it learns the decision, and holds up nobody else.
func TestInform(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, lead := join(t, g, true)
		_, p := join(t, g, false)
		follower := park(p, 0, nil)
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
		p.Leave()
	})
}

// TestInformBeforeTheLeaderParks: a decision that comes first does not swallow what was told before, of which only so much is
// kept for a leader that takes nothing.
func TestInformBeforeTheLeaderParks(t *testing.T) {
	for told, want := range map[int]int{1: 1, 3 * maxNews: maxNews} {
		t.Run(fmt.Sprint(told), func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead := join(t, g, true)
				calls := 0
				for range told {
					f.Inform(func(any) { calls++ })
				}
				f.Share(nil, -1)
				if o := lead.Wait(t.Context(), 0, "writer"); o != Shared || calls != want {
					t.Errorf("outcome %v after %d calls, want Shared after %d", o, calls, want)
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
		expectCause(t, f, nil) // the fetch is nobody's
		f.Release()
		if _, ok := f.TakeOver(); ok {
			t.Error("taken over from a leader that has gone")
		}
		f.Settle()
	})
}

// A fetch that was the wrong one for its leader (the whole, where a range was asked for) lets it go too.
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

func TestWaitLimits(t *testing.T) {
	inBubble(t, 1<<20, Limits{Waiters: 2}, func(t *testing.T, g *Group[string], _ *ledger) {
		start := time.Now()
		f, lead := join(t, g, true)
		leader := park(lead, time.Second, nil)
		var followers []*waiter
		for range 2 {
			_, p := join(t, g, false)
			followers = append(followers, park(p, 10*time.Second, nil))
		}
		synctest.Wait()
		_, third := join(t, g, false)
		if o := third.Wait(t.Context(), 10*time.Second, nil); o != Crowded || time.Since(start) != 0 {
			t.Errorf("outcome %v after %v, want %v at once", o, time.Since(start), Crowded)
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
		if o := follower.give(TimedOut); o != Shared {
			t.Errorf("outcome %v, want %v", o, Shared)
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
				f, p, leads := g.Join("k", nil, nil)
				defer p.Leave()
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
				if o := p.Wait(t.Context(), 10*time.Second, nil); o != Shared {
					t.Errorf("outcome %v", o)
				}
				if got, err := readAll(p.Reader()); err == nil && bytes.Equal(got, want) {
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

func TestLife(t *testing.T) {
	limits := Limits{Life: time.Minute}
	t.Run("no header", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			start := time.Now()
			f, lead := join(t, g, true)
			<-f.Context().Done()
			if d := time.Since(start); d != time.Minute {
				t.Errorf("cancelled after %v, want 1m", d)
			}
			expectCause(t, f, ErrExpired)
			next, p := join(t, g, true) // although the old fetch has not come back
			next.Settle()
			p.Leave()
			f.Fail(context.Cause(f.Context()))
			park(lead, 0, nil).expect(t, Failed)
			lead.Leave()
		})
	})
	t.Run("each in its own time", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			var ages [5]time.Duration
			var wg sync.WaitGroup
			for i := range ages {
				f, lead := g.Solo(nil)
				start, short := time.Now(), i%2 == 0 // the oldest, one in the middle and the youngest end before
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
	})
	t.Run("streaming becomes windowed", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
			f, lead := join(t, g, true)
			f.Keep(true)
			f.Share(nil, -1)
			write(t, f, []byte("before "))
			time.Sleep(time.Minute)
			synctest.Wait()
			next, p := join(t, g, true)
			next.Settle()
			p.Leave()
			write(t, f, []byte("after"))
			f.Finish(nil)
			expectBody(t, lead.Reader(), []byte("before after"), nil)
			if _, whole := f.Body(); whole || f.Overflow() != TooOld {
				t.Errorf("whole %v, overflow %v, want false, %v", whole, f.Overflow(), TooOld)
			}
			lead.Leave()
		})
	})
	t.Run("released has no limit", func(t *testing.T) {
		inBubble(t, 1<<20, limits, func(t *testing.T, g *Group[string], _ *ledger) {
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
		var p *PanicError
		if !errors.As(f.Err(), &p) || !bytes.Contains(p.Stack, []byte("TestReadersOfABrokenBody")) {
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

func TestReservation(t *testing.T) {
	for _, tc := range []struct {
		name     string
		handOver bool
		reading  int64 // reserved while the member still reads a settled flight
	}{
		{"held until the last reader leaves", false, 1000},
		{"handed over", true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				want := pattern(5, 1000)
				f, lead := join(t, g, true)
				f.Share(nil, -1)
				for _, c := range want {
					write(t, f, []byte{c})
				}
				if b.now() != minChunk {
					t.Errorf("%d bytes reserved while growing, want a chunk", b.now())
				}
				f.Finish(nil)
				if b.now() != 1000 {
					t.Errorf("%d bytes reserved when finished, want 1000", b.now())
				}
				if tc.handOver {
					if chunks, whole := f.HandOver(); !whole || !bytes.Equal(slices.Concat(chunks...), want) {
						t.Error("not handed over whole")
					}
				}
				f.Settle()
				if b.now() != tc.reading {
					t.Errorf("%d bytes reserved while read, want %d", b.now(), tc.reading)
				}
				expectBody(t, lead.Reader(), want, nil)
				lead.Leave()
				if _, whole := f.Body(); whole {
					t.Error("body still held by nobody")
				}
			})
		})
	}
}

// memorySource is a BodySource that checks how it is used.
type memorySource struct {
	t      *testing.T
	data   []byte
	closed int
}

func (s *memorySource) Chunk(off int64) ([]byte, error) {
	if s.closed > 0 {
		s.t.Error("read after Close")
	}
	return s.data[off:], nil
}

func (s *memorySource) Close() { s.closed++ }

// TestMoveTo: who reads a body that has been handed over reads on from the copy made of it, from wherever it stands.
func TestMoveTo(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		want := pattern(6, 200_000)
		f, lead := join(t, g, true)
		_, middle := join(t, g, false)
		_, end := join(t, g, false)
		f.Share(nil, -1)
		write(t, f, want)
		f.Finish(nil)
		first, err := middle.Reader().Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		expectBody(t, end.Reader(), want, nil)
		f.HandOver()
		src := &memorySource{t: t, data: want}
		f.MoveTo(src)
		_, late := join(t, g, false)
		f.Settle()
		if f.body.held != 0 || b.now() != 0 {
			t.Errorf("%d bytes held, %d reserved, want none", f.body.held, b.now())
		}
		expectBody(t, lead.Reader(), want, nil)
		expectBody(t, middle.Reader(), want[len(first):], nil)
		expectBody(t, late.Reader(), want, nil)
		end.Reader().Skip(100)
		expectBody(t, end.Reader(), want[100:], nil)
		for _, p := range []*Member{lead, middle, end, late} {
			if src.closed != 0 {
				t.Error("closed while a member is aboard")
			}
			p.Leave()
		}
		if src.closed != 1 {
			t.Errorf("closed %d times, want once", src.closed)
		}
	})
}

// TestMoveToWhatNobodyReads: a source that comes too late, or for a flight that cannot use it, is closed at once.
func TestMoveToWhatNobodyReads(t *testing.T) {
	for name, end := range map[string]func(f *Flight, lead *Member){
		"all have left": func(f *Flight, lead *Member) { f.Finish(nil); lead.Leave(); f.Settle() },
		"failed":        func(f *Flight, lead *Member) { f.Fail(errOrigin); f.Settle(); lead.Leave() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				f, lead := join(t, g, true)
				f.Share(nil, -1)
				write(t, f, []byte("body"))
				end(f, lead)
				src := &memorySource{t: t}
				f.MoveTo(src)
				if src.closed != 1 {
					t.Errorf("closed %d times, want once", src.closed)
				}
			})
		})
	}
}

// TestTakeBack: what was handed over and not taken counts again, as far as there is room, until the last reader leaves.
func TestTakeBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		leave bool
		other int64 // reserved by others meanwhile
		want  int64
	}{
		{"read", false, 0, 1000},
		{"read by nobody", true, 0, 0},
		{"no room", false, 2000, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 2000, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				f, lead := join(t, g, true)
				f.Keep(true)
				f.Expect(1000)
				f.Share(nil, -1)
				write(t, f, pattern(7, 1000))
				f.Finish(nil)
				f.HandOver()
				if !b.Reserve(tc.other) {
					t.Fatal("what was handed over is still reserved")
				}
				if tc.leave {
					lead.Leave()
				}
				f.TakeBack()
				f.TakeBack()
				if got := b.now() - tc.other; got != tc.want {
					t.Errorf("%d bytes reserved, want %d", got, tc.want)
				}
				f.Settle()
				lead.Leave()
				b.Unreserve(tc.other)
			})
		})
	}
}

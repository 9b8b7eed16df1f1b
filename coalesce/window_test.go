package coalesce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const window = 256 << 10

// joined begins a flight of a leader and n followers that is worth finishing.
func joined(t *testing.T, g *Group[string], n int) (*Flight, []*Member) {
	t.Helper()
	f, lead := join(t, g, true)
	all := []*Member{lead}
	for range n {
		_, m := join(t, g, false)
		all = append(all, m)
	}
	f.Keep(true)
	return f, all
}

// windowing begins a shared flight of a leader and n followers that keeps at most limit bytes.
func windowing(t *testing.T, g *Group[string], n int, limit int64) (*Flight, []*Member) {
	t.Helper()
	f, all := joined(t, g, n)
	f.Share(nil, limit)
	return f, all
}

// peak watches how much f holds at the most. The ledger's own peak may be higher: what readers free
// is given back a moment after the fetch may have seen that it is free.
func peak(f *Flight, l *ledger) *int64 {
	most := new(int64)
	l.asked = func(n int64) { // on the goroutine of the fetch, which alone adds to what is held
		f.mu.Lock()
		defer f.mu.Unlock()
		*most = max(*most, f.body.held+n)
	}
	return most
}

// fetch writes data and finishes, or fails with the error of Write, on a goroutine of its own.
func fetch(f *Flight, data []byte) {
	go func() {
		if _, err := f.Write(data); err != nil {
			f.Fail(err)
			return
		}
		f.Finish(nil)
	}()
}

// fetchInParts is fetch by many writes.
func fetchInParts(f *Flight, data []byte) {
	go func() {
		for part := range slices.Chunk(data, 10_000) {
			if _, err := f.Write(part); err != nil {
				f.Fail(err)
				return
			}
		}
		f.Finish(nil)
	}()
}

// sip reads to the end, and waits for pause before each further step.
func sip(r *Reader, pause time.Duration) ([]byte, error) {
	var all []byte
	for {
		b, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, b...)
		time.Sleep(pause)
	}
}

func TestWindowIsPacedByItsSlowestReader(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], b *ledger) {
		want := pattern(6, 10*window)
		f, all := windowing(t, g, 1, window/2)
		most := peak(f, b)
		fetch(f, want)
		synctest.Wait()
		if b.now() != window || f.Overflow() != PastMax {
			t.Errorf("%d bytes held, overflow %v, want a full window, %v", b.now(), f.Overflow(), PastMax)
		}
		fresh, m := join(t, g, true) // a window cannot be joined
		fresh.Settle()
		m.Leave()

		quick := make(chan []byte)
		go func() {
			got, _ := readAll(all[0].Reader())
			quick <- got
		}()
		got, err := sip(all[1].Reader(), time.Second)
		if !bytes.Equal(<-quick, want) || !bytes.Equal(got, want) || err != nil {
			t.Errorf("slow reader: %d bytes, %v", len(got), err)
		}
		if *most > window {
			t.Errorf("held %d bytes at the most, want no more than the window of %d", *most, window)
		}
		if _, whole := f.Body(); whole {
			t.Error("a windowed body is whole")
		}
		for _, m := range all {
			m.Leave()
		}
	})
}

// wantDropped has one reader take all at once, and another a piece with pauses in between, which is
// to be dropped after some time, if that is not zero.
func wantDropped(t *testing.T, limit int64, pause, after time.Duration) {
	t.Helper()
	inBubble(t, 1<<30, Limits{Window: limit}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(7, int(8*limit))
		f, all := windowing(t, g, 1, 0)
		start := time.Now()
		var dropped time.Duration
		all[1].Reader().OnDrop(func() { dropped = time.Since(start) })
		fetch(f, want)
		slow := make(chan error)
		go func() {
			_, err := sip(all[1].Reader(), pause)
			slow <- err
		}()
		expectBody(t, all[0].Reader(), want, nil)
		var wantErr error
		if after > 0 {
			wantErr = ErrTooSlow
		}
		if err := <-slow; !errors.Is(err, wantErr) {
			t.Errorf("slow reader: %v, want %v", err, wantErr)
		}
		for _, m := range all {
			m.Leave()
		}
		if dropped != after {
			t.Errorf("dropped after %v, want %v", dropped, after)
		}
	})
}

func TestWindowDropsAReaderThatTakesNothing(t *testing.T) {
	const narrow = 6 * windowSlice // half of it is what a reader takes just in time
	for _, tc := range []struct {
		name         string
		pause, after time.Duration
	}{
		{"just in time", 10*time.Second - time.Millisecond, 0},
		{"too late", 10*time.Second + time.Millisecond, 10 * time.Second},
		{"never again", time.Hour, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) { wantDropped(t, narrow, tc.pause, tc.after) })
	}
}

// A client that takes a little now and then does not leave all others with that, nor with nothing
// for as long as it has to catch up. What counts is how long others have waited for it, however
// often it makes room meanwhile.
func TestWindowDropsAReaderThatTakesLittle(t *testing.T) {
	for _, tc := range []struct {
		name         string
		pause, after time.Duration
	}{
		{"enough", 3 * time.Second, 0},
		{"too little", 5 * time.Second, 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) { wantDropped(t, window, tc.pause, tc.after) })
	}
}

// A reader is not to blame for the time in which the origin had nothing for it.
func TestWindowForgivesWhatTheFetchWasted(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(8, 2*window)
		f, all := windowing(t, g, 0, 0)
		write(t, f, want[:100])
		r := all[0].Reader()
		first, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		fetch(f, want[100:])
		time.Sleep(9 * time.Second) // with a full window in front of it
		expectBody(t, r, want[len(first):], nil)
		all[0].Leave()
	})
}

func TestWindowThatAllHaveLeft(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], b *ledger) {
		f, all := windowing(t, g, 1, 0)
		fetch(f, pattern(9, 2*window))
		synctest.Wait()
		for _, m := range all {
			m.Leave()
		}
		<-f.Done()
		if !errors.Is(f.Err(), ErrNoClientLeft) || b.now() != 0 {
			t.Errorf("err %v, %d bytes held, want %v, 0", f.Err(), b.now(), ErrNoClientLeft)
		}
	})
}

// A reader is dropped for one that waits. Where all pause, none does, and each goes on when it
// likes.
func TestWindowHoldsBackReadersThatPause(t *testing.T) {
	for name, readers := range map[string]int{"the only one": 1, "both": 2} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
				want := pattern(15, 5*window)
				f, all := windowing(t, g, readers-1, 0)
				fetch(f, want)
				var reading sync.WaitGroup
				for _, m := range all {
					reading.Go(func() {
						defer m.Leave()
						first, err := m.Reader().Next(t.Context())
						if err != nil {
							t.Error(err)
						}
						time.Sleep(time.Hour)
						expectBody(t, m.Reader(), want[len(first):], nil)
					})
				}
				reading.Wait()
				<-f.Done()
			})
		})
	}
}

// The time of a reader that takes nothing counts from when another waits for more, even if that one
// waited before there was a window.
func TestWindowCountsFromWhenAnotherWaits(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window, Life: time.Minute}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(16, 5*window)
		f, all := windowing(t, g, 1, -1)
		write(t, f, want[:2*window])
		quick := make(chan error, 1)
		go func() { // it waits for more from the start
			got, err := readAll(all[0].Reader())
			if !bytes.Equal(got, want) {
				t.Errorf("the quick reader has %d bytes, want %d", len(got), len(want))
			}
			quick <- err
		}()
		start := time.Now()
		var dropped time.Duration
		all[1].Reader().OnDrop(func() { dropped = time.Since(start) })
		time.Sleep(2 * time.Minute) // it is too old now, and has a window
		fetch(f, want[2*window:])
		if err := <-quick; err != nil {
			t.Error(err)
		}
		synctest.Wait() // OnDrop's function has its own goroutine, and Leave may come before it
		all[1].Leave()
		if dropped != 2*time.Minute+10*time.Second {
			t.Errorf("the one that takes nothing was dropped after %v, want 10s after the window was full", dropped)
		}
		all[0].Leave()
	})
}

// What is to be done for a reader that is dropped is its own business: it holds up neither the
// fetch nor others, and when the reader has left it is over, or will not be done.
func TestWhatIsDoneForADroppedReader(t *testing.T) {
	t.Run("it hangs", func(t *testing.T) {
		inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
			called, proceed := make(chan struct{}), make(chan struct{})
			over := false
			m := dropOne(t, g, func() {
				close(called)
				<-proceed
				over = true
			})
			<-called // the good reader has the whole
			left := make(chan bool)
			go func() {
				m.Leave()
				left <- over
			}()
			close(proceed)
			if !<-left {
				t.Error("the reader has left, and what is done for it goes on")
			}
		})
	})
	t.Run("the reader is dropped before it is known", func(t *testing.T) {
		inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
			calls := 0
			m := dropOne(t, g, nil)
			synctest.Wait()
			m.Reader().OnDrop(func() { calls++ })
			m.Reader().OnDrop(func() { calls++ })
			m.Leave()
			if calls != 2 {
				t.Errorf("%d of 2 writes to a client that takes nothing are broken off", calls)
			}
		})
	})
	t.Run("it is late", func(t *testing.T) {
		inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
			f, all := windowing(t, g, 1, 0)
			called := false
			all[1].Reader().OnDrop(func() { called = true })
			all[1].Leave() // its handler was on its way out when it was dropped
			all[1].reader.onDrop.call()
			if called {
				t.Error("it was done for a reader that had left")
			}
			f.Fail(errOrigin)
			all[0].Leave()
		})
	})
}

// dropOne has a window drop one of its two readers, whose OnDrop is fn.
func dropOne(t *testing.T, g *Group[string], fn func()) (dropped *Member) {
	t.Helper()
	want := pattern(17, 3*window)
	f, all := windowing(t, g, 1, 0)
	all[1].Reader().OnDrop(fn)
	fetch(f, want)
	expectBody(t, all[0].Reader(), want, nil)
	all[0].Leave()
	return all[1]
}

// A member that a window drops before it has looked at the header fetches for itself.
func TestWindowDropsAPartyThatHasNotLooked(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, all := windowing(t, g, 1, 0)
		fetch(f, pattern(10, 2*window))
		if _, err := readAll(all[0].Reader()); err != nil {
			t.Error(err)
		}
		park(all[1], 0, nil).expect(t, Released)
		all[0].Leave()
		all[1].Leave()
	})
}

func TestBudgetRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		budget int64
	}{
		{"from the start", 0},
		{"half way", 100_000},
		{"at the last chunk", 999_999},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.budget, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				want := pattern(11, 1_000_000)
				f, all := windowing(t, g, 3, -1)
				f.Expect(int64(len(want)))
				fetch(f, want)
				bodies := make(chan []byte)
				for i, m := range all {
					go func() {
						got, _ := sip(m.Reader(), time.Duration(i)*time.Second)
						bodies <- got
					}()
				}
				for range all {
					if got := <-bodies; !bytes.Equal(got, want) {
						t.Errorf("read %d bytes, want these %d", len(got), len(want))
					}
				}
				if _, whole := f.Body(); whole || f.Overflow() != NoRoom {
					t.Errorf("whole %v, overflow %v, want false, %v", whole, f.Overflow(), NoRoom)
				}
				for _, m := range all {
					m.Leave()
				}
			})
		})
	}
}

func TestSkipBackInAWindow(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		f, all := windowing(t, g, 0, 0)
		fetch(f, pattern(12, 2*window))
		r := all[0].Reader()
		if _, err := readAll(r); err != nil {
			t.Fatal(err)
		}
		r.Skip(0)
		if _, err := r.Next(t.Context()); !errors.Is(err, ErrPassed) {
			t.Errorf("Next: %v, want %v", err, ErrPassed)
		}
		all[0].Leave()
	})
}

// A reader far ahead holds nothing back, although it never comes to say so.
func TestSkipAheadInAWindow(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], b *ledger) {
		want := pattern(14, 5*window)
		f, all := windowing(t, g, 0, 0)
		most := peak(f, b)
		all[0].Reader().Skip(int64(len(want)) - 10)
		write(t, f, want)
		f.Finish(nil)
		expectBody(t, all[0].Reader(), want[len(want)-10:], nil)
		if *most > window {
			t.Errorf("held %d bytes at the most, want no more than the window of %d", *most, window)
		}
		all[0].Leave()
	})
}

func TestExactlyTheLimitIsKept(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  int
		whole bool
	}{
		{"at the limit", 1000, true},
		{"one byte more", 1001, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{}, func(t *testing.T, g *Group[string], _ *ledger) {
				want := pattern(13, tc.size)
				f, all := windowing(t, g, 0, 1000)
				write(t, f, want[:999])
				write(t, f, want[999:])
				f.Finish(nil)
				if _, whole := f.Body(); whole != tc.whole {
					t.Errorf("whole %v, want %v", whole, tc.whole)
				}
				f.Settle()
				expectBody(t, all[0].Reader(), want, nil)
				all[0].Leave()
			})
		})
	}
}

// TestWindowOfOneReader: clients that each read nothing of a body that is not kept hold no more of
// the budget than keeps one reader busy, each.
func TestWindowOfOneReader(t *testing.T) {
	inBubble(t, 1<<30, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		f, all := windowing(t, g, 0, 1)
		most := peak(f, b)
		data := pattern(3, 4<<20)
		fetch(f, data)
		synctest.Wait() // the writer waits for its reader
		if *most > soleWindow {
			t.Errorf("%d bytes held for one reader that takes nothing", *most)
		}
		got, err := sip(all[0].Reader(), time.Millisecond)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		all[0].Leave()
	})
}

// TestWindowsHaveAnAccount: clients that take nothing of bodies that grow past what is kept hold no
// room of those that are kept, and no more together than windows have room for, but for a small
// chunk each. When they go on, each has its whole body. They held half of the budget.
func TestWindowsHaveAnAccount(t *testing.T) {
	const flights, limit = 100, 2 << 20
	inBubble(t, 8<<20, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		b.limitPassed = limit
		want := pattern(26, 1<<20)
		var members []*Member
		var all []*Flight
		for i := range flights {
			f, m, _ := g.Join(fmt.Sprint(i), nil, nil)
			f.Keep(true)
			f.Share(nil, 30_000)
			fetchInParts(f, want)
			members, all = append(members, m), append(all, f)
			synctest.Wait()
		}
		time.Sleep(25 * time.Second)
		held := int64(0)
		for _, f := range all {
			f.mu.Lock()
			if held += f.body.held; f.overflow == NoRoom {
				t.Error("what is passed on has taken the room of what is kept")
			}
			f.mu.Unlock()
		}
		if b.mostPassed > limit || held > b.now()+flights*minChunk {
			t.Errorf("%d bytes are held, %d count; the windows had %d at the most", held, b.now(), b.mostPassed)
		}
		var reading sync.WaitGroup
		for _, m := range members {
			reading.Go(func() {
				expectBody(t, m.Reader(), want, nil)
				m.Leave()
			})
		}
		reading.Wait()
	})
}

// TestFullWindowsPassOnSmallChunks: where windows have no room at all, each passes its body on in
// small pieces, which count nowhere.
func TestFullWindowsPassOnSmallChunks(t *testing.T) {
	inBubble(t, 0, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		b.limitPassed = 1
		want := pattern(27, 1<<20)
		f, all := windowing(t, g, 0, -1)
		most := peak(f, b)
		fetch(f, want)
		synctest.Wait()
		f.mu.Lock()
		held := f.body.held
		f.mu.Unlock()
		if held != minChunk || b.now() != 0 {
			t.Errorf("%d bytes are held, %d count", held, b.now())
		}
		expectBody(t, all[0].Reader(), want, nil)
		if *most > minChunk+maxChunk { // with what it has asked for
			t.Errorf("held %d bytes at the most", *most)
		}
		all[0].Leave()
	})
}

// TestWindowWithoutRoomLeavesTheHeapAlone: a body that is passed on where windows have no room is
// in none but small chunks outside of the heap, each of which is given back before there is a
// third. Slow readers of many bodies left more to the collector than they held.
func TestWindowWithoutRoomLeavesTheHeapAlone(t *testing.T) {
	inBubble(t, 0, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		b.limitPassed = 1
		want := pattern(29, 1<<20)
		f, all := windowing(t, g, 0, -1)
		defer all[0].Leave()
		fetchInParts(f, want)
		for off := 0; off < len(want); {
			p, err := all[0].Reader().Next(t.Context())
			if err != nil || !bytes.HasPrefix(want[off:], p) {
				t.Fatalf("%d bytes at %d, error %v; or not what was written", len(p), off, err)
			}
			off += len(p)
			f.mu.Lock()
			for _, c := range f.body.chunks {
				if c.block == nil || cap(c.data) > minChunk {
					t.Errorf("a chunk of %d bytes, given back by %v", cap(c.data), c.block)
				}
			}
			f.mu.Unlock()
			if n := b.chunksNow(); n > 2 { // the fetch may fill one while the other is in hand
				t.Fatalf("%d chunks are held", n)
			}
		}
	})
}

// TestWindowThatKeepsRoomDropsIdleReaders: what a body held that is not kept any more stays counted
// among those that are, if windows have no room for it. A client that takes nothing of it is
// dropped after a while, and so is one that takes little, but only if others have found no room.
func TestWindowThatKeepsRoomDropsIdleReaders(t *testing.T) {
	for _, tc := range []struct {
		name           string
		sips, isWanted bool
		pause          time.Duration
		dropped        bool
	}{
		{"takes nothing", false, false, 0, true},
		{"takes little, which nobody wants", true, false, 29 * time.Second, false},
		{"takes little", true, true, 29 * time.Second, true},
		{"takes enough", true, true, 7 * time.Second, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				b.limitPassed = 1
				want := pattern(28, 2<<20)
				f, all := windowing(t, g, 0, 1<<20)
				begun, dropped := time.Now(), time.Duration(0)
				all[0].Reader().OnDrop(func() { dropped = time.Since(begun) })
				fetchInParts(f, want)
				synctest.Wait()
				if b.now() < 1<<20-maxChunk {
					t.Fatalf("%d bytes count", b.now())
				}
				var refusing sync.WaitGroup
				if tc.isWanted {
					refusing.Go(b.refuse)
				}
				if tc.sips {
					if got, err := sip(all[0].Reader(), tc.pause); tc.dropped == (err == nil) || !tc.dropped && !bytes.Equal(got, want) {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				}
				if tc.dropped {
					<-f.Context().Done()
					synctest.Wait()
					if dropped != 30*time.Second || b.now() != 0 {
						t.Errorf("dropped after %v, %d bytes count", dropped, b.now())
					}
				}
				all[0].Leave()
				f.Settle()
				refusing.Wait()
			})
		})
	}
}

// TestBodyThatIsNotKeptIsAWindow: a body that is for its readers alone holds what a window does.
func TestBodyThatIsNotKeptIsAWindow(t *testing.T) {
	inBubble(t, 0, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		want := pattern(29, 4<<20)
		f, lead := join(t, g, true)
		f.Share(nil, -1)
		fetch(f, want)
		synctest.Wait()
		if n := b.now(); n != soleWindow {
			t.Errorf("%d bytes are held for one reader, want %d", n, soleWindow)
		}
		expectBody(t, lead.Reader(), want, nil)
		lead.Leave()
	})
}

// refuse asks for more than there is, each second as long as something is held.
func (l *ledger) refuse() {
	for time.Sleep(time.Second); l.now() > 0; time.Sleep(time.Second) {
		l.Reserve(1<<40, 0)
	}
}

// TestIdleReaderOfWhatComesNoMore: who takes nothing of a body that is kept no more, and holds what
// others have no room for, is dropped although the fetch does not wait for it: because it is over,
// or brings nothing more. They held it for as long as they liked.
func TestIdleReaderOfWhatComesNoMore(t *testing.T) {
	want := pattern(35, 1<<20)
	for name, end := range map[string]func(f *Flight){
		"it has failed":             func(f *Flight) { f.Fail(errOrigin) },
		"it is silent in a window":  func(*Flight) { time.Sleep(3 * time.Minute) },
		"the store did not want it": func(f *Flight) { f.Finish(nil); f.HandOver(); f.TakeBack(); f.Settle() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Life: time.Minute}, func(t *testing.T, g *Group[string], b *ledger) {
				b.limitPassed = 1
				f, all := windowing(t, g, 0, -1)
				dropped := make(chan struct{})
				all[0].Reader().OnDrop(func() { close(dropped) })
				write(t, f, want)
				end(f)
				time.Sleep(time.Hour)
				if n := b.now(); n == 0 && f.Ended() {
					t.Error("it is dropped, and nobody has found no room")
				}
				var refusing sync.WaitGroup
				refusing.Go(b.refuse)
				<-dropped
				refusing.Wait()
				f.mu.Lock()
				if f.watch.timer.Stop() {
					t.Error("it looks again, with nobody to look at")
				}
				f.mu.Unlock()
				if n := b.now(); n != 0 {
					t.Errorf("%d bytes count", n)
				}
				f.Fail(errOrigin)
				all[0].Leave()
			})
		})
	}
}

// TestRecountOfWhatGrows: what a window gets while its bytes move to the account of windows stays
// where it is, until there is room for that as well. It moved along uncounted.
func TestRecountOfWhatGrows(t *testing.T) {
	inBubble(t, 1<<20, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
		f, all := windowing(t, g, 0, -1)
		write(t, f, pattern(39, minChunk))
		b.asked = func(int64) { // on its way when the window begins
			b.asked = nil
			g := grant{kept, minChunk}
			if !b.Reserve(g.bytes, 0) {
				t.Fatal("no room")
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			f.reserved[g.from] += g.bytes
			f.body.add(f.config.newChunk(minChunk))
		}
		f.mu.Lock()
		f.startWindow(TooOld)
		f.unlock()
		if b.used != minChunk || b.passed != minChunk || b.now() != f.body.held {
			t.Errorf("%d bytes count as kept and %d as passed on of %d", b.used, b.passed, f.body.held)
		}
		f.recount()
		if b.used != 0 || b.now() != f.body.held {
			t.Errorf("%d bytes count as kept, %d in all of %d", b.used, b.now(), f.body.held)
		}
		f.Fail(errOrigin)
		leave(all)
	})
}

// gulp reads to the end, lump by lump with a pause in between, as one does that writes to a client
// whose system takes a lump when as much has gone out.
func gulp(r *Reader, lump int, pause time.Duration) ([]byte, error) {
	var all []byte
	for next := lump; ; {
		b, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if all = append(all, b...); len(all) >= next {
			time.Sleep(pause)
			next = len(all) + lump
		}
	}
}

// TestReaderWhoseSystemHasMuch: a client that reads all the time is not dropped because its system
// takes more only now and then, and one that stops is, when it may have had what it took.
func TestReaderWhoseSystemHasMuch(t *testing.T) {
	for _, tc := range []struct {
		name   string
		others int
		lump   int
		pause  time.Duration
		within time.Duration // zero: it is not dropped
	}{
		{"100 kB/s, for whom others wait", 1, sendBuffer, 14 * time.Second, 0},
		{"it stops, and others wait", 1, sendBuffer, time.Hour, 30 * time.Second},
		{"20 kB/s of what others have no room for", 0, sendBuffer, 70 * time.Second, 0},
		{"it stops, of what others have no room for", 0, sendBuffer, time.Hour, 202 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				b.limitPassed = int64(1 - tc.others)
				want := pattern(36, 24<<20)
				f, all := windowing(t, g, tc.others, 16<<20)
				begun, dropped := time.Now(), time.Duration(0)
				all[0].Reader().OnDrop(func() { dropped = time.Since(begun) })
				var others sync.WaitGroup
				others.Go(b.refuse)
				for _, m := range all[1:] {
					others.Go(func() {
						expectBody(t, m.Reader(), want, nil)
						m.Leave()
					})
				}
				fetchInParts(f, want)
				got, err := gulp(all[0].Reader(), tc.lump, tc.pause)
				all[0].Leave() // it waits for OnDrop's function
				if tc.within == 0 && (err != nil || !bytes.Equal(got, want)) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if tc.within > 0 && (!errors.Is(err, ErrTooSlow) || dropped > tc.within) {
					t.Errorf("%v, dropped after %v", err, dropped)
				}
				<-f.Done()
				f.Settle()
				others.Wait()
			})
		})
	}
}

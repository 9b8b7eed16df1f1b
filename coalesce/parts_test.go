package coalesce

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowly is what a client pauses for that takes 320 KiB/s of a window, and 100 KB/s of a fakeSpill.
const slowly = 50 * time.Millisecond

// drift has two clients share a body of which limit bytes are kept, none with 0. One takes all it
// gets, the other a piece with pauses in between. It returns how long it took the first, and how it
// ended for the second.
func drift(t *testing.T, g *Group[string], s *oneSpill, limit int64, pause time.Duration) (quick time.Duration, slow error) {
	t.Helper()
	s.t, s.spill = t, &fakeSpill{t: t, want: s.body, failFrom: -1}
	f, all := joined(t, g, 1)
	f.Keep(limit > 0)
	if limit > 0 {
		f.SpillTo(s)
	} else {
		f.SpillPartsTo(s)
	}
	f.Share(nil, limit)
	start := time.Now()
	fetchInParts(f, s.body)
	end := make(chan error)
	go func() {
		got, err := sip(all[1].Reader(), pause)
		if err == nil && !bytes.Equal(got, s.body) {
			t.Errorf("the slow reader has %d bytes, want these %d", len(got), len(s.body))
		}
		all[1].Leave()
		end <- err
	}()
	expectBody(t, all[0].Reader(), s.body, nil)
	quick = time.Since(start)
	all[0].Leave()
	slow = <-end
	<-f.Done()
	f.Settle()
	s.expectPartsClosed()
	if s.asked > 0 {
		s.spill.expectClosed()
	}
	return quick, slow
}

// A client that is slow does not make others wait where the disk has room for what it is behind
// with, however long the body is. They waited until it had caught up with what was on disk when the
// body had grown past what is kept, and got no more than it did from there.
func TestSlowReaderOfABodyPastMaxSlowsNobody(t *testing.T) {
	for name, limit := range map[string]int64{"behind on disk": 6 * resident, "never kept": 0} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Resident: resident, Window: window}, func(t *testing.T, g *Group[string], b *ledger) {
				s := &oneSpill{body: pattern(31, 40*window), places: 1000}
				quick, slow := drift(t, g, s, limit, slowly)
				if quick > 2*partDelay || slow != nil {
					t.Errorf("the quick reader waited for %v, the slow one ended with %v", quick, slow)
				}
				if held := b.peak + b.mostPassed; held > 2*resident+2*window {
					t.Errorf("%d bytes held", held)
				}
			})
		})
	}
}

// Where all are in the window, nothing goes to disk.
func TestReadersTogetherHaveNoParts(t *testing.T) {
	inBubble(t, 1<<30, Limits{Resident: resident, Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		s := &oneSpill{body: pattern(32, 10*window), places: 1000}
		if _, slow := drift(t, g, s, 0, 0); slow != nil || len(s.parts) > 0 {
			t.Errorf("%d parts, the other reader ended with %v", len(s.parts), slow)
		}
	})
}

// Where the disk has no more room, others go on as the slow one takes what is there. They had
// nothing until it had all of that, or was dropped after two minutes, however quick it was.
func TestReaderBehindWhereTheDiskIsFull(t *testing.T) {
	for _, tc := range []struct {
		name   string
		places int
		pause  time.Duration
		want   error
	}{
		{"far behind", 60, slowly, nil},
		{"near", 4, slowly, nil},
		{"it takes next to nothing", 60, 9 * time.Second, ErrTooSlow},
		{"without a disk", 0, slowly, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Resident: resident, Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
				s := &oneSpill{body: pattern(33, 100*window), places: tc.places}
				quick, slow := drift(t, g, s, 0, tc.pause)
				if !errors.Is(slow, tc.want) || tc.want != nil && quick > 4*time.Minute {
					t.Errorf("the slow reader ended with %v, the quick one waited for %v", slow, quick)
				}
			})
		})
	}
}

// A part goes when its last reader has passed it, while the fetch waits for room on the disk and
// when it is over. All parts stayed until the reader had come to what is in memory.
func TestPartGoesWithItsLastReader(t *testing.T) {
	for name, tc := range map[string]struct{ windows, places int }{
		"the fetch waits": {20, 6},
		"it is over":      {8, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Resident: resident, Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
				s := &oneSpill{t: t, body: pattern(37, tc.windows*window), places: tc.places}
				f, all := joined(t, g, 1)
				f.Keep(false)
				f.SpillPartsTo(s)
				f.Share(nil, 0)
				fetchInParts(f, s.body)
				quick, slow := all[0].Reader(), all[1].Reader()
				var has atomic.Int64
				go func() {
					for b, err := quick.Next(t.Context()); err == nil; b, err = quick.Next(t.Context()) {
						has.Add(int64(len(b)))
					}
					all[0].Leave()
				}()
				time.Sleep(time.Second)
				if f.mu.Lock(); f.ended != (tc.places == 1000) || len(f.parts.list) < 4 {
					t.Errorf("ended %t, %d parts", f.ended, len(f.parts.list))
				}
				first := f.parts.list[0]
				second := f.parts.list[1]
				f.mu.Unlock()
				had := has.Load()
				for pos := int64(0); pos < second.end; {
					b, err := slow.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					pos += int64(len(b))
				}
				synctest.Wait()
				first.Spill.(*partSpill).expectClosed()
				if now := has.Load(); had < int64(len(s.body)) && now == had {
					t.Error("the quick reader has got no more")
				}
				expectBody(t, slow, s.body[second.end:], nil)
				all[1].Leave()
				<-f.Done()
				f.Settle()
				s.expectPartsClosed()
			})
		})
	}
}

// A part that fails leaves what it was to have in memory, and the readers wait for each other.
func TestPartFails(t *testing.T) {
	inBubble(t, 1<<30, Limits{Resident: resident, Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		n := 0
		s := &oneSpill{body: pattern(34, 20*window), places: 1000, broken: func() bool { n++; return n%2 == 0 }}
		if quick, slow := drift(t, g, s, 6*resident, slowly); quick == 0 || slow != nil {
			t.Errorf("the quick reader waited for %v, the slow one ended with %v", quick, slow)
		}
	})
}

// A fetch that is cancelled does not wait for a disk that is slow with a part.
func TestCancelledWhileAPartIsWritten(t *testing.T) {
	inBubble(t, 1<<30, Limits{Window: window}, func(t *testing.T, g *Group[string], _ *ledger) {
		s := &oneSpill{t: t, body: pattern(38, 4*window), places: 1, pause: time.Hour}
		f, all := joined(t, g, 1)
		f.Keep(false)
		f.SpillPartsTo(s)
		f.Share(nil, 0)
		fetchInParts(f, s.body)
		begun := time.Now()
		go func() {
			time.Sleep(time.Second)
			f.Cancel(errOrigin)
		}()
		if _, err := readAll(all[0].Reader()); !errors.Is(err, errOrigin) || time.Since(begun) != time.Second {
			t.Errorf("ended with %v after %v", err, time.Since(begun))
		}
		if len(s.parts) != 1 {
			t.Errorf("%d parts", len(s.parts))
		}
		leave(all)
		s.expectPartsClosed()
	})
}

package coalesce

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

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
					t.Error("body still held without readers")
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

// TestMoveTo: who reads a body that has been handed over reads on from the copy made of it, from
// wherever it stands.
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
		for _, m := range []*Member{lead, middle, end, late} {
			if src.closed != 0 {
				t.Error("closed while there is a member")
			}
			m.Leave()
		}
		if src.closed != 1 {
			t.Errorf("closed %d times, want once", src.closed)
		}
	})
}

// TestMoveToWithoutReaders: a source that comes too late, or for a flight that cannot use it, is
// closed at once.
func TestMoveToWithoutReaders(t *testing.T) {
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

// TestTakeBack: what was handed over and not taken counts again, as far as there is room, until the
// last reader leaves.
func TestTakeBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		leave bool
		other int64 // reserved by others meanwhile
		want  int64
	}{
		{"read", false, 0, 1000},
		{"without readers", true, 0, 0},
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
				if !b.Reserve(tc.other, 0) {
					t.Fatal("what was handed over is still reserved")
				}
				if tc.other > 0 {
					b.limitPassed = 1
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

// TestTakeBackFindsNoRoom: what the store has refused, and there is no room for any more, counts as
// soon as there is some, and its readers are dropped when they take too little of it. They held it
// for as long as they liked, uncounted. So did one that joined before Settle.
func TestTakeBackFindsNoRoom(t *testing.T) {
	const n = 1 << 20
	for _, tc := range []struct {
		name    string
		joins   bool
		room    time.Duration // when there is some; zero: never
		dropped bool
	}{
		{"never", false, 0, true},
		{"never, for one that joins before Settle", true, 0, true},
		{"soon", false, time.Second, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, n, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				b.limitPassed = 1
				f, reading := join(t, g, true)
				f.Keep(true)
				f.Expect(n)
				f.Share(nil, -1)
				write(t, f, pattern(8, n))
				if tc.joins {
					reading.Leave()
				}
				f.Finish(nil)
				f.HandOver()
				if !b.Reserve(n, 0) {
					t.Fatal("what was handed over is still reserved")
				}
				f.TakeBack()
				if tc.joins {
					_, reading = join(t, g, false)
				}
				begun, dropped := time.Now(), time.Duration(0)
				reading.Reader().OnDrop(func() { dropped = time.Since(begun) })
				f.Settle()
				if tc.room > 0 {
					time.Sleep(tc.room)
					b.Unreserve(n)
				}
				time.Sleep(time.Hour)
				if want := int64(n); b.now() != want {
					t.Errorf("%d bytes count, want %d", b.now(), want)
				}
				reading.Leave()
				if tc.room == 0 {
					b.Unreserve(n)
				}
				if (dropped == 30*time.Second) != tc.dropped || !tc.dropped && dropped > 0 {
					t.Errorf("dropped after %v, want %t", dropped, tc.dropped)
				}
			})
		})
	}
}

// TestTakeBackCopy: what was handed over, and copied, counts among what is passed on alone. A
// reader that takes nothing of it keeps it where there is room, and is dropped where there is none.
func TestTakeBackCopy(t *testing.T) {
	const n = 60_000
	for _, room := range []bool{true, false} {
		t.Run(fmt.Sprintf("room %v", room), func(t *testing.T) {
			inBubble(t, 1<<30, Limits{}, func(t *testing.T, g *Group[string], b *ledger) {
				f, reading := join(t, g, true)
				f.Keep(true)
				f.Expect(n)
				f.Share(nil, -1)
				write(t, f, pattern(8, n))
				f.Finish(nil)
				f.HandOver()
				want, wantDropped := int64(n), time.Duration(0)
				if !room {
					b.limitPassed = 1
					want, wantDropped = 0, 30*time.Second
				}
				f.TakeBackCopy()
				begun, dropped := time.Now(), time.Duration(0)
				reading.Reader().OnDrop(func() { dropped = time.Since(begun) })
				f.Settle()
				time.Sleep(time.Hour)
				b.mu.Lock()
				used, passed := b.used, b.passed
				b.mu.Unlock()
				if used != 0 || passed != want {
					t.Errorf("%d bytes count among what is kept, %d among what is passed on, want 0 and %d", used, passed, want)
				}
				if reading.Leave(); dropped != wantDropped {
					t.Errorf("dropped after %v, want %v", dropped, wantDropped)
				}
			})
		})
	}
}

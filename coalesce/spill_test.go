package coalesce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errDisk = errors.New("disk broke")

// fakeSpill is a Spill that checks how it is used, is as slow as it is told and fails when it is
// told.
type fakeSpill struct {
	t    *testing.T
	want []byte // the body

	pause    time.Duration // of Await and Seal
	grain    int           // only multiples of it are written before Seal; 0: any length
	failFrom int           // Append, Await and Seal fail from so many bytes on; negative: never
	unread   func() bool   // Chunk fails; nil: never

	mu              sync.Mutex
	data            []byte
	unwritten       []lent // of that, what it reads when it writes it
	written, reads  int
	refused, sealed bool
	closed          int
}

func (s *fakeSpill) failing() bool { return s.failFrom >= 0 && len(s.data) >= s.failFrom }

// lent is what it was given, and has to let go of.
type lent struct {
	p    []byte
	done func()
}

// letGo ends its use of what it was given.
func (s *fakeSpill) letGo() {
	off := len(s.data)
	for _, l := range s.unwritten {
		off -= len(l.p)
	}
	for _, l := range s.unwritten {
		if !bytes.Equal(l.p, s.data[off:off+len(l.p)]) {
			s.t.Errorf("what was appended at %d has changed before it was written", off)
		}
		off += len(l.p)
		l.done()
	}
	s.unwritten = nil
}

func (s *fakeSpill) Append(p []byte, done func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed > 0 || s.sealed || s.refused {
		s.t.Errorf("Append after %d Close, Seal %v, an error %v", s.closed, s.sealed, s.refused)
	}
	if !bytes.HasPrefix(s.want[min(len(s.data), len(s.want)):], p) {
		s.t.Errorf("%d bytes appended at %d are not the body's", len(p), len(s.data))
	}
	s.data = append(s.data, p...)
	s.unwritten = append(s.unwritten, lent{p, done})
	if s.failing() && s.pause == 0 { // else it shows in Await
		s.refused = true
		return errDisk
	}
	return nil
}

func (s *fakeSpill) Await(ctx context.Context, behind int64) (int64, error) {
	if s.pause > 0 {
		select {
		case <-time.After(s.pause):
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed > 0:
		s.t.Error("Await after Close")
	case ctx.Err() != nil:
		return int64(s.written), context.Cause(ctx)
	case s.failing():
		s.refused = true
		return int64(s.written), errDisk
	}
	n := max(0, len(s.data)-int(behind))
	if s.grain > 0 {
		n -= n % s.grain
	}
	s.written = max(s.written, n)
	s.letGo()
	return int64(s.written), nil
}

func (s *fakeSpill) Seal() error {
	time.Sleep(s.pause)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed > 0 || s.sealed {
		s.t.Errorf("Seal after %d Close, sealed %v", s.closed, s.sealed)
	}
	if s.failing() {
		return errDisk
	}
	s.sealed, s.written = true, len(s.data)
	s.letGo()
	return nil
}

func (s *fakeSpill) Chunk(off int64) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	switch {
	case s.closed > 0 || s.unread != nil && s.unread():
		return nil, errDisk
	case off < 0 || off >= int64(s.written):
		s.t.Errorf("Chunk(%d) of %d bytes", off, s.written)
		return nil, errDisk
	}
	end := (int(off)/5000 + 1) * 5000
	return bytes.Clone(s.data[off:min(end, s.written)]), nil
}

// ReadChunk implements RoomReader.
func (s *fakeSpill) ReadChunk(room []byte, off int64) ([]byte, error) {
	b, err := s.Chunk(off)
	return room[:copy(room, b)], err
}

func (s *fakeSpill) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed++
	s.letGo()
}

// expectClosed fails the test unless the spill was closed, once.
func (s *fakeSpill) expectClosed() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != 1 {
		s.t.Errorf("spill closed %d times", s.closed)
	}
}

// oneSpill is a Spiller for one flight; without a spill it has none to offer.
type oneSpill struct {
	spill *fakeSpill
	asked int

	t      *testing.T
	body   []byte // that parts are of
	places int    // how many of them there may be at once
	broken func() bool
	pause  time.Duration // of a part's Await and Seal
	mu     sync.Mutex
	parts  []*partSpill
	open   int
}

// partSpill is the Spill of a part.
type partSpill struct {
	fakeSpill
	of *oneSpill
}

// SpillPart finds the place of a part by what is appended first.
func (s *oneSpill) SpillPart(n int64) (Spill, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.places || n <= 0 {
		return nil, errDisk
	}
	p := &partSpill{of: s, fakeSpill: fakeSpill{t: s.t, failFrom: -1, pause: s.pause}}
	if s.broken != nil && s.broken() {
		p.failFrom = int(n) / 2
	}
	s.parts, s.open = append(s.parts, p), s.open+1
	return p, nil
}

// Append checks what is appended only by where it is in the body.
func (p *partSpill) Append(b []byte, done func()) error {
	if p.want == nil {
		p.want = p.of.body[max(0, bytes.Index(p.of.body, b)):]
	}
	return p.fakeSpill.Append(b, done)
}

func (p *partSpill) Close() {
	p.fakeSpill.Close()
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.open--
}

// expectPartsClosed fails the test unless each part was closed, once.
func (s *oneSpill) expectPartsClosed() {
	s.mu.Lock()
	parts := slices.Clone(s.parts)
	s.mu.Unlock()
	for _, p := range parts {
		p.expectClosed()
	}
}

func (s *oneSpill) Spill() (Spill, error) {
	s.asked++
	if s.spill == nil {
		return nil, errDisk
	}
	return s.spill, nil
}

const resident = 256 << 10

// spilling begins a shared flight of a leader and n followers whose body may spill.
func spilling(t *testing.T, g *Group[string], n int, s Spiller) (*Flight, []*Member) {
	t.Helper()
	f, all := joined(t, g, n)
	f.SpillTo(s)
	f.Share(nil, -1)
	return f, all
}

func leave(members []*Member) {
	for _, m := range members {
		m.Leave()
	}
}

func TestSpilledBodyIsReadByAll(t *testing.T) {
	for _, tc := range []struct {
		name        string
		budget      int64
		grain       int
		held, extra int64 // at the most, of the budget and beyond it
	}{
		{"plenty of memory", 1 << 30, 0, resident + 2*maxChunk, 0},
		{"the spill writes in large pieces", 1 << 30, 100_000, resident + 100_000 + 2*maxChunk, 0},
		{"the budget refuses half way", 100_000, 0, 100_000, spillRoom},
		{"no memory at all", 0, 0, 0, spillRoom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.budget, Limits{Resident: resident}, func(t *testing.T, g *Group[string], b *ledger) {
				want := pattern(20, 20*resident)
				s := &fakeSpill{t: t, want: want, grain: tc.grain, failFrom: -1}
				f, all := spilling(t, g, 2, &oneSpill{spill: s})
				f.Expect(int64(len(want)))
				fetch(f, want)
				<-f.Done() // although no reader has read
				f.mu.Lock()
				held := f.body.held
				f.mu.Unlock()
				if b.peak > tc.held || held > tc.held+tc.extra {
					t.Errorf("%d bytes reserved at the most, %d held in the end", b.peak, held)
				}
				_, late := join(t, g, false)
				all = append(all, late)
				expectBody(t, all[0].Reader(), want, nil)
				if chunks, whole := f.HandOver(); chunks != nil || !whole || !f.Spilled() || !bytes.Equal(s.data, want) || b.now() != 0 {
					t.Errorf("HandOver: %d chunks, whole %v, spilled %v %d bytes, %d still reserved",
						len(chunks), whole, f.Spilled(), len(s.data), b.now())
				}
				expectBody(t, all[1].Reader(), want, nil)
				f.Settle()
				got, err := sip(all[2].Reader(), time.Second)
				if !bytes.Equal(got, want) || err != nil {
					t.Errorf("slow reader: %d bytes, %v", len(got), err)
				}
				all[3].Reader().Skip(1000)
				expectBody(t, all[3].Reader(), want[1000:], nil)
				leave(all)
				s.expectClosed()
			})
		})
	}
}

func TestSmallBodyDoesNotSpill(t *testing.T) {
	for _, tc := range []struct {
		name     string
		size     int
		budget   int64
		overflow Overflow
	}{
		{"as much as may be resident", resident, 1 << 30, NoOverflow},
		{"too small for the wait when the budget refuses", resident / 8, 10_000, NoRoom},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.budget, Limits{Resident: resident}, func(t *testing.T, g *Group[string], _ *ledger) {
				want := pattern(21, tc.size)
				s := &oneSpill{}
				f, all := spilling(t, g, 0, s)
				fetch(f, want)
				expectBody(t, all[0].Reader(), want, nil)
				f.Settle()
				if s.asked != 0 || f.Spilled() || f.Overflow() != tc.overflow {
					t.Errorf("asked for a spill %d times, spilled %v, overflow %v", s.asked, f.Spilled(), f.Overflow())
				}
				leave(all)
			})
		})
	}
}

func TestSpillFails(t *testing.T) {
	want := pattern(22, 8*resident)
	for _, tc := range []struct {
		name   string
		spill  *fakeSpill // nil: none to be had
		whole  bool
		behind error // of a reader that is behind what is in memory
	}{
		{"from the start", nil, true, nil},
		{"at the first bytes", &fakeSpill{failFrom: 1}, true, nil},
		{"half way, in Append", &fakeSpill{failFrom: len(want) / 2}, false, nil},
		{"half way, in Await", &fakeSpill{failFrom: len(want) / 2, pause: time.Millisecond}, false, nil},
		{"and what is spilled cannot be read", &fakeSpill{failFrom: len(want) / 2, unread: func() bool { return true }}, false, ErrSpill},
		{"only at the end", &fakeSpill{failFrom: len(want)}, false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Resident: resident}, func(t *testing.T, g *Group[string], _ *ledger) {
				if tc.spill != nil {
					tc.spill.t, tc.spill.want = t, want
				}
				f, all := spilling(t, g, 1, &oneSpill{spill: tc.spill})
				whole := make(chan bool)
				go func() { whole <- fetchAndHandOver(f, want) }()
				synctest.Wait() // the fetch is as far as it can be, and all readers are behind
				ends := make(chan error)
				for _, m := range all {
					go func() {
						got, err := readAll(m.Reader())
						if err == nil && !bytes.Equal(got, want) {
							t.Errorf("read %d bytes, want these %d", len(got), len(want))
						}
						m.Leave()
						ends <- err
					}()
				}
				for range all {
					if err := <-ends; !errors.Is(err, tc.behind) {
						t.Errorf("read ended with %v, want %v", err, tc.behind)
					}
				}
				if ok := <-whole; ok != tc.whole || ok == (f.Overflow() == NoRoom) {
					t.Errorf("whole %v, overflow %v, want whole %v", ok, f.Overflow(), tc.whole)
				}
				if tc.spill != nil {
					tc.spill.expectClosed()
				}
			})
		})
	}
}

// fetchAndHandOver is a fetch of data, and reports whether it had the whole for the store.
func fetchAndHandOver(f *Flight, data []byte) (whole bool) {
	defer f.Settle()
	if _, err := f.Write(data); err != nil {
		f.Fail(err)
	}
	f.Finish(nil)
	_, whole = f.HandOver()
	return whole
}

// A body past the limit leaves the spill to those who are behind; when they have caught up it is
// closed.
func TestSpilledBodyPastMax(t *testing.T) {
	inBubble(t, 1<<30, Limits{Resident: resident, Window: window}, func(t *testing.T, g *Group[string], b *ledger) {
		want := pattern(23, 12*resident)
		s := &fakeSpill{t: t, want: want, failFrom: -1}
		f, lead := join(t, g, true)
		_, m := join(t, g, false)
		f.SpillTo(&oneSpill{spill: s})
		f.Share(nil, 6*resident)
		go func() {
			for part := range slices.Chunk(want, 10_000) {
				write(t, f, part)
			}
			f.Finish(nil)
		}()
		synctest.Wait()
		if f.Overflow() != PastMax || f.joinable() {
			t.Errorf("overflow %v, joinable %v", f.Overflow(), f.joinable())
		}
		slow := make(chan []byte)
		go func() {
			got, _ := sip(m.Reader(), 10*time.Millisecond)
			slow <- got
		}()
		expectBody(t, lead.Reader(), want, nil)
		if got := <-slow; !bytes.Equal(got, want) {
			t.Errorf("slow reader: %d bytes, want these %d", len(got), len(want))
		}
		s.expectClosed() // before they have left
		lead.Reader().Skip(0)
		if _, err := lead.Reader().Next(t.Context()); !errors.Is(err, ErrPassed) {
			t.Errorf("back to the start: %v, want %v", err, ErrPassed)
		}
		leave([]*Member{lead, m})
	})
}

// Past Limits.Life a flight that spills is kept whole, cannot be joined, and is given up without
// readers.
func TestSpilledBodyGrowsOld(t *testing.T) {
	for _, read := range []bool{true, false} {
		inBubble(t, 1<<30, Limits{Resident: resident, Life: time.Minute}, func(t *testing.T, g *Group[string], _ *ledger) {
			want := pattern(24, 4*resident)
			s := &fakeSpill{t: t, want: want, failFrom: -1}
			f, all := spilling(t, g, 0, &oneSpill{spill: s})
			write(t, f, want[:3*resident])
			if !read {
				leave(all)
			}
			time.Sleep(2 * time.Minute)
			fresh, m := join(t, g, true)
			fresh.Settle()
			m.Leave()
			if !read {
				expectCause(t, f, ErrNoClientLeft)
				f.Fail(context.Cause(f.Context()))
				s.expectClosed()
				return
			}
			fetch(f, want[3*resident:])
			expectBody(t, all[0].Reader(), want, nil)
			if _, whole := f.HandOver(); !whole {
				t.Error("it is not whole")
			}
			f.Settle()
			leave(all)
			s.expectClosed()
		})
	}
}

// randomSpill is a Spiller whose spill fails at a random place, or not at all.
func randomSpill(t *testing.T, rng *rand.Rand, want []byte) *oneSpill {
	parts := &oneSpill{t: t, body: want, places: []int{0, 1, 3, 1000}[rng.IntN(4)]}
	if dice := rand.New(rand.NewPCG(rng.Uint64(), 0)); rng.IntN(3) == 0 {
		parts.broken = func() bool { return dice.IntN(4) == 0 }
	}
	if rng.IntN(5) == 0 {
		return parts
	}
	s := &fakeSpill{t: t, want: want, grain: []int{0, 7000}[rng.IntN(2)], failFrom: -1}
	if rng.IntN(2) == 0 {
		s.pause = someTime(rng, 100*time.Millisecond)
	}
	if rng.IntN(3) == 0 {
		s.failFrom = rng.IntN(len(want) + 1)
	}
	if rng.IntN(3) == 0 {
		dice := rand.New(rand.NewPCG(rng.Uint64(), 0))
		s.unread = func() bool { return dice.IntN(20) == 0 }
	}
	parts.spill = s
	return parts
}

// TestDropBehind: those who read from the Spill have no more, and their writes are broken off.
// Those who have all of it, or read from memory, go on.
func TestDropBehind(t *testing.T) {
	inBubble(t, 1<<30, Limits{Resident: resident}, func(t *testing.T, g *Group[string], _ *ledger) {
		want := pattern(23, 8*resident)
		s := &fakeSpill{t: t, want: want, failFrom: -1}
		f, all := spilling(t, g, 3, &oneSpill{spill: s})
		if !fetchAndHandOver(f, want) {
			t.Fatal("it is not whole")
		}
		var dropped [4]atomic.Int32
		for i, m := range all {
			m.Reader().OnDrop(func() { dropped[i].Add(1) })
		}
		expectBody(t, all[0].Reader(), want, nil)
		if b, err := all[1].Reader().Next(t.Context()); len(b) == 0 || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		all[2].Reader().Skip(int64(len(want)))
		if first, again := f.DropBehind(), f.DropBehind(); first != 2 || again != 0 {
			t.Errorf("%d were dropped, and then %d", first, again)
		}
		synctest.Wait()
		for i, want := range []int32{0, 1, 0, 1} {
			if n := dropped[i].Load(); n != want {
				t.Errorf("reader %d was dropped %d times, want %d", i, n, want)
			}
		}
		for _, i := range []int{1, 3} {
			if _, err := all[i].Reader().Next(t.Context()); !errors.Is(err, ErrTooSlow) {
				t.Errorf("reader %d: %v", i, err)
			}
		}
		all[0].Leave()
		all[2].Leave()
		s.expectClosed()
		leave(all)
	})
}

// TestManySpillsGoBeyondTogether: bodies on their way to a slow disk go beyond the Budget by no
// more than it has for all of them. Those that find no room are passed on, holding no more than a
// window's first chunk, and every client has its body. Each held what its spill was behind with.
func TestManySpillsGoBeyondTogether(t *testing.T) {
	const flights, places = 40, 4
	inBubble(t, 0, Limits{Resident: resident}, func(t *testing.T, g *Group[string], b *ledger) {
		b.limitBeyond, b.limitPassed = places*spillRoom, 4*maxChunk
		want := pattern(25, 4*resident)
		var all []*Flight
		var members []*Member
		var spills []*fakeSpill
		for i := range flights {
			f, m, _ := g.Join(fmt.Sprint(i), nil, nil)
			s := &fakeSpill{t: t, want: want, grain: 256 << 10, failFrom: -1, pause: time.Millisecond}
			f.Keep(true)
			f.SpillTo(&oneSpill{spill: s})
			f.Expect(int64(len(want)))
			f.Share(nil, -1)
			fetch(f, want)
			all, members, spills = append(all, f), append(members, m), append(spills, s)
		}
		synctest.Wait()
		time.Sleep(time.Minute) // of clients that take nothing
		held, whole := int64(0), 0
		for _, f := range all {
			f.mu.Lock()
			held += f.body.held
			f.mu.Unlock()
			if f.Overflow() == NoOverflow {
				whole++
			}
		}
		if most := b.limitBeyond + b.limitPassed + flights*minChunk; held > most || b.mostBeyond > b.limitBeyond {
			t.Errorf("%d bytes are held, %d were counted, want at most %d", held, b.mostBeyond, most)
		}
		if whole < places {
			t.Errorf("%d bodies are kept, want at least the %d that have room", whole, places)
		}
		for i, m := range members {
			go expectBody(t, m.Reader(), want, nil)
			<-all[i].Done()
		}
		synctest.Wait()
		for i, f := range all {
			if _, kept := f.HandOver(); kept != (f.Overflow() == NoOverflow) {
				t.Errorf("flight %d: whole %v, overflow %v", i, kept, f.Overflow())
			}
			f.Settle()
		}
		leave(members)
		for _, s := range spills {
			s.expectClosed()
		}
	})
}

// TestWhatIsLoadedLeavesTheHeapAlone: what a reader has loaded from a Spill is where chunks are,
// for as long as it is in hand, and is given back when the reader leaves, be it dropped.
func TestWhatIsLoadedLeavesTheHeapAlone(t *testing.T) {
	for _, dropped := range []bool{false, true} {
		t.Run(fmt.Sprintf("dropped %v", dropped), func(t *testing.T) {
			inBubble(t, 1<<30, Limits{Resident: resident}, func(t *testing.T, g *Group[string], b *ledger) {
				want := pattern(31, 4*resident)
				s := &fakeSpill{t: t, want: want, failFrom: -1}
				f, all := spilling(t, g, 0, &oneSpill{spill: s})
				write(t, f, want)
				of := func(r *Reader) (p []byte) {
					p, err := r.Next(t.Context())
					if err != nil || !bytes.HasPrefix(want, p) {
						t.Fatalf("%d bytes, error %v; or not what was written", len(p), err)
					}
					return p
				}
				before, r := b.chunksNow(), all[0].Reader()
				p := of(r)
				if n := b.chunksNow(); n != before+1 || r.memory == nil {
					t.Errorf("%d chunks, %d before it was loaded", n, before)
				}
				if dropped && f.DropBehind() != 1 {
					t.Error("the reader is not behind")
				}
				if !bytes.HasPrefix(want, p) {
					t.Error("what is in hand was given back")
				}
				all[0].Leave()
				if n := b.chunksNow(); n > before {
					t.Errorf("%d chunks, %d before it was loaded", n, before)
				}
				f.Finish(nil)
				f.Settle()
			})
		})
	}
}

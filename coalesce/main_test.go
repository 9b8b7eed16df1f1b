package coalesce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errOrigin = errors.New("origin broke")
	errClient = errors.New("client went away")
)

// ledger is a Budget that checks its own books.
type ledger struct {
	mu               sync.Mutex
	limit            int64
	used, peak, over int64 // over: given back more than was reserved
	asked            func(n int64)
	refused          uint64

	beyond, mostBeyond int64
	limitBeyond        int64 // 0: none

	passed, mostPassed int64
	limitPassed        int64 // 0: none

	chunks int // of its memory that have not been given back
}

func newLedger(limit int64) *ledger { return &ledger{limit: limit} }

func (l *ledger) Reserve(n, _ int64) bool {
	if l.asked != nil {
		l.asked(n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used+n > l.limit {
		l.refused++
		return false
	}
	l.used += n
	l.peak = max(l.peak, l.used)
	return true
}

func (l *ledger) Unreserve(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
	l.over = max(l.over, -l.used)
}

func (l *ledger) ReserveBeyond(n int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limitBeyond > 0 && l.beyond+n > l.limitBeyond {
		return false
	}
	l.beyond += n
	l.mostBeyond = max(l.mostBeyond, l.beyond)
	return true
}

func (l *ledger) UnreserveBeyond(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beyond -= n
	l.over = max(l.over, -l.beyond)
}

func (l *ledger) ReserveWindow(n, held int64) bool {
	if l.asked != nil {
		l.asked(n)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if after := l.passed + n; l.limitPassed > 0 && after > l.limitPassed/2 && (after > l.limitPassed || held+n > maxChunk) {
		return false
	}
	l.passed += n
	l.mostPassed = max(l.mostPassed, l.passed)
	return true
}

func (l *ledger) UnreserveWindow(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed -= n
	l.over = max(l.over, -l.passed)
}

func (l *ledger) Refused() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

// poisoned is a ledger with memory for chunks, which overwrites what is given back: who uses it
// after that has wrong bytes.
type poisoned struct{ *ledger }

func (l poisoned) Chunk(n int) (data []byte, free func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chunks++
	data, given := make([]byte, n), false
	return data, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if given {
			panic("a chunk is given back twice")
		}
		given = true
		l.chunks--
		for i := range data {
			data[i] = 0xdb
		}
	}
}

// chunksNow is how many chunks of memory are held.
func (l *ledger) chunksNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chunks
}

func (l *ledger) now() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used + l.beyond + l.passed
}

// expectEmpty fails the test unless all that flights held is given back, and the group is as it was
// made.
func expectEmpty(t *testing.T, g *Group[string], l *ledger) {
	t.Helper()
	if n := l.now(); n != 0 || l.over != 0 {
		t.Errorf("budget: %d bytes still reserved, %d given back too many", n, l.over)
	}
	if l.chunks != 0 {
		t.Errorf("%d chunks of memory have not been given back", l.chunks)
	}
	if n := g.Len(); n != 0 {
		t.Errorf("%d flights under way, want none", n)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.flights); n != 0 {
		t.Errorf("%d flights in the map, want none", n)
	}
}

// join is Join without usable, on the key "k".
func join(t *testing.T, g *Group[string], wantStart bool) (*Flight, *Member) {
	t.Helper()
	f, m, started := g.Join("k", nil, nil)
	if started != wantStart {
		t.Fatalf("started = %v, want %v", started, wantStart)
	}
	return f, m
}

// waiter runs Wait on a goroutine of its own.
type waiter struct {
	m      *Member
	cancel context.CancelCauseFunc
	done   chan WaitResult
}

func park(m *Member, timeout time.Duration, writer any) *waiter {
	ctx, cancel := context.WithCancelCause(context.Background())
	w := &waiter{m: m, cancel: cancel, done: make(chan WaitResult, 1)}
	go func() { w.done <- m.Wait(ctx, timeout, writer) }()
	return w
}

// expect fails the test unless the wait ends with want.
func (w *waiter) expect(t *testing.T, want WaitResult) {
	t.Helper()
	if got := <-w.done; got != want {
		t.Fatalf("result %v, want %v", got, want)
	}
	w.cancel(nil)
}

// expectParked fails the test if the wait is over. It must be called after synctest.Wait.
func (w *waiter) expectParked(t *testing.T) {
	t.Helper()
	select {
	case o := <-w.done:
		t.Fatalf("result %v, want it still parked", o)
	default:
	}
}

// readAll reads to the end.
func readAll(r *Reader) ([]byte, error) {
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
	}
}

// pattern returns n bytes that differ at every offset and for every seed.
func pattern(seed, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

func write(t *testing.T, f *Flight, b []byte) {
	t.Helper()
	if n, err := f.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write = %d, %v, want %d, nil", n, err, len(b))
	}
}

func expectBody(t *testing.T, r *Reader, want []byte, wantErr error) {
	t.Helper()
	got, err := readAll(r)
	if !errors.Is(err, wantErr) {
		t.Errorf("read ended with %v, want %v", err, wantErr)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, want these %d", len(got), len(want))
	}
}

func expectCause(t *testing.T, f *Flight, want error) {
	t.Helper()
	if got := context.Cause(f.Context()); !errors.Is(got, want) {
		t.Errorf("cause of the fetch's context is %v, want %v", got, want)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		got  []fmt.Stringer
		want []string
	}{
		{
			"outcomes",
			[]fmt.Stringer{Shared, Released, TakenOver, Failed, TimedOut, Left, Crowded, WaitResult(0)},
			[]string{"shared", "released", "taken-over", "failed", "timed-out", "left", "crowded", "WaitResult(0)"},
		},
		{
			"phases",
			[]fmt.Stringer{fetching, streaming, windowed, released, rejected, phase(9)},
			[]string{"fetching", "streaming", "windowed", "released", "rejected", "phase(9)"},
		},
		{
			"overflows",
			[]fmt.Stringer{NoOverflow, PastMax, NoRoom, TooOld, Overflow(9)},
			[]string{"", "past-max", "no-room", "too-old", "Overflow(9)"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for i, s := range tc.got {
				if s.String() != tc.want[i] {
					t.Errorf("%q, want %q", s.String(), tc.want[i])
				}
			}
		})
	}
}

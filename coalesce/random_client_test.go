package coalesce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// client is one request and its habits.
type client struct {
	w   *world
	rng *rand.Rand
	key string

	arrives, patience, timeout time.Duration
	pause                      time.Duration // between reads
	hangs, bites               int           // reads until it takes no more, or leaves; -1: never
	skip                       int64

	out  bytes.Buffer // its connection, as far as it is lent
	born int64        // generation at its start
}

func newClient(w *world, rng *rand.Rand, keys int) *client {
	c := &client{
		w: w, rng: rand.New(rand.NewPCG(rng.Uint64(), 0)), key: fmt.Sprint(rng.IntN(keys)),
		arrives: someTime(rng, 5*time.Second), patience: time.Hour, timeout: time.Duration(1+rng.IntN(10)) * time.Second,
		pause: []time.Duration{0, 0, someTime(rng, 3*time.Second)}[rng.IntN(3)], hangs: -1, bites: -1,
	}
	switch rng.IntN(6) {
	case 0:
		c.patience = someTime(rng, 10*time.Second)
	case 1:
		c.hangs = rng.IntN(5)
	case 2:
		c.bites = rng.IntN(5)
	case 3:
		c.skip = rng.Int64N(50_000)
	}
	return c
}

func (c *client) run() {
	time.Sleep(c.arrives)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer time.AfterFunc(c.patience, func() { cancel(errClient) }).Stop()
	defer cancel(nil)

	c.born = c.w.generation.Load()
	f, m, started := c.w.g.Join(c.key, &tag{c.born}, func(f *Flight) bool {
		ok := f.Tag().(*tag).born >= c.born
		if !ok {
			c.w.seen.add("purged")
		}
		if ok && c.w.silent > 0 && f.Silent() >= c.w.silent {
			c.w.seen.add("silent")
			return false
		}
		return ok
	})
	if started {
		c.w.start(f, c.key)
	}
	again := c.stay(ctx, f, m)
	m.Leave()
	if !again {
		return
	}
	f, m = c.w.g.Solo(&tag{c.w.generation.Load()})
	c.w.start(f, "")
	if c.stay(ctx, f, m) && !m.reader.dropped {
		c.w.t.Error("a fetch of its own was released")
	}
	m.Leave()
}

// stay goes with a flight to its end, and through more attempts. It returns true if the client
// has to fetch for itself.
func (c *client) stay(ctx context.Context, f *Flight, m *Member) (again bool) {
	for attempts := 1; ; attempts++ {
		if f.Attempt() > 3 || attempts > 3 {
			c.w.t.Errorf("attempt %d, and the client's %d", f.Attempt(), attempts)
		}
		start := time.Now()
		o := m.Wait(ctx, c.timeout, &c.out)
		c.w.seen.add(o.String())
		c.check(ctx, f, m, o, time.Since(start))
		switch o {
		case Released, TimedOut, Crowded:
			// A leader that is released asked for something else. It is content here.
			return !m.Leader()
		case TakenOver, Left:
			return false
		case Shared:
			if got := c.read(ctx, f, m); got || m.Leader() {
				return false
			}
		case Failed:
			if m.Leader() {
				return false
			}
		}
		next, nextParty, started := m.Retry(&tag{c.w.generation.Load()})
		if next == nil {
			if f.Attempt() < 3 && !errors.Is(context.Cause(f.Context()), ErrDrained) {
				c.w.t.Errorf("attempt %d is the last", f.Attempt())
			}
			c.w.seen.add("last failure")
			return false
		}
		if started {
			c.w.start(next, c.key)
		}
		f, m = next, nextParty
		defer m.Leave()
	}
}

// check compares the result of a wait with what may be.
func (c *client) check(ctx context.Context, f *Flight, m *Member, o WaitResult, waited time.Duration) {
	rec := c.w.record(f)
	ok := true
	switch o {
	case Shared:
		ok = f.Shared() == rec && rec.decision == streaming
	case Released:
		ok = rec.decision == released || m.reader.dropped || m.Leader() && rec.decision == rejected
	case TakenOver:
		sent, whole := c.out.Bytes(), rec.finished.Load()
		ok = m.Leader() && rec.lent.Load() && f.ended && whole == (f.Err() == nil) &&
			bytes.HasPrefix(rec.body, sent) && (!whole || len(sent) == len(rec.body))
	case Failed:
		ok = f.Err() != nil || rec.decision == rejected
	case TimedOut:
		ok = !m.Leader() && waited >= c.timeout
	case Left:
		ok = ctx.Err() != nil
	case Crowded:
		ok = !m.Leader() && waited == 0
	}
	if !ok {
		c.w.t.Errorf("fetch %d (%v): a client's result is %v after %v, leader %v, error %v", rec.id, rec.decision, o, waited, m.Leader(), f.Err())
	}
	// The retry of a flight may carry an older tag: its starter can have taken it long before Join
	// came to start anything.
	if rec.born < c.born && f.Attempt() == 1 {
		c.w.t.Errorf("fetch %d is of generation %d, the client of %d", rec.id, rec.born, c.born)
	}
}

// read reads as the client is used to. It returns false if the flight broke before the first byte.
func (c *client) read(ctx context.Context, f *Flight, m *Member) (got bool) {
	rec, r := f.Shared().(*fetchRecord), m.Reader()
	rec.readers.Add(1)
	var left atomic.Bool
	defer func() {
		if got {
			m.Leave()
			left.Store(true)
		}
	}()
	r.OnDrop(func() {
		if left.Load() {
			c.w.t.Errorf("fetch %d: a reader that has left is told that it is dropped", rec.id)
		}
		c.w.seen.add("told that it is dropped")
	})
	pos := int(c.skip)
	if c.skip > 0 {
		r.Skip(c.skip)
	}
	var inHand, sent []byte
	for n := 0; ; n++ {
		if n == c.bites {
			return true
		}
		if n == c.hangs {
			time.Sleep(2 * time.Hour)
		}
		if !bytes.Equal(inHand, sent) { // a chunk that was given back too early
			c.w.t.Errorf("fetch %d: %d bytes before %d have changed in the reader's hand", rec.id, len(inHand), pos)
			return true
		}
		ready, before := r.Ready(), time.Now()
		b, err := r.Next(ctx)
		if ready && time.Since(before) > 0 {
			c.w.t.Errorf("fetch %d: ready, but Next took %v", rec.id, time.Since(before))
		}
		if err != nil {
			c.checkEnd(ctx, rec, m, pos, err)
			return errors.Is(err, io.EOF) || m.reader.touched || !errors.Is(f.Err(), err) || ctx.Err() != nil
		}
		if pos+len(b) > len(rec.body) || !bytes.Equal(b, rec.body[pos:pos+len(b)]) {
			c.w.t.Errorf("fetch %d: %d bytes at %d are not what was sent", rec.id, len(b), pos)
			return true
		}
		inHand, sent = b, rec.body[pos:pos+len(b)]
		pos += len(b)
		time.Sleep(c.pause)
	}
}

// checkEnd compares the end of a body, for a reader at pos, with the plan.
func (c *client) checkEnd(ctx context.Context, rec *fetchRecord, m *Member, pos int, err error) {
	var ok bool
	switch {
	case errors.Is(err, io.EOF):
		ok = rec.finished.Load() && rec.f.Trailer() == rec.id && pos >= len(rec.body)
		c.w.seen.add("clean end")
	case errors.Is(err, ErrTooSlow):
		ok = rec.f.Overflow() != NoOverflow && (rec.readers.Load() > 1 || c.w.budget.limitPassed > 0)
		rec.f.mu.Lock()
		ok = ok || rec.f.isCopy && c.w.budget.limitPassed > 0
		rec.f.mu.Unlock()
		ok = m.reader.dropped && (ok || c.w.budget.Refused() > 0)
		c.w.seen.add("dropped")
	case errors.Is(err, ErrSpill):
		ok = rec.spill.spill.unread != nil
		c.w.seen.add("spill unread")
	case errors.Is(err, errClient):
		ok = ctx.Err() != nil
	default:
		ok = errors.Is(rec.f.Err(), err) && !rec.finished.Load()
		c.w.seen.add("broken body")
	}
	if !ok {
		c.w.t.Errorf("fetch %d: a reader at %d of %d got %v; finished %v, its error %v", rec.id, pos, len(rec.body), err, rec.finished.Load(), rec.f.Err())
	}
}

package coalesce

import (
	"context"
	"io"
	"sync"
	"time"
)

// windowSlice bounds what Next returns from a windowed flight, so that a reader with a slow client
// comes back often enough not to be taken for a dead one, see pace.go.
const windowSlice = 16 << 10

// Reader reads a flight's body at one member's pace. It belongs to the member's goroutine.
type Reader struct {
	member *Member

	// Guarded by the flight's lock.
	pos     int64     // of what is handed out, or else of what comes next
	inHand  int       // bytes handed out and not yet done with
	memory  *block    // that they are in
	taken   time.Time // when it last came for more of what is not to be stored
	starved time.Time // since when it has waited for bytes to come; zero while it does not
	wait    wait      // of others for it
	stint   stint     // what it has to take, see kept.go
	touched bool      // has had a byte
	dropped bool

	onDrop dropCall
	loaded chunk // the last bytes read from the Spill; the goroutine's own
}

// Next returns the next bytes of the body, and waits for them if it has to. They must not be
// changed, nor used after the next call of Next, Skip or Leave. At the clean end it returns io.EOF,
// at the end of a broken flight that flight's error; both come after all bytes that there are. When
// ctx ends first, its cause is returned.
func (r *Reader) Next(ctx context.Context) ([]byte, error) {
	for {
		b, away, changed, err := r.step()
		if away.Spill != nil {
			if err := r.load(away); err != nil {
				return nil, err
			}
			continue
		}
		if changed == nil {
			return b, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// step returns bytes or an error; or the Spill from which the bytes have to be loaded; or a channel
// that is closed when there may be more.
func (r *Reader) step() (b []byte, away part, changed <-chan struct{}, err error) {
	f := r.member.flight
	f.mu.Lock()
	defer f.unlock()
	r.moveTo(r.pos + int64(r.inHand))
	if err := r.broken(); err != nil {
		return nil, part{}, nil, err
	}
	b, memory := r.at()
	if len(b) > 0 {
		if f.phase == windowed && len(b) > windowSlice {
			b = b[:windowSlice:windowSlice]
		}
		memory.hold()
		r.inHand, r.memory, r.touched = len(b), memory, true
		return b, part{}, nil, nil
	}
	away, behind := r.away()
	switch {
	case behind:
		return nil, away, nil, nil
	case !f.ended:
		r.starve()
		return nil, part{}, f.change(), nil
	case f.err != nil:
		return nil, part{}, nil, f.err
	}
	return nil, part{}, nil, io.EOF
}

// broken returns why this reader can have no more, while others may.
func (r *Reader) broken() error {
	switch {
	case r.dropped:
		return ErrTooSlow
	case r.member.index < 0:
		return ErrLeft
	case r.pos < r.member.flight.body.start() && !r.behind():
		return ErrPassed
	}
	return nil
}

// moveTo ends the use of what is handed out and puts the reader at off. In a window that may free
// what comes first of the body.
func (r *Reader) moveTo(off int64) {
	f, was := r.member.flight, r.pos
	r.letGo()
	r.pos, r.inHand, r.starved = off, 0, time.Time{}
	if f.phase == windowed || f.settled {
		r.taken = time.Now()
	}
	if f.phase != windowed {
		return
	}
	if end, ok := f.firstEnd(); ok && was < end && off >= end {
		f.freePassed()
	}
}

// letGo ends the use of the memory of what is handed out.
func (r *Reader) letGo() {
	r.memory.letGo()
	r.memory = nil
}

// starve notes that the reader has all that there is. The fetch of a window may have to drop
// another reader for it.
func (r *Reader) starve() {
	r.starved = time.Now()
	r.member.flight.signalRoom()
}

// Ready reports whether Next would return at once, or after no more than a look into the Spill. If
// not, it is time to flush.
func (r *Reader) Ready() bool {
	f := r.member.flight
	f.mu.Lock()
	defer f.mu.Unlock()
	next := r.pos + int64(r.inHand)
	there, _ := f.body.at(next)
	return f.ended || r.broken() != nil || next < f.body.start() || len(there) > 0
}

// Skip positions the reader at offset off of the body, which may still have to arrive. Going back
// is possible as long as the flight has not become windowed; after that Next may return ErrPassed.
func (r *Reader) Skip(off int64) {
	f := r.member.flight
	f.mu.Lock()
	defer f.unlock()
	r.moveTo(off)
}

// OnDrop sets a function that is called once if the flight drops this reader, so that a
// write that hangs can be broken off (say, by a deadline). The function has a goroutine of its own,
// so it holds up neither the fetch nor other readers. If the reader has been dropped already,
// OnDrop calls it itself, because the write that it is for is still to come.
//
// The function is not called after Leave has returned. Leave waits for it, so it must not call the
// member.
func (r *Reader) OnDrop(fn func()) { r.onDrop.set(fn) }

// dropCall is the function of OnDrop. Its lock is held during the call: set waits for that.
type dropCall struct {
	mu      sync.Mutex
	fn      func()
	dropped bool
}

func (d *dropCall) set(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fn = fn
	d.due()
}

func (d *dropCall) call() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropped = true
	d.due()
}

// due calls the function once, if the reader was dropped.
func (d *dropCall) due() {
	if fn := d.fn; fn != nil && d.dropped {
		d.fn = nil
		fn()
	}
}

// Await waits until more than n bytes of the body have come, or it has ended, and takes none. Its
// error is that of a flight that has failed before, of a reader that was dropped, or the cause that
// ctx ended for. It does not wait for a flight that is windowed: that one goes no further than its
// readers let it.
func (r *Reader) Await(ctx context.Context, n int64) error {
	for {
		f := r.member.flight
		f.mu.Lock()
		err, over := r.broken(), f.body.size > n || f.ended || f.phase == windowed
		if err == nil && f.ended && f.body.size <= n {
			err = f.err
		}
		if err != nil || over {
			f.mu.Unlock()
			return err
		}
		changed := f.change()
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

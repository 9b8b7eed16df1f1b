package coalesce

import (
	"context"
	"errors"
	"time"
)

// Expect announces the length of the body, so that small ones get a chunk that fits. It is a hint:
// the body may turn out longer or shorter.
func (f *Flight) Expect(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expected = n
}

// Write appends a copy of p to the body of a shared flight. In a windowed one it waits for the
// slowest reader. It fails when the flight is not shared, has ended, or is cancelled; the error is
// then the cause.
func (f *Flight) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		space, err := f.space(len(p) - written)
		if err != nil {
			return written, err
		}
		// The copy needs no lock: this is the only writer, and readers stop at what is published.
		n := copy(space.data, p[written:])
		if err := f.publish(space, n); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// publish has readers get the first n bytes of space, and lets go of it. A flight that has ended
// meanwhile takes none: a handler may write still when ServeHTTP has returned.
func (f *Flight) publish(space chunk, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	space.block.letGo()
	if f.ended {
		return ErrEnded
	}
	f.body.publish(n)
	f.pace.advance(f.age(), n)
	f.wake()
	return nil
}

// space returns room for at least one of want bytes, held.
func (f *Flight) space(want int) (chunk, error) {
	for {
		spare, need, limit, err := f.plan(want)
		if errors.Is(err, errPastMax) {
			f.outgrow(PastMax)
			continue
		}
		if err != nil || len(spare.data) > 0 {
			return spare, err
		}
		f.spillIfLarge()
		if err := f.awaitRoom(limit); err != nil {
			return chunk{}, err
		}
		if limit, ok := f.grow(need); !ok {
			if err := f.awaitRoom(limit); err != nil {
				return chunk{}, err
			}
		}
	}
}

// errPastMax says that a body grows past what is kept.
var errPastMax = errors.New("coalesce: past max")

// plan returns what is left of the last chunk, held, or else how large a chunk want more bytes need
// and how much a window may hold beside it.
func (f *Flight) plan(want int) (spare chunk, need int, limit int64, err error) {
	f.mu.Lock()
	defer f.unlock()
	if err := f.writable(); err != nil {
		return chunk{}, 0, 0, err
	}
	if f.phase == streaming && int64(want) > f.max-f.body.size {
		return chunk{}, 0, 0, errPastMax
	}
	if spare = f.body.spare(); len(spare.data) > 0 {
		spare.block.hold()
		return spare, 0, 0, nil
	}
	f.freePassed() // a reader may have moved on by Skip, which does not signal it
	window := f.windowSize()
	need = int(min(int64(f.nextChunk(want)), window))
	return chunk{}, need, window - int64(need), nil
}

// windowSize is how much a window may hold. It is wide where readers differ; one reader needs no
// more than keeps it busy.
func (f *Flight) windowSize() int64 {
	if len(f.members) > 1 {
		return f.config.limits.Window
	}
	return min(f.config.limits.Window, soleWindow)
}

// writable returns why no more body can be taken.
func (f *Flight) writable() error {
	switch {
	case f.phase == fetching && !f.ended && f.ctx.Err() == nil:
		return ErrUndecided
	case f.phase == released, f.phase == rejected, f.ended:
		return ErrEnded
	}
	return context.Cause(f.ctx)
}

// nextChunk returns the capacity for the next chunk: what is announced, or else twice the last, so
// that many small writes make few allocations.
func (f *Flight) nextChunk(want int) int {
	if rest := f.expected - f.body.size; rest > 0 {
		return int(min(rest, maxChunk))
	}
	size := max(minChunk, want)
	if n := len(f.body.chunks); n > 0 {
		size = max(size, 2*cap(f.body.chunks[n-1].data))
	}
	return min(size, maxChunk)
}

// grow adds a chunk, reserved in the Budget. When there is no room for it, the flight becomes
// windowed; limit is what it may still hold before it makes sense to try again.
func (f *Flight) grow(capacity int) (limit int64, ok bool) {
	g, granted := f.reserve(int64(capacity))
	if !granted {
		f.outgrow(NoRoom)
	}
	f.mu.Lock()
	defer f.unlock()
	if granted {
		f.reserved[g.from] += g.bytes
		f.body.add(f.config.newChunk(capacity))
		if f.phase == windowed && g.from != passed { // it has become too old meanwhile
			f.watchKept()
		}
		return 0, true
	}
	if f.body.held > 0 {
		return f.body.held - 1, false
	}
	// Nothing is held and the budget still refuses: no reader could make room, so one small chunk
	// is not counted.
	f.body.add(f.config.newChunk(min(capacity, minChunk)))
	return 0, true
}

// outgrow starts the window of a flight that may hold no more. What it has spilled is completed
// first, so that readers have that from there, and the window begins empty.
func (f *Flight) outgrow(why Overflow) {
	if s := f.spillOfStreaming(); s != nil && f.ctx.Err() == nil {
		f.sealSpill(s)
	}
	f.mu.Lock()
	defer f.unlock()
	f.startWindow(why)
}

// spillOfStreaming is the Spill of a flight that streams still; nil if it has none.
func (f *Flight) spillOfStreaming() Spill {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.phase != streaming {
		return nil
	}
	return f.spillInUse()
}

// announced is how long the body is to be, or else what it has already, as Budget.Reserve wants it.
func (f *Flight) announced() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.expected < 0 {
		return -f.body.size
	}
	return max(f.expected, f.body.size)
}

// startWindow turns a streaming flight into a windowed one: no more requests can join, and the body
// will not be stored.
func (f *Flight) startWindow(why Overflow) {
	if f.phase != streaming {
		return
	}
	f.phase, f.overflow, f.closed = windowed, why, true
	f.wake() // of readers in Await, which the fetch may wait for from now on
	f.tellStorer()
	f.room = make(chan struct{}, 1)
	f.freePassed()
	f.giveBack() // its room beyond, kept for the Spill
	f.watchKept()
	f.stopIfUseless()
}

// firstEnd returns up to where a windowed flight has what comes first, in a Spill, a part or its
// first chunk, and whether that goes once all readers are past it.
func (f *Flight) firstEnd() (end int64, ok bool) {
	switch {
	case f.spillInUse() != nil:
		return f.spill.covered, true
	case len(f.parts.list) > 0:
		return f.parts.list[0].end, true
	}
	return f.body.firstEnd()
}

// freePassed frees what every member of a windowed flight has passed.
func (f *Flight) freePassed() {
	if f.phase != windowed {
		return
	}
	low := f.body.size
	for _, m := range f.members {
		low = min(low, m.reader.pos)
	}
	if f.spill != nil && low >= f.spill.covered {
		f.closeSpill()
	}
	f.closeParts(low)
	held := f.body.held
	f.body.drop(low)
	if f.body.held == held {
		return
	}
	f.giveBack()
	f.signalRoom()
}

// signalRoom has a fetch that waits in awaitRoom look again. It has no effect before the flight has
// a window.
func (f *Flight) signalRoom() {
	select {
	case f.room <- struct{}{}:
	default: // a signal is waiting already
	}
}

// awaitRoom waits until a windowed flight holds at most limit bytes. It drops a reader that stands
// in the way of one that waits for more, and is too slow, see pace.go. Where no reader waits for
// more, all are held back and none is dropped: a client that pauses its download goes on with it as
// it would without this package. For those that keep room from others see kept.go.
func (f *Flight) awaitRoom(limit int64) error {
	since := time.Now()
	for {
		if f.spillPart(max(0, limit)) {
			continue
		}
		full, due, dropped, err := f.lookForRoom(max(0, limit), since)
		if err != nil || !full {
			return err
		}
		for _, r := range dropped {
			go r.onDrop.call()
		}
		f.awaitReaders(due)
		f.recount() // others may have given room back
	}
}

// awaitReaders waits until a reader of a window has moved or has nothing left to read, or until due
// if that is not zero.
func (f *Flight) awaitReaders(due time.Time) {
	var late <-chan time.Time
	if !due.IsZero() {
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		late = timer.C
	}
	defer f.excuse(time.Now())
	select {
	case <-f.room:
	case <-late:
	case <-f.ctx.Done():
	}
}

// lookForRoom is one step of awaitRoom. It returns whether the window is still full, drops readers
// that are too slow, and returns when the next one is due, if any.
func (f *Flight) lookForRoom(limit int64, since time.Time) (full bool, due time.Time, dropped []*Reader, err error) {
	f.mu.Lock()
	defer f.unlock()
	now := time.Now()
	f.endWaits(now)
	if err := f.writable(); err != nil {
		return false, time.Time{}, nil, err
	}
	if f.phase != windowed || f.body.held <= limit {
		return false, time.Time{}, nil, nil
	}
	if starved := f.starvedSince(); !starved.IsZero() {
		due, dropped = f.dropSlow(now, later(since, starved))
		if part := f.partDue(); part.After(now) {
			due = earlier(due, part)
		}
	}
	return true, due, dropped, nil
}

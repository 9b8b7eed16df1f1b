package coalesce

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Spill keeps the beginning of one body elsewhere than in memory, so that a flight holds only its
// end. All methods but Chunk are called by the goroutine of the fetch, Close by any; none under a
// lock of this package.
type Spill interface {
	// Append adds the next bytes, which are not written to any more. It does not wait. done is
	// called once, when it reads p no more, whatever becomes of that; it may be under its locks.
	Append(p []byte, done func()) error
	// Await waits until about behind bytes at most are not written yet. It returns how many are,
	// from the beginning of the body; Chunk has those from then on. After an error of it, or of
	// Append, nothing more is appended.
	Await(ctx context.Context, behind int64) (written int64, err error)
	// Seal says that nothing follows, and waits until everything is written. After an error the
	// body is not stored.
	Seal() error
	BodySource
}

// BodySource has bytes of one body. Its methods are called under no lock of this package.
type BodySource interface {
	// Chunk returns some of the bytes that it has, from offset off on. They stay as they are until
	// Close. After an error, or no bytes, the reader gets an error that wraps [ErrSpill].
	Chunk(off int64) ([]byte, error)
	// Close says that no reader reads, and no fetch appends to a Spill, any more. It is called
	// once.
	Close()
}

// RoomReader is a BodySource that reads to the memory of who asks. What a reader loads of it is
// where chunks are, see [Memory].
type RoomReader interface {
	// ReadChunk is Chunk, but fills room from its beginning, and returns what of it is filled. It
	// writes to it no more when it has returned.
	ReadChunk(room []byte, off int64) ([]byte, error)
}

// loadRoom is how much room a reader has for what it loads.
const loadRoom = 32 << 10

// Spiller begins the Spills of one flight, on the goroutine of the fetch.
type Spiller interface {
	// Spill begins that of the whole body. It is asked at most once. After an error the flight goes
	// on without, as far as memory goes.
	Spill() (Spill, error)
	// SpillPart begins one of n bytes from somewhere in a body that is not kept, whose offsets
	// count from there. After an error readers wait for the slowest one.
	SpillPart(n int64) (Spill, error)
}

// spill is a flight's use of its Spill.
type spill struct {
	Spill
	appended int64 // bytes of the body that it was given
	covered  int64 // bytes of the body that are not in memory any more
	closed   bool  // it is not needed any more
}

// SpillTo lets the flight spill. It comes before Share. Without it, or when s has no Spill to
// offer, the whole body is in memory.
func (f *Flight) SpillTo(s Spiller) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spiller, f.parts.spiller = s, s
}

// Spilled reports whether the beginning of the body, or after HandOver all of it, is in the Spill.
func (f *Flight) Spilled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.spillInUse() != nil
}

// spillInUse returns the Spill that is open, or nil.
func (f *Flight) spillInUse() Spill {
	if f.spill == nil || f.spill.closed {
		return nil
	}
	return f.spill.Spill
}

// spillIfLarge begins to spill a body of which more than Limits.Resident is in memory. From then on
// each chunk is appended when it is full, so that the Spill is written while the fetch goes on. The
// fetch waits when as much as Resident is not written. Half of that stays for readers.
func (f *Flight) spillIfLarge() {
	resident := f.config.limits.Resident
	f.mu.Lock()
	due := f.spills() && (f.spillInUse() != nil || f.body.held >= resident)
	f.mu.Unlock()
	if due {
		f.advanceSpill(resident/2, resident)
	}
}

// spillAll spills all it can, because the Budget has refused. A body that is not large, as far as
// is known, is not worth that its readers wait for a disk, unless it spills already. It reports
// whether it makes sense to ask the Budget again.
func (f *Flight) spillAll() bool {
	f.mu.Lock()
	worth := f.spills() && (f.spillInUse() != nil || max(f.body.size, f.expected) >= f.config.limits.Resident/4)
	f.mu.Unlock()
	if worth {
		f.advanceSpill(0, 0)
	}
	return worth
}

// spills reports whether the flight has a Spill or may begin one.
func (f *Flight) spills() bool {
	return f.phase == streaming && !f.ended && (f.spillInUse() != nil || f.spiller != nil)
}

// advanceSpill appends to the Spill what is not there yet, and waits until it is at most behind
// bytes late. It then frees what is written, but for the last keep bytes of the body, which most
// readers want.
func (f *Flight) advanceSpill(keep, behind int64) {
	s := f.openSpill()
	if s == nil {
		return
	}
	defer f.excuse(time.Now())
	if err := appendAll(s, f.unspilled(false)); err != nil {
		f.stopSpilling()
		return
	}
	written, err := s.Await(f.ctx, behind)
	if err != nil {
		f.stopSpilling()
		return
	}
	f.mu.Lock()
	defer f.unlock()
	f.dropSpilled(min(written, f.body.size-keep))
}

// openSpill returns the flight's Spill, and begins it where there is none. It returns nil if there
// is none to be had.
func (f *Flight) openSpill() Spill {
	f.mu.Lock()
	s, begin := f.spillInUse(), f.spiller
	f.spiller = nil
	f.mu.Unlock()
	if s != nil || begin == nil {
		return s
	}
	s, err := begin.Spill()
	if err != nil {
		return nil // the flight goes on in memory, as far as that reaches
	}
	f.mu.Lock()
	defer f.unlock()
	if f.phase != streaming { // it has become too old meanwhile
		f.due = append(f.due, s.Close)
		return nil
	}
	f.spill = &spill{Spill: s}
	return s
}

// unspilled returns what is in memory and not appended to the Spill yet, held, and counts it as
// appended: the full chunks, and if last is set, the one that is not full.
func (f *Flight) unspilled(last bool) []chunk {
	f.mu.Lock()
	defer f.mu.Unlock()
	pieces, n := f.body.from(f.spill.appended), 0
	for _, c := range pieces {
		if len(c.data) == 0 || !c.full() && !last {
			break
		}
		f.spill.appended = c.end()
		n++
	}
	return held(pieces[:n])
}

// dropSpilled frees the bytes before off, which the Spill has.
func (f *Flight) dropSpilled(off int64) {
	f.body.drop(off)
	f.spill.covered = max(f.spill.covered, f.body.start())
	f.giveBack()
}

// stopSpilling ends the use of a Spill that takes no more. Where the body is still whole in memory,
// nothing is lost. Otherwise the body goes on through a window, and readers that are behind read on
// from the Spill. If the flight was only cancelled, the next Write says so.
func (f *Flight) stopSpilling() {
	f.mu.Lock()
	defer f.unlock()
	if f.spill.covered == 0 {
		f.closeSpill()
		f.giveBack()
		return
	}
	f.startWindow(NoRoom)
}

// closeSpill gives up the Spill. There may be room for a part then.
func (f *Flight) closeSpill() {
	if s := f.spillInUse(); s != nil {
		f.spill.closed = true
		if f.due = append(f.due, s.Close); f.phase == windowed {
			f.due = append(f.due, f.signalRoom)
		}
	}
}

// sealSpill brings the rest of a body that has come to its clean end, or that is kept no longer,
// into the Spill. If that fails, readers do not notice.
func (f *Flight) sealSpill(s Spill) (whole bool) {
	if err := appendAll(s, f.unspilled(true)); err != nil {
		f.markUnstorable()
		return false
	}
	if err := s.Seal(); err != nil {
		f.markUnstorable()
		return false
	}
	f.mu.Lock()
	defer f.unlock()
	f.spill.covered = f.body.size
	f.body.clear()
	f.giveBack()
	return true
}

// MoveTo frees the chunks of a body that has been handed over. Its readers, including those that
// still join, read on from s, which has all of it. s is closed when the last of them has left, or
// at once if the flight is not in a state for that.
func (f *Flight) MoveTo(s BodySource) {
	f.mu.Lock()
	defer f.unlock()
	if !f.whole() || f.spillInUse() != nil {
		f.due = append(f.due, s.Close)
		return
	}
	f.spill = &spill{Spill: sealedSpill{s}, appended: f.body.size, covered: f.body.size}
	f.body.clear()
	f.giveBack()
}

// sealedSpill is a BodySource as a Spill that takes no more.
type sealedSpill struct{ BodySource }

func (sealedSpill) Append(_ []byte, done func()) error                      { done(); return ErrEnded }
func (sealedSpill) Await(context.Context, int64) (written int64, err error) { return 0, ErrEnded }
func (sealedSpill) Seal() error                                             { return nil }

// markUnstorable notes that the body, although it came whole, cannot be had whole for storing.
func (f *Flight) markUnstorable() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.overflow = NoRoom
}

// DropBehind drops the readers of which only a Spill has the bytes that they take next, because
// its room is wanted and they take nothing, and returns how many. It may be called on any
// goroutine.
func (f *Flight) DropBehind() (dropped int) {
	f.mu.Lock()
	defer f.unlock()
	f.eachReader(func(r *Reader) {
		if r.behind() {
			f.drop(r)
			go r.onDrop.call()
			dropped++
		}
	})
	return dropped
}

// eachReader calls fn for the reader of each member. fn may drop it.
func (f *Flight) eachReader(fn func(*Reader)) {
	// remove puts the last member, which was looked at already, in the place of the one it takes.
	for i := len(f.members) - 1; i >= 0; i-- { //nolint:modernize // remove changes the list
		fn(&f.members[i].reader)
	}
}

// drop takes a reader off that is to have no more.
func (f *Flight) drop(r *Reader) {
	r.dropped = true
	f.remove(r.member)
}

// behind reports whether only a Spill has the bytes at the reader's place.
func (r *Reader) behind() bool {
	_, behind := r.away()
	return behind
}

// away returns the Spill that alone has the bytes at the reader's place, if one does.
func (r *Reader) away() (p part, ok bool) {
	f := r.member.flight
	if s := f.spillInUse(); s != nil && r.pos < f.spill.covered {
		return part{Spill: s, end: f.spill.covered}, true
	}
	return f.parts.at(r.pos)
}

// load reads the spilled bytes at the reader's place. It may take as long as a disk does, so it
// runs under no lock.
func (r *Reader) load(p part) error {
	c, err := r.member.flight.config.load(p.Spill, r.pos-p.start)
	if err == nil && len(c.data) == 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		c.block.letGo()
		return fmt.Errorf("%w: %w", ErrSpill, err)
	}
	c.start = r.pos
	r.loaded = c
	return nil
}

// load returns what a source has from off on, in a chunk that is held.
func (c *config) load(s BodySource, off int64) (loaded chunk, err error) {
	reads, ok := s.(RoomReader)
	if !ok {
		loaded.data, err = s.Chunk(off)
		return loaded, err //nolint:wrapcheck // load of the reader does
	}
	loaded = c.newChunk(loadRoom)
	loaded.data, err = reads.ReadChunk(loaded.data[:loadRoom], off)
	return loaded, err //nolint:wrapcheck // load of the reader does
}

// forget lets go of what the reader has loaded.
func (r *Reader) forget() {
	r.loaded.block.letGo()
	r.loaded = chunk{}
}

// at returns the bytes at the reader's place, as far as they are in memory, and whose memory that
// is: the flight's, or what this reader has loaded.
func (r *Reader) at() ([]byte, *block) {
	if b, memory := r.member.flight.body.at(r.pos); len(b) > 0 {
		r.forget()
		return b, memory
	}
	if c := &r.loaded; r.pos >= c.start && r.pos < c.end() {
		return c.data[r.pos-c.start : len(c.data) : len(c.data)], c.block
	}
	r.forget()
	return nil, nil
}

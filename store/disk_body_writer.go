package store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/larder-cache/larder/store/internal/slots"
)

// BodyWriter writes a body to disk while it arrives, so that a large one is never whole in
// memory:
//
//	NewBodyWriter ─► Append … Await … ─► Seal ─► Body ─► Put    the record makes it an entry
//	            │                  │
//	            └──────────────────┴──► Close             without a record the chunks are swept
//
// Unstorable comes where it is certain, before Close, that there will be no record.
//
// Its chunks are written to slots (disk_slots.go) or, compressed and where there are no slots, to
// rows under an id that is in the pending bucket from the first row on, and leaves it in the
// transaction that writes the record. So a crash at any point leaves an entry, something to sweep,
// or slots that no row leads to. As long as the writer is open its id is pinned: what it still
// writes, or what its readers have not read yet, is not swept.
//
// Append, Await, Seal and Put belong to the goroutine that has the body; Chunk, Unstorable and
// Close are for any.
type BodyWriter struct {
	set      *bodyWriters
	id       uint64
	progress chan struct{} // tells Await that something has changed

	// Guarded by bodyWriters.mu.
	pieces   []piece // appended and not on disk
	appended int64
	onItsWay int64 // of what is appended, while no entry is made of it that may be
	written  int64 // on disk; whole chunks until the writer is sealed
	stored   int64 // what that takes of the file
	sealed   bool
	awaited  bool // Await is under way, so even a single chunk is worth a transaction
	part     bool // see NewPartWriter
	compress bool // what of it is to be smaller so is compressed
	toRows   bool // there are no slots for what comes
	taken    bool // Put has made an entry of it
	key      Key  // of that
	closed   bool
	err      error
	reader   Interrupter // nil where that is not known
	writing  bool        // the disk writer reads some of the pieces
	left     []piece     // read until that ends, of a writer that has failed meanwhile
	refs     []slotRef   // where its first chunks are, but for what is compressed
	rowed    int         // how many of them have a row
	end      int64       // of bodyWriters.wrote, when the last of them was written
	slots    *slots.File // that has them
}

// piece is some of a body that waits to be written.
type piece struct {
	data []byte
	done func() // gives it back
}

func giveBack(pieces []piece) {
	for _, p := range pieces {
		p.done()
	}
}

// Errors of a BodyWriter. After any of them it takes no more; what is written can still be read.
var (
	// ErrNoDisk means that there is no disk tier, or that it has failed, or that its disk is full.
	ErrNoDisk = errors.New("body writer: the disk tier is not available")
	// ErrNoSpace means that the body, alone or with the others under way, would take more than its
	// share of the disk budget.
	ErrNoSpace = errors.New("body writer: no room in the disk budget")
	// ErrDiskSlow means that nothing at all was written for 10 s while the fetch waited for it.
	ErrDiskSlow = errors.New("body writer: the disk does not keep up")
	errSealed   = errors.New("body writer: sealed or closed")
	errUnstored = errors.New("body writer: no entry is made of the body")
	errNotThere = errors.New("body writer: not written")
)

// portionBytes is how much of a body a transaction begins with, which takes what has come meanwhile
// as well: a slow body keeps little in memory, and a fast one is written in few transactions.
const portionBytes = 1 << 20

// bodyWriteTimeout is how long the disk may write nothing of a body that Await waits for.
const bodyWriteTimeout = 10 * time.Second

// NewBodyWriter begins a body of length bytes, -1 if that is not known yet. It fails where the disk
// tier is off, full or has failed, and where so long a body has no place. The caller ends it with
// Close, whatever becomes of it.
func (s *Store) NewBodyWriter(length int64) (*BodyWriter, error) {
	if s.disk == nil {
		return nil, ErrNoDisk
	}
	if s.holdsBack(max(length, 1)) {
		return nil, fmt.Errorf("%w: much of it is deleted and still read", ErrNoSpace)
	}
	return s.bodyWriters.begin(&BodyWriter{}, max(length, 0))
}

// NewPartWriter begins n bytes of a body that is not kept, for those who read it behind others. No
// entry is made of them, so they count as deleted from the first: nothing is evicted for them, and
// with all that is deleted and read they take a quarter of the budget at most. It fails with
// ErrNoDisk where the disk tier is off or has failed, and with an error that wraps ErrNoSpace where
// n bytes have no place. The caller ends it with Close.
func (s *Store) NewPartWriter(n int64) (*BodyWriter, error) {
	if s.disk == nil {
		return nil, ErrNoDisk
	}
	return s.bodyWriters.begin(&BodyWriter{part: true}, n)
}

// begin begins a body of length bytes, 0 if that is not known.
func (set *bodyWriters) begin(d *BodyWriter, length int64) (*BodyWriter, error) {
	d.set, d.progress = set, make(chan struct{}, 1)
	set.mu.Lock()
	defer set.mu.Unlock()
	if !set.accepting {
		return nil, ErrNoDisk
	}
	if err := set.roomFor(d, length); err != nil {
		return nil, err
	}
	d.id = set.store.ids.Add(1)
	set.disk.pins.pin(d.id, 0) // never refused: the id is new
	if d.part {
		set.disk.pins.delete(d.id, 0)
	}
	set.list = append(set.list, d)
	return d, nil
}

// Of says that the body is that of a response with this header, before the first Append: it is
// compressed where Settings say so and the body is Compressible.
func (d *BodyWriter) Of(header http.Header) {
	compress := d.set.settings.Load().Compress == CompressZstd && Compressible(header, -1)
	d.set.mu.Lock()
	defer d.set.mu.Unlock()
	d.compress = compress
}

// ReadBy says who reads the body, once and before Close.
func (d *BodyWriter) ReadBy(r Interrupter) {
	d.set.mu.Lock()
	d.reader = r
	d.set.mu.Unlock()
	d.set.disk.pins.addReader(d.id, r)
}

// Append adds p, which must not be written to before done is called, and does not wait. That is
// once, when p is not read any more, whatever has become of it. A caller that appends faster than
// the disk writes calls Await. An error says that p was not added: after Seal or Close, where it
// has no place (the error wraps ErrNoSpace), or where the writer has failed before.
func (d *BodyWriter) Append(p []byte, done func()) error {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if err := set.takes(d, int64(len(p))); err != nil {
		done()
		return err
	}
	n := int64(len(p))
	d.pieces = append(d.pieces, piece{p, done})
	d.appended += n
	set.waiting += n
	if !d.part {
		d.onItsWay += n
		set.held += n
	}
	if d.due() {
		set.wake()
	}
	return nil
}

// takes is why n more bytes cannot be appended. It fails the writer for that.
func (set *bodyWriters) takes(d *BodyWriter, n int64) error {
	if d.sealed || d.closed {
		return errSealed
	}
	if d.err == nil {
		set.lose(d, set.roomFor(d, n))
	}
	return d.err
}

// Await waits until at most behind bytes are not on disk, or less than fills a chunk. It returns
// how many are, from the beginning: Chunk has those. It returns an error when the writer has
// failed, as with ErrDiskSlow, or when ctx ends: the cause of that. written holds beside an error,
// too.
func (d *BodyWriter) Await(ctx context.Context, behind int64) (written int64, err error) {
	written, done, err := d.look(behind)
	for !done && err == nil {
		timer := time.NewTimer(d.set.patience)
		select {
		case <-d.progress:
		case <-timer.C:
			d.giveUp(written, ErrDiskSlow)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		timer.Stop()
		if err == nil {
			written, done, err = d.look(behind)
		}
	}
	return written, err
}

// look is one step of Await.
func (d *BodyWriter) look(behind int64) (written int64, done bool, err error) {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if !d.sealed {
		behind = max(behind, chunkSize-1)
	}
	done = d.appended-d.written <= behind && (!d.sealed || d.part || d.rowed == len(d.refs))
	d.awaited = !done
	if d.awaited {
		set.wake()
	}
	return d.written, done, d.err
}

// Seal says that nothing follows, and waits until all is on disk. It returns the error of a writer
// that has failed, as with ErrDiskSlow.
func (d *BodyWriter) Seal() error {
	set := d.set
	set.mu.Lock()
	d.sealed = true
	set.mu.Unlock()
	_, err := d.Await(context.Background(), 0) // ends by the disk's progress or by the lack of it
	return err
}

// Body is what the entry gets that is put with it: its record alone is left to be written then. It
// is nil unless Seal has succeeded.
func (d *BodyWriter) Body() Body {
	set := d.set
	set.mu.Lock()
	whole, length := d.sealed && d.err == nil && d.written == d.appended && d.rowed == len(d.refs), d.written
	set.mu.Unlock()
	if !whole {
		return nil
	}
	body := d.body(length)
	if length > inlineSize {
		return body
	}
	small := make([]byte, length) // it belongs into the record, and its chunk is swept
	if err := copyBody(small, body); err != nil {
		return nil
	}
	return NewBody([][]byte{small})
}

// Chunk returns a copy of up to 32 KiB from off on. It has what is on disk and nothing else, until
// Close. An error says that off is not on disk yet, or not of the body, that the writer is closed,
// or that the disk could not be read.
func (d *BodyWriter) Chunk(off int64) ([]byte, error) {
	body, err := d.writtenAt(off)
	if err != nil {
		return nil, err
	}
	return body.Chunk(off)
}

// ReadChunk is Chunk into room, of which it returns what it has filled, up to 32 KiB. It writes to
// it no more when it has returned. Its errors are those of Chunk.
func (d *BodyWriter) ReadChunk(room []byte, off int64) ([]byte, error) {
	body, err := d.writtenAt(off)
	if err != nil {
		return nil, err
	}
	return body.readChunk(room, off)
}

// writtenAt is what is written, if off is in it. Before the writer is sealed all its chunks are
// full ones, so this body ends with one.
func (d *BodyWriter) writtenAt(off int64) (*diskBody, error) {
	d.set.mu.Lock()
	written, closed := d.written, d.closed
	d.set.mu.Unlock()
	if closed || off < 0 || off >= written {
		return nil, errNotThere
	}
	return d.body(written), nil
}

// body is what is on disk, up to length.
func (d *BodyWriter) body(length int64) *diskBody {
	return &diskBody{s: d.set.store, id: d.id, length: length, writer: d}
}

// chunkInSlot is the chunk of a body that has so many bytes, where it is in a slot and no row leads
// there yet. There may be another slot behind the row by now.
func (d *BodyWriter) chunkInSlot(number int, length int64) (c slotted, ok bool) {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if d.closed || number < d.rowed || number >= len(d.refs) {
		return slotted{}, false
	}
	n := min(length-int64(number)*chunkSize, chunkSize)
	return slotted{file: d.slots, key: chunkKey(d.id, number), ref: d.refs[number], length: int(n)}, true
}

// isGone tells whether the writer is closed and nothing was made of the body.
func (d *BodyWriter) isGone() bool {
	d.set.mu.Lock()
	defer d.set.mu.Unlock()
	return d.closed && !d.taken
}

// Close ends appending and reading. Unless Put has made an entry of it, what is written is swept. A
// second call does nothing.
func (d *BodyWriter) Close() {
	if !d.set.remove(d) {
		return
	}
	d.set.disk.pins.removeReader(d.id, d.reader)
	d.set.disk.pins.delete(d.id, 0) // which is refused, being pinned, and remembered
	d.set.disk.pins.unpin(d.id)
}

// Unstorable says that no entry is made of the body unless Put has done so: nothing more of it is
// written, and what is written is there for those who read it, until Close. Like a deleted body it
// is no reason to evict others from then on.
func (d *BodyWriter) Unstorable() {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	set.lose(d, errUnstored)
}

// take makes an entry of the chunks; false when one has been made of them before.
func (d *BodyWriter) take(key Key) bool {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if d.taken || d.closed || d.err != nil {
		return false
	}
	d.taken, d.key = true, key
	set.release(d) // from here on it is evicted like any other
	set.disk.pins.noteStored(d.id, d.appended)
	return true
}

// untake says that the entry has not come about.
func (d *BodyWriter) untake() {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if d.closed {
		return
	}
	d.taken = false
	set.disk.pins.noteStored(d.id, 0)
	set.lose(d, errUnstored)
}

// giveUp fails the writer unless more of it than written has come to disk.
func (d *BodyWriter) giveUp(written int64, err error) {
	set := d.set
	set.mu.Lock()
	defer set.mu.Unlock()
	if d.written == written {
		set.lose(d, err)
	}
}

// due tells whether the writer has enough for a transaction.
func (d *BodyWriter) due() bool {
	left := d.appended - d.written
	switch {
	case d.err != nil || left == 0:
		return false
	case d.sealed:
		return true
	}
	return left >= portionBytes || d.awaited && left >= chunkSize
}

// moved tells Await to look again.
func (d *BodyWriter) moved() {
	select {
	case d.progress <- struct{}{}:
	default: // it is told already
	}
}

// bodyWriterOf is the writer that has written the body of e, or nil.
func bodyWriterOf(e *Entry) *BodyWriter {
	if body, ok := e.Body.(*diskBody); ok {
		return body.writer
	}
	return nil
}

// aheadOf tells whether the chunks of e are on disk already, under its own id.
func aheadOf(e *Entry) bool {
	body, ok := e.Body.(*diskBody)
	return ok && body.id == e.ID
}

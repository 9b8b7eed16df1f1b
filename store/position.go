package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/larder-cache/larder/store/internal/wire"
)

// A store that carries out purges which somebody else keeps a list of has to know after a restart
// up to where it has: its position in that list. If it took a position for its own that is ahead of
// what the file has been purged of, the purges between the two would be lost. So:
//
//   - Set. The caller has put in force, by BeginPurge, all purges up to the position. SetPosition
//     reads the last generation G: they have generations up to it.
//   - Written. A transaction has the position if all purges up to G have been counted before it
//     began: then they are in the file, or have nothing there to hit and what comes later passes
//     the disk writer (purge.go, "Nothing on disk"), or have failed. Of one that has failed the
//     file is given up, so this is another file, or the same taken up again: either has all purges
//     in force from before its first other transaction.
//   - Crash. The position of the last commit is older, or none: what is between is carried out once
//     more, which costs entries fetched meanwhile.
//   - Another file. What is put into it from now on has passed the disk writer, so the position of
//     the store is that of the file. At the next start a file that is not ours, is begun anew or
//     was discarded has none; neither has one whose position is damaged.
//   - Taken up late. The file's own position is of before, and gives way to one that has been set
//     since. If none was when Position was asked, the caller has made all that was stored before
//     suspect, by a purge that is in force until the file has it.

// MaxPosition is how long a position may be, in bytes.
const MaxPosition = 64

// ErrPosition says that a position is too long.
var ErrPosition = errors.New("a position has at most 64 bytes")

// metaPosition is the name of the position in the meta bucket: checksum(4), the position.
var metaPosition = []byte("position")

// storePosition is the position of a store, and what of it the file has not.
type storePosition struct {
	mu   sync.Mutex
	last setPosition
	ours bool // it was set, and not read from a file
	// due is to be written, nil when the file has the last. It stays until it has been written,
	// whatever is set meanwhile: where purges come without a gap there are always some that are not
	// counted, but not the same.
	due *setPosition
}

// setPosition is a position as it was set. It does not change.
type setPosition struct {
	value []byte
	after uint64 // the generation of the last purge in force then
}

// SetPosition notes how far the store has come in a list of purges that somebody else keeps. The
// store does not look into it. It is written to the file within about a second, and when the store
// is closed, and never before the purges that are in force now. A value of more than MaxPosition
// bytes is refused with ErrPosition.
func (s *Store) SetPosition(value []byte) error {
	if len(value) > MaxPosition {
		return ErrPosition
	}
	p := &s.position
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ours && bytes.Equal(p.last.value, value) {
		return nil // and what has been purged since does not hold it up
	}
	p.last, p.ours = setPosition{bytes.Clone(value), s.purges.last.Load()}, true
	if p.due == nil {
		p.isNotWritten()
	}
	return nil
}

// isNotWritten has the last position written.
func (p *storePosition) isNotWritten() {
	last := p.last
	p.due = &last
}

// Position returns what SetPosition was given last. Before that it is what the file had when it was
// opened; nil when there is none.
func (s *Store) Position() []byte {
	p := &s.position
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.last.value)
}

// opened notes the position of a file that is put to use.
func (p *storePosition) opened(inFile []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ours {
		p.isNotWritten()
	} else {
		p.last.value = inFile
	}
}

// isDue tells whether there is a position that the file has not and may have: purges below a
// generation have been counted.
func (p *storePosition) isDue(below uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due != nil && p.due.after < below
}

// write adds the position to a transaction, where that may have it. written is called when it has
// been committed.
func (p *storePosition) write(b *batch) (written func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.due
	if due == nil || due.after >= b.below {
		return func() {}, nil
	}
	return func() { p.wrote(due) }, b.putPosition(due.value)
}

func (p *storePosition) wrote(due *setPosition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.due = nil; !bytes.Equal(p.last.value, due.value) {
		p.isNotWritten()
	}
}

func (t *buckets) putPosition(value []byte) error {
	v := binary.BigEndian.AppendUint32(nil, wire.Checksum(metaPosition, value))
	return t.meta.Put(metaPosition, append(v, value...))
}

// position is the file's, nil without one.
func (t *buckets) position() []byte {
	v := t.meta.Get(metaPosition)
	if len(v) <= 4 || len(v) > 4+MaxPosition || binary.BigEndian.Uint32(v) != wire.Checksum(metaPosition, v[4:]) {
		return nil
	}
	return bytes.Clone(v[4:])
}

// commitPosition writes the position where nothing else is written.
func (dw *diskWriter) commitPosition() error {
	if !dw.diskUp() || !dw.s.position.isDue(dw.purges.countedBelow()) {
		return nil
	}
	if err := dw.transact(func(*batch) error { return nil }); err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	return nil
}

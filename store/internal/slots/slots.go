// Package slots is a file of pieces of one size, in any order: who uses it keeps, in a place of its
// own, which slots are taken and what is in each.
//
//	Open ─► Mark … Known            what the keeper has, as far as it is read
//	Take ─► WriteAt ─► Sync         before the keeper writes down that the slot is taken
//	Give                            after the keeper has written down that it is not
//
// So a crash at any point leaves slots that are not written down, which are free.
//
// Until Known is called only slots beyond the end of the file are given out, so that nothing has to
// be read before the first is.
//
// A slot that is given back is not written to before all who may still read it have left: reading
// goes on between Enter and Leave, and who has learnt of a slot between them may read it until
// Leave.
package slots

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"sync"
	"sync/atomic"
)

// Size is how many bytes a slot has.
const Size = 256 << 10

// maxSlots is how many a file may have, by the four bytes of their numbers.
const maxSlots = 1 << 32

// Errors of a File without an open file.
var (
	// ErrClosed says that it has been closed.
	ErrClosed = errors.New("slots: the file is closed")
	// ErrNoFile says that there is none: no slot has been taken since it was last looked for.
	ErrNoFile = errors.New("slots: there is no file")
)

// Storage is what File does with an open file.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
}

// File is a file of slots. There is none in the file system before the first slot is taken. Take,
// Mark, Known, Shrink and Reset belong to one goroutine, or to several that take turns; the others
// are for any.
type File struct {
	open func(flag int) (Storage, error)
	file atomic.Pointer[Storage] // nil: there is none, or it is closed

	closed atomic.Bool

	mu    sync.Mutex
	taken []uint64 // a bit for each slot
	count uint64   // of slots in the file
	low   uint64   // none below is free
	known bool     // all that are taken have been marked
	left  [2][]uint32

	// Who reads has entered in an epoch, of which two follow each other: what is given in one of
	// them is free when no reader is left of it and of the one before.
	epoch   atomic.Uint32
	readers [2]atomic.Int64

	used, length atomic.Int64
}

// Open opens a file by open, which is called with O_CREATE added when the first slot is taken of
// a file that is not there. Its errors are those of open, but for [os.ErrNotExist].
func Open(open func(flag int) (Storage, error)) (*File, error) {
	f := &File{open: open, known: true}
	file, err := open(os.O_RDWR)
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	f.file.Store(&file)
	f.count = uint64(info.Size()+Size-1) / Size
	f.known = f.count == 0
	f.measure()
	return f, nil
}

// measure notes how long the file is.
func (f *File) measure() { f.length.Store(int64(f.count) * Size) }

// Closed returns a File that is closed.
func Closed() *File {
	f := new(File)
	f.closed.Store(true)
	return f
}

// Close closes the file. Slots can neither be taken, read nor written after that.
func (f *File) Close() error {
	f.closed.Store(true)
	if file := f.file.Swap(nil); file != nil {
		return (*file).Close()
	}
	return nil
}

// Assume says what its keeper has written down: how many slots are taken, which is believed until
// Known, and how many there are. The file may have fewer, if it was cut short or is another one:
// none of these is given out before it is known whether it is taken.
func (f *File) Assume(taken, count uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if count = min(count, maxSlots); count > f.count {
		f.count, f.known = count, false
		f.measure()
	}
	if !f.known {
		f.used.Store(int64(min(taken, f.count)) * Size)
	}
}

// Used is how many bytes the slots have that are taken.
func (f *File) Used() int64 { return f.used.Load() }

// Free is how many bytes the slots have that can be taken now without the file becoming longer:
// none before Known, and none that is given back and may still be read.
func (f *File) Free() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known {
		return 0
	}
	f.settle()
	return f.length.Load() - f.used.Load() - int64(len(f.left[0])+len(f.left[1]))*Size
}

// Count is how many slots there are.
func (f *File) Count() uint64 { return uint64(f.length.Load()) / Size }

// Len is how many bytes the file has.
func (f *File) Len() int64 { return f.length.Load() }

// Storage is the open file, nil where there is none.
func (f *File) Storage() Storage {
	if file := f.file.Load(); file != nil {
		return *file
	}
	return nil
}

// Mark notes that a slot is taken, as its keeper has it. One that is not in the file is no entry's.
func (f *File) Mark(slot uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if uint64(slot) < f.count {
		f.set(uint64(slot))
	}
}

// Known says that all slots that are taken have been marked.
func (f *File) Known() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		return
	}
	f.known = true
	taken := 0
	for _, word := range f.taken {
		taken += bits.OnesCount64(word)
	}
	for _, left := range f.left { // taken until no reader is left
		taken -= len(left)
	}
	f.used.Store(int64(taken) * Size)
}

// IsKnown tells whether Known has been called, or there was nothing to know.
func (f *File) IsKnown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

func (f *File) isTaken(slot uint64) bool {
	word := slot / 64
	return word < uint64(len(f.taken)) && f.taken[word]&(1<<(slot%64)) != 0
}

func (f *File) set(slot uint64) {
	for uint64(len(f.taken)) <= slot/64 {
		f.taken = append(f.taken, 0)
	}
	f.taken[slot/64] |= 1 << (slot % 64)
}

// Take returns a slot that is free: the lowest, so that the end of the file gets free. It makes the
// file where there is none, and made says so. Its errors are those of opening the file.
func (f *File) Take() (slot uint32, made bool, err error) {
	if f.closed.Load() {
		return 0, false, ErrClosed
	}
	if f.file.Load() == nil {
		file, err := f.open(os.O_RDWR | os.O_CREATE)
		if err != nil {
			return 0, false, err
		}
		f.file.Store(&file)
		made = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	free := f.next()
	if free >= maxSlots {
		return 0, made, fmt.Errorf("slots: all of %d are taken", uint64(maxSlots))
	}
	f.set(free)
	f.used.Add(Size)
	f.count = max(f.count, free+1)
	f.measure()
	return uint32(free), made, nil
}

// next is the slot that is taken next: one behind all where it is not known which are free.
func (f *File) next() uint64 {
	f.settle()
	if f.known {
		return f.lowest()
	}
	return f.count
}

// Next tells which slot Take returns next.
func (f *File) Next() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next()
}

// lowest is the lowest slot that is free; count where none is.
func (f *File) lowest() uint64 {
	for word := f.low / 64; word < uint64(len(f.taken)); word++ {
		if free := ^f.taken[word]; free != 0 {
			f.low = word * 64
			return min(f.low+uint64(bits.TrailingZeros64(free)), f.count)
		}
	}
	f.low = uint64(len(f.taken)) * 64
	return min(f.low, f.count)
}

// Give gives slots back. They are free when all who may read them have left.
func (f *File) Give(slots ...uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.epoch.Load() % 2
	for _, slot := range slots {
		if !f.isTaken(uint64(slot)) {
			if f.known || uint64(slot) >= f.count {
				continue // it is free
			}
			f.set(uint64(slot)) // it is not marked yet
		}
		f.left[now] = append(f.left[now], slot)
		f.used.Store(max(0, f.used.Load()-Size))
	}
	f.settle()
}

// settle frees what is not read any more. No reader enters an epoch that is past, so one that is
// empty stays empty; and who is in the present one may have learnt of what was given in the last.
func (f *File) settle() {
	for range 2 {
		now := f.epoch.Load()
		last := (now + 1) % 2
		if f.readers[last].Load() != 0 {
			return
		}
		for _, slot := range f.left[last] {
			f.taken[slot/64] &^= 1 << (slot % 64)
			f.low = min(f.low, uint64(slot))
		}
		f.left[last] = f.left[last][:0]
		f.epoch.Store(now + 1)
	}
}

// Enter begins reading. The epoch that it returns is what Leave is told.
func (f *File) Enter() (epoch uint32) {
	for {
		epoch = f.epoch.Load()
		f.readers[epoch%2].Add(1)
		if f.epoch.Load() == epoch {
			return epoch
		}
		f.readers[epoch%2].Add(-1) // it has passed meanwhile
	}
}

// Leave ends reading.
func (f *File) Leave(epoch uint32) { f.readers[epoch%2].Add(-1) }

// ReadAt fills p from a slot, from off on. Beyond the end of the file the error is
// [io.ErrUnexpectedEOF].
func (f *File) ReadAt(p []byte, slot uint32, off int64) error {
	file := f.Storage()
	if file == nil {
		return f.none()
	}
	_, err := file.ReadAt(p, int64(slot)*Size+off)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// WriteAt writes up to Size bytes to a slot that is taken.
func (f *File) WriteAt(p []byte, slot uint32) error {
	file := f.Storage()
	if file == nil {
		return f.none()
	}
	_, err := file.WriteAt(p, int64(slot)*Size)
	return err
}

// Sync makes durable what has been written.
func (f *File) Sync() error {
	file := f.Storage()
	switch {
	case file != nil:
		return file.Sync()
	case f.closed.Load():
		return ErrClosed
	}
	return nil // nothing has been written
}

// none is why there is no file.
func (f *File) none() error {
	if f.closed.Load() {
		return ErrClosed
	}
	return ErrNoFile
}

// Shrinkable tells whether slots at the end of the file are free.
func (f *File) Shrinkable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settle()
	return f.known && f.end() < f.count
}

// end is where the last slot ends that is taken.
func (f *File) end() uint64 {
	for word := len(f.taken); word > 0; word-- {
		if w := f.taken[word-1]; w != 0 {
			return uint64(word)*64 - uint64(bits.LeadingZeros64(w))
		}
	}
	return 0
}

// Shrink cuts the slots off that are free at the end of the file.
func (f *File) Shrink() error {
	f.mu.Lock()
	end, file := f.end(), f.Storage()
	shrinks := f.known && end < f.count
	f.mu.Unlock()
	if !shrinks || file == nil {
		return nil
	}
	if err := file.Truncate(int64(end) * Size); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.low = end, min(f.low, end)
	f.taken = f.taken[:min(uint64(len(f.taken)), (end+63)/64)]
	f.measure()
	return nil
}

// Reset empties the file, whose keeper has begun anew: none of it is taken.
func (f *File) Reset() error {
	f.Known()
	return f.Shrink()
}

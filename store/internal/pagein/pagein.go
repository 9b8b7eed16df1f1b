// Package pagein reads pages of a bbolt file by system calls, before bbolt touches them in its map.
//
// A page of a map that is not in memory is read by the kernel in a page fault. That is no system
// call to Go's runtime, so the thread that waits keeps its processor. As many faults at once as
// there are processors stop the whole program, what it answers from memory too. And bbolt has the
// kernel read nothing ahead (MADV_RANDOM), so that each fault brings 4 KiB: fifteen for a row of 60
// KB. A thread that waits in a read by a system call lets go of its processor. After that the pages
// are in the page cache, and touching them waits for nothing.
//
// What is read here is a hint. An error of the file, or a page that makes no sense, ends it, and
// bbolt comes to the same page.
package pagein

import (
	"bytes"
	"encoding/binary"
	"io"
	"sort"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

const (
	// bufferSize is how much is read at once. A page whose elements take more than that is left to
	// bbolt.
	bufferSize = 64 << 10
	// maxRead is how much is read in all: a damaged page may say to go on to the end of the file,
	// or to be its own child. A leaf of Larder's with chunks in it takes a MiB.
	maxRead = 4 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// File is a bbolt file that is in use.
type File struct {
	file     io.ReaderAt
	pageSize int64
}

// New returns a File of pages of so many bytes.
func New(file io.ReaderAt, pageSize int) *File { return &File{file, int64(pageSize)} }

// Row reads what a look-up of key touches in the bucket whose root is that page: the pages on the
// way to the first row that is not less than key, its key, and of its value what lies between from
// and to. The caller has a transaction, so that none of them changes. A bucket without a page of
// its own has the root 0, and nothing to read.
func (f *File) Row(root uint64, key []byte, from, to int64) {
	w := f.walk()
	defer w.end()
	if p, i := w.find(root, key, 0, true); p != nil {
		row := p.row(i)
		w.rest(p, row.from, row.value)
		w.rest(p, row.value+from, min(row.value+to, row.to))
	}
}

// Leaf reads what a change of the row with that key touches: the pages on the way to it and its
// leaf, which is written anew, but for the row itself where that goes. It returns the leaf's page.
// Nothing of the leaf is read where that is last, which the caller has had read before.
func (f *File) Leaf(root uint64, key []byte, goes bool, last uint64) uint64 {
	w := f.walk()
	defer w.end()
	p, i := w.find(root, key, last, false)
	if p == nil {
		return last
	}
	if goes && i < p.count {
		row := p.row(i)
		w.rest(p, 0, row.value)
		w.rest(p, row.to, p.length)
	} else {
		w.rest(p, 0, p.length)
	}
	return p.id
}

// walk is one way through a tree.
type walk struct {
	*File
	buffer *[bufferSize]byte
	read   int64  // in all
	long   []byte // the last key that was not in the part of its page that is read
}

func (f *File) walk() *walk { return &walk{File: f, buffer: buffers.Get().(*[bufferSize]byte)} }

func (w *walk) end() { buffers.Put(w.buffer) }

// readAt fills b; false where that cannot be, or too much has been read.
func (w *walk) readAt(b []byte, off int64) bool {
	if w.read += int64(len(b)); w.read > maxRead {
		return false
	}
	n, _ := w.file.ReadAt(b, off)
	return n == len(b)
}

// find goes to the leaf for a key, and there to the first row that is not less; nil if there is
// none, or the leaf is that of the page last. If that row is in the next leaf, it goes on to that
// where it is wanted.
func (w *walk) find(root uint64, key []byte, last uint64, goOn bool) (p *page, i int) {
	next := uint64(0) // the page behind those on the way
	for id := root; id != 0; {
		if p = w.page(id); p == nil || p.id == last {
			return nil, 0
		}
		i = w.search(p, key)
		switch {
		case p.branch:
			var behind uint64
			if id, behind = w.children(p, i, key); behind != 0 {
				next = behind
			}
		case i < p.count || !goOn:
			return p, i
		default:
			id, next = next, 0
		}
	}
	return nil, 0
}

// page is one of a tree, of which the elements and what follows them are in data.
type page struct {
	id     uint64
	off    int64 // in the file
	length int64
	data   []byte
	count  int
	branch bool
}

// page reads the first part of a page; nil if it is none of a tree.
func (w *walk) page(id uint64) *page {
	p := &page{id: id, off: int64(id) * w.pageSize, data: w.buffer[:min(w.pageSize, bufferSize)]}
	if !w.readAt(p.data, p.off) {
		return nil
	}
	h := boltcheck.ReadHeader(p.data)
	p.count, p.branch = h.Count, h.Flags == boltcheck.Branch
	p.length = (int64(h.Overflow) + 1) * w.pageSize
	elements := boltcheck.PageHeader + p.count*boltcheck.Element
	if h.ID != id || !p.branch && h.Flags != boltcheck.Leaf || p.count == 0 || int64(elements) > p.length || elements > bufferSize {
		return nil
	}
	if elements > len(p.data) {
		if p.data = w.buffer[:elements]; !w.readAt(p.data, p.off) {
			return nil
		}
	}
	return p
}

// element returns one of the page, and where it is in the page.
func (p *page) element(i int) (at int64, e []byte) {
	n := boltcheck.PageHeader + i*boltcheck.Element
	return int64(n), p.data[n : n+boltcheck.Element]
}

// place is where a row is in its page. A branch's has no value.
type place struct{ from, value, to int64 }

func (p *page) row(i int) place {
	order := binary.NativeEndian
	at, e := p.element(i)
	var pos, key, value uint32
	if p.branch { // pos(4), length of the key(4), child(8)
		pos, key = order.Uint32(e), order.Uint32(e[4:])
	} else { // flags(4), pos(4), length of the key(4), of the value(4)
		pos, key, value = order.Uint32(e[4:]), order.Uint32(e[8:]), order.Uint32(e[12:])
	}
	from := at + int64(pos)
	return place{from, from + int64(key), min(from+int64(key)+int64(value), p.length)}
}

// key is that of an element, empty if there is none in the page.
func (w *walk) key(p *page, i int) []byte {
	row := p.row(i)
	if row.value <= int64(len(p.data)) {
		return p.data[row.from:row.value]
	}
	size := row.value - row.from
	if row.value > p.length || size > bbolt.MaxKeySize {
		return nil
	}
	if size > int64(cap(w.long)) {
		w.long = make([]byte, size)
	}
	if w.long = w.long[:size]; !w.readAt(w.long, p.off+row.from) {
		return nil
	}
	return w.long
}

// search is the first element whose key is not less than key.
func (w *walk) search(p *page, key []byte) int {
	return sort.Search(p.count, func(i int) bool { return bytes.Compare(w.key(p, i), key) >= 0 })
}

// children are the page below a branch that would have the key, by what search has found, and the
// page behind that, 0 if it is the last.
func (w *walk) children(p *page, i int, key []byte) (id, next uint64) {
	if i == p.count || i > 0 && !bytes.Equal(w.key(p, i), key) {
		i--
	}
	if i+1 < p.count {
		next = p.child(i + 1)
	}
	return p.child(i), next
}

func (p *page) child(i int) uint64 {
	_, e := p.element(i)
	return binary.NativeEndian.Uint64(e[8:])
}

// rest reads what lies between from and to beyond the part of the page that is read.
func (w *walk) rest(p *page, from, to int64) {
	for from = max(from, int64(len(p.data))); from < to; from += bufferSize {
		if !w.readAt(w.buffer[:min(bufferSize, to-from)], p.off+from) {
			return
		}
	}
}

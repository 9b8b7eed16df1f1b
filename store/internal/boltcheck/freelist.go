// Package boltcheck looks at a bbolt file, before bbolt opens it, for damage that bbolt cannot
// survive.
//
//	freelist.go  the meta pages and the list of free pages
//	tree.go      the upper levels of the tree
//
// bbolt believes its list of free pages without a checksum. Where that is damaged, it allocates as
// much memory as the list says it is long, or as its page says it goes on, which nothing can
// recover from, and writes to pages far outside of the file or in use. So Freelist looks at the
// list before bbolt opens a file, and FreelistHead at the head of it, which bbolt reads again in
// every transaction that writes, before each. What is read here is version 2 of the format: two
// meta pages, of which the one with the later transaction counts, and the list, a page with so many
// overflow pages behind it.
package boltcheck

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// ErrDamaged is wrapped by every error that says that bytes read are not those written.
var ErrDamaged = errors.New("damaged")

// PageHeader is the length of a page's header: id(8), flags(2), count(2), overflow(4).
const PageHeader = 16

const (
	magic        = 0xED0CDAED
	version      = 2
	freelistPage = 0x10 // flag of a page
	noFreelist   = 1<<64 - 1
	metaSum      = 56 // what the checksum of a meta page covers
)

// MetaPage is what matters here of a meta page. Sizes are in bytes, places in pages.
type MetaPage struct {
	PageSize int64
	Root     uint64 // page of the bucket of buckets
	Freelist uint64 // its page
	Pages    uint64 // allocated from the file so far
	// Transaction is that which has written it.
	Transaction uint64
}

// Freelist returns ErrDamaged when the list of free pages cannot be right. A file whose meta
// pages say nothing is left to bbolt, which has words for that.
func Freelist(file io.ReaderAt) error {
	meta, ok := ReadMeta(file)
	if !ok || meta.Freelist == noFreelist {
		return nil
	}
	list, err := ReadList(file, meta)
	if err != nil {
		return err
	}
	ids := make([]byte, list.Count*8)
	if _, err := file.ReadAt(ids, list.off); err != nil {
		return readFault(err)
	}
	last := uint64(1) // behind the meta pages
	for len(ids) > 0 {
		id := binary.NativeEndian.Uint64(ids)
		if id <= last || id >= meta.Pages {
			return fmt.Errorf("list of free pages: %d behind %d, of %d: %w", id, last, meta.Pages, ErrDamaged)
		}
		last, ids = id, ids[8:]
	}
	return nil
}

// FreelistHead is Meta, and Freelist but for the ids.
func FreelistHead(file io.ReaderAt) error {
	meta, ok := ReadMeta(file)
	if !ok {
		return ErrLost
	}
	if meta.Freelist == noFreelist {
		return nil
	}
	_, err := ReadList(file, meta)
	return err
}

// ErrLost says that the file has lost its head while it was open: it was cut short, say.
var ErrLost = fmt.Errorf("no sound meta page: %w", ErrDamaged)

// Meta returns ErrLost when there is no sound meta page. bbolt would panic where it begins a
// transaction, with locks held that all others need, and they would wait for ever. The file is
// read, which costs a twentieth of a look-up, and not looked at through a map: a file that is cut
// short has its new length before any of its pages leave a map, so that a read fails while bbolt's
// map still holds for those who are past this. Of two maps the one may lose its pages after the
// other.
func Meta(file io.ReaderAt) error {
	if _, ok := metaAt(file, 0); ok {
		return nil
	}
	if _, ok := ReadMeta(file); ok {
		return nil
	}
	return ErrLost
}

// ReadMeta returns the later of the valid meta pages.
func ReadMeta(file io.ReaderAt) (MetaPage, bool) {
	first, ok := metaAt(file, 0)
	if ok {
		if second, valid := metaAt(file, first.PageSize); valid && second.Transaction > first.Transaction {
			return second, true
		}
		return first, true
	}
	for size := int64(1024); size <= 1<<16; size *= 2 {
		if second, valid := metaAt(file, size); valid && second.PageSize == size {
			return second, true
		}
	}
	return MetaPage{}, false
}

func metaAt(file io.ReaderAt, off int64) (MetaPage, bool) {
	var b [metaSum + 8]byte
	if _, err := file.ReadAt(b[:], off+PageHeader); err != nil {
		return MetaPage{}, false
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSum])
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	if u32(b[:]) != magic || u32(b[4:]) != version || u64(b[metaSum:]) != sum.Sum64() {
		return MetaPage{}, false
	}
	return MetaPage{
		PageSize: int64(u32(b[8:])), Root: u64(b[16:]), Freelist: u64(b[32:]), Pages: u64(b[40:]), Transaction: u64(b[48:]),
	}, true
}

// List is where the ids of the list begin, and how many there are.
type List struct {
	off   int64
	Count uint64
}

// ReadList reads the head of the list's first page and holds it to the file and to itself.
func ReadList(file io.ReaderAt, meta MetaPage) (List, error) {
	if meta.Freelist < 2 || meta.Freelist >= meta.Pages {
		return List{}, fmt.Errorf("list of free pages: at page %d of %d: %w", meta.Freelist, meta.Pages, ErrDamaged)
	}
	var b [PageHeader + 8]byte
	list := List{off: int64(meta.Freelist) * meta.PageSize}
	if _, err := file.ReadAt(b[:], list.off); err != nil {
		return List{}, readFault(err)
	}
	id, flags := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint16(b[8:])
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	list.off += PageHeader
	list.Count = uint64(binary.NativeEndian.Uint16(b[10:]))
	if list.Count == 0xFFFF { // it does not fit there: the first id is the number
		list.Count = binary.NativeEndian.Uint64(b[PageHeader:])
		list.off += 8
	}
	// Its pages were allocated, from the list itself at best, for what it held before.
	page := uint64(meta.PageSize)
	most := PageHeader + 8*(list.Count+overflow+2)
	if id != meta.Freelist || flags != freelistPage || list.Count > meta.Pages || meta.Freelist+overflow >= meta.Pages ||
		PageHeader+8*list.Count > (overflow+1)*page || overflow*page > most {
		return List{}, fmt.Errorf("list of free pages: page %d is marked as %d, %#x, with %d ids and %d pages more: %w",
			meta.Freelist, id, flags, list.Count, overflow, ErrDamaged)
	}
	return list, nil
}

// readFault is an error of reading what must be in a file: the end of the file is damage.
func readFault(err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file ends before: %w", ErrDamaged)
	}
	return fmt.Errorf("list of free pages: %w", err)
}

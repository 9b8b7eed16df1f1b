package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt believes its list of free pages without a checksum. Where that is damaged, it allocates as
// much memory as the list says it is long, or as its page says it goes on, which nothing can
// recover from, and writes to pages far outside of the file or in use. So the list is looked at
// before bbolt opens a file, and the head of it, which bbolt reads again in every transaction that
// writes, before each. What is read here is version 2 of the format: two meta pages, of which the
// one with the later transaction counts, and the list, a page with so many overflow pages behind
// it.

const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltHeader     = 16 // of a page: id(8), flags(2), count(2), overflow(4)
	boltFreelist   = 0x10
	boltNoFreelist = 1<<64 - 1
	boltMetaSum    = 56 // what the checksum of a meta page covers
)

// boltMeta is what matters here of a meta page.
type boltMeta struct {
	pageSize int64
	root     uint64 // page of the bucket of buckets
	freelist uint64 // its page
	pages    uint64 // allocated from the file so far
	txid     uint64
}

// checkFreelist returns errDamaged when the list of free pages cannot be right. A file whose meta
// pages say nothing is left to bbolt, which has words for that.
func checkFreelist(file io.ReaderAt) error {
	meta, ok := readMeta(file)
	if !ok || meta.freelist == boltNoFreelist {
		return nil
	}
	list, err := readListHead(file, meta)
	if err != nil {
		return err
	}
	ids := make([]byte, list.count*8)
	if _, err := file.ReadAt(ids, list.off); err != nil {
		return readFault(err)
	}
	last := uint64(1) // behind the meta pages
	for len(ids) > 0 {
		id := binary.NativeEndian.Uint64(ids)
		if id <= last || id >= meta.pages {
			return fmt.Errorf("list of free pages: %d behind %d, of %d: %w", id, last, meta.pages, errDamaged)
		}
		last, ids = id, ids[8:]
	}
	return nil
}

// checkListHead is checkMeta, and checkFreelist but for the ids.
func checkListHead(file io.ReaderAt) error {
	meta, ok := readMeta(file)
	if !ok {
		return errLost
	}
	if meta.freelist == boltNoFreelist {
		return nil
	}
	_, err := readListHead(file, meta)
	return err
}

// errLost says that the file has lost its head while it was open: it was cut short, say.
var errLost = fmt.Errorf("no sound meta page: %w", errDamaged)

// checkMeta returns errLost when there is no sound meta page. bbolt would panic where it begins a
// transaction, with locks held that all others need, and they would wait for ever. The file is
// read, which costs a twentieth of a look-up, and not looked at through a map: a file that is cut
// short has its new length before any of its pages leave a map, so that a read fails while bbolt's
// map still holds for those who are past this. Of two maps the one may lose its pages after the
// other.
func checkMeta(file io.ReaderAt) error {
	if _, ok := metaAt(file, 0); ok {
		return nil
	}
	if _, ok := readMeta(file); ok {
		return nil
	}
	return errLost
}

// readMeta returns the later of the valid meta pages.
func readMeta(file io.ReaderAt) (boltMeta, bool) {
	first, ok := metaAt(file, 0)
	if ok {
		if second, valid := metaAt(file, first.pageSize); valid && second.txid > first.txid {
			return second, true
		}
		return first, true
	}
	for size := int64(1024); size <= 1<<16; size *= 2 {
		if second, valid := metaAt(file, size); valid && second.pageSize == size {
			return second, true
		}
	}
	return boltMeta{}, false
}

func metaAt(file io.ReaderAt, off int64) (boltMeta, bool) {
	var b [boltMetaSum + 8]byte
	if _, err := file.ReadAt(b[:], off+boltHeader); err != nil {
		return boltMeta{}, false
	}
	sum := fnv.New64a()
	_, _ = sum.Write(b[:boltMetaSum])
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	if u32(b[:]) != boltMagic || u32(b[4:]) != boltVersion || u64(b[boltMetaSum:]) != sum.Sum64() {
		return boltMeta{}, false
	}
	return boltMeta{
		pageSize: int64(u32(b[8:])), root: u64(b[16:]), freelist: u64(b[32:]), pages: u64(b[40:]), txid: u64(b[48:]),
	}, true
}

// listHead is where the ids of the list begin, and how many there are.
type listHead struct {
	off   int64
	count uint64
}

// readListHead reads the head of the list's first page and holds it to the file and to itself.
func readListHead(file io.ReaderAt, meta boltMeta) (listHead, error) {
	if meta.freelist < 2 || meta.freelist >= meta.pages {
		return listHead{}, fmt.Errorf("list of free pages: at page %d of %d: %w", meta.freelist, meta.pages, errDamaged)
	}
	var b [boltHeader + 8]byte
	list := listHead{off: int64(meta.freelist) * meta.pageSize}
	if _, err := file.ReadAt(b[:], list.off); err != nil {
		return listHead{}, readFault(err)
	}
	id, flags := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint16(b[8:])
	overflow := uint64(binary.NativeEndian.Uint32(b[12:]))
	list.off += boltHeader
	list.count = uint64(binary.NativeEndian.Uint16(b[10:]))
	if list.count == 0xFFFF { // it does not fit there: the first id is the number
		list.count = binary.NativeEndian.Uint64(b[boltHeader:])
		list.off += 8
	}
	// Its pages were allocated, from the list itself at best, for what it held before.
	page := uint64(meta.pageSize)
	most := boltHeader + 8*(list.count+overflow+2)
	if id != meta.freelist || flags != boltFreelist || list.count > meta.pages || meta.freelist+overflow >= meta.pages ||
		boltHeader+8*list.count > (overflow+1)*page || overflow*page > most {
		return listHead{}, fmt.Errorf("list of free pages: page %d is marked as %d, %#x, with %d ids and %d pages more: %w",
			meta.freelist, id, flags, list.count, overflow, errDamaged)
	}
	return list, nil
}

// readFault is an error of reading what must be in a file: the end of the file is damage.
func readFault(err error) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file ends before: %w", errDamaged)
	}
	return fmt.Errorf("list of free pages: %w", err)
}

package boltcheck

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Like its list of free pages (freelist.go), bbolt believes what a page of its tree says of its
// children and of its overflow pages. After a loss of power, where the disk had not written all it
// had promised, an old page may stand among new ones, and what it calls its children may be
// anything by now, even pages above it. A walk into such a circle goes round for ever, or takes all
// memory, and nothing can recover from that. So the tree is looked at, from the top, before bbolt
// opens the file.

const (
	// treeWhole is how many pages are looked at in any case, and treePages at most: of a large file
	// the upper levels, a million entries have about 6,000 branches. In between the time counts,
	// because pages that have not been read since the system started take a disk some milliseconds
	// each.
	treeWhole = 1 << 10
	treePages = 1 << 13
	treeTime  = 100 * time.Millisecond
)

const (
	// Branch is the flag of a branch page.
	Branch = 0x01
	// Leaf is that of a leaf page.
	Leaf = 0x02
	// Element is the length of an element, of which a branch or a leaf has count behind its header.
	Element = 16

	metaPage     = 0x04
	bucket       = 0x01 // flag of an element of a leaf
	bucketHeader = 16   // of the value of such an element: root(8), sequence(8)
)

// Place is where a page of the tree is.
type Place struct {
	ID uint64
	// Top says that it is none of a bucket, so that what its leaves have are the buckets. There are
	// none within one.
	Top bool
}

// Header is that of a page: who it is, of which kind, how many elements it has, and how many pages
// behind it belong to it.
type Header struct {
	ID       uint64
	Flags    uint16
	Count    int
	Overflow uint32
}

// ReadHeader reads the first PageHeader bytes of a page.
func ReadHeader(page []byte) Header {
	order := binary.NativeEndian
	return Header{order.Uint64(page), order.Uint16(page[8:]), int(order.Uint16(page[10:])), order.Uint32(page[12:])}
}

// Tree returns ErrDamaged when a page is the child of two, reaches out of the file, or is taken for
// a branch by bbolt and is none: bbolt takes what is no leaf for one.
func Tree(file io.ReaderAt) error {
	meta, ok := ReadMeta(file)
	if !ok {
		return nil
	}
	began := time.Now()
	seen := make(map[uint64]struct{})
	for level := []Place{{ID: meta.Root, Top: true}}; len(level) > 0; {
		var below []Place
		for _, at := range level {
			if _, again := seen[at.ID]; again || at.ID >= meta.Pages {
				return damagedTree("page %d of %d is there twice or not at all", at.ID, meta.Pages)
			}
			if n := len(seen); n >= treePages || n >= treeWhole && time.Since(began) > treeTime {
				return nil
			}
			seen[at.ID] = struct{}{}
			children, err := Children(file, meta, at)
			if err != nil {
				return err
			}
			below = append(below, children...)
		}
		level = below
	}
	return nil
}

// Children are the pages below one: of a branch its children, of a leaf at the top the buckets in
// it. A page that bbolt itself refuses, because it says to be another one or of no kind, has none:
// that costs what is below it alone.
func Children(file io.ReaderAt, meta MetaPage, at Place) ([]Place, error) {
	off := int64(at.ID) * meta.PageSize
	page := make([]byte, meta.PageSize)
	if _, err := file.ReadAt(page, off); err != nil {
		return nil, readFault(err)
	}
	h := ReadHeader(page)
	length := (int64(h.Overflow) + 1) * meta.PageSize
	elements := PageHeader + h.Count*Element
	switch {
	case at.ID+uint64(h.Overflow) >= meta.Pages:
		return nil, damagedTree("page %d goes on for %d pages, of %d", at.ID, h.Overflow, meta.Pages)
	case h.ID != at.ID:
		return nil, nil
	case h.Flags == freelistPage || h.Flags == metaPage:
		return nil, damagedTree("page %d is none of a tree", at.ID)
	case h.Flags == Branch && h.Count == 0:
		return nil, damagedTree("page %d is a branch without children", at.ID)
	case h.Flags != Branch && (h.Flags != Leaf || !at.Top):
		return nil, nil
	case int64(elements) > length:
		return nil, damagedTree("page %d has %d elements in %d bytes", at.ID, h.Count, length)
	}
	if elements > len(page) {
		page = make([]byte, elements)
		if _, err := file.ReadAt(page, off); err != nil {
			return nil, readFault(err)
		}
	}
	if h.Flags == Branch {
		return branchChildren(page, h.Count, at.Top), nil
	}
	return buckets(io.NewSectionReader(file, off, length), page[:elements], at.ID)
}

func branchChildren(page []byte, count int, top bool) []Place {
	found := make([]Place, count)
	for i := range found { // pos(4), length of the key(4), child(8)
		found[i] = Place{binary.NativeEndian.Uint64(page[PageHeader+i*Element+8:]), top}
	}
	return found
}

// buckets are the roots of the buckets in a leaf. A small bucket has none: its only page, a leaf,
// is in the value.
func buckets(pages io.ReaderAt, elements []byte, id uint64) (roots []Place, err error) {
	order := binary.NativeEndian
	for at := PageHeader; at < len(elements); at += Element {
		e := elements[at:] // flags(4), pos(4), length of the key(4), of the value(4)
		if order.Uint32(e)&bucket == 0 {
			continue
		}
		var value [bucketHeader + PageHeader]byte
		off := int64(at) + int64(order.Uint32(e[4:])) + int64(order.Uint32(e[8:]))
		if _, err := pages.ReadAt(value[:bucketHeader], off); err != nil {
			return nil, damagedTree("page %d has a bucket outside of it", id)
		}
		if root := order.Uint64(value[:]); root != 0 {
			roots = append(roots, Place{ID: root})
			continue
		}
		_, err := pages.ReadAt(value[bucketHeader:], off+bucketHeader)
		if err != nil || order.Uint16(value[bucketHeader+8:]) != Leaf {
			return nil, damagedTree("page %d has a bucket in it that is no leaf", id)
		}
	}
	return roots, nil
}

func damagedTree(format string, args ...any) error {
	return fmt.Errorf("tree: "+format+": %w", append(args, ErrDamaged)...)
}

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
	// Element is the length of an element, of which a branch or a leaf has count behind its header.
	Element = 16

	leaf   = 0x02
	bucket = 0x01 // flag of an element of a leaf
)

// Tree returns ErrDamaged when a page is the child of two, or reaches out of the file.
func Tree(file io.ReaderAt) error {
	meta, ok := ReadMeta(file)
	if !ok {
		return nil
	}
	began := time.Now()
	page, seen := make([]byte, meta.PageSize), make(map[uint64]struct{})
	for level := []uint64{meta.Root}; len(level) > 0; {
		var below []uint64
		for _, id := range level {
			if _, again := seen[id]; again || id >= meta.Pages {
				return fmt.Errorf("tree: page %d of %d is there twice or not at all: %w", id, meta.Pages, ErrDamaged)
			}
			if n := len(seen); n >= treePages || n >= treeWhole && time.Since(began) > treeTime {
				return nil
			}
			seen[id] = struct{}{}
			if _, err := file.ReadAt(page, int64(id)*meta.PageSize); err != nil {
				return readFault(err)
			}
			if overflow := binary.NativeEndian.Uint32(page[12:]); id+uint64(overflow) >= meta.Pages {
				return fmt.Errorf("tree: page %d goes on for %d pages, of %d: %w", id, overflow, meta.Pages, ErrDamaged)
			}
			below = Children(below, page)
		}
		level = below
	}
	return nil
}

// Children appends the pages below one: of a branch its children, of a leaf the buckets in
// it. The elements of a page stand in front, so that they are there although a page may go on in
// others.
func Children(pages []uint64, page []byte) []uint64 {
	order := binary.NativeEndian
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	for i := range count {
		at := PageHeader + i*Element
		if at+Element > len(page) {
			break // bbolt has words for that
		}
		e := page[at:]
		switch {
		case flags == Branch: // pos(4), length of the key(4), child(8)
			pages = append(pages, order.Uint64(e[8:]))
		case flags == leaf && order.Uint32(e) == bucket:
			// flags(4), pos(4), length of the key(4), of the value(4)
			value := uint64(order.Uint32(e[4:])) + uint64(order.Uint32(e[8:]))
			if value+8 > uint64(len(e)) {
				continue
			}
			if root := order.Uint64(e[value:]); root != 0 { // 0: the bucket is in this page
				pages = append(pages, root)
			}
		}
	}
	return pages
}

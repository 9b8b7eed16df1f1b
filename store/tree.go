package store

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Like its list of free pages (head.go), bbolt believes what a page of its tree says of its
// children and of its overflow pages. After a loss of power, where the disk had not written all it
// had promised, an old page may stand among new ones, and what it calls its children may be
// anything by now, even pages above it. Whoever walks into such a circle goes round for ever, or
// takes all memory, and nothing can recover from that. So the tree is looked at, from the top,
// before bbolt opens the file.

const (
	// treeWhole is how many pages are looked at in any case, and treePages at most: of a large file
	// the upper levels, a million entries have about 6,000 branches. In between the time counts,
	// because pages that nobody has read since the system started take a disk some milliseconds
	// each.
	treeWhole = 1 << 10
	treePages = 1 << 13
	treeTime  = 100 * time.Millisecond
)

const (
	boltBranch  = 0x01
	boltLeaf    = 0x02
	boltElement = 16
	boltBucket  = 0x01 // flag of an element of a leaf
)

// checkTree returns errDamaged when a page is the child of two, or reaches out of the file.
func checkTree(file io.ReaderAt) error {
	meta, ok := readMeta(file)
	if !ok {
		return nil
	}
	began := time.Now()
	page, seen := make([]byte, meta.pageSize), make(map[uint64]struct{})
	for level := []uint64{meta.root}; len(level) > 0; {
		var below []uint64
		for _, id := range level {
			if _, again := seen[id]; again || id >= meta.pages {
				return fmt.Errorf("tree: page %d of %d is there twice or not at all: %w", id, meta.pages, errDamaged)
			}
			if n := len(seen); n >= treePages || n >= treeWhole && time.Since(began) > treeTime {
				return nil
			}
			seen[id] = struct{}{}
			if _, err := file.ReadAt(page, int64(id)*meta.pageSize); err != nil {
				return readFault(err)
			}
			if overflow := binary.NativeEndian.Uint32(page[12:]); id+uint64(overflow) >= meta.pages {
				return fmt.Errorf("tree: page %d goes on for %d pages, of %d: %w", id, overflow, meta.pages, errDamaged)
			}
			below = appendChildren(below, page)
		}
		level = below
	}
	return nil
}

// appendChildren appends the pages below one: of a branch its children, of a leaf the buckets in
// it. The elements of a page stand in front, so that they are there although a page may go on in
// others.
func appendChildren(pages []uint64, page []byte) []uint64 {
	order := binary.NativeEndian
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	for i := range count {
		at := boltHeader + i*boltElement
		if at+boltElement > len(page) {
			break // bbolt has words for that
		}
		e := page[at:]
		switch {
		case flags == boltBranch: // pos(4), length of the key(4), child(8)
			pages = append(pages, order.Uint64(e[8:]))
		case flags == boltLeaf && order.Uint32(e) == boltBucket: // flags(4), pos(4), length of the key(4), of the value(4)
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

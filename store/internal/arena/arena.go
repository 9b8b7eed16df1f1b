// Package arena is memory outside of the Go heap for what a cache stores, and for bodies on their
// way to it.
package arena

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// Arena gives out extents: pieces of memory outside of the garbage collector's view, which neither
// marks them nor doubles them. Small extents are slots of slabs, each slab of one size; larger ones
// are runs of pages of their own. Slabs and runs are cut from regions, large mappings of which only
// what is in use is resident: the pages of free runs are given back to the system, while their
// addresses stay reserved for later ones.
//
// Its mutex is a leaf, and readers do not take it: an extent stays where it is until it is freed.
type Arena struct {
	mu      sync.Mutex
	regions atomic.Pointer[[]*region] // by the upper bits of an address; copied to be changed
	classes []class
	slabs   []slab
	spare   []uint32 // slabs not in use
	used    int64    // bytes of extents, rounded up to slots and pages
	pages   int64    // pages of slabs and runs
	dirty   int64    // pages of free runs that may be resident still
	keeps   bool     // see Keep
	idle    idleRuns
}

// Address is where an extent begins.
type Address uint64

const (
	pageSize    = 4 << 10
	regionPages = regionSize / pageSize
	regionSize  = 1 << regionBits
	// minExtent and maxSlot are the smallest and the largest slot.
	minExtent = 128
	maxSlot   = 32 << 10
	// SlabSlots is how many slots a slab has at most.
	SlabSlots = 64 << 10 / minExtent
	// slackPages, or a part of what is in use if that is more, may stay resident without use.
	slackPages = 1 << 20 / pageSize
	slackPart  = 32
)

// class is one size of slots. Sizes are a sixteenth apart, so that a thirty-second is lost on
// average.
type class struct {
	size    uint32
	slots   uint32   // in a slab
	pages   uint32   // of a slab
	partial []uint32 // slabs with free slots
	free    int      // free slots
}

// slab is a run of pages in slots.
type slab struct {
	at    Address
	class uint16
	used  uint16
	pos   uint32 // in class.partial
	taken [SlabSlots / 64]uint64
}

const ownRun = 1 << 31

// New returns an arena without regions: the first extent maps one.
func New() *Arena {
	a := &Arena{classes: makeClasses()}
	a.regions.Store(new([]*region))
	return a
}

// NewOfPages returns an arena without slabs: each extent has pages of its own. It is for extents of
// all sizes from a page on that are in use for as long as others like. A slab is there until the
// last of its slots is free, so a few extents of each size could keep many times their bytes.
func NewOfPages() *Arena {
	a := New()
	a.classes, a.idle = nil, make(idleRuns, maxIdle+1)
	return a
}

// Keep has the arena keep a region when nothing is in use any more, or no longer. It is for what is
// in use for a short time each: a region is a mapping, and has notes in Go's heap.
func (a *Arena) Keep(keep bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keeps = keep; a.pages == 0 {
		a.dropEmpty()
	}
}

// makeClasses divides slabs of 64 KiB, and of 256 KiB for the larger slots, which would else leave
// much of a slab over.
func makeClasses() []class {
	var classes []class
	for size := uint32(minExtent); size <= maxSlot; size += max(16, size/16) &^ 15 {
		bytes := uint32(64 << 10)
		if size > 8<<10 {
			bytes = 256 << 10
		}
		c := class{slots: bytes / size, pages: bytes / pageSize}
		c.size = bytes / c.slots &^ 7
		if n := len(classes); n == 0 || classes[n-1].size < c.size {
			classes = append(classes, c)
		}
	}
	return classes
}

// ExtentSize is what an extent for n bytes takes up.
func (a *Arena) ExtentSize(n int) int64 {
	if i := a.classFor(n); i < len(a.classes) {
		return int64(a.classes[i].size)
	}
	return (int64(n) + pageSize - 1) &^ (pageSize - 1)
}

func (a *Arena) classFor(n int) int {
	return sort.Search(len(a.classes), func(i int) bool { return int(a.classes[i].size) >= n })
}

// Bytes is the memory from an address on, n bytes of it. The caller holds the extent.
func (a *Arena) Bytes(at Address, n int) []byte {
	r := (*a.regions.Load())[at>>regionBits]
	off := int(at & (regionSize - 1))
	return r.data[off : off+n : off+n]
}

// Alloc returns an extent of n bytes, whose first four are owner already. It fails when the system
// has no more memory. scattered is how many bytes of slabs are free, in slots here and there: see
// Sparse.
func (a *Arena) Alloc(n int, owner uint32) (at Address, scattered int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, err = a.take(n); err != nil {
		return 0, 0, fmt.Errorf("memory outside of the heap: %w", err)
	}
	a.used += a.ExtentSize(n)
	binary.LittleEndian.PutUint32(a.Bytes(at, 4), owner)
	return at, a.pages*pageSize - a.used, nil
}

func (a *Arena) take(n int) (Address, error) {
	i := a.classFor(n)
	if i == len(a.classes) {
		pages := uint32((n + pageSize - 1) / pageSize)
		at, err := a.takeRun(pages)
		if err == nil {
			*a.owner(at) = ownRun | pages
		}
		return at, err
	}
	c := &a.classes[i]
	if len(c.partial) == 0 {
		if err := a.addSlab(i); err != nil {
			return 0, err
		}
	}
	s := &a.slabs[c.partial[len(c.partial)-1]]
	slot := s.firstFree()
	s.taken[slot/64] |= 1 << (slot % 64)
	s.used++
	if c.free--; uint32(s.used) == c.slots {
		c.partial = c.partial[:len(c.partial)-1]
	}
	return s.at + Address(slot)*Address(c.size), nil
}

func (s *slab) firstFree() int {
	for i, word := range s.taken {
		if free := ^word; free != 0 {
			return i*64 + bits.TrailingZeros64(free)
		}
	}
	return 0 // not reached: the slab is among the partial ones
}

func (a *Arena) addSlab(i int) error {
	c := &a.classes[i]
	at, err := a.takeRun(c.pages)
	if err != nil {
		return err
	}
	var n uint32
	if last := len(a.spare) - 1; last >= 0 {
		n, a.spare = a.spare[last], a.spare[:last]
	} else {
		n = uint32(len(a.slabs))
		a.slabs = append(a.slabs, slab{})
	}
	a.slabs[n] = slab{at: at, class: uint16(i), pos: uint32(len(c.partial))}
	c.partial = append(c.partial, n)
	c.free += int(c.slots)
	for p := range c.pages {
		*a.owner(at + Address(p)*pageSize) = n
	}
	return nil
}

// owner is the note about the page of an address.
func (a *Arena) owner(at Address) *uint32 {
	r := (*a.regions.Load())[at>>regionBits]
	return &r.owner[(at&(regionSize-1))/pageSize]
}

// Free takes an extent back.
func (a *Arena) Free(at Address) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := *a.owner(at)
	if n&ownRun != 0 {
		pages := n &^ ownRun
		a.poison(at, int(pages)*pageSize)
		a.used -= int64(pages) * pageSize
		a.freeRun(at, pages)
		return
	}
	s := &a.slabs[n]
	c := &a.classes[s.class]
	a.poison(at, int(c.size))
	a.used -= int64(c.size)
	slot := int(at-s.at) / int(c.size)
	s.taken[slot/64] &^= 1 << (slot % 64)
	if uint32(s.used) == c.slots {
		s.pos = uint32(len(c.partial))
		c.partial = append(c.partial, n)
	}
	s.used--
	c.free++
	if s.used == 0 {
		a.dropSlab(n)
	}
}

func (a *Arena) dropSlab(n uint32) {
	s := &a.slabs[n]
	c := &a.classes[s.class]
	last := c.partial[len(c.partial)-1]
	c.partial[s.pos] = last
	a.slabs[last].pos = s.pos
	c.partial = c.partial[:len(c.partial)-1]
	c.free -= int(c.slots)
	a.spare = append(a.spare, n)
	a.freeRun(s.at, c.pages)
}

// poison overwrites what is freed in tests with the race detector, so that a use after free shows.
func (a *Arena) poison(at Address, n int) {
	if poisoning {
		data := a.Bytes(at, n)
		for i := range data {
			data[i] = 0xdb
		}
	}
}

// takeRun returns so many pages side by side, the first that are free.
func (a *Arena) takeRun(pages uint32) (Address, error) {
	if at, ok := a.idle.take(pages); ok {
		a.dirty -= int64(pages)
		a.pages += int64(pages)
		return at, nil
	}
	regions := *a.regions.Load()
	for i, r := range regions {
		if r == nil || r.largest < pages {
			continue
		}
		if start, dirty, ok := r.take(pages); ok {
			a.dirty -= dirty
			a.pages += int64(pages)
			return Address(i)<<regionBits | Address(start)*pageSize, nil
		}
	}
	i, err := a.addRegion(pages)
	if err != nil {
		return 0, err
	}
	(*a.regions.Load())[i].take(pages) // from its beginning
	a.pages += int64(pages)
	return Address(i) << regionBits, nil
}

// addRegion maps another region; one that is larger than most for a run that is.
func (a *Arena) addRegion(pages uint32) (int, error) {
	n := max(pages, regionPages)
	data, err := mapRegion(int(n) * pageSize)
	if err != nil {
		return 0, err
	}
	r := &region{data: data, owner: make([]uint32, n), free: []span{{start: 0, pages: n}}, largest: n}
	regions := slices.Clone(*a.regions.Load())
	i := slices.Index(regions, nil)
	if i < 0 {
		i = len(regions)
		regions = append(regions, nil)
	}
	regions[i] = r
	a.regions.Store(&regions)
	return i, nil
}

// freeRun takes pages back, and gives them to the system when there are many.
func (a *Arena) freeRun(at Address, pages uint32) {
	a.pages -= int64(pages)
	if int(pages) < len(a.idle) {
		a.dirty += int64(pages)
		a.idle[pages] = append(a.idle[pages], at)
	} else {
		a.join(at, pages)
	}
	if a.pages == 0 {
		a.joinIdle()
		a.dropEmpty()
	}
	if a.dirty > max(slackPages, a.pages/slackPart) {
		a.joinIdle()
		a.giveBack()
	}
}

// join adds a free run to those of its region.
func (a *Arena) join(at Address, pages uint32) {
	i := int(at >> regionBits)
	r := (*a.regions.Load())[i]
	a.dirty += r.put(uint32(at&(regionSize-1))/pageSize, pages)
	if len(r.owner) > regionPages {
		a.dropRegion(i)
	}
}

// joinIdle adds all idle runs to those of their regions.
func (a *Arena) joinIdle() {
	for pages, runs := range a.idle {
		for _, at := range runs {
			a.dirty -= int64(pages)
			a.join(at, uint32(pages))
		}
		a.idle[pages] = runs[:0]
	}
}

// dropEmpty drops the regions of an arena of which nothing is in use, but for one that is kept.
func (a *Arena) dropEmpty() {
	kept := !a.keeps
	for i, r := range *a.regions.Load() {
		switch {
		case r == nil:
		case kept:
			a.dropRegion(i)
		default:
			kept = true
		}
	}
}

func (a *Arena) dropRegion(i int) {
	regions := slices.Clone(*a.regions.Load())
	for _, s := range regions[i].free {
		a.dirty -= s.dirty.pages()
	}
	unmapRegion(regions[i].data)
	regions[i] = nil
	a.regions.Store(&regions)
}

// Held is how many bytes extents take, rounded up to slots and pages; how many the pages take that
// these are in; and how many free pages have that may still be resident, at most.
func (a *Arena) Held() (used, pages, dirty int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, a.pages * pageSize, a.dirty * pageSize
}

// giveBack tells the system that it may have the memory of all free runs.
func (a *Arena) giveBack() {
	for _, r := range *a.regions.Load() {
		if r == nil {
			continue
		}
		for i := range r.free {
			if s := &r.free[i]; s.dirty.pages() > 0 {
				releasePages(r.data, int(s.dirty.from)*pageSize, int(s.dirty.to)*pageSize)
				s.dirty = pageRange{}
			}
		}
	}
	a.dirty = 0
}

// Sparse returns the owners of what lies in the slab with the fewest extents of the class with the
// most free slots. When sizes shift, slots of a size that is no longer stored would else stay, with
// a few entries in each slab.
func (a *Arena) Sparse(dst []uint32) []uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	worst := slices.MaxFunc(a.classes, func(x, y class) int {
		return x.free*int(x.size) - y.free*int(y.size)
	})
	if len(worst.partial) == 0 {
		return dst
	}
	least := slices.MinFunc(worst.partial, func(x, y uint32) int { return int(a.slabs[x].used) - int(a.slabs[y].used) })
	s := &a.slabs[least]
	for slot := range int(worst.slots) {
		if s.taken[slot/64]&(1<<(slot%64)) != 0 {
			dst = append(dst, binary.LittleEndian.Uint32(a.Bytes(s.at+Address(slot)*Address(worst.size), 4)))
		}
	}
	return dst
}

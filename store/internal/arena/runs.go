package arena

import (
	"slices"
	"sort"
)

// region is one mapping.
type region struct {
	data []byte
	// owner has for each page in use the slab it belongs to, or for the first one of a run the
	// run's length with ownRun set.
	owner   []uint32
	free    []span // ascending
	largest uint32 // no free run has more pages
}

// span is a run of free pages, numbered in its region.
type span struct {
	start, pages uint32
	dirty        pageRange // no others of it are resident
}

// pageRange is from one page to before another.
type pageRange struct{ from, to uint32 }

func (r pageRange) pages() int64 { return int64(r.to) - int64(r.from) }

// behind is what of a range is not before a page.
func (r pageRange) behind(page uint32) pageRange {
	return pageRange{max(r.from, min(page, r.to)), r.to}
}

// join is a range that has both in it.
func (r pageRange) join(o pageRange) pageRange {
	switch {
	case r.pages() == 0:
		return o
	case o.pages() == 0:
		return r
	}
	return pageRange{min(r.from, o.from), max(r.to, o.to)}
}

// idleRuns are free runs by their number of pages, which are used again before others: they are
// resident, and are found at once. They count as dirty. nil: there are none. One has been in use
// for a short time, so the next of its size comes soon.
type idleRuns [][]Address

// maxIdle is how many pages such a run has at most.
const maxIdle = 64 << 10 / pageSize

// take returns so many pages of the smallest run that has them; ok is false where none does.
func (runs idleRuns) take(pages uint32) (at Address, ok bool) {
	for n := int(pages); n < len(runs); n++ {
		last := len(runs[n]) - 1
		if last < 0 {
			continue
		}
		at, runs[n] = runs[n][last], runs[n][:last]
		if rest := n - int(pages); rest > 0 {
			runs[rest] = append(runs[rest], at+Address(pages)*pageSize)
		}
		return at, true
	}
	return 0, false
}

// take cuts pages off the first free run that has so many, and returns how many of them may be
// resident.
func (r *region) take(pages uint32) (start uint32, dirty int64, ok bool) {
	var largest uint32
	for i := range r.free {
		s := &r.free[i]
		if s.pages < pages {
			largest = max(largest, s.pages)
			continue
		}
		start, dirty = s.start, s.dirty.pages()
		s.start, s.pages = s.start+pages, s.pages-pages
		s.dirty = s.dirty.behind(s.start)
		dirty -= s.dirty.pages()
		if s.pages == 0 {
			r.free = slices.Delete(r.free, i, i+1)
		}
		return start, dirty, true
	}
	r.largest = largest
	return 0, 0, false
}

// put adds a free run and joins it with its neighbours. It returns how many free pages more may be
// resident: these, and where the neighbours' are not next to them, what lies between.
func (r *region) put(start, pages uint32) (dirty int64) {
	s := span{start, pages, pageRange{start, start + pages}}
	i := sort.Search(len(r.free), func(i int) bool { return r.free[i].start > start })
	if i < len(r.free) && start+pages == r.free[i].start {
		dirty -= r.free[i].dirty.pages()
		s.pages += r.free[i].pages
		s.dirty = s.dirty.join(r.free[i].dirty)
		r.free = slices.Delete(r.free, i, i+1)
	}
	if i > 0 && r.free[i-1].start+r.free[i-1].pages == start {
		i--
		dirty -= r.free[i].dirty.pages()
		r.free[i].pages += s.pages
		r.free[i].dirty = r.free[i].dirty.join(s.dirty)
		s = r.free[i]
	} else {
		r.free = slices.Insert(r.free, i, s)
	}
	r.largest = max(r.largest, s.pages)
	return dirty + s.dirty.pages()
}

package store

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// purgeRecord is one purge in force.
type purgeRecord struct {
	gen      uint64
	severity Severity
	sel      Selectors

	prev, next *purgeRecord // in the set, by generation

	// What follows belongs to the disk writer.
	gathered bool // it has come to the disk writer
	counted  bool // its matches have been counted; before, nothing may be removed for its sake
	written  bool // it is in the purges bucket of the open file
	// memoryOnly says that there is no row it may hit, since it was counted or since its rows were
	// swept, and that it need not be in the file therefore: none can come either.
	memoryOnly bool
	rows       int // on disk that it may hit, when it was counted
	sweep      *sweep
	// watched is what a PurgeWatcher is told of, nil for nothing. A batch that has stalled may read
	// it yet.
	watched atomic.Pointer[watched]
}

// What a selector of a purge in force takes, by measurement: the record, rows of the maps and what
// the disk writer notes of it, with as much again for garbage; and its text, which stands in
// several of them.
const (
	selectorSize  = 512
	selectorTexts = 4
)

// size is about what a record takes of memory, in bytes.
func (rec *purgeRecord) size() (n int64) {
	for _, list := range [][]string{rec.sel.Tags, rec.sel.URLs, rec.sel.Prefixes, rec.sel.Hosts} {
		for _, text := range list {
			n += selectorSize + selectorTexts*int64(len(text))
		}
	}
	return n + selectorSize
}

// purgeSet holds the purges in force, found by their selectors. Nothing that happens for each
// purge or each entry walks through them all: how many there are, the slowest fetch decides.
type purgeSet struct {
	// newest is the generation of the latest record, 0 without any: the one load that a look-up
	// pays when nothing was purged lately, and all that an entry pays that is newer than all
	// purges.
	newest atomic.Uint64
	// last is the generation given last, the one a fetch that begins now belongs to.
	last atomic.Uint64
	// drops counts the records taken out of force, each before it goes. Who judges something out of
	// a snapshot of the file, or an item that may have left memory, begins again when it has
	// changed: what the snapshot still has may have been swept since, the item may have left before
	// the sweep came to it, and the record is dropped.
	drops atomic.Uint64

	mu            sync.RWMutex
	first, latest *purgeRecord // the ends of the list, by generation
	count         int
	size          int64          // bytes, see purgeRecord.size
	walked        int            // records that walks through all of them have passed, for tests
	uncounted     []*purgeRecord // ascending
	bySelector    bySelector[*generations]
}

// generations are those of the records with one selector by their severity, each list ascending.
type generations [Hard][]uint64

// of are those of a severity.
func (g *generations) of(s Severity) *[]uint64 { return &g[s-1] }

func (g *generations) none() bool { return len(g[0])+len(g[1])+len(g[2]) == 0 }

// latestBelow is the last of a list that is below a bound, 0 without any.
func latestBelow(list []uint64, below uint64) uint64 {
	n := len(list)
	if n > 0 && list[n-1] >= below {
		n, _ = slices.BinarySearch(list, below)
	}
	if n == 0 {
		return 0
	}
	return list[n-1]
}

func newPurgeSet(generation uint64) *purgeSet {
	r := &purgeSet{bySelector: newBySelector[*generations]()}
	r.last.Store(generation)
	return r
}

// issue puts a purge in force under the next generation. Generations follow the wall clock where
// they can, so that those of a process that starts without its file are later than those in it.
func (r *purgeSet) issue(sel Selectors, severity Severity, wall uint64) *purgeRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &purgeRecord{gen: max(r.last.Load()+1, wall), severity: severity, sel: sel}
	r.add(rec)
	r.uncounted = append(r.uncounted, rec)
	r.last.Store(rec.gen)
	return rec
}

// bytes is about what all records take of memory.
func (r *purgeSet) bytes() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.size
}

// restore puts a record read from the file in force, unless it is already.
func (r *purgeSet) restore(rec *purgeRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.atOrBelow(rec.gen); known != nil && known.gen == rec.gen {
		known.written = true
		return
	}
	r.add(rec)
	r.last.Store(max(r.last.Load(), rec.gen))
}

// atOrBelow is the latest record of a generation not above gen. It looks from the end: records come
// in the order of their generations, but for those of a file that is taken up late.
func (r *purgeSet) atOrBelow(gen uint64) *purgeRecord {
	rec := r.latest
	for rec != nil && rec.gen > gen {
		rec = rec.prev
	}
	return rec
}

func (r *purgeSet) add(rec *purgeRecord) {
	r.link(rec)
	r.count++
	r.size += rec.size()
	r.each(rec, func(g *generations) {
		list := g.of(rec.severity)
		at, _ := slices.BinarySearch(*list, rec.gen)
		*list = slices.Insert(*list, at, rec.gen)
	})
	r.newest.Store(r.latest.gen)
}

func (r *purgeSet) link(rec *purgeRecord) {
	if rec.prev = r.atOrBelow(rec.gen); rec.prev != nil {
		rec.next, rec.prev.next = rec.prev.next, rec
	} else {
		rec.next, r.first = r.first, rec
	}
	if rec.next != nil {
		rec.next.prev = rec
	} else {
		r.latest = rec
	}
}

func (r *purgeSet) unlink(rec *purgeRecord) {
	if rec.prev != nil {
		rec.prev.next = rec.next
	} else {
		r.first = rec.next
	}
	if rec.next != nil {
		rec.next.prev = rec.prev
	} else {
		r.latest = rec.prev
	}
}

// each calls fn with the generations of every selector of rec. Those that fn leaves empty go.
func (r *purgeSet) each(rec *purgeRecord, fn func(g *generations)) {
	rec.sel.each(func(s selector) {
		g := r.bySelector.get(s)
		if g == nil {
			g = new(generations)
			r.bySelector.put(s, g)
		}
		if fn(g); g.none() {
			r.bySelector.remove(s)
		}
	})
}

// raise makes later generations later than those in a file.
func (r *purgeSet) raise(generation uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last.Store(max(r.last.Load(), generation))
}

// setCounted notes that the disk writer has counted a record.
func (r *purgeSet) setCounted(rec *purgeRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.counted = true
	at, found := slices.BinarySearchFunc(r.uncounted, rec.gen, func(o *purgeRecord, gen uint64) int { return cmp.Compare(o.gen, gen) })
	switch {
	case found && at == 0: // as a rule; there may be a hundred thousand behind it
		r.uncounted = r.uncounted[1:]
	case found:
		r.uncounted = slices.Delete(r.uncounted, at, at+1)
	}
}

// drop takes a record out of force. The caller has swept all it can match, or another record that
// stays in force matches all that it does.
func (r *purgeSet) drop(rec *purgeRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drops.Add(1)
	r.unlink(rec)
	r.count--
	r.size -= rec.size()
	r.each(rec, func(g *generations) {
		list := g.of(rec.severity)
		if at, found := slices.BinarySearch(*list, rec.gen); found {
			*list = slices.Delete(*list, at, at+1)
		}
	})
	var newest uint64
	if r.latest != nil {
		newest = r.latest.gen
	}
	r.newest.Store(newest)
}

// everything is a bound for purgedBy that takes in all records.
const everything = uint64(math.MaxUint64)

// purgedBy is what records of a generation in (gen, below) make of a response of generation gen.
func (r *purgeSet) purgedBy(url string, tags []string, gen, below uint64) (severity Severity) {
	if gen >= r.newest.Load() {
		return NotPurged
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	r.bySelector.naming(url, tags, func(g *generations) {
		for s := Hard; s > severity; s-- {
			if latestBelow(*g.of(s), below) > gen {
				severity = s
			}
		}
	})
	return severity
}

// recordPurgedBy is purgedBy for a response in its stored form, of which it reads no more than
// needed.
func (r *purgeSet) recordPurgedBy(rec record, below uint64) Severity {
	gen := rec.generation()
	if gen >= r.newest.Load() {
		return NotPurged
	}
	return r.purgedBy(string(rec.url()), rec.tags(), gen, below)
}

// snapshot copies the list of records, for when a file is taken up or the store is closed.
func (r *purgeSet) snapshot() []*purgeRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	records := make([]*purgeRecord, 0, r.count)
	for rec := r.first; rec != nil; rec = rec.next {
		records = append(records, rec)
	}
	r.walked += r.count
	return records
}

// countedBelow is a bound for purgedBy that takes in the records that have been counted so far, and
// none that is issued from now on.
func (r *purgeSet) countedBelow() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.uncounted) > 0 {
		return r.uncounted[0].gen
	}
	return r.last.Load() + 1
}

// onTheWay is the lowest generation of a record that has not come to the disk writer yet,
// everything without one.
func (r *purgeSet) onTheWay() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, rec := range r.uncounted {
		if !rec.gathered {
			return rec.gen
		}
	}
	return everything
}

// uncountedBelow are the records below gen that are not counted yet.
func (r *purgeSet) uncountedBelow(gen uint64) []*purgeRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, _ := slices.BinarySearchFunc(r.uncounted, gen, func(o *purgeRecord, gen uint64) int { return cmp.Compare(o.gen, gen) })
	return slices.Clone(r.uncounted[:n])
}

// anyBelow tells whether a record of a generation below gen is in force.
func (r *purgeSet) anyBelow(gen uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.first != nil && r.first.gen < gen
}

func (r *purgeSet) pending() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.count
}

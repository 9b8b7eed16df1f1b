package store

import (
	"cmp"
	"strings"
	"sync"
	"sync/atomic"
)

// Masks are purges in force over responses that are kept elsewhere, in a tier that does not purge:
// they judge a response when it is read. A response carries the generation in which its fetch
// began, and is masked by every purge of a later one that names it. The caller gives purges their
// generations. The zero value has none. All methods are safe for concurrent use.
//
// Of many purges by the same selector the latest of each severity is enough, so what Masks take
// grows with the selectors they have, about 112 bytes for each and its text, and not with how often
// those are purged.
type Masks struct {
	newest atomic.Uint64 // no purge is of a later generation: one load judges what is newer

	mu         sync.RWMutex
	bySelector bySelector[*mask]
	ends       mask // next is the mask of the oldest latest purge, prev that of the newest
	count      int
	bytes      int64
}

// mask is what the purges by one selector come to.
type mask struct {
	selector
	latest     [Hard]uint64 // generations of the latest soft, invalid and hard purge, 0 without one
	prev, next *mask        // by latest purge, ascending
}

// newest is the generation of the latest purge.
func (m *mask) newest() uint64 { return max(m.latest[0], m.latest[1], m.latest[2]) }

// severity is that of the purges later than gen.
func (m *mask) severity(gen uint64) Severity {
	for severity := Hard; severity > NotPurged; severity-- {
		if m.latest[severity-1] > gen {
			return severity
		}
	}
	return NotPurged
}

// maskBytes is what a mask takes beside the text of its selector, and its share of a map, on
// average.
const maskBytes = 112

func (m *mask) size() int64 { return maskBytes + int64(len(m.value)) }

// Add puts a purge of generation gen in force. Generations may come in any order, and more than
// once.
func (ms *Masks) Add(gen uint64, sel Selectors, severity Severity) {
	severity = cmp.Or(severity, Hard)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.bySelector.tags == nil {
		ms.bySelector = newBySelector[*mask]()
		ms.ends.prev, ms.ends.next = &ms.ends, &ms.ends
	}
	sel.each(func(s selector) {
		m := ms.bySelector.get(s)
		if m == nil {
			s.value = strings.Clone(s.value) // it may be a small part of something large
			m = &mask{selector: s}
			ms.bySelector.put(s, m)
			ms.count++
			ms.bytes += m.size()
		} else {
			m.unlink()
		}
		m.latest[severity-1] = max(m.latest[severity-1], gen)
		ms.link(m)
	})
	ms.newest.Store(max(ms.newest.Load(), gen))
}

// link puts a mask where it belongs by its latest purge. It looks from the end: purges come in the
// order of their generations, as a rule.
func (ms *Masks) link(m *mask) {
	before := ms.ends.prev
	for before != &ms.ends && before.newest() > m.newest() {
		before = before.prev
	}
	m.prev, m.next = before, before.next
	m.prev.next, m.next.prev = m, m
}

func (m *mask) unlink() { m.prev.next, m.next.prev = m.next, m.prev }

// DropUpTo forgets the purges up to a generation. The caller refuses responses of generations below
// it, which these could mask: Judge tells nothing of them any more.
func (ms *Masks) DropUpTo(gen uint64) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for ms.count > 0 && ms.ends.next.newest() <= gen {
		m := ms.ends.next
		m.unlink()
		ms.bySelector.remove(m.selector)
		ms.count--
		ms.bytes -= m.size()
	}
}

// Over returns the generation up to which purges have to be dropped so that the others take no more
// than some bytes, 0 where all may stay.
func (ms *Masks) Over(bytes int64) (gen uint64) {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	m := ms.ends.next
	for left := ms.bytes; left > bytes; m = m.next {
		gen = m.newest()
		left -= m.size()
	}
	return gen
}

// Judge returns what the purges have made of a response with this URL (URLAt's) and tags whose
// fetch began in generation gen.
func (ms *Masks) Judge(url string, tags []string, gen uint64) (severity Severity) {
	if gen >= ms.newest.Load() {
		return NotPurged
	}
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	ms.bySelector.naming(url, tags, func(m *mask) { severity = max(severity, m.severity(gen)) })
	return severity
}

// Size returns how many selectors there are, and about how many bytes of memory they take.
func (ms *Masks) Size() (selectors int, bytes int64) {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	return ms.count, ms.bytes
}

package store

import "strings"

// Selectors may name hundreds of thousands of items, and a hit waits for the lock of its shard. So
// what looks at all of them walks in steps, each under the lock for itself:
//
//	step 1          step 2          step 3
//	lock ─ unlock   lock ─ unlock   lock ─ unlock
//	      others         others
//
// A step begins at the place before which the former ended, whatever has come or gone meanwhile. So
// an item that stays is met once by each selector that names it. One that comes between two steps
// is met if its place is ahead.

// stepItems is how many items are looked at under one hold of a lock: for some 20 to 50 µs.
const stepItems = 64

// span is a range of an index that a selector names: the items of a tag, or those of URLs.
type span struct {
	selector
	tag  string // of byTag
	urls urlSpan
	// some says that the selector does not name all of the range.
	some bool
}

// spansOf are the ranges of all selectors.
func spansOf(sel *Selectors) (spans []span) {
	for _, value := range sel.Tags {
		tag, _, some := CutTagElsewhere(value)
		spans = append(spans, span{selector: selector{byTag, value}, tag: tag, some: some})
	}
	for _, value := range sel.URLs {
		s := selector{byURL, value}
		url, _, some := CutURLElsewhere(value)
		if path, listener, found := strings.Cut(url, anyQuery); found {
			url = path + listener
			spans = append(spans, span{selector: s, urls: urlSpan{text: path + "?"}, some: true})
		}
		spans = append(spans, span{selector: s, urls: urlSpan{url, true}, some: some})
	}
	for _, value := range sel.Prefixes {
		spans = append(spans, span{selector: selector{byPrefix, value}, urls: urlSpan{text: value}})
	}
	for _, value := range sel.Hosts {
		for _, prefix := range hostPrefixes(value) {
			spans = append(spans, span{selector: selector{byHost, value}, urls: urlSpan{text: prefix}, some: true})
		}
	}
	if sel.All {
		spans = append(spans, span{selector: selector{kind: byAll}})
	}
	return spans
}

// means tells whether an item in the range is meant, as far as its record tells: two tags may share
// a list.
func (sp *span) means(r record) bool {
	switch sp.kind {
	case byTag:
		return r.hasTag(sp.tag) && (!sp.some || selectsTag(sp.value, sp.tag, string(r.url())))
	case byURL:
		return !sp.some || selectsURL(sp.value, string(r.url()))
	case byHost:
		return selectsHost(sp.value, string(r.url()))
	case byPrefix, byAll:
	}
	return true
}

// itemWalk is a walk through ranges of one index.
type itemWalk struct {
	spans []span // that are left; the first is under way
	begun bool
	url   string // where the next step begins in it
	id    uint64
}

// step is a step of a walk through a shard, under its lock.
func (s *shard) step(w *itemWalk, most int, fn visit) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return w.step(s.index, most, fn)
}

// visit is called for an item in a range, meant or not, with its row where the range is a tag's. It
// must not change the index; false ends the walk.
type visit func(sp *span, it *item, row tagRow) bool

// step walks on, past most items or a few more; false at the end. The caller has the lock of the
// index.
func (w *itemWalk) step(ix *index, most int, fn visit) (more bool) {
	for most > 0 && len(w.spans) > 0 {
		sp := &w.spans[0]
		if !w.begun {
			w.begun, w.url, w.id = true, sp.urls.text, 0
		}
		left, ended := w.along(ix, sp, most, fn)
		if ended {
			w.spans = nil
			break
		}
		if left > 0 {
			w.spans, w.begun = w.spans[1:], false
		}
		most = left - 1 // to find the range costs about as much as an item
	}
	return len(w.spans) > 0
}

// along walks along one range. It returns what is left of most, 0 where the range goes on, and
// whether fn has ended the walk. It goes on from between two ids: a renewed entry is there beside
// the one it renews, for a moment, under the same id.
func (w *itemWalk) along(ix *index, sp *span, most int, fn visit) (left int, ended bool) {
	left = most
	var last uint64
	goes := func(it *item, row tagRow) bool {
		if left <= 1 && it.id != last {
			left, w.id = 0, it.id
			if sp.kind != byTag {
				w.url = string(ix.m.record(it).url())
			}
			return false
		}
		last = it.id
		left = max(1, left-1)
		ended = !fn(sp, it, row)
		return !ended
	}
	if sp.kind == byTag {
		ix.tagged(sp.tag, w.id, func(row tagRow) bool { return goes(ix.m.items.at(row.item), row) })
		return left, ended
	}
	ix.ascend(w.url, w.id, func(it *item) bool {
		return sp.urls.hasBytes(ix.m.record(it).url()) && goes(it, tagRow{})
	})
	return left, ended
}

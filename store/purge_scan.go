package store

import (
	"bytes"
	"slices"
	"strings"
)

// scan is one range of index rows that a selector names.
type scan struct {
	selector
	from []byte // where the rows begin, which all of them begin with
	step func() // called for every row in the range, meant or not; may be nil
}

// scansOf are the ranges of all selectors.
func scansOf(sel *Selectors) []scan {
	if sel.All {
		return []scan{{selector: selector{kind: byAll}}}
	}
	var scans []scan
	sel.each(func(s selector) {
		switch s.kind {
		case byTag:
			tag, _, _ := CutTagElsewhere(s.value)
			scans = append(scans, scan{selector: s, from: tagStart(tag)})
		case byURL:
			for _, start := range startsOf(s.value) { // a row has a NUL behind its URL
				scans = append(scans, scan{selector: s, from: []byte(start)})
			}
		case byPrefix:
			scans = append(scans, scan{selector: s, from: []byte(s.value)})
		case byHost:
			for _, p := range hostPrefixes(s.value) {
				scans = append(scans, scan{selector: s, from: []byte(p)})
			}
		case byAll:
		}
	})
	return scans
}

// each calls fn for every row behind after, or from the first when after is nil, while fn agrees.
func (sc *scan) each(t *buckets, after []byte, fn func(key, value []byte) (bool, error)) error {
	bucket := t.urls
	if sc.kind == byTag {
		bucket = t.tags
	}
	from := sc.from
	if after != nil {
		from = after
	}
	bucket.pageIn(from, 0, headSize)
	c := bucket.Cursor()
	key, value := c.Seek(from)
	if after != nil && bytes.Equal(key, after) {
		key, value = c.Next()
	}
	for ; key != nil && bytes.HasPrefix(key, sc.from); key, value = c.Next() {
		if sc.step != nil {
			sc.step()
		}
		if !sc.names(key) || !sc.reaches(t, key) {
			continue
		}
		if more, err := fn(key, value); err != nil || !more {
			return err
		}
	}
	return nil
}

// names tells whether a row in the range is meant, as far as the row can tell.
func (sc *scan) names(key []byte) bool {
	switch sc.kind {
	case byTag: // may have NULs in it
		return len(key) == len(sc.from)+8
	case byURL:
		url, _, ok := cutURLRowKey(key)
		return ok && selectsURL(sc.value, url)
	case byHost:
		url, _, ok := cutURLRowKey(key)
		return ok && selectsHost(sc.value, url)
	case byPrefix:
		return len(key)-9 >= len(sc.value)
	case byAll:
	}
	return true
}

// reaches tells whether the entry of a row was asked for where the selector reaches. The row of a
// tag does not tell, and the entry is read.
func (sc *scan) reaches(t *buckets, key []byte) bool {
	if sc.kind != byTag {
		return true
	}
	_, servers, some := CutTagElsewhere(sc.value)
	if !some {
		return true
	}
	r, _, err := t.record(rowID(key))
	return err != nil || isElsewhere(string(r.url()), servers)
}

// coveredBy is the latest purge before rec of everything, or of the very same selector: rows of
// lower generations have been purged as severely already.
func (sc *scan) coveredBy(r *purgeSet, rec *purgeRecord) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var covered uint64
	for _, g := range []*generations{r.bySelector.all, r.bySelector.get(sc.selector)} {
		if g == nil {
			continue
		}
		for severity := rec.severity; severity <= Hard; severity++ {
			covered = max(covered, latestBelow(*g.of(severity), rec.gen))
		}
	}
	return covered
}

// hits tells whether the entry is what the selector names; a tag's row may be another's by its
// hash.
func (sc *scan) hits(r record) bool {
	switch sc.kind {
	case byTag:
		tags := r.tags()
		return slices.ContainsFunc(tags, func(tag string) bool { return selectsTag(sc.value, tag, string(r.url())) })
	case byURL:
		return selectsURL(sc.value, string(r.url()))
	case byPrefix:
		return strings.HasPrefix(string(r.url()), sc.value)
	case byHost:
		return selectsHost(sc.value, string(r.url()))
	case byAll:
	}
	return true
}

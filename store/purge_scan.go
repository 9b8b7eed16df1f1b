package store

import (
	"bytes"
	"slices"
	"strings"
)

// scan is one range of index rows that a selector names.
type scan struct {
	kind  scanKind
	value string // the tag, URL, prefix or host
	from  []byte // where the rows begin, which all of them begin with
}

type scanKind uint8

const (
	scanTag scanKind = iota
	scanURL
	scanPrefix
	scanHost
	scanAll
)

// scansOf are the ranges of all selectors.
func scansOf(sel *Selectors) []scan {
	if sel.All {
		return []scan{{kind: scanAll}}
	}
	var scans []scan
	for _, t := range sel.Tags {
		scans = append(scans, scan{scanTag, t, tagStart(t)})
	}
	for _, u := range sel.URLs {
		scans = append(scans, scan{scanURL, u, append([]byte(u), 0)})
	}
	for _, p := range sel.Prefixes {
		scans = append(scans, scan{scanPrefix, p, []byte(p)})
	}
	for _, h := range sel.Hosts {
		for _, p := range hostPrefixes(h) {
			scans = append(scans, scan{scanHost, h, []byte(p)})
		}
	}
	return scans
}

// each calls fn for every row behind after, or from the first when after is nil, while fn agrees.
func (sc *scan) each(t *buckets, after []byte, fn func(key, value []byte) (bool, error)) error {
	bucket := t.urls
	if sc.kind == scanTag {
		bucket = t.tags
	}
	c := bucket.Cursor()
	key, value := c.Seek(sc.from)
	if after != nil {
		if key, value = c.Seek(after); bytes.Equal(key, after) {
			key, value = c.Next()
		}
	}
	for ; key != nil && bytes.HasPrefix(key, sc.from); key, value = c.Next() {
		if !sc.names(key) {
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
	case scanTag: // may have NULs in it
		return len(key) == len(sc.from)+8
	case scanURL:
		url, _, ok := cutURLRowKey(key)
		return ok && selectsURL(sc.value, url)
	case scanHost:
		url, _, ok := cutURLRowKey(key)
		return ok && selectsHost(sc.value, url)
	case scanPrefix:
		return len(key)-9 >= len(sc.value)
	case scanAll:
	}
	return true
}

// coveredBy is the latest purge before rec of everything, or of the very same selector: rows of
// lower generations have been purged already.
func (sc *scan) coveredBy(r *purgeSet, rec *purgeRecord) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var covered uint64
	for _, g := range []*generations{&r.all, r.of(sc)} {
		if g == nil {
			continue
		}
		covered = max(covered, latestBelow(g.hard, rec.gen))
		if rec.soft {
			covered = max(covered, latestBelow(g.soft, rec.gen))
		}
	}
	return covered
}

// of are the generations of the records with the selector of a scan.
func (r *purgeSet) of(sc *scan) *generations {
	switch sc.kind {
	case scanTag:
		return r.tags[sc.value]
	case scanURL:
		return r.urls[sc.value]
	case scanPrefix:
		return r.prefixes[sc.value]
	case scanHost:
		return r.hosts[sc.value]
	case scanAll:
	}
	return &r.all
}

// sameAs tells whether a scan is for a selector of sel.
func (sc *scan) sameAs(sel *Selectors) bool {
	return slices.ContainsFunc(scansOf(sel), func(o scan) bool { return o.kind == sc.kind && o.value == sc.value })
}

// hits tells whether the entry is what the selector names; a tag's row may be another's by its
// hash.
func (sc *scan) hits(r record) bool {
	switch sc.kind {
	case scanTag:
		return slices.Contains(r.tags(), sc.value)
	case scanURL:
		return selectsURL(sc.value, string(r.url()))
	case scanPrefix:
		return strings.HasPrefix(string(r.url()), sc.value)
	case scanHost:
		return selectsHost(sc.value, string(r.url()))
	case scanAll:
	}
	return true
}

package store

import (
	"strings"

	"github.com/google/btree"
)

// tagRow is one item in the list of one tag, with all that counting needs: rows stand side by side,
// so that a purge counts a hundred thousand in a few milliseconds. Linked through the items, each
// step waited for memory.
type tagRow struct {
	item       *item
	generation uint64
	keepUntil  int64
	ref        int32 // of item.refs, the one that leads here
}

// tagRef leads from an item to its row in one tag's list. With the row that is 48 bytes a tag
// reference, and room for growth of a quarter at most.
type tagRef struct {
	list *tagList
	row  int32
}

// tagList holds the items of one tag, in no order that matters.
type tagList struct {
	tag  string
	rows []tagRow
}

// add appends a row. Lists grow by a quarter: append doubles short ones, of which there are many.
func (l *tagList) add(row tagRow) {
	if n := len(l.rows); n == cap(l.rows) {
		l.resize(n + n/4 + 1)
	}
	l.rows = append(l.rows, row)
}

// remove puts the last row in the place of row i.
func (l *tagList) remove(i int32) {
	last := len(l.rows) - 1
	moved := l.rows[last]
	l.rows[i] = moved
	moved.item.refs[moved.ref].row = i
	l.rows[last] = tagRow{}
	l.rows = l.rows[:last]
	if last < cap(l.rows)/2 {
		l.resize(last + last/4)
	}
}

func (l *tagList) resize(n int) {
	l.rows = append(make([]tagRow, 0, n), l.rows...)
}

// index finds the items of one shard by tag and by URL. It is unlocked.
type index struct {
	tags map[string]*tagList
	urls *btree.BTreeG[*item]
}

func newIndex() index {
	return index{tags: make(map[string]*tagList), urls: btree.NewG(16, itemLess)}
}

// itemLess orders by URL, then by ID: the order of listings.
func itemLess(a, b *item) bool {
	if a.entry.URL != b.entry.URL {
		return a.entry.URL < b.entry.URL
	}
	return a.entry.ID < b.entry.ID
}

func (x *index) add(it *item) {
	x.urls.ReplaceOrInsert(it)
	if len(it.entry.Tags) == 0 {
		return
	}
	it.refs = make([]tagRef, len(it.entry.Tags))
	for i, tag := range it.entry.Tags {
		l := x.tags[tag]
		if l == nil {
			l = &tagList{tag: tag}
			x.tags[tag] = l
		}
		it.refs[i] = tagRef{l, int32(len(l.rows))}
		l.add(tagRow{it, it.entry.Generation, nanos(it.entry.KeepUntil), int32(i)})
	}
}

func (x *index) remove(it *item) {
	x.urls.Delete(it)
	for _, ref := range it.refs {
		if ref.list.remove(ref.row); len(ref.list.rows) == 0 {
			delete(x.tags, ref.list.tag)
		}
	}
	it.refs = nil
}

// match calls fn for every item the selectors name; more than once where they overlap.
func (x *index) match(sel *Selectors, fn func(it *item)) {
	if sel.All {
		x.ascend("", func(it *item) bool { fn(it); return true })
		return
	}
	for _, tag := range sel.Tags {
		for _, row := range x.tagged(tag) {
			fn(row.item)
		}
	}
	for _, url := range sel.URLs {
		x.ascend(url, func(it *item) bool {
			if it.entry.URL != url {
				return false
			}
			fn(it)
			return true
		})
	}
	for _, prefix := range sel.Prefixes {
		x.prefix(prefix, fn)
	}
	for _, host := range sel.Hosts {
		for _, prefix := range hostPrefixes(host) {
			x.prefix(prefix, func(it *item) {
				if hostOf(it.entry.URL) == host {
					fn(it)
				}
			})
		}
	}
}

// tagged are the rows of a tag, valid until the index changes.
func (x *index) tagged(tag string) []tagRow {
	if l := x.tags[tag]; l != nil {
		return l.rows
	}
	return nil
}

func (x *index) prefix(prefix string, fn func(it *item)) {
	x.ascend(prefix, func(it *item) bool {
		if !strings.HasPrefix(it.entry.URL, prefix) {
			return false
		}
		fn(it)
		return true
	})
}

// ascend walks the items from the first whose URL is not below url, while fn agrees.
func (x *index) ascend(url string, fn func(it *item) bool) {
	x.urls.AscendGreaterOrEqual(&item{entry: &Entry{URL: url}}, fn)
}

// hostPrefixes are the beginnings of the URLs of an authority; what follows may still be more of
// the authority, so compare hostOf.
func hostPrefixes(host string) [2]string { return [2]string{"http://" + host, "https://" + host} }

// hostOf is the authority of an absolute URL, with its port where the URL has one.
func hostOf(url string) string {
	_, rest, found := strings.Cut(url, "://")
	if !found {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return rest[:end]
	}
	return rest
}

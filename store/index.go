package store

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/google/btree"
)

// tagRow is one item in the list of one tag, with all that counting needs: rows stand side by side,
// so that a purge counts a hundred thousand in a few milliseconds. Linked through the items, each
// step waited for memory.
type tagRow struct {
	item       ref
	place      uint32 // which of the item's tags it is
	generation uint64
	keepUntil  int64
}

// tagList holds the items of one tag, in no order that matters. An item's way back is in its extent:
// the number of the list and the row, four bytes each (memory.places).
type tagList struct {
	tag  string
	rows []tagRow
}

// index finds the items of one shard by tag and by URL. It is unlocked.
type index struct {
	m     *memory
	tags  map[string]uint32 // place in lists
	lists []tagList
	free  []uint32 // lists without a tag
	urls  *btree.BTreeG[listed]
	// probe is what the zero listed stands for in urls while something is looked for.
	probe position
}

// listed is an item in listing order. It says where the URL is: on the way there through the item and its
// record's lengths each comparison would wait for memory four times.
type listed struct {
	url    address
	length uint32
	item   ref
}

// position is one in listing order.
type position struct {
	url []byte
	id  uint64
}

func newIndex(m *memory) *index {
	x := &index{m: m, tags: make(map[string]uint32)}
	x.urls = btree.NewG(urlDegree, x.less)
	return x
}

// urlDegree makes nodes of up to 63 items.
const urlDegree = 32

// less orders by URL, then by ID: the order of listings.
func (x *index) less(a, b listed) bool {
	if c := bytes.Compare(x.url(a), x.url(b)); c != 0 {
		return c < 0
	}
	return x.id(a) < x.id(b)
}

func (x *index) url(l listed) []byte {
	if l.item == 0 {
		return x.probe.url
	}
	return x.m.arena.bytes(l.url, int(l.length))
}

func (x *index) id(l listed) uint64 {
	if l.item == 0 {
		return x.probe.id
	}
	return x.m.items.at(l.item).id
}

// listing is an item's place in listing order.
func (x *index) listing(it *item) listed {
	at, length := x.m.urlOf(it)
	return listed{at, length, it.self}
}

func (x *index) add(it *item) {
	x.urls.ReplaceOrInsert(x.listing(it))
	if it.tags == 0 {
		return
	}
	r, places := x.m.record(it), x.m.places(it)
	for i, tag := range r.tags() {
		n := x.list(tag)
		l := &x.lists[n]
		setPlace(places, uint32(i), n, uint32(len(l.rows)))
		l.add(tagRow{it.self, uint32(i), r.generation(), r.keepUntil()})
	}
}

// list returns the number of a tag's list, a new one where there is none.
func (x *index) list(tag string) uint32 {
	n, known := x.tags[tag]
	if known {
		return n
	}
	tag = strings.Clone(tag) // not the whole record
	if last := len(x.free) - 1; last >= 0 {
		n, x.free = x.free[last], x.free[:last]
		x.lists[n] = tagList{tag: tag}
	} else {
		n = uint32(len(x.lists))
		x.lists = append(x.lists, tagList{tag: tag})
	}
	x.tags[tag] = n
	return n
}

func setPlace(places []byte, i, list, row uint32) {
	binary.LittleEndian.PutUint32(places[8*i:], list)
	binary.LittleEndian.PutUint32(places[8*i+4:], row)
}

func (x *index) remove(it *item) {
	x.urls.Delete(x.listing(it))
	places := x.m.places(it)
	for i := range it.tags {
		n, row := binary.LittleEndian.Uint32(places[8*i:]), binary.LittleEndian.Uint32(places[8*i+4:])
		x.removeRow(n, row)
	}
}

// removeRow puts the last row in the place of row i.
func (x *index) removeRow(n, i uint32) {
	l := &x.lists[n]
	last := len(l.rows) - 1
	moved := l.rows[last]
	l.rows[i] = moved
	setPlace(x.m.places(x.m.items.at(moved.item)), moved.place, n, i)
	l.rows = l.rows[:last]
	if last == 0 {
		delete(x.tags, l.tag)
		*l = tagList{}
		x.free = append(x.free, n)
	} else if last < cap(l.rows)/2 {
		l.resize(last + last/4)
	}
}

// add appends a row. Lists grow by a quarter: append doubles short ones, of which there are many.
func (l *tagList) add(row tagRow) {
	if n := len(l.rows); n == cap(l.rows) {
		l.resize(n + n/4 + 1)
	}
	l.rows = append(l.rows, row)
}

func (l *tagList) resize(n int) {
	l.rows = append(make([]tagRow, 0, n), l.rows...)
}

// match calls fn for every item the selectors name; more than once where they overlap.
func (x *index) match(sel *Selectors, fn func(it *item)) {
	if sel.All {
		x.ascend("", 0, func(it *item) bool { fn(it); return true })
		return
	}
	for _, tag := range sel.Tags {
		for _, row := range x.tagged(tag) {
			fn(x.m.items.at(row.item))
		}
	}
	for _, url := range sel.URLs {
		x.ascend(url, 0, func(it *item) bool {
			if !selectsURL(url, string(x.m.record(it).url())) {
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
				if hostOf(string(x.m.record(it).url())) == host {
					fn(it)
				}
			})
		}
	}
}

// tagged are the rows of a tag, valid until the index changes.
func (x *index) tagged(tag string) []tagRow {
	if n, known := x.tags[tag]; known {
		return x.lists[n].rows
	}
	return nil
}

func (x *index) prefix(prefix string, fn func(it *item)) {
	x.ascend(prefix, 0, func(it *item) bool {
		if !bytes.HasPrefix(x.m.record(it).url(), []byte(prefix)) {
			return false
		}
		fn(it)
		return true
	})
}

// ascend walks the items from (url, id) on in listing order, while fn agrees. fn must not change the
// index nor walk it.
func (x *index) ascend(url string, id uint64, fn func(it *item) bool) {
	x.probe = position{[]byte(url), id}
	x.urls.AscendGreaterOrEqual(listed{}, func(l listed) bool { return fn(x.m.items.at(l.item)) })
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

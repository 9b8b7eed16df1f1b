package store

import (
	"bytes"
	"cmp"
	"hash/maphash"

	"github.com/google/btree"

	"github.com/larder-cache/larder/store/internal/arena"
)

// tagRow is one item in the list of one tag, with all that counting needs: rows stand side by side,
// so that a purge counts a hundred thousand in a few milliseconds. Linked through the items, each
// step waited for memory.
type tagRow struct {
	id         uint64
	generation uint64
	keepUntil  int64
	item       ref
}

// compare orders rows by age: the order of a tag's listing.
func (r tagRow) compare(o tagRow) int {
	return cmp.Or(cmp.Compare(r.id, o.id), cmp.Compare(r.item, o.item))
}

// index finds the items of one shard by tag and by URL, or those of the queue that are in no shard.
// It is unlocked.
//
// Tags are known by a hash of 64 bits with a secret seed, and not by their text, which
// would take several times as much memory as the rest. So two tags may share a list, once in 2^64
// pairs. What is removed or listed by a list is compared with its text; what is counted is not.
type index struct {
	m     *memory
	tags  map[uint64]tagPlace
	lists []tagList
	free  []uint32 // lists without a tag
	urls  *btree.BTreeG[listed]
	// probe is what the zero listed stands for in urls while something is looked for.
	probe position
}

// tagPlace is where the items of a tag are: the ref of the only one, which most tags that only one
// page has are spared a list by, or inList and the number of a list.
type tagPlace uint32

const inList tagPlace = 1 << 31

// listed is an item in listing order. It says where the URL is: on the way there through the item
// and its record's lengths each comparison would wait for memory four times.
type listed struct {
	url    arena.Address
	length uint32
	item   ref
}

// position is one in listing order.
type position struct {
	url []byte
	id  uint64
}

func newIndex(m *memory) *index {
	x := &index{m: m, tags: make(map[uint64]tagPlace)}
	x.urls = btree.NewG(urlDegree, x.less)
	return x
}

// urlDegree makes nodes of up to 63 items.
const urlDegree = 32

// less orders by URL, then by ID: the order of listings. A renewed entry may be there beside the
// one it renews, under the same ID.
func (x *index) less(a, b listed) bool {
	if c := bytes.Compare(x.url(a), x.url(b)); c != 0 {
		return c < 0
	}
	return cmp.Or(cmp.Compare(x.id(a), x.id(b)), cmp.Compare(a.item, b.item)) < 0
}

func (x *index) url(l listed) []byte {
	if l.item == 0 {
		return x.probe.url
	}
	return x.m.arena.Bytes(l.url, int(l.length))
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
	row := x.row(it)
	x.m.record(it).eachTag(func(tag []byte) { x.addTag(maphash.Bytes(x.m.tagSeed, tag), row) })
}

// row is what the list of each of its tags has of an item.
func (x *index) row(it *item) tagRow {
	r := x.m.record(it)
	return tagRow{it.id, r.generation(), r.keepUntil(), it.self}
}

func (x *index) addTag(hash uint64, row tagRow) {
	place, known := x.tags[hash]
	switch {
	case !known:
		x.tags[hash] = tagPlace(row.item)
	case place&inList != 0:
		x.lists[place&^inList].insert(row)
	default:
		n := x.newList()
		x.lists[n].insert(x.row(x.m.items.at(ref(place))))
		x.lists[n].insert(row)
		x.tags[hash] = inList | tagPlace(n)
	}
}

func (x *index) newList() (n uint32) {
	if last := len(x.free) - 1; last >= 0 {
		n, x.free = x.free[last], x.free[:last]
		return n
	}
	x.lists = append(x.lists, tagList{})
	return uint32(len(x.lists) - 1)
}

func (x *index) remove(it *item) {
	x.urls.Delete(x.listing(it))
	if it.tags == 0 {
		return
	}
	row := x.row(it)
	x.m.record(it).eachTag(func(tag []byte) { x.removeTag(maphash.Bytes(x.m.tagSeed, tag), row) })
}

func (x *index) removeTag(hash uint64, row tagRow) {
	place := x.tags[hash]
	if place&inList == 0 {
		delete(x.tags, hash)
		return
	}
	l := &x.lists[place&^inList]
	l.remove(row)
	if only, single := l.single(); single {
		*l = nil
		x.free = append(x.free, uint32(place&^inList))
		x.tags[hash] = tagPlace(only.item)
	}
}

// match calls fn for every item the selectors name; more than once where they overlap.
func (x *index) match(sel *Selectors, fn func(it *item)) {
	if sel.All {
		x.ascend("", 0, func(it *item) bool { fn(it); return true })
		return
	}
	for _, tag := range sel.Tags {
		x.tagged(tag, 0, func(row tagRow) bool {
			if it := x.m.items.at(row.item); x.m.record(it).hasTag(tag) {
				fn(it)
			}
			return true
		})
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
				if selectsHost(host, string(x.m.record(it).url())) {
					fn(it)
				}
			})
		}
	}
}

// tagged walks the rows of a tag from an id on, by age, while fn agrees. fn must not change the
// index.
func (x *index) tagged(tag string, from uint64, fn func(row tagRow) bool) {
	place, known := x.tags[maphash.String(x.m.tagSeed, tag)]
	switch {
	case !known:
	case place&inList != 0:
		x.lists[place&^inList].ascend(from, fn)
	default:
		if row := x.row(x.m.items.at(ref(place))); row.id >= from {
			fn(row)
		}
	}
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

// ascend walks the items from (url, id) on in listing order, while fn agrees. fn must not change
// the index nor walk it.
func (x *index) ascend(url string, id uint64, fn func(it *item) bool) {
	x.probe = position{[]byte(url), id}
	x.urls.AscendGreaterOrEqual(listed{}, func(l listed) bool { return fn(x.m.items.at(l.item)) })
}

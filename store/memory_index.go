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
	m    *memory
	tags [mapParts]tagPart
	urls *btree.BTreeG[listed]
	// probe is what the zero listed stands for in urls while something is looked for.
	probe position
}

// tagPart are some of the tags, see hashMap.
type tagPart struct {
	mapPart[tagPlace]
	lists []tagList
	free  []uint32 // lists without a tag
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
	ix := &index{m: m}
	ix.urls = btree.NewG(urlDegree, ix.less)
	return ix
}

// urlDegree makes nodes of up to 63 items.
const urlDegree = 32

// less orders by URL, then by ID: the order of listings. A renewed entry may be there beside the
// one it renews, under the same ID.
func (ix *index) less(a, b listed) bool {
	if c := bytes.Compare(ix.url(a), ix.url(b)); c != 0 {
		return c < 0
	}
	return cmp.Or(cmp.Compare(ix.id(a), ix.id(b)), cmp.Compare(a.item, b.item)) < 0
}

func (ix *index) url(l listed) []byte {
	if l.item == 0 {
		return ix.probe.url
	}
	return ix.m.arena.Bytes(l.url, int(l.length))
}

func (ix *index) id(l listed) uint64 {
	if l.item == 0 {
		return ix.probe.id
	}
	return ix.m.items.at(l.item).id
}

// listing is an item's place in listing order.
func (ix *index) listing(it *item) listed {
	at, length := ix.m.urlOf(it)
	return listed{at, length, it.self}
}

func (ix *index) add(it *item) {
	ix.urls.ReplaceOrInsert(ix.listing(it))
	if it.tags == 0 {
		return
	}
	row := ix.row(it)
	ix.m.record(it).eachTag(func(tag []byte) { ix.addTag(maphash.Bytes(ix.m.tagSeed, tag), row) })
}

// row is what the list of each of its tags has of an item.
func (ix *index) row(it *item) tagRow {
	r := ix.m.record(it)
	return tagRow{it.id, r.generation(), r.keepUntil(), it.self}
}

func (ix *index) addTag(hash uint64, row tagRow) {
	p := &ix.tags[partOf(hash)]
	place, known := p.m[hash]
	switch {
	case !known:
		p.set(hash, tagPlace(row.item))
	case place&inList != 0:
		p.lists[place&^inList].insert(row)
	default:
		n := p.newList()
		p.lists[n].insert(ix.row(ix.m.items.at(ref(place))))
		p.lists[n].insert(row)
		p.m[hash] = inList | tagPlace(n)
	}
}

func (p *tagPart) newList() (n uint32) {
	if last := len(p.free) - 1; last >= 0 {
		n, p.free = p.free[last], p.free[:last]
		return n
	}
	p.lists = append(p.lists, tagList{})
	return uint32(len(p.lists) - 1)
}

// freeList gives a list back. When three quarters are free, and enough of them to pay for a walk
// through the tags, those in use are moved together.
func (p *tagPart) freeList(n uint32) {
	p.lists[n] = nil
	p.free = append(p.free, n)
	if free := len(p.free); free < rareRoom || free < len(p.lists)/4*3 || free < len(p.m)/4 {
		return
	}
	lists := make([]tagList, 0, len(p.lists)-len(p.free))
	for hash, place := range p.m {
		if place&inList != 0 {
			p.m[hash] = inList | tagPlace(len(lists))
			lists = append(lists, p.lists[place&^inList])
		}
	}
	p.lists, p.free = lists, nil
}

func (ix *index) remove(it *item) {
	ix.urls.Delete(ix.listing(it))
	if it.tags == 0 {
		return
	}
	row := ix.row(it)
	ix.m.record(it).eachTag(func(tag []byte) { ix.removeTag(maphash.Bytes(ix.m.tagSeed, tag), row) })
}

func (ix *index) removeTag(hash uint64, row tagRow) {
	p := &ix.tags[partOf(hash)]
	place := p.m[hash]
	if place&inList == 0 {
		p.delete(hash)
		return
	}
	l := &p.lists[place&^inList]
	l.remove(row)
	if only, single := l.single(); single {
		p.m[hash] = tagPlace(only.item)
		p.freeList(uint32(place &^ inList))
	}
}

// tagged walks the rows of a tag from an id on, by age, while fn agrees. fn must not change the
// index.
func (ix *index) tagged(tag string, from uint64, fn func(row tagRow) bool) {
	hash := maphash.String(ix.m.tagSeed, tag)
	p := &ix.tags[partOf(hash)]
	place, known := p.m[hash]
	switch {
	case !known:
	case place&inList != 0:
		p.lists[place&^inList].ascend(from, fn)
	default:
		if row := ix.row(ix.m.items.at(ref(place))); row.id >= from {
			fn(row)
		}
	}
}

// ascend walks the items from (url, id) on in listing order, while fn agrees. fn must not change
// the index nor walk it.
func (ix *index) ascend(url string, id uint64, fn func(it *item) bool) {
	ix.probe = position{[]byte(url), id}
	ix.urls.AscendGreaterOrEqual(listed{}, func(l listed) bool { return fn(ix.m.items.at(l.item)) })
}

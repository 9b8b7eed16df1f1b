package store

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/larder-cache/larder/store/internal/arena"
)

// ref names an item: its place in the table, counted from 1; 0 is none. Structures of many items
// are linked by refs, so that the garbage collector has nothing to follow in them.
type ref uint32

// item is a stored response with the memory tier's bookkeeping; the response itself is in its
// extent. It has no pointers and fills one cache line. Fields without a note belong to the shard's
// lock. Code that uses one outside of that lock holds it (hold, unhold): with the last hold
// the extent and the item go to others.
type item struct {
	at    arena.Address // immutable
	id    uint64        // the entry's; immutable once it can be found
	self  ref           // immutable
	units uint32        // what it costs, in units of costUnit bytes; immutable

	prev, next ref // the policy's list
	sibling    ref // the next variant whose key begins alike
	lastUse    uint32
	epoch      uint32 // lfu
	decoded    uint32 // its place in the shard's decoded entries, counted from 1

	holds atomic.Int32
	flags atomic.Uint32

	tags      uint32 // immutable
	shard     uint8  // its shard; immutable
	variants  uint8  // how many its Put allows of its key, 0: any; immutable once it can be found
	uses      uint8  // lfu
	protected bool   // lru
}

// The flags of an item.
const (
	isResident uint32 = 1 << iota // in its shard; changes under the shard's lock
	isQueued                      // waits to be written
	isOnDisk                      // its record is committed; set and cleared by the disk writer
	isSoft                        // a soft purge whose record may be gone has hit it
	isDead                        // a newer response has taken its place, or it was removed
	isUsed                        // looked up since the disk tier last asked
	// isComplete says that no live variant of the key is on disk or queued without being here too,
	// so that a hit needs to look nowhere else. All resident items of a key have it, or none.
	isComplete
	isWaiting    // among the queue's jobs; changes under the queue's lock
	isQueuedOnly // in the queue's index; changes under the queue's lock
	isInvalid    // as isSoft, of a purge that makes invalid
	isKept       // among those that go first; changes under the shard's lock
	isHeld       // counted in memory.held
	isLate       // to be written later, see disk_late.go; changes under the shard's lock
	// From bit creditShift on stands the credit, see variant_credit.go.
)

// flagOf is the flag of an item that says for good what a purge has made of it: isDead where that
// is nothing any more.
func flagOf(s Severity) uint32 {
	switch s {
	case NotPurged:
		return 0
	case Soft:
		return isSoft
	case Invalid:
		return isInvalid
	case Hard:
	}
	return isDead
}

// severity is what the flags say that purges have made of an item which is not dead.
func (it *item) severity() Severity {
	switch flags := it.flags.Load(); {
	case flags&isInvalid != 0:
		return Invalid
	case flags&isSoft != 0:
		return Soft
	}
	return NotPurged
}

func (it *item) is(flag uint32) bool { return it.flags.Load()&flag != 0 }
func (it *item) set(flag uint32)     { it.flags.Or(flag) }
func (it *item) clear(flag uint32)   { it.flags.And(^flag) }

// costUnit keeps costs in 32 bits: up to 32 GiB an entry. Extents are multiples of it.
const costUnit = 8

// cost is what counts against the budget while the item is held.
func (it *item) cost() int64 { return int64(it.units) * costUnit }

// What an entry costs beside its extent, in whole units of costUnit. Maps and trees are estimated
// by what they take on average.
const (
	itemBytes = int64(unsafe.Sizeof(item{})) + 24 + 24 + dueBytes // itself, its slots in key map and URL order
	tagBytes  = int64(unsafe.Sizeof(tagRow{})) + 32               // its row, a share of list and map
	headBytes = 16                                                // of an extent, in front of the record
)

// table is where items are. It grows by chunks and keeps them; what is free is linked by sibling.
type table struct {
	mu     sync.Mutex
	chunks atomic.Pointer[[]*[chunkItems]item] // copied to be changed
	free   ref
}

const chunkItems = 1024

func newTable() *table {
	t := new(table)
	t.chunks.Store(new([]*[chunkItems]item))
	return t
}

// at returns an item. It is the caller's to know that the ref is in use.
func (t *table) at(r ref) *item {
	return &(*t.chunks.Load())[(r-1)/chunkItems][(r-1)%chunkItems]
}

// take returns an item that is not in use, with no hold on it yet.
func (t *table) take() *item {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free == 0 {
		chunks := slices.Clone(*t.chunks.Load())
		chunk := new([chunkItems]item)
		chunks = append(chunks, chunk)
		t.chunks.Store(&chunks)
		for i := range chunk {
			chunk[i].self = ref((len(chunks)-1)*chunkItems + i + 1)
			chunk[i].sibling, t.free = t.free, chunk[i].self
		}
	}
	it := t.at(t.free)
	t.free, it.sibling = it.sibling, 0
	return it
}

// put takes an item back.
func (t *table) put(it *item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	it.flags.Store(0)
	it.prev, it.next, it.lastUse, it.epoch, it.decoded, it.uses, it.variants, it.protected = 0, 0, 0, 0, 0, 0, 0, false
	it.sibling, t.free = t.free, it.self
}

// content is what an item is made of.
type content struct {
	id     uint64 // 0: not given yet
	record record
	body   Body
	// source is the id under which the body's chunks are on disk already; body is not read then.
	source uint64
	// base is an item that has the same body, held by the caller; body is not read then.
	base *item
	tags int
}

// size is how long its extent is: the head, the record, the body.
func (d *content) size() int {
	n := headBytes + len(d.record)
	if d.bodyFollows() {
		n += int(d.body.Len())
	}
	return n
}

func (d *content) bodyFollows() bool { return d.source == 0 && d.base == nil }

// cost is what the item will cost.
func (m *memory) cost(d *content) int64 {
	return m.arena.ExtentSize(d.size()) + itemBytes + tagBytes*int64(d.tags)
}

// store makes an item of content whose cost has been charged, and holds it for the caller. When it
// fails the charge is given back.
func (m *memory) store(d *content) (*item, error) {
	it := m.items.take()
	at, scattered, err := m.arena.Alloc(d.size(), uint32(it.self))
	if err != nil {
		m.items.put(it)
		m.used.Add(-m.cost(d))
		return nil, err
	}
	it.at, it.id, it.tags, it.units = at, d.id, uint32(d.tags), uint32(m.cost(d)/costUnit)
	key := d.record.key()
	it.shard = key[0] % shardCount
	place := d.source
	if d.base != nil {
		m.holdBase(d.base)
		place, it.units = baseMark|uint64(d.base.self), it.units+d.base.units
	}
	it.holds.Store(1) // who has a stale ref of it may hold it from now on, and read what is above
	filled := false
	binary.LittleEndian.PutUint64(m.arena.Bytes(at, headBytes)[8:], place)
	defer func() { // by an error, or by a panic of a database whose page is damaged
		if !filled {
			m.unhold(it)
		}
	}()
	extent := m.arena.Bytes(at, d.size())
	rest := extent[headBytes:]
	rest = rest[copy(rest, d.record):]
	if d.bodyFollows() {
		if err := copyBody(rest, d.body); err != nil {
			return nil, err
		}
	}
	filled = true
	if m.overgrown(scattered) {
		m.compact()
	}
	return it, nil
}

func copyBody(dst []byte, body Body) error {
	if b, ok := body.(filler); ok {
		return b.fill(dst)
	}
	for off := 0; off < len(dst); {
		c, err := body.Chunk(int64(off))
		if err != nil {
			return err
		}
		off += copy(dst[off:], c)
	}
	return nil
}

// hold adds a hold to those there are: the caller knows of one.
func (it *item) hold() { it.holds.Add(1) }

// tryHold holds an item of which the caller only knows that it was in use once.
func (it *item) tryHold() bool {
	for {
		n := it.holds.Load()
		if n <= 0 {
			return false
		}
		if it.holds.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// unhold gives up a hold; with the last one the bytes are given back, and used by others.
func (m *memory) unhold(it *item) {
	if n := m.release(it, false); n < 0 {
		panic("store: an entry was released more often than it was found")
	} else if n > 0 {
		return
	}
	base := m.base(it)
	m.free(it)
	if base != nil && m.release(base, true) == 0 {
		m.free(base) // which has none
	}
}

// free gives the bytes of an item back that is not held any more.
func (m *memory) free(it *item) {
	cost := m.ownCost(it)
	m.arena.Free(it.at)
	m.items.put(it)
	m.used.Add(-cost)
}

// record is the entry's, as long as the item is held.
func (m *memory) record(it *item) record {
	fixed := m.arena.Bytes(it.at, headBytes+12)
	n := int(binary.BigEndian.Uint32(fixed[headBytes+8:]))
	return record(m.arena.Bytes(it.at, headBytes+n)[headBytes:])
}

// urlOf is where the entry's URL is, and its length.
func (m *memory) urlOf(it *item) (at arena.Address, length uint32) {
	fixed := record(m.arena.Bytes(it.at, headBytes+recordFixed)[headBytes:])
	return it.at + arena.Address(headBytes+recordFixed), fixed.urlLen()
}

// value is the record with the body that follows it; for an item that has one.
func (m *memory) value(it *item) []byte {
	r := m.record(it)
	return m.arena.Bytes(it.at, headBytes+len(r)+int(r.bodyLen()))[headBytes:]
}

// baseMark is set in an extent's head where what stands there is the item that has the body.
const baseMark = 1 << 63

func (m *memory) place(it *item) uint64 {
	return binary.LittleEndian.Uint64(m.arena.Bytes(it.at, headBytes)[8:])
}

// source is the id under which the body is on disk, or 0 where it is in memory.
func (m *memory) source(it *item) uint64 {
	if place := m.place(it); place&baseMark == 0 {
		return place
	}
	return 0
}

// base is the item that has the body of it, or nil. A renewed entry has that of the one it renews,
// which it holds. A base has a body of its own, so that there are no chains, however often an entry
// is renewed.
func (m *memory) base(it *item) *item {
	if place := m.place(it); place&baseMark != 0 {
		return m.items.at(ref(place))
	}
	return nil
}

// ownCost is cost without that of the base, which counts as long as that is held.
func (m *memory) ownCost(it *item) int64 {
	if base := m.base(it); base != nil {
		return it.cost() - base.cost()
	}
	return it.cost()
}

// givesRoom tells whether an item with so many holds of the caller's and its shard's gives its room
// when these are given up. What others hold does not. Nor does a renewed entry whose body others
// hold: the item that it renews, or one that renews that too, is read or waits for the disk.
func (m *memory) givesRoom(it *item, holds int32) bool {
	if it.holds.Load() > holds {
		return false
	}
	base := m.base(it)
	return base == nil || base.holds.Load() <= 1
}

// bodyOf is the body of an item that is not on disk.
func (m *memory) bodyOf(it *item) extentBody {
	if base := m.base(it); base != nil {
		it = base
	}
	return extentBody(m.value(it)[len(m.record(it)):])
}

// extentBody is a body in an extent: in one piece, which the holder of the item may read.
type extentBody []byte

// Len is the whole length in bytes.
func (b extentBody) Len() int64 { return int64(len(b)) }

// Chunk returns the bytes from off to the end.
func (b extentBody) Chunk(off int64) ([]byte, error) {
	if off < 0 || off > int64(len(b)) {
		return nil, errOffset(off, int64(len(b)))
	}
	return b[off:], nil
}

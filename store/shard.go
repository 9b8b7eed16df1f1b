package store

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// What holds an item; its bytes are given back by whoever clears the last bit, so that an entry
// evicted from memory while it still waits to be written stays counted.
const (
	heldResident uint32 = 1 << iota
	heldQueued
)

// item is an entry with the memory tier's bookkeeping. Fields without a note belong to the shard's
// lock.
type item struct {
	entry *Entry // immutable
	cost  int64  // immutable

	prev, next *item // the policy's list
	refs       []tagRef
	lastUse    uint64 // the shard's clock at the last use, for max_variants
	epoch      uint32 // lfu
	uses       uint8  // lfu

	held   atomic.Uint32
	onDisk atomic.Bool // its record is committed; set and cleared by the keeper under the shard's lock
	soft   atomic.Bool // a soft purge whose record may be gone has hit it
	dead   atomic.Bool // a newer response has taken its place, or it was removed
	used   atomic.Bool // looked up since the disk tier last asked
}

// keyNode holds the resident variants of one key.
type keyNode struct {
	items []*item
	// complete says that no live variant of the key is on disk or queued without being here too, so
	// that a hit needs to look nowhere else.
	complete bool
}

// stampCount is how many counters a shard has to notice that a key changed while its disk rows were
// read.
const stampCount = 64

// shard is one locked part of the memory tier. Lock order: shard, then queue.
type shard struct {
	mu     sync.Mutex
	keys   map[Key]*keyNode
	policy policy
	index  index
	clock  uint64
	stamps [stampCount]uint32

	entries, bytes atomic.Int64
}

func newShard(e Eviction) *shard {
	return &shard{keys: make(map[Key]*keyNode), policy: newPolicy(e), index: newIndex()}
}

// stamp counts the changes to the keys that share key's counter.
func (s *shard) stamp(key Key) *uint32 { return &s.stamps[key[1]%stampCount] }

// insert makes it resident.
func (s *shard) insert(it *item) {
	node := s.keys[it.entry.Key]
	if node == nil {
		node = &keyNode{}
		s.keys[it.entry.Key] = node
	}
	node.items = append(node.items, it)
	s.policy.add(it)
	s.index.add(it)
	s.clock++
	it.lastUse = s.clock
	s.entries.Add(1)
	s.bytes.Add(it.cost)
}

// drop ends it's residence. The caller gives back the bytes (memory.release).
func (s *shard) drop(it *item) {
	node := s.keys[it.entry.Key]
	for i, other := range node.items {
		if other == it {
			last := len(node.items) - 1
			node.items[i] = node.items[last]
			node.items[last] = nil
			node.items = node.items[:last]
			break
		}
	}
	node.complete = false
	if len(node.items) == 0 {
		delete(s.keys, it.entry.Key)
	}
	s.policy.remove(it)
	s.index.remove(it)
	s.entries.Add(-1)
	s.bytes.Add(-it.cost)
}

// resident tells whether it is in the shard.
func (s *shard) resident(it *item) bool { return it.held.Load()&heldResident != 0 }

// use notes a use.
func (s *shard) use(it *item) {
	s.clock++
	it.lastUse = s.clock
	s.policy.touch(it)
}

// setPolicy moves all items to another policy, in their present order.
func (s *shard) setPolicy(e Eviction) {
	next := newPolicy(e)
	var items []*item
	s.policy.each(func(it *item) { items = append(items, it) })
	for _, it := range items {
		next.add(it)
	}
	s.policy = next
}

// Estimates of what the runtime keeps for an entry beside its bytes.
const (
	itemOverhead   = int64(unsafe.Sizeof(item{})+unsafe.Sizeof(Entry{})+unsafe.Sizeof(keyNode{})) + 160 // + map slots, tree slot
	tagOverhead    = int64(unsafe.Sizeof(tagRef{})+unsafe.Sizeof(tagRow{})*9/8) + 16                    // + string header
	fieldOverhead  = 16 + 24 + 16 + 24                                                                  // name, slice, value, map slot
	reserveHeaders = 300                                                                                // an http.Header's first buckets
)

// cost estimates the bytes an entry keeps alive while it is resident.
func cost(e *Entry) int64 {
	n := itemOverhead + reserveHeaders + int64(len(e.URL)+len(e.Method)+len(e.Variant.Coding))
	if b, ok := e.Body.(*memoryBody); ok {
		n += b.held()
	}
	for _, h := range []map[string][]string{e.Header, e.Trailer} {
		for name, values := range h {
			n += fieldOverhead + int64(len(name))
			for _, v := range values {
				n += int64(len(v))
			}
		}
	}
	for i, name := range e.Variant.Names {
		n += 32 + int64(len(name)+len(e.Variant.Values[i]))
	}
	for _, tag := range e.Tags {
		n += tagOverhead + int64(len(tag))
	}
	return n
}

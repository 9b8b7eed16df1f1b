package store

import "maps"

// mapParts is how many parts a hashMap has: so many that to make one anew takes no hit that waits
// for the lock longer than a few others do. With ten million tags one has ten thousand slots.
const mapParts = 64

// rareRoom is up to how many slots are not given back, of each part.
const rareRoom = 32

// hashMap is a map whose keys are hashes, and that gives room back: one of Go's is as large as it
// was at its largest for as long as it lives. A part that has less than a quarter of what it had is
// made anew, which is paid for by what has been deleted. The zero value is empty.
type hashMap[V any] struct{ parts [mapParts]mapPart[V] }

// partOf is the part of a hash. Neither end of it is used: keys of a shard have the first four bits
// in common.
func partOf(hash uint64) int { return int(hash >> 24 % mapParts) }

func (h *hashMap[V]) get(hash uint64) (value V, known bool) {
	value, known = h.parts[partOf(hash)].m[hash]
	return value, known
}

func (h *hashMap[V]) set(hash uint64, value V) { h.parts[partOf(hash)].set(hash, value) }

func (h *hashMap[V]) delete(hash uint64) { h.parts[partOf(hash)].delete(hash) }

// mapPart is a part of a hashMap.
type mapPart[V any] struct {
	m    map[uint64]V
	most int // that it has had since it was made
}

func (p *mapPart[V]) set(hash uint64, value V) {
	if p.m == nil {
		p.m = make(map[uint64]V)
	}
	p.m[hash] = value
	p.most = max(p.most, len(p.m))
}

func (p *mapPart[V]) delete(hash uint64) {
	delete(p.m, hash)
	if n := len(p.m); p.most >= rareRoom && n < p.most/4 {
		less := make(map[uint64]V, n)
		maps.Copy(less, p.m)
		p.m, p.most = less, n
	}
}

package traces

import (
	"container/heap"
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Ratio is what a cache made of a trace. Hits count the first request of each object as a miss, so
// no cache can have all.
type Ratio struct {
	// Objects is the share of the requests that were hits, Bytes that of the bytes asked for. A
	// crawler's requests, which no cache can have, are not counted.
	Objects, Bytes float64
}

// tally counts.
type tally struct {
	asked, hits, bytes, hitBytes int64
}

func (n *tally) count(q Request, size int64, hit bool) {
	if q.Passing {
		return
	}
	n.asked++
	n.bytes += size
	if hit {
		n.hits++
		n.hitBytes += size
	}
}

func (n *tally) ratio() Ratio {
	share := func(part, whole int64) float64 { return float64(part) / float64(max(whole, 1)) }
	return Ratio{share(n.hits, n.asked), share(n.hitBytes, n.bytes)}
}

// Count is what a cache made of t that has answered each of its requests with a hit or not.
func Count(t *Trace, hit func(request int) bool) Ratio {
	var n tally
	for i, q := range t.Requests {
		n.count(q, t.Sizes[q.Object], hit(i))
	}
	return n.ratio()
}

// LRU is what a cache of capacity bytes makes of t that evicts the least recently used object and
// nothing else. Each object takes overhead bytes beside its own.
func LRU(t *Trace, capacity, overhead int64) Ratio {
	cache, err := simplelru.NewLRU[int32, int64](math.MaxInt, nil)
	if err != nil {
		panic(err) // the size is above 0
	}
	var n tally
	var used int64
	for _, q := range t.Requests {
		_, hit := cache.Get(q.Object)
		n.count(q, t.Sizes[q.Object], hit)
		if hit {
			continue
		}
		cost := t.Sizes[q.Object] + overhead
		cache.Add(q.Object, cost)
		for used += cost; used > capacity; {
			_, freed, _ := cache.RemoveOldest()
			used -= freed
		}
	}
	return n.ratio()
}

// Clairvoyant is what a cache makes of t that knows the future: it evicts what is needed last, be
// it what has just come (Belady 1966). With objects of one size none can make more hits; with
// different sizes a few more are possible, which to find is NP-hard.
func Clairvoyant(t *Trace, capacity, overhead int64) Ratio {
	next := nextUses(t)
	at := make([]int, len(t.Sizes)) // the next use of what is in the cache, 0 for others
	var queue usesHeap
	var n tally
	var used int64
	for i, q := range t.Requests {
		n.count(q, t.Sizes[q.Object], at[q.Object] != 0)
		cost := t.Sizes[q.Object] + overhead
		if at[q.Object] != 0 {
			at[q.Object], used = 0, used-cost
		}
		if next[i] == never {
			continue
		}
		at[q.Object], used = next[i], used+cost
		heap.Push(&queue, use{next[i], q.Object})
		for used > capacity {
			last := heap.Pop(&queue).(use)
			if at[last.object] == last.at { // else it has been used since
				at[last.object] = 0
				used -= t.Sizes[last.object] + overhead
			}
		}
	}
	return n.ratio()
}

const never = math.MaxInt

// nextUses tells for each request when its object is asked for again.
func nextUses(t *Trace) []int {
	next := make([]int, len(t.Requests))
	seen := make([]int, len(t.Sizes))
	for i := len(t.Requests) - 1; i >= 0; i-- {
		object := t.Requests[i].Object
		next[i] = never
		if seen[object] != 0 {
			next[i] = seen[object]
		}
		seen[object] = i
	}
	return next
}

// use is a future request. usesHeap has the last one on top.
type use struct {
	at     int
	object int32
}

type usesHeap []use

func (h usesHeap) Len() int           { return len(h) }
func (h usesHeap) Less(i, j int) bool { return h[i].at > h[j].at }
func (h usesHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *usesHeap) Push(x any)        { *h = append(*h, x.(use)) }
func (h *usesHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

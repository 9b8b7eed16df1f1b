package stats

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxKeyBytes is how much of a key is kept. Keys are told apart by all of it.
const maxKeyBytes = 512

// maxReasons is how many reasons of a key are told apart. With more, the commonest is found where
// it has more than a share of 1/maxReasons.
const maxReasons = 4

// Top finds the keys with the most weight among any number of them. It keeps the counts of a fixed
// number of keys; a further key takes the place of the lightest. All counts are halved from time to
// time, so that what was long ago gives way.
type Top struct {
	size     int
	halfLife time.Duration
	seed     maphash.Seed

	mu     sync.Mutex
	rows   []*row          // a heap, the lightest first
	byHash map[uint64]*row // the same
	total  uint64
	halved time.Time
}

// row is what is known of a key.
type row struct {
	hash uint64
	key  string
	// Its weight is count at most, and less by over at most: over is the count of the key whose
	// place it took, part of which may have been its own before.
	count, over uint64
	reasons     [maxReasons]reason
	place       int // in the heap
}

type reason struct {
	text   string
	weight uint64
}

// NewTop returns a Top for so many keys, whose counts are halved each halfLife.
func NewTop(size int, halfLife time.Duration) *Top {
	return &Top{
		size: size, halfLife: halfLife, seed: maphash.MakeSeed(),
		byHash: make(map[uint64]*row, size),
	}
}

// Add adds weight to a key. why is one of few texts, or empty. The key is not kept: what Top keeps
// is a copy of 512 bytes at most.
func (t *Top) Add(now time.Time, key string, weight uint64, why string) {
	if weight == 0 {
		return
	}
	hash := maphash.String(t.seed, key)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.age(now)
	t.total += weight
	r, known := t.byHash[hash]
	switch {
	case known:
		r.count += weight
	case len(t.rows) < t.size:
		r = &row{hash: hash, key: shorten(key), count: weight, place: len(t.rows)}
		t.byHash[hash], t.rows = r, append(t.rows, r)
		t.up(r)
	default:
		r = t.rows[0]
		delete(t.byHash, r.hash)
		*r = row{hash: hash, key: shorten(key), count: r.count + weight, over: r.count}
		t.byHash[hash] = r
	}
	r.because(why, weight)
	t.down(r)
}

// up and down put a row in its place, whose count has become lower or higher.
func (t *Top) up(r *row) {
	for r.place > 0 {
		parent := t.rows[(r.place-1)/2]
		if parent.count <= r.count {
			return
		}
		t.swap(parent, r)
	}
}

func (t *Top) down(r *row) {
	for {
		i := 2*r.place + 1
		if i >= len(t.rows) {
			return
		}
		child := t.rows[i]
		if i+1 < len(t.rows) && t.rows[i+1].count < child.count {
			child = t.rows[i+1]
		}
		if r.count <= child.count {
			return
		}
		t.swap(r, child)
	}
}

func (t *Top) swap(a, b *row) {
	a.place, b.place = b.place, a.place
	t.rows[a.place], t.rows[b.place] = a, b
}

// because counts a reason. It is Space-Saving as well.
func (r *row) because(why string, weight uint64) {
	if why == "" {
		return
	}
	least := &r.reasons[0]
	for i := range r.reasons {
		if r.reasons[i].text == why {
			r.reasons[i].weight += weight
			return
		}
		if r.reasons[i].weight < least.weight {
			least = &r.reasons[i]
		}
	}
	least.text, least.weight = why, least.weight+weight
}

// commonest returns the reason with the most weight.
func (r *row) commonest() string {
	most := slices.MaxFunc(r.reasons[:], func(a, b reason) int { return cmp.Compare(a.weight, b.weight) })
	return most.text
}

// age halves all counts once for each halfLife that has passed. Keys that have none left go.
func (t *Top) age(now time.Time) {
	if t.halved.IsZero() {
		t.halved = now
	}
	for ; now.Sub(t.halved) >= t.halfLife; t.halved = t.halved.Add(t.halfLife) {
		if t.total == 0 {
			t.halved = now
			return
		}
		t.halve()
	}
}

func (t *Top) halve() {
	t.total /= 2
	old := t.rows
	t.rows = t.rows[:0]
	for _, r := range old {
		sure := (r.count - r.over) / 2
		r.over /= 2
		r.count = sure + r.over
		for i := range r.reasons {
			r.reasons[i].weight /= 2
		}
		if sure == 0 {
			delete(t.byHash, r.hash)
			continue
		}
		r.place, t.rows = len(t.rows), append(t.rows, r)
		t.up(r)
	}
	clear(old[len(t.rows):])
}

// Row is a key and its weight.
type Row struct {
	// Key is cut at 512 bytes, and ends with … then.
	Key string
	// Count is its weight: never too high, and too low by Total/size at most.
	Count uint64
	// Share is Count in the weight of all keys.
	Share float64
	// Why is the commonest of the reasons it was added with.
	Why string
}

// Rows returns the keys with the highest counts, limit of them at most, the highest first.
func (t *Top) Rows(now time.Time, limit int) []Row {
	rows := t.all(now)
	sortRows(rows)
	return rows[:min(limit, len(rows))]
}

// sortRows puts the highest count first.
func sortRows(rows []Row) {
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Key, b.Key))
	})
}

func (t *Top) all(now time.Time) []Row {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.age(now)
	rows := make([]Row, 0, len(t.rows))
	for _, r := range t.rows {
		rows = append(rows, Row{
			Key: r.key, Count: r.count - r.over, Share: float64(r.count-r.over) / float64(t.total), Why: r.commonest(),
		})
	}
	return rows
}

// shorten copies a key, which may be part of something larger.
func shorten(key string) string {
	const cut = "…"
	if len(key) <= maxKeyBytes {
		return strings.Clone(key)
	}
	return strings.ToValidUTF8(key[:maxKeyBytes-len(cut)], "") + cut
}

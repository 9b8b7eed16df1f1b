package store

import (
	"sync"
	"sync/atomic"
)

// tickets counts the fetches and look-ups in the file that are under way by the generation they
// began in.
type tickets struct {
	mu      sync.Mutex
	open    map[uint64]*openGeneration
	first   *openGeneration // the oldest; generations only ascend, so the list is in their order
	last    *openGeneration
	spare   *openGeneration // the one that ended last, for the next: most have one fetch
	reading int             // look-ups under way
	reads   uint64          // look-ups begun

	// revoked is the generation below which no fetch may bring anything into the store any more.
	revoked atomic.Uint64
}

// openGeneration is how many began in a generation and have not ended.
type openGeneration struct {
	gen        uint64
	count      int
	kept       int // of these, look-ups and what is just being stored: they are not revoked
	prev, next *openGeneration
}

// begin reads the generation and registers it in one step: were the reading outside of the lock, a
// record could be dropped between the two that this fetch still needs.
func (t *tickets) begin(r *purgeSet) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading++
	t.reads++
	gen := t.issue(r)
	t.open[gen].kept++
	return gen
}

func (t *tickets) end(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading--
	t.open[gen].kept--
	t.takeBack(gen)
}

// beginFetch and endFetch are begin and end for a fetch.
func (t *tickets) beginFetch(r *purgeSet) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issue(r)
}

func (t *tickets) endFetch(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeBack(gen)
}

func (t *tickets) issue(r *purgeSet) uint64 {
	gen := r.last.Load()
	o := t.open[gen]
	if o == nil {
		if o, t.spare = t.spare, nil; o == nil {
			o = new(openGeneration)
		}
		*o = openGeneration{gen: gen, prev: t.last}
		if t.last != nil {
			t.last.next = o
		} else {
			t.first = o
		}
		t.last, t.open[gen] = o, o
	}
	o.count++
	return gen
}

func (t *tickets) takeBack(gen uint64) {
	o := t.open[gen]
	if o.count--; o.count > 0 {
		return
	}
	delete(t.open, gen)
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		t.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		t.last = o.prev
	}
	t.spare = o
}

// readers tells whether look-ups are under way, and how many have begun.
func (t *tickets) readers() (reading bool, begun uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reading > 0, t.reads
}

// oldest is the lowest generation began in by any fetch under way that has not been revoked.
func (t *tickets) oldest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for o := t.first; o != nil; o = o.next {
		if o.gen >= t.revoked.Load() || o.kept > 0 {
			return o.gen
		}
	}
	return everything
}

// revoke takes from all fetches of generations before gen the leave to store what they bring, so
// that no purge need be remembered for them.
func (t *tickets) revoke(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked.Store(max(t.revoked.Load(), gen))
}

// keep has the fetch of a generation not revoked until unkeep, while its response comes to its
// place: a sweep that takes no heed of it any more could have passed that place already. ok is
// false if it has been revoked.
func (t *tickets) keep(gen uint64) (o *openGeneration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if gen < t.revoked.Load() {
		return nil, false
	}
	if o = t.open[gen]; o != nil {
		o.count++
		o.kept++
	}
	return o, true
}

func (t *tickets) unkeep(o *openGeneration) {
	if o == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	o.kept--
	t.takeBack(o.gen)
}

// Ticket stands for one fetch: the responses it brings are as old as its generation. Put comes
// before End.
type Ticket struct {
	store *Store
	gen   uint64
	ended atomic.Bool
}

// Begin opens the ticket of a fetch that is about to begin. Records of later purges are kept until
// End, so that its response can be judged however long it takes; but where they come to more than
// an eighth of the memory budget, and a MiB, the tickets of the oldest fetches are revoked, and
// what these bring counts as purged.
func (s *Store) Begin() *Ticket {
	return &Ticket{store: s, gen: s.tickets.beginFetch(s.purges)}
}

// Generation is what the entries of this fetch carry.
func (t *Ticket) Generation() uint64 { return t.gen }

// End closes the ticket; more than once does no harm.
func (t *Ticket) End() {
	if !t.ended.Swap(true) {
		t.store.tickets.endFetch(t.gen)
	}
}

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
	spare   *openGeneration // the one that ended last, for the next: most fetches are alone in their generation
	reading int             // look-ups under way
	reads   uint64          // look-ups begun
}

// openGeneration is how many began in a generation and have not ended.
type openGeneration struct {
	gen        uint64
	count      int
	prev, next *openGeneration
}

// begin reads the generation and registers it in one step: were the reading outside of the lock, a
// record could be dropped between the two that this fetch still needs.
func (t *tickets) begin(r *recordSet) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading++
	t.reads++
	return t.issue(r)
}

func (t *tickets) end(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading--
	t.takeBack(gen)
}

// beginFetch and endFetch are begin and end for a fetch.
func (t *tickets) beginFetch(r *recordSet) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.issue(r)
}

func (t *tickets) endFetch(gen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeBack(gen)
}

func (t *tickets) issue(r *recordSet) uint64 {
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

// oldest is the lowest generation any fetch under way began in.
func (t *tickets) oldest() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		return everything
	}
	return t.first.gen
}

// Ticket stands for one fetch: the responses it brings are as old as its generation. Put comes
// before End.
type Ticket struct {
	store *Store
	gen   uint64
	ended atomic.Bool
}

// Begin opens the ticket of a fetch that is about to begin. Records of later purges are kept until
// End, so that its response can be judged however long it takes.
func (s *Store) Begin() *Ticket {
	return &Ticket{store: s, gen: s.tickets.beginFetch(s.records)}
}

// Generation is what the entries of this fetch carry.
func (t *Ticket) Generation() uint64 { return t.gen }

// End closes the ticket; more than once does no harm.
func (t *Ticket) End() {
	if !t.ended.Swap(true) {
		t.store.tickets.endFetch(t.gen)
	}
}

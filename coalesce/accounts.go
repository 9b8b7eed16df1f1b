package coalesce

// account is one of the accounts of the Budget that a flight has bytes in.
type account uint8

const (
	kept   account = iota // of bodies that are to be kept
	beyond                // beyond that, on their way to a Spill
	passed                // of bodies that are only passed on

	accounts
)

// amounts are bytes by account.
type amounts [accounts]int64

// sum is what is reserved in all accounts: at least what the body holds, less the one chunk that
// grow adds where there is no room at all.
func (a *amounts) sum() (n int64) {
	for _, part := range a {
		n += part
	}
	return n
}

// spillRoom is what a flight that spills takes at once where Reserve refuses, and has until its
// body is in the Spill: a chunk, and what the Spill may hold back until it fills one of its own.
// Where each took as much as it needs at the moment, many together would have all there is, and
// none of them enough to go on.
const spillRoom = 6 * maxChunk

// grant is room for a chunk.
type grant struct {
	from  account
	bytes int64
}

// reserve asks the Budget for room for a chunk. When that refuses one of a body that is to be kept,
// a flight that can spill does so, and what the Spill does not take yet goes beyond.
func (f *Flight) reserve(capacity int64) (g grant, ok bool) {
	b := f.config.budget
	if held, most, passesOn := f.windowRoom(); passesOn {
		return grant{passed, capacity}, held+capacity <= most && b.ReserveWindow(capacity, held)
	}
	if lacks, hasSome := f.lacking(capacity); hasSome && lacks <= 0 {
		return grant{}, true
	}
	g = grant{kept, capacity}
	total := f.announced()
	if b.Reserve(capacity, total) || f.spillAll() && b.Reserve(capacity, total) { // may evict, so not under the lock
		return g, true
	}
	lacks, hasSome := f.lacking(capacity) // spilling has given some back
	if lacks <= 0 {
		return grant{}, true
	}
	if !hasSome {
		lacks = max(lacks, spillRoom)
	}
	return grant{beyond, lacks}, f.spillOfStreaming() != nil && b.ReserveBeyond(lacks)
}

// windowRoom is what the flight holds of a body that is only passed on, and how much that may be.
// passesOn is false where the body is to be kept.
func (f *Flight) windowRoom() (held, most int64, passesOn bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.held, f.windowSize(), f.phase == windowed || !f.keep && !f.spills()
}

// recount moves what a flight holds that is not to be stored any more to the account of what is
// passed on, so that it keeps nothing from being stored. Where that has no room for it, it stays
// where it is until its readers have taken it, or are dropped for it.
func (f *Flight) recount() {
	f.mu.Lock()
	n := f.reserved[kept] + f.reserved[beyond]
	f.mu.Unlock()
	if n == 0 || !f.config.budget.ReserveWindow(n, 0) {
		return
	}
	f.mu.Lock()
	defer f.unlock()
	for _, from := range []account{kept, beyond} {
		moved := min(n, f.reserved[from]) // not what has come meanwhile
		f.owed[from] += moved
		f.reserved[from] -= moved
		f.reserved[passed] += moved
		n -= moved
	}
	f.owed[passed] += n // a reader may have moved on meanwhile, or the timer of kept.go been first
	f.giveBack()
}

// lacking is how much a chunk needs beside what is reserved, and whether some of that is beyond.
func (f *Flight) lacking(capacity int64) (n int64, hasSome bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.body.held + capacity - f.reserved.sum(), f.phase == streaming && f.reserved[beyond] > 0
}

// giveBack has what is reserved beyond what is held given back to the Budget. What counts against
// others that are to be kept goes first. A flight that spills has its room beyond until that ends.
func (f *Flight) giveBack() {
	surplus := f.reserved.sum() - f.body.held
	for from := range f.reserved {
		if account(from) == beyond && f.phase == streaming && !f.ended && f.spillInUse() != nil {
			continue
		}
		n := min(max(0, surplus), f.reserved[from])
		f.reserved[from] -= n
		f.owed[from] += n
		surplus -= n
	}
}

// giveBackAll gives back all that is reserved.
func (f *Flight) giveBackAll() {
	for from, n := range f.reserved {
		f.owed[from] += n
	}
	f.reserved = amounts{}
}

// pay gives back what a change of the flight owes.
func (c *config) pay(owed *amounts) {
	if n := owed[kept]; n > 0 {
		c.budget.Unreserve(n)
	}
	if n := owed[beyond]; n > 0 {
		c.budget.UnreserveBeyond(n)
	}
	if n := owed[passed]; n > 0 {
		c.budget.UnreserveWindow(n)
	}
}

package coalesce

// account is one of the accounts of the Budget that a flight has bytes in.
type account uint8

const (
	kept   account = iota // of bodies that are to be kept
	beyond                // beyond that, on their way to a Spill

	accounts
)

// amounts are bytes by account.
type amounts [accounts]int64

// sum is what is reserved in all accounts: at least what the body holds, but for what grow adds
// without.
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

// reserve asks the Budget for room for a chunk. When it refuses, a flight that can spill does so,
// and what the Spill does not take yet goes beyond.
func (f *Flight) reserve(capacity int64) (g grant, ok bool) {
	b, total := f.config.budget, f.announced()
	if f.hasRoom(capacity) {
		return grant{}, true
	}
	g = grant{kept, capacity}
	if b.Reserve(capacity, total) || f.spillAll() && b.Reserve(capacity, total) { // may evict, so not under the lock
		return g, true
	}
	if g.bytes = f.missing(capacity); g.bytes <= 0 {
		return grant{}, true
	}
	g.from = beyond
	return g, f.Spilled() && b.ReserveBeyond(g.bytes)
}

// hasRoom tells whether a chunk fits in what is reserved beyond already.
func (f *Flight) hasRoom(capacity int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.phase == streaming && f.reserved[beyond] > 0 && f.body.held+capacity <= f.reserved.sum()
}

// missing is how much has to be reserved beyond for a chunk.
func (f *Flight) missing(capacity int64) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.body.held + capacity - f.reserved.sum()
	if f.reserved[beyond] == 0 && n > 0 {
		n = max(n, spillRoom)
	}
	return n
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
}

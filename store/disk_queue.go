package store

import (
	"slices"
	"sync"
	"time"
)

// job is one change that waits for the disk: an item to write, or the rows of one to delete.
type job struct {
	kind        jobKind
	item        *item  // jobPut: the new response, held by the queue
	id          uint64 // of the new response, or jobDelete: of the one to delete
	variant     variantSum
	key         Key
	maxVariants int
	reason      EvictionReason // jobDelete
	cost        int64
	at          time.Time
	written     int // jobPut: chunks of a large body that are on disk already
	// below is what an entry of the same variant is older than: the id that Put gave, which is the
	// item's unless that has the id of its BodyWriter.
	below uint64
	ahead bool // jobPut: the whole body is on disk already
	// renews says that the item has the id, and the body, of the entry that it renews; narrows says
	// that it has tags which that lacks, or is good for less long.
	renews  bool
	narrows bool
	alone   bool // jobPut: nothing of its variant is on disk that no job deletes
	late    bool // jobPut: it is not known whether there is one of that id, see disk_late.go
	refused bool // jobPut: there was no room for it after all
	taken   bool // the disk writer has it in hand; under the queue's lock
	// packed is the body of one piece as it is to be stored, where that is compressed; compress
	// says that one of several chunks is to be.
	packed   []byte
	compress bool
	stored   int64 // how many bytes the chunks take that are on disk already
}

// bookkeeping is what the job counts against the memory budget, beside its item.
func (j *job) bookkeeping() int64 {
	return deletionCost + int64(len(j.packed))
}

type jobKind uint8

const (
	jobPut       jobKind = iota // write the item, in place of older ones of its variant
	jobSupersede                // there was no room to queue the item: only delete those older ones
	jobDelete                   // delete the entry id
)

// superseded tells whether an entry of the job's key is out of date once the job is done.
func (j *job) superseded(id uint64, v *summed) bool {
	if j.kind == jobDelete || id == j.id {
		return j.id == id && (j.kind == jobDelete || j.renews)
	}
	return id < j.below && v.sum() == j.variant
}

// The queue's bounds: bytes of entries, and the number of deletions, which carry no body.
const (
	queueBytes   = 32 << 20
	queueJobs    = 1 << 18
	deletionCost = 256
)

// queue is the write-behind queue: jobs in the order of their effects on memory, found by key so
// that a look-up sees what the disk does not have yet.
type queue struct {
	mu    sync.Mutex
	jobs  []*job          // jobs[0] is the oldest
	byKey hashMap[[]*job] // by keyPrefix, which index rows know too
	bytes int64
	taken uint64 // jobs done or given up since the queue was made
	open  bool   // there is a disk to write to
	// paused is how many bytes may wait while the disk is full, none of them of a jobPut; 0: it is
	// not.
	paused int64
	// forgets is called, under the lock, when a deletion finds no room that must not be forgotten.
	forgets func()
	wake    chan struct{}
	// index finds the items that are queued and in no shard: that were never resident, or are not
	// any more.
	index *index
}

func newQueue(m *memory) *queue {
	return &queue{wake: make(chan struct{}, 1), index: newIndex(m)}
}

// push appends a job; false when it does not fit. An empty queue takes one entry of any size. A
// record whose body is on disk already always has a place, and what is late: of that only some is
// queued at a time.
func (q *queue) push(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.open:
		return false
	case q.repeats(j):
		return true
	case q.paused > 0:
		return q.pushPaused(j)
	case len(q.jobs) >= queueJobs: // the disk is slow
		return q.refuse(j)
	case j.kind == jobPut && q.bytes > 0 && q.bytes+j.cost > queueBytes && !j.ahead && !j.late:
		return false
	}
	q.add(j)
	if len(q.jobs) == 1 || q.bytes >= lingerBytes {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// refuse has no place for a job. Where it deletes what would be served again the file is given up.
// That is not so of what is damaged, which is found damaged again, nor of a variant too many.
func (q *queue) refuse(j *job) bool {
	if j.kind == jobSupersede || j.kind == jobDelete && j.reason != Damaged && j.reason != Variants {
		q.forgets()
	}
	return false
}

// repeatsSought is how many of a key's latest jobs are looked at for one that does the same.
const repeatsSought = 256

// repeats tells whether j is a deletion, and the latest job that waits of its variant, or of its
// id, is one that does the same: a page may be refreshed any number of times while the disk is full
// or slow. Nothing comes to disk between the two, and below ascends in the order of a key's jobs,
// so that the earlier one deletes all that j would.
func (q *queue) repeats(j *job) bool {
	if j.kind == jobPut {
		return false
	}
	jobs := q.jobsOf(keyPrefix(j.key))
	for _, o := range slices.Backward(jobs[max(0, len(jobs)-repeatsSought):]) {
		if o.key == j.key && (o.kind == j.kind || o.kind == jobPut) && j.deletesOf(o) {
			return o.kind == j.kind && !o.taken
		}
	}
	return false
}

// deletesOf tells whether a deletion is of the variant of another job of its key, or of the id.
func (j *job) deletesOf(o *job) bool {
	if j.kind == jobDelete {
		return j.id == o.id
	}
	return j.variant == o.variant
}

// add appends a job.
func (q *queue) add(j *job) {
	q.jobs = append(q.jobs, j)
	q.byKey.set(keyPrefix(j.key), append(q.jobsOf(keyPrefix(j.key)), j))
	q.bytes += j.cost
	q.index.m.used.Add(j.bookkeeping())
	if j.kind == jobPut {
		j.item.set(isWaiting)
		q.addIndex(j.item)
	}
}

// jobsOf are the jobs of the keys with a prefix, oldest first; under the queue's lock.
func (q *queue) jobsOf(prefix uint64) []*job {
	jobs, _ := q.byKey.get(prefix)
	return jobs
}

// of returns the jobs of a key, oldest first, in dst's memory. Their items are held for the caller,
// who gives them up with memory.unholdJobs: the queue may be through with them at any time.
func (q *queue) of(key Key, dst []*job) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobsOf(keyPrefix(key)) {
		if j.key == key {
			j.hold()
			dst = append(dst, j)
		}
	}
	return dst
}

// succeeded tells whether a newer response of j's variant waits behind j. It deletes what is older
// when it is written itself, and until then a crash must not leave the page with neither. Should it
// not be written it leaves a deletion, as j deletes nothing. A renewal does so too, unless j is one
// that would have left the record, see leavesRenewed.
func (q *queue) succeeded(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.jobsOf(keyPrefix(j.key)) {
		if o.kind != jobDelete && o.key == j.key && o.below > j.below && o.variant == j.variant {
			o.alone = false
			o.narrows = o.narrows || !j.renews || j.late || j.narrows
			return true
		}
	}
	return false
}

// ofPrefix returns the jobs of all keys with a prefix.
func (q *queue) ofPrefix(prefix uint64) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.jobsOf(prefix))
}

// having are those of the rows for whose key something is queued: nearly always none.
func (q *queue) having(rows []unsettled) (queued []unsettled) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, row := range rows {
		if _, ok := q.byKey.get(row.key); ok {
			queued = append(queued, row)
		}
	}
	return queued
}

func (j *job) hold() {
	if j.item != nil {
		j.item.hold()
	}
}

// unholdJobs gives up the items of jobs that were returned held.
func (m *memory) unholdJobs(jobs []*job) {
	for _, j := range jobs {
		if j.item != nil {
			m.unhold(j.item)
		}
	}
}

// addIndex takes an item into the index that is queued and in no shard.
func (q *queue) addIndex(it *item) {
	if it.is(isWaiting) && !it.is(isResident|isDead|isQueuedOnly) {
		it.set(isQueuedOnly)
		q.index.add(it)
	}
}

// endWait takes an item out of the queue's hands.
func (q *queue) endWait(it *item) {
	it.clear(isWaiting)
	if it.is(isQueuedOnly) {
		it.clear(isQueuedOnly)
		q.index.remove(it)
	}
}

// leftMemory notes that a queued item is resident no more.
func (q *queue) leftMemory(it *item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addIndex(it)
}

// matching calls fn for every live item that is selected, queued and in no shard; more than once
// where selectors overlap.
func (q *queue) matching(sel *Selectors, fn func(it *item)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for w, more := (itemWalk{spans: spansOf(sel)}), true; more; {
		more = w.step(q.index, stepItems, func(sp *span, it *item, _ tagRow) bool {
			if !it.is(isDead) && sp.means(q.index.m.record(it)) {
				fn(it)
			}
			return true
		})
	}
}

// has tells whether there is one.
func (q *queue) has(sel *Selectors) (has bool) {
	q.matching(sel, func(*item) { has = true })
	return has
}

// mark has the items that rec masks say so themselves.
func (q *queue) mark(rec *purgeRecord) {
	q.matching(&rec.sel, func(it *item) {
		if q.index.m.record(it).generation() < rec.gen {
			it.set(flagOf(rec.severity))
		}
	})
}

// queuedOnly tells whether the job has a live item that is not resident. The caller holds the item.
func (j *job) queuedOnly() bool {
	return j.kind == jobPut && !j.item.is(isDead|isResident)
}

// supersedes tells whether something that waits takes the place of an entry on disk, or deletes it.
func (q *queue) supersedes(id uint64, r record) bool {
	key := r.key()
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.jobsOf(keyPrefix(key))
	if len(jobs) == 0 {
		return false
	}
	own := r.variant()
	v := summed{Variant: &own}
	return slices.ContainsFunc(jobs, func(j *job) bool { return j.key == key && j.superseded(id, &v) })
}

// head returns up to n jobs from the front; they stay queued until done. It is for the disk writer,
// which alone takes jobs off.
func (q *queue) head(n int) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := slices.Clone(q.jobs[:min(n, len(q.jobs))])
	for _, j := range jobs {
		j.taken = true
	}
	return jobs
}

// done takes the first n jobs off. It comes after their commit: a look-up that no longer finds one
// here opens its transaction later and finds the row.
func (q *queue) done(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs[:n] {
		prefix := keyPrefix(j.key)
		if rest := slices.DeleteFunc(q.jobsOf(prefix), func(o *job) bool { return o == j }); len(rest) > 0 {
			q.byKey.set(prefix, rest)
		} else {
			q.byKey.delete(prefix)
		}
		q.bytes -= j.cost
		q.index.m.used.Add(-j.bookkeeping())
		if j.kind == jobPut {
			q.endWait(j.item)
		}
	}
	q.taken += uint64(n)
	clear(q.jobs[:n]) // the array lives on
	if q.jobs = q.jobs[n:]; len(q.jobs) == 0 {
		q.jobs = nil
	}
}

// position is how many jobs have been taken off, and how many will have been once those that wait
// now are.
func (q *queue) position() (taken, end uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken, q.taken + uint64(len(q.jobs))
}

// setOpen opens or shuts the queue; shutting returns what was in it.
func (q *queue) setOpen(open bool) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open, q.paused = open, 0
	if open {
		return nil
	}
	jobs := q.clear()
	q.taken += uint64(len(jobs))
	return jobs
}

// clear empties the queue and returns what was in it.
func (q *queue) clear() []*job {
	jobs := q.jobs
	for _, j := range jobs {
		q.index.m.used.Add(-j.bookkeeping())
		if j.kind == jobPut {
			q.endWait(j.item)
		}
	}
	q.jobs, q.bytes = nil, 0
	q.byKey = hashMap[[]*job]{}
	return jobs
}

// waiting is the bytes queued.
func (q *queue) waiting() int64 {
	_, bytes, _ := q.state()
	return bytes
}

// state is the queue's length, its bytes and when its oldest job came.
func (q *queue) state() (n int, bytes int64, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) > 0 {
		oldest = q.jobs[0].at
	}
	return len(q.jobs), q.bytes, oldest
}

package store

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/larder-cache/larder/store/internal/boltcheck"
)

// A disk that is full stops writing, not reading. What fails for want of room has changed nothing:
// bbolt has rolled the transaction back, and no row leads to the slots that were written for it. So
// the file stays in use, and the disk writer pauses:
//
//	write fails ─► pause ─► retryTime ─► resume ─► what is queued and late is written
//	                 │                      │
//	                 └── a purge is written └── or fails again ─► pause
//
// In a pause nothing is written, evicted, expired or compacted, and no body goes to disk while it
// arrives. Look-ups and readers go on. What is stored stays in memory, late. What it takes the
// place of on disk, and what is to be deleted there, waits in the queue, where look-ups see it:
// else an old response would be back once the new one has left memory. A purge is written at once,
// as the file may have free pages, and swept as long as it has. One that cannot be written costs
// the file, as ever. So does a deletion for which there is no room in memory: a file without it
// would serve what was replaced, and without the file the disk has room again.
//
// Two failures of a full disk give the file up all the same. A sync that has failed may have lost
// what was written before, and the next one would succeed without that. And where bbolt could write
// its meta page in part, that may have made the transaction one that has happened, of which bbolt
// has thrown away what it knows of free pages.

// fullError says that the disk had no room for a write, of which nothing has come.
type fullError struct{ cause error }

// Error is that of the cause.
func (e *fullError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *fullError) Unwrap() error { return e.cause }

// errPaused says that writing has not been tried again since the disk was full.
var errPaused = errors.New("the disk is full, and has not been tried again yet")

func isFull(err error) bool {
	_, full := errors.AsType[*fullError](err)
	return full
}

// isNoRoom tells whether the system had no room for a write, or for a file to begin one. A sync is
// another matter.
func isNoRoom(err error) bool {
	e, ok := errors.AsType[*fs.PathError](err)
	return ok && (e.Op == "write" || e.Op == "open") &&
		slices.ContainsFunc(fullErrors[:], func(full error) bool { return errors.Is(e.Err, full) })
}

// ifFull makes a fullError of the error of a transaction for which there was no room, unless the
// file has it all the same.
func (u *use) ifFull(err error, transaction int) error {
	if _, wedged := errors.AsType[*wedgedError](err); wedged || !isNoRoom(err) {
		return err
	}
	meta, ok := boltcheck.ReadMeta(u.file)
	if !ok || meta.Transaction >= uint64(transaction) {
		return err
	}
	return &fullError{err}
}

// writable tells whether there is a file that is written to, and not only read.
func (d *disk) writable() bool { return d.up.Load() && !d.full.Load() }

// pause notes a write for which there was no room, and stops writing for retryTime.
func (dw *diskWriter) pause(err error) {
	dw.tell(slog.LevelError, "disk tier: the disk is full; nothing is written, and what is there is served",
		slog.Duration("retry", retryTime), slog.Any("error", err))
	dw.trouble.full = true
	if dw.roomFirst.step == 0 {
		dw.roomFirst.step = firstStep
	}
	// What a transaction has swept that failed is there still.
	dw.endSweeps()
	dw.sweepAnew()
	if !dw.disk.full.Load() { // else it was a sweep, which goes on in a pause
		dw.stopWriting(err)
	}
}

// stopWriting does so for retryTime. What is queued is late.
func (dw *diskWriter) stopWriting(err error) {
	// First: who sees that it is full may count on the retry.
	dw.retryAt = dw.now().Add(retryTime)
	dw.disk.full.Store(true)
	dw.endCompaction(err)
	dw.late.shard = shardCount
	dw.bodyWriters.setAccepting(false)
	for _, j := range dw.queue.pause(dw.pausedBytes(), dw.s.leavesRenewed) {
		j.refused = true
		dw.s.endPut(j)
	}
	dw.writing = 0
}

// maySweep tells whether there is a file to sweep. That goes on in a pause until there is no room
// for it: purges are written then, and would be more and more.
func (dw *diskWriter) maySweep() bool {
	return dw.disk != nil && dw.disk.up.Load() && !dw.noRoomToSweep
}

// pausedBytes is how many bytes of deletions may wait in a pause. They count in memory. When
// writing is tried again the queue has room for as many more. What was queued when a pause begins
// is put back without a look at this bound: it was remembered already.
func (dw *diskWriter) pausedBytes() int64 {
	return min(max(dw.settings.Load().Memory/8, 1024*deletionCost), queueJobs/2*deletionCost)
}

// errForgets says that what is to be deleted can be remembered no more: the disk is full, or slow.
var errForgets = errors.New("more is to be deleted from the file than is remembered")

// forgets has the file given up, and begun anew: what is to be deleted there, and is not
// remembered, would be found again. The queue is open, so that it is the file that this is to be
// deleted from.
func (s *Store) forgets() {
	s.diskWriter.forgot.Store(true)
	s.disk.up.Store(false)
	s.report(&readError{s.disk.times.Load(), errForgets})
}

// resume tries to write again, unless deletions were forgotten, and that was not told.
func (dw *diskWriter) resume() {
	dw.retryAt, dw.noRoomToSweep = time.Time{}, false
	dw.expiring, dw.pending = true, true
	_, dw.roomFirst.jobs = dw.queue.position()
	dw.roomFirst.purge = dw.purges.last.Load()
	dw.queue.setOpen(true) // first: what is put has a place
	if dw.forgot.Load() {  // until then
		dw.giveUp(errForgets)
		return
	}
	dw.disk.full.Store(false)
	dw.bodyWriters.resume()
}

// roomFirst is what gives room on a disk that was full, and is done before anything is written that
// takes some. In one transaction with that it would be rolled back, each time that writing is tried
// again.
type roomFirst struct {
	jobs  uint64 // deletions that waited, up to this position of the queue
	purge uint64 // purges up to this generation are to be swept
	step  int    // how many entries are deleted in one transaction at most; 0: there is no bound
	tried bool   // there was no room for a step
	done  int    // steps that have committed since that, or since it was made larger
}

// firstStep is the first such step. Each page that a transaction changes takes a free one until it
// has committed, so that one which deletes much may find no room where a small one does. Steps get
// larger up to what there is room for, and after that by one at a time: they have given room
// themselves.
const firstStep = 16

// bound is how many of n entries may be deleted in one transaction.
func (f *roomFirst) bound(n int) int {
	if f.step == 0 {
		return n
	}
	return min(n, f.step)
}

// committed notes a step.
func (f *roomFirst) committed() {
	if !f.tried {
		f.step = min(2*f.step, batchJobs)
		return
	}
	if f.done++; f.done >= f.step {
		f.step, f.done = min(f.step+1, batchJobs), 0
	}
}

// ended notes a step, or one for which there was no room. That of a put is not held against it.
func (f *roomFirst) ended(err error) {
	switch {
	case err == nil:
		f.committed()
	case isFull(err) && f.step == 0:
		f.step = firstStep
	case isFull(err):
		f.step, f.tried, f.done = max(f.step/2, 1), true, 0
	}
}

// transactStep is transact for a step that is bounded, and notes how it ended.
func (dw *diskWriter) transactStep(fn func(b *batch) error) error {
	err := dw.transact(fn)
	dw.roomFirst.ended(err)
	return err
}

// deletionsFirst is how many deletions at the front of the queue are done before all else.
func (dw *diskWriter) deletionsFirst() int {
	taken, _ := dw.queue.position()
	return int(max(dw.roomFirst.jobs, taken) - taken)
}

// givesRoom tells whether something is still to be done that gives room, and that others wait for.
func (dw *diskWriter) givesRoom() bool {
	if dw.roomFirst == (roomFirst{}) {
		return false
	}
	early := func(rec *purgeRecord) bool { return rec.gen <= dw.roomFirst.purge }
	return dw.deletionsFirst() > 0 || slices.ContainsFunc(dw.sweeps.memory, early) ||
		slices.ContainsFunc(dw.sweeps.disk, early) || dw.overBudget()
}

// endRoomFirst lifts the bound of steps once all is done that gives room. It is looked at before
// the disk is tried again, and so not at once after that.
func (dw *diskWriter) endRoomFirst() {
	if dw.diskUp() && !dw.expiring && !dw.pending && !dw.givesRoom() {
		dw.roomFirst = roomFirst{}
	}
}

// takenUses are those of an entry that a transaction was to write.
type takenUses struct {
	id   uint64
	uses uint8
}

// takenCredit is what an entry had before a transaction took some.
type takenCredit struct {
	id     uint64
	credit uint32
}

// takeBack gives back the slots of a transaction that has failed for want of room, and what is
// known of uses, and has what it would have deleted count as stored.
func (b *batch) takeBack() {
	if len(b.taken) > 0 {
		b.slots.Give(b.taken...)
	}
	for _, r := range b.removed {
		b.writer.disk.pins.keep(r.id)
	}
	for _, taken := range b.uses {
		b.writer.accesses.add(taken.id, taken.uses)
	}
	for _, had := range slices.Backward(b.credits) { // the first is what it had before all
		b.writer.credits.give(had.id, had.credit)
	}
}

// pushPaused is push while the disk is full.
func (q *queue) pushPaused(j *job) bool {
	if j.kind == jobPut || q.bytes+j.cost > q.paused {
		return q.refuse(j)
	}
	q.add(j)
	return true
}

// pause has the queue take nothing but deletions, so many bytes at most, until it is opened or
// shut. It returns the entries that were in it, in the place of which it deletes what they would
// replace, where there may be something, but for what is left there.
func (q *queue) pause(most int64, leaves func(j *job) bool) (puts []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := q.clear()
	q.paused = most
	for _, j := range jobs {
		if j.kind == jobPut {
			if puts = append(puts, j); j.alone || leaves(j) {
				continue
			}
			j = j.supersession()
		}
		j.taken = false // what it was taken for has failed
		if !q.repeats(j) {
			q.add(j)
		}
	}
	q.taken += uint64(len(jobs) - len(q.jobs))
	return puts
}

// leavesRenewed tells whether the record that j renews is left on disk where j is not written: it
// has the body, which nothing else has. But a purge names what j has, and may miss the record then;
// and a shorter life is not to be forgotten. What has taken the place of j is judged by itself, and
// what was removed has a deletion of its own.
func (s *Store) leavesRenewed(j *job) bool {
	return j.renews && !j.late && !j.narrows && !j.item.is(isResident) &&
		s.purges.recordPurgedBy(s.memory.record(j.item), everything) != Hard
}

// narrows tells whether e has a tag that an entry which it renews lacks, or a shorter life. That of
// a renewal is counted from whole seconds (Date, Age and Expires have no finer unit), so that one
// which says the same may end up to a second earlier. Flags tell of the request, and of what its
// response added: neither is in the record that is left.
func (e *Entry) narrows(old *Entry) bool {
	shorter := func(end, than time.Time) bool { return end.Before(than.Add(-time.Second)) }
	if shorter(e.FreshUntil, old.FreshUntil) || shorter(e.keptFrom(), old.keptFrom()) || shorter(e.KeepUntil, old.KeepUntil) {
		return true
	}
	if slices.Equal(e.Tags, old.Tags) { // as a rule
		return false
	}
	known := make(map[string]struct{}, len(old.Tags))
	for _, tag := range old.Tags {
		known[tag] = struct{}{}
	}
	return slices.ContainsFunc(e.Tags, func(tag string) bool { _, ok := known[tag]; return !ok })
}

// supersession is a job that deletes what j would replace.
func (j *job) supersession() *job {
	older := &job{kind: jobSupersede, id: j.below, below: j.below, key: j.key, variant: j.variant, at: j.at}
	older.cost = older.bookkeeping()
	return older
}

// resume takes bodies in again, in the same file. How far that is synced stands: one sync may still
// be under way.
func (set *bodyWriters) resume() {
	set.mu.Lock()
	defer set.mu.Unlock()
	set.accepting = true
}

// keep notes that what a transaction was to delete is stored after all.
func (p *pins) keep(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := p.held[id]
	if held == nil {
		return
	}
	delete(p.held, id)
	if held.taken > 0 {
		p.taken[id] = held.taken
	}
	if held.bytes > 0 {
		p.heldBytes -= held.bytes
		p.countRead(id, held.read)
	}
}

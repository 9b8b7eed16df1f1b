package store

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// The bounds of one transaction, so that a purge that waits for it is not kept long.
const (
	batchBytes = 4 << 20
	batchTime  = 10 * time.Millisecond
	batchJobs  = 8192
	rowBytes   = 512 // what an entry writes beside its record, URL and tags, about: six rows
	tagRoom    = 64  // and beside a tag in the row of that
	// touchBytes is how many pages one transaction may change. Rows of tags that few entries have,
	// and of keys, are each in a page of their own, of which bbolt makes three times as much of
	// memory and a new one in the file.
	touchBytes = 20 << 20
	hurry      = 16 // what part of that is enough while a purge waits,
	lateHurry  = 4  // and of what has waited too long itself
	// lateTime is how old a job may be that a purge, or who else wants the core, is preferred to:
	// an entry is to be on disk after a second, however many there are of them.
	lateTime = 2 * lingerTime
)

// batch is one write transaction under way.
type batch struct {
	*buckets
	writer      *diskWriter
	now         time.Time // the store's clock
	began       time.Time // the machine's
	yielded     time.Time // when others last had the core
	away        time.Duration
	bytes       int
	asked       bool   // full has been
	late        bool   // what it writes has waited too long to give way to purges
	below       uint64 // only purges below have been counted and may keep things from the disk
	entries     int64  // added less removed
	parts       int64  // of these, those with FlagPart
	removed     []removal
	inserted    []*item
	drops       []drop          // by purges that are watched
	taken       []uint32        // slots that it has written
	uses        []takenUses     // that it has written, or was to
	credits     []takenCredit   // of which it has taken some
	chunkValues []*largestChunk // see chunkRoom
	// How many bytes of bodies it stores compressed, and in how many.
	plainBytes, packedBytes int64
}

// removal is an entry that is gone from the disk once the batch has committed.
type removal struct {
	id     uint64
	key    Key
	reason EvictionReason
	part   bool
	after  int // so many of inserted were before it: a renewal has the id of what it renews
}

// full tells whether the batch should be committed: sooner when a purge waits, but not for nothing.
// What writes is bounded by its bytes. The clock counts only for a purge, and for what deletes:
// where other processes have the core, or the trees are large, a batch ended by the clock would be
// small, and small batches cost the most of it. With twice the entries a batch writes two pages for
// three. It is asked before each thing to do, and lets the first pass: on a slow machine the time
// may be up by then, and with purges that follow each other without a gap nothing else would ever
// be done.
func (b *batch) full() bool {
	if !b.asked {
		b.asked = true
		return false
	}
	limit, touch, end := b.writer.batchLimit(), b.writer.touchLimit(), batchTime
	switch purge := b.writer.waiting.Load() > 0; {
	case purge && b.late:
		limit, touch = limit/lateHurry, touch/lateHurry
	case purge:
		limit, touch, end = limit/hurry, touch/hurry, end/hurry
		return b.bytes >= limit || b.touched() >= touch || time.Since(b.began)-b.away >= end
	}
	return b.bytes >= limit || b.touched() >= touch || (b.bytes == 0 && time.Since(b.began)-b.away >= end)
}

// pageSize is how large a page of the file is, as a rule.
const pageSize = 4 << 10

// touched is how many bytes of pages the transaction will write anew, but for those that it makes.
func (b *batch) touched() int {
	if b.buckets == nil {
		return 0
	}
	stats := b.meta.Tx().Stats()
	return int(stats.GetNodeCount()) * pageSize
}

// yield lets others have the core for a moment, unless a purge waits for the end of the batch.
func (b *batch) yield() {
	if time.Since(b.yielded) < yieldTime || b.writer.waiting.Load() > 0 {
		return
	}
	from := time.Now()
	runtime.Gosched()
	b.yielded = time.Now()
	b.away += b.yielded.Sub(from)
}

// remove deletes an entry of which the id is known, and the key where that is known too.
func (b *batch) remove(id uint64, key Key, why EvictionReason) error {
	r, inline, err := b.record(id)
	if err == nil {
		return b.removeRecord(id, r, inline, why)
	}
	// Reached by a row that outlived the record.
	if why == Capacity || why == Expired || why == PurgedHard {
		why = Damaged
	}
	found, part, err := b.deleteDamaged(id, key, &b.writer.disk.pins)
	return b.gone(removal{id: id, key: key, reason: why, part: part}, found, err)
}

// removeRecord is remove for an entry whose record was read already.
func (b *batch) removeRecord(id uint64, r record, inline []byte, why EvictionReason) error {
	gone := removal{id: id, key: r.key(), reason: why, part: r.isPart()}
	return b.gone(gone, true, b.delete(id, r, inline, &b.writer.disk.pins))
}

// gone notes a removal that found something.
func (b *batch) gone(r removal, found bool, err error) error {
	if err != nil {
		return fmt.Errorf("delete entry %d: %w", r.id, err)
	}
	b.writer.pending = true // where chunks were left; nothing is read when there are none
	if found {
		b.entries--
		if r.part {
			b.parts--
		}
		r.after = len(b.inserted)
		b.removed = append(b.removed, r)
	}
	return nil
}

// transact runs fn in a write transaction with the counters every commit carries, and tells memory
// what has left the disk.
func (dw *diskWriter) transact(fn func(b *batch) error) error {
	b := &batch{writer: dw, now: dw.now(), began: time.Now(), below: dw.purges.countedBelow()}
	b.yielded = b.began
	defer dw.disk.pins.settle()
	id := dw.ids.Load()
	positionWritten, labels := func() {}, dw.labels
	err := dw.disk.update(func(tx *bbolt.Tx) error {
		var err error
		if b.buckets, err = dw.disk.openBuckets(tx); err != nil {
			return err
		}
		b.slots = dw.disk.openSlots()
		if c := dw.compacting; c != nil {
			for i, bucket := range b.all() {
				bucket.rows = &c.rows[i]
			}
		}
		if err := fn(b); err != nil {
			return err
		}
		positionWritten, err = dw.s.position.write(b)
		if labels = dw.s.labels.now.Load(); labels != dw.labels { // those of what is in b are among them
			err = errors.Join(err, b.putLabels(*labels))
		}
		return errors.Join(err, b.setNumbers(id))
	})
	if errors.Is(err, errStalled) {
		dw.leaveToCommit(b.inserted)
	}
	if isFull(err) {
		b.takeBack()
	}
	if err != nil {
		return err
	}
	b.reuseChunkValues()
	b.giveSlots()
	dw.disk.excuse(dw.diskBudget(), dw.spared())
	dw.lastID, dw.labels = id, labels
	positionWritten()
	dw.disk.entries.Add(b.entries)
	dw.disk.parts.Add(b.parts)
	dw.counts.compressed(b.plainBytes, b.packedBytes)
	b.tellMemory()
	dw.watchDrops(b.drops)
	dw.recovered()
	return nil
}

// setNumbers writes the counters that every commit carries; id is the highest that was given.
func (b *batch) setNumbers(id uint64) error {
	d := b.writer.disk
	return errors.Join(
		b.setNumber(metaGeneration, b.writer.purges.last.Load()),
		b.setNumber(metaID, id),
		b.setNumber(metaEntries, uint64(max(0, d.entries.Load()+b.entries))),
		b.setNumber(metaParts, uint64(max(0, d.parts.Load()+b.parts))),
		b.setNumber(metaExcused, uint64(d.excused.Load())),
		b.setNumber(metaSlots, uint64(b.slots.Used()/slots.Size)),
		b.setNumber(metaSlotsEnd, b.slots.Count()),
	)
}

// tellMemory notes what has come to the disk and what has left it, in the order of the batch.
func (b *batch) tellMemory() {
	inserted := b.inserted
	for _, r := range b.removed {
		for len(b.inserted)-len(inserted) < r.after {
			inserted[0].set(isOnDisk)
			inserted = inserted[1:]
		}
		b.writer.memory.leftDisk(r.key, r.id)
		b.writer.memory.departed.note(r.key, r.reason, b.now)
		b.writer.counts.evicted(DiskTier, r.reason)
	}
	for _, it := range inserted {
		it.set(isOnDisk)
	}
}

// leaveToCommit leaves items to a commit that is not waited for any more, and that may still read
// their bytes: they are given back when it has come back.
func (dw *diskWriter) leaveToCommit(items []*item) {
	for _, it := range items {
		it.hold()
	}
	dw.disk.use.release = append(dw.disk.use.release, func() {
		for _, it := range items {
			dw.memory.unhold(it)
		}
	})
}

// leftDisk notes that an entry is no longer on disk. The stamp keeps a look-up that read its row
// before from making it resident as if it were.
func (m *memory) leftDisk(key Key, id uint64) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.stamp(key)++
	if it := s.find(&key, id); it != nil {
		it.clear(isOnDisk)
	}
}

// writeJobs writes one batch from the front of the queue.
func (dw *diskWriter) writeJobs() error {
	most, first := batchJobs, dw.deletionsFirst()
	if first > 0 {
		most = dw.roomFirst.bound(min(most, first))
	}
	jobs := dw.queue.head(most)
	if len(jobs) == 0 {
		return nil
	}
	done := 0
	err := dw.transact(func(b *batch) error {
		b.late = time.Since(jobs[0].at) >= lateTime
		waiting := dw.queue.waiting()
		for _, j := range jobs {
			if b.full() {
				return nil
			}
			finished, err := b.perform(j)
			if err != nil {
				return err
			}
			if !finished {
				return nil
			}
			done++
			if givesWay(waiting, time.Since(jobs[0].at)) {
				b.yield()
			}
		}
		return nil
	})
	if first > 0 {
		dw.roomFirst.ended(err)
	}
	if err != nil {
		return fmt.Errorf("write batch: %w", err)
	}
	dw.queue.done(done)
	for _, j := range jobs[:done] {
		if j.kind == jobPut {
			dw.s.endPut(j)
		}
	}
	return nil
}

// givesWay tells whether writing lets others have the core in between, with so many bytes waiting
// and the oldest job of such an age. Where many goroutines want the core each yield takes as long
// as a turn of all of them: then entries would miss their second, and the queue would fill up.
func givesWay(waiting int64, age time.Duration) bool { return waiting < queueBytes/2 && age < lateTime }

// perform does one job; false when the rest of a large body is left to the next batch.
func (b *batch) perform(j *job) (bool, error) {
	if j.kind == jobDelete {
		return true, b.remove(j.id, j.key, j.reason)
	}
	if j.kind == jobSupersede || !b.wanted(j) {
		var err error
		if !b.writer.queue.succeeded(j) {
			_, err = b.supersede(j)
		}
		if j.written > 0 { // chunks went ahead; their row in the pending bucket has them swept
			b.writer.writing, b.writer.pending = 0, true
		}
		if j.ahead && !j.renews && b.isPending(j.id) { // so has that of a whole body
			b.writer.disk.pins.delete(j.id, b.storedChunks(j.id)) // refused, the job has it pinned
		}
		return true, err
	}
	return b.write(j)
}

// wanted tells whether a job's item is still worth a place on disk. A purge since Put, or a newer
// response, makes it not.
func (b *batch) wanted(j *job) bool {
	r := b.writer.memory.record(j.item)
	if j.item.is(isDead) || !live(r.keepUntil(), b.now) {
		return false
	}
	if b.writer.purges.recordPurgedBy(r, b.below) == Hard {
		return false
	}
	waiting, toSlots := int64(b.bytes)*3/2, r.bodyLen()-int64(j.written)*chunkSize
	if j.ahead || j.renews && !j.late {
		waiting -= r.bodyLen() // it counts in what is used
		toSlots = 0
	}
	disk, budget := b.writer.disk, b.writer.diskBudget()
	outgrows := disk.outgrows(budget, waiting+r.takes())
	if outgrows {
		b.writer.noteShortage()
	}
	switch {
	case !b.writer.fits(r.writeSize()):
		b.writer.counts.skipped.Add(1)
	case outgrows, toSlots >= chunkSize && disk.lacksRoom(budget, toSlots), b.writer.isFull(r.writeSize(), waiting):
		j.refused = true
	default:
		return true
	}
	return false
}

// supersede deletes what the job's response replaces, and returns the rows of the other variants.
func (b *batch) supersede(j *job) (rest []keyRow, err error) {
	var gone []removal
	b.variants(j.key, func(row keyRow, rowErr error) {
		switch {
		case rowErr != nil:
			gone = append(gone, removal{id: row.id, key: j.key, reason: Damaged})
		case j.superseded(row.id, &summed{Variant: &row.variant}):
			if credit := b.takeCredit(row.id); credit > 0 && j.kind == jobPut {
				b.writer.credits.give(j.id, credit)
			}
			gone = append(gone, removal{id: row.id, key: j.key, reason: Replaced})
		default:
			rest = append(rest, row)
		}
	})
	for _, r := range gone {
		if err := b.remove(r.id, r.key, r.reason); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// write stores a response with its body. Chunks of a large one go ahead, batch by batch, under an
// id in the pending bucket; the record comes last and makes it exist.
func (b *batch) write(j *job) (bool, error) {
	r := b.writer.memory.record(j.item)
	renewed := false
	if r.bodyLen() > inlineSize { // as bodies are that are on disk already
		finished, err := b.renewOrWriteBody(j, r, &renewed)
		if errors.Is(err, errBody) { // it is the entry's fault, not the file's
			b.writer.counts.skipped.Add(1)
			b.writer.writing, b.writer.pending = 0, true
			_, err = b.supersede(j)
			return true, errors.Join(err, b.pending.Put(idBytes(j.id), nil)) // of the chunks before
		}
		if err != nil || !finished {
			return false, err
		}
	}
	rest, err := b.supersede(j)
	if err != nil {
		return false, err
	}
	if err := b.limitVariants(j, rest); err != nil {
		return false, err
	}
	if credit := j.item.credit(); credit > 0 && len(rest) > 0 { // found while it was queued
		b.writer.credits.give(j.id, credit)
	}
	severity := max(b.writer.purges.recordPurgedBy(r, b.below), j.item.severity())
	r, value := b.row(j, r)
	seal(j.id, value, len(r)) // in place: nothing else looks at the checksums
	if err := b.insert(j.id, r, value, severity, b.writer.firstRank(j.below)); err != nil {
		return false, fmt.Errorf("write entry %d: %w", j.id, err)
	}
	if !renewed {
		b.entries++
		if r.isPart() {
			b.parts++
		}
	}
	b.bytes += len(value) + r.writeSize().rows()
	b.inserted = append(b.inserted, j.item)
	return true, nil
}

// limitVariants makes room among the variants of a key, as memory does.
func (b *batch) limitVariants(j *job, rest []keyRow) error {
	if j.maxVariants <= 0 || len(rest) < j.maxVariants {
		return nil
	}
	resident := b.writer.memory.spendCredits(&j.key)
	uses := make([]variantUse, len(rest))
	for i, row := range rest {
		uses[i] = variantUse{b.spendCredit(row.id), ^row.rank}
		for _, r := range resident {
			if r.id == row.id {
				uses[i].credit = max(uses[i].credit, r.credit)
			}
		}
	}
	for len(rest) >= j.maxVariants {
		i := variantToGo(uses, j.maxVariants)
		if err := b.remove(rest[i].id, j.key, Variants); err != nil {
			return err
		}
		b.takeCredit(rest[i].id)
		rest, uses = slices.Delete(rest, i, i+1), slices.Delete(uses, i, i+1)
	}
	return nil
}

// renewOrWriteBody is writeBody unless the record that j renews is there: then its rows make room
// for the new ones, and its chunks stay where they are.
func (b *batch) renewOrWriteBody(j *job, r record, renewed *bool) (bool, error) {
	if !j.renews || b.records.Get(idBytes(j.id)) == nil {
		return b.writeBody(j)
	}
	old, inline, err := b.record(j.id)
	if err != nil || inline != nil || old.key() != r.key() || old.bodyLen() != r.bodyLen() {
		return false, fmt.Errorf("%w: the record that is renewed is not what it was", errBody)
	}
	*renewed, j.stored = true, old.stored()
	return true, b.deleteRows(j.id, old)
}

package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// sweep is the removal of what one purge hit: first from memory, then from the queue, then from
// disk.
type sweep struct {
	final bool     // began when no fetch older than the purge was under way
	shard int      // the shards below are swept
	walk  itemWalk // through this one
	spans []span
	scans []scan
	after []byte // the last row seen of scans[0]
}

func (sw *sweep) memoryDone() bool { return sw.shard == shardCount }

// sweeps are the purges that have been counted, by what is still to be done for them. Each is in
// one list:
//
//	memory ─► disk ─┬─► out of force
//	   ▲            └─► resting, while a fetch is under way that is older
//	   └───────────────────┘
type sweeps struct {
	memory  []*purgeRecord // the first is under way
	disk    []*purgeRecord
	resting []*purgeRecord // ascending by generation
	// merged are the latest of those that rest, by what they say.
	merged map[string]*purgeRecord
	// onDisk are the purges that are still to be swept from disk, and walkCost what it takes to
	// walk through their rows. What is in onDisk is not written to: a count may go on after a
	// stall.
	walkCost int
	onDisk   []*purgeRecord
}

// sweepTime is how long one turn of sweeping memory takes, about. It is for many purges, each of
// which has to look at all shards: where they come one after the other, as many have to end as
// begin.
const sweepTime = 2 * time.Millisecond

// sweepMemoryStep does one bounded piece of sweeping memory, for the purge that came first.
func (dw *diskWriter) sweepMemoryStep() (bool, error) {
	if dw.purges.newest.Load() == 0 {
		return false, nil
	}
	dw.wakeResting()
	if len(dw.sweeps.memory) == 0 {
		return false, nil
	}
	below := dw.purges.countedBelow()
	if dw.sweeps.memory[0].gen >= below { // a lower one is on its way to the disk writer
		return false, nil
	}
	for began := time.Now(); len(dw.sweeps.memory) > 0 && time.Since(began) < sweepTime; {
		rec := dw.sweeps.memory[0]
		if rec.gen >= below {
			break
		}
		dw.sweepMemory(rec)
		if !rec.sweep.memoryDone() {
			continue
		}
		dw.queue.mark(rec)
		dw.sweeps.memory = dw.sweeps.memory[1:]
		if dw.disk == nil || rec.memoryOnly {
			dw.endOfSweep(rec)
		} else {
			dw.sweeps.disk = append(dw.sweeps.disk, rec)
		}
	}
	return true, nil
}

// addSweep begins the sweep of a purge that has been counted.
func (dw *diskWriter) addSweep(rec *purgeRecord) {
	dw.watchSweep(rec)
	dw.sweeps.memory = append(dw.sweeps.memory, rec)
	if dw.disk != nil && !rec.memoryOnly {
		dw.sweeps.onDisk = append(dw.sweeps.onDisk, rec)
		dw.sweeps.walkCost += walkCost(rec.rows)
	}
}

// sweepAnew begins the sweeps of all purges that have been counted. The others are on their way to
// the disk writer.
func (dw *diskWriter) sweepAnew() {
	for _, rec := range dw.purges.snapshot() {
		if rec.counted {
			dw.addSweep(rec)
		}
	}
}

// recordsShare is which part of the memory budget purges in force may take, which is what those
// take that wait for fetches; recordsLeast is what they may take in any case.
const (
	recordsShare = 8
	recordsLeast = 1 << 20
)

// recordsLimit is how many bytes of purges may be in force before fetches that they wait for are
// revoked.
func (dw *diskWriter) recordsLimit() int64 {
	return max(dw.settings.Load().Memory/recordsShare, recordsLeast)
}

// wakeResting begins the sweeps anew, for the last time, of purges that no older fetch is under way
// for.
func (dw *diskWriter) wakeResting() {
	if len(dw.sweeps.resting) == 0 {
		return
	}
	if dw.purges.bytes() > dw.recordsLimit() {
		// An origin that hangs, or a client that reads slowly, would have the purges of ten
		// minutes remembered, and any client may cause those of a POST. The fetches that half of
		// the purges wait for are not stored.
		dw.tickets.revoke(dw.sweeps.resting[(len(dw.sweeps.resting)-1)/2].gen)
	}
	oldest := dw.tickets.oldest()
	for len(dw.sweeps.resting) > 0 && dw.sweeps.resting[0].gen <= oldest {
		rec := dw.sweeps.resting[0]
		dw.sweeps.resting = dw.sweeps.resting[1:]
		dw.unmerge(rec)
		rec.sweep = nil
		dw.sweeps.memory = append(dw.sweeps.memory, rec)
	}
}

// endOfSweep takes a purge out of force that is swept for good. What is not waits for older
// fetches.
func (dw *diskWriter) endOfSweep(rec *purgeRecord) {
	dw.watchEnd(rec)
	if rec.sweep.final {
		dw.purges.drop(rec)
		return
	}
	dw.merge(rec)
	at, _ := slices.BinarySearchFunc(dw.sweeps.resting, rec, compareGenerations)
	dw.sweeps.resting = slices.Insert(dw.sweeps.resting, at, rec)
}

func compareGenerations(a, b *purgeRecord) int { return cmp.Compare(a.gen, b.gen) }

// merge takes a purge out of force that rests, where rec says the same and is later: what the one
// masks the other does, for as long as it could be needed.
func (dw *diskWriter) merge(rec *purgeRecord) {
	says := rec.says()
	if old := dw.sweeps.merged[says]; old != nil && old.gen > rec.gen {
		return
	} else if old != nil {
		if at, found := slices.BinarySearchFunc(dw.sweeps.resting, old, compareGenerations); found {
			dw.sweeps.resting = slices.Delete(dw.sweeps.resting, at, at+1)
		}
		dw.purges.drop(old)
	}
	if dw.sweeps.merged == nil {
		dw.sweeps.merged = make(map[string]*purgeRecord)
	}
	dw.sweeps.merged[says] = rec
}

func (dw *diskWriter) unmerge(rec *purgeRecord) {
	if says := rec.says(); dw.sweeps.merged[says] == rec {
		delete(dw.sweeps.merged, says)
	}
}

// says is all that a purge says but when.
func (rec *purgeRecord) says() string { return string(encodePurge(rec)[4:]) }

// beginSweep starts over.
func (dw *diskWriter) beginSweep(rec *purgeRecord) {
	spans := spansOf(&rec.sel)
	rec.sweep = &sweep{final: dw.tickets.oldest() >= rec.gen, spans: spans, walk: itemWalk{spans: spans}}
	if dw.disk != nil && !rec.memoryOnly {
		rec.sweep.scans = scansOf(&rec.sel)
	}
}

// sweepMemory sweeps the items of one step.
func (dw *diskWriter) sweepMemory(rec *purgeRecord) {
	if rec.sweep == nil {
		dw.beginSweep(rec)
	}
	sw := rec.sweep
	items := sw.next(dw.memory, rec)
	var drops []drop
	now := dw.now()
	for _, it := range items {
		s := dw.memory.shards[it.shard]
		drops = rec.drops(drops[:0], dw.memory.record(it), now)
		dw.watchDrops(drops)
		s.mu.Lock()
		it.set(flagOf(rec.severity)) // for look-ups that have it in hand, too
		if rec.severity == Hard {
			dw.memory.discard(s, it, PurgedHard)
		}
		s.mu.Unlock()
		dw.memory.unhold(it)
	}
	if len(items) > 0 {
		runtime.Gosched()
	}
}

// endSweeps gives up all sweeps: the store is being closed, or a file comes anew.
func (dw *diskWriter) endSweeps() {
	for _, rec := range dw.purges.snapshot() {
		dw.watchEnd(rec)
		rec.sweep = nil
	}
	dw.sweeps = sweeps{}
}

// next are the resident items that rec masks and that the next step meets, held.
func (sw *sweep) next(m *memory, rec *purgeRecord) (items []*item) {
	s := m.shards[sw.shard]
	more := s.step(&sw.walk, stepItems, func(sp *span, it *item, _ tagRow) bool {
		if r := m.record(it); r.generation() < rec.gen && sp.means(r) {
			it.hold()
			items = append(items, it)
		}
		return true
	})
	if !more {
		sw.walk = itemWalk{spans: sw.spans}
		sw.shard++
	}
	return items
}

// sweepDisk sweeps up to limit entries, in one transaction, of all purges that memory is rid of. It
// returns how many entries it swept. A purge whose rows are swept is not needed in the file any
// more: what comes to the disk later passes the disk writer, which judges it by the record in
// memory.
func (dw *diskWriter) sweepDisk(limit int) (int, bool, error) {
	if len(dw.sweeps.disk) == 0 || !dw.maySweep() {
		return 0, false, nil
	}
	limit = dw.roomFirst.bound(limit)
	left, through, othersWait := limit, 0, false
	err := dw.transactStep(func(b *batch) (err error) {
		through, err = b.sweepPurges(dw.sweeps.disk, &left)
		othersWait = b.othersWait()
		return err
	})
	if err != nil {
		dw.noRoomToSweep = isFull(err)
		return 0, false, fmt.Errorf("sweep: %w", err)
	}
	for _, rec := range dw.sweeps.disk[:through] {
		rec.memoryOnly, rec.written = true, false
		dw.sweeps.walkCost -= walkCost(rec.rows)
		if dw.sweeps.onDisk[0] == rec { // nearly always
			dw.sweeps.onDisk = dw.sweeps.onDisk[1:]
		} else {
			dw.sweeps.onDisk = slices.DeleteFunc(slices.Clone(dw.sweeps.onDisk), func(o *purgeRecord) bool { return o == rec })
		}
		dw.endOfSweep(rec)
	}
	dw.sweeps.disk = dw.sweeps.disk[through:]
	dw.pace.rate = dw.sweepRate(othersWait)
	return limit - left, true, nil
}

// sweepPurges sweeps purges in turn, left entries at most, and returns with how many it is through.
// Of the first it sweeps one entry at least.
func (b *batch) sweepPurges(recs []*purgeRecord, left *int) (through int, err error) {
	for _, rec := range recs {
		if through > 0 && b.full() {
			return through, nil
		}
		if done, err := b.sweepRows(rec, left); err != nil || !done {
			return through, err
		}
		if err := b.purges.Delete(idBytes(rec.gen)); err != nil {
			return through, err
		}
		through++
	}
	return through, nil
}

// sweepRows goes on with the rows of rec, left of them at most; true when it is through with all.
func (b *batch) sweepRows(rec *purgeRecord, left *int) (bool, error) {
	sw := rec.sweep
	for len(sw.scans) > 0 {
		if *left == 0 {
			return false, nil
		}
		rows, last, err := b.nextRows(rec, *left)
		if err != nil {
			return false, err
		}
		for _, row := range rows {
			if b.full() {
				return false, nil
			}
			if err := b.sweepRow(rec, &sw.scans[0], row); err != nil {
				return false, err
			}
			sw.after = row
			*left--
			b.yield()
		}
		if sw.after = last; last == nil {
			sw.scans = sw.scans[1:]
		}
		// Long looks at rows of others cost time too.
		if len(rows) == 0 && len(sw.scans) > 0 && b.full() {
			return false, nil
		}
	}
	return true, nil
}

// nextRows copies the keys of up to limit rows of the first scan that rec masks, because deleting
// moves cursors. last is where to go on; nil when the scan is at its end.
func (b *batch) nextRows(rec *purgeRecord, limit int) (rows [][]byte, last []byte, err error) {
	looked := 0
	err = rec.sweep.scans[0].each(b.buckets, rec.sweep.after, func(key, value []byte) (bool, error) {
		row := decodeIndexRow(value)
		if row.generation < rec.gen && row.severity < rec.severity {
			rows = append(rows, bytes.Clone(key))
		}
		if looked++; looked == 8*stepEntries || len(rows) == limit {
			last = bytes.Clone(key)
			return false, nil
		}
		return true, nil
	})
	return rows, last, err
}

// sweepRow removes or marks the entry of a row. A row that leads nowhere is dropped.
func (b *batch) sweepRow(rec *purgeRecord, sc *scan, row []byte) error {
	id := rowID(row)
	r, inline, err := b.record(id)
	if err != nil {
		bucket := &b.urls
		if sc.kind == byTag {
			bucket = &b.tags
		}
		return errors.Join(bucket.Delete(row), b.remove(id, Key{}, Damaged))
	}
	if r.generation() >= rec.gen || !sc.hits(r) {
		return nil
	}
	b.drops = rec.drops(b.drops, r, b.now)
	if rec.severity == Hard {
		return b.removeRecord(id, r, inline, PurgedHard)
	}
	return b.mark(id, r, rec.severity)
}

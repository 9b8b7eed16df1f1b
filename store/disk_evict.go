package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// stepEntries is how many entries one step of background work handles at most.
const stepEntries = 512

// diskBudget is the budget of the disk tier in force.
func (dw *diskWriter) diskBudget() int64 { return dw.settings.Load().Disk }

// diskRoom is what of the budget may be used.
func (dw *diskWriter) diskRoom() int64 { return dw.disk.room(dw.diskBudget()) }

// room is what of a budget may be used. The pages of a record of some length, or of a chunk, have
// to lie side by side, and where many pages change one by one no free ones do: then the file grows
// although it has free pages. So where it has grown by more than an eighth beyond its budget, twice
// as much less of it is used, down to half. A file of more than twice its budget was made for
// another one, and has room enough.
//
// Growth for what was deleted and read is excused, also when that has gone: it has left free pages
// enough. How much that is stands in the file, so that a start changes nothing. With a quarter of
// the budget excused, which is the most, less is used from a file of 11/8 on, and it stays within
// one and a half.
func (d *disk) room(budget int64) int64 {
	size := d.length() - d.excused.Load()
	if d.length() > 2*budget {
		return budget
	}
	return budget - min(max(0, 2*size-budget*9/4), budget/2)
}

// excuse excuses what the file has grown by, as far as that is what is spared, for good. What is
// new, or compacted, has nothing to be excused.
func (d *disk) excuse(budget, spared int64) {
	excused := max(d.excused.Load(), spared)
	d.excused.Store(min(excused, budget/4, max(0, d.length()-budget)))
}

// batchLimit is how many bytes one batch may write: of a small budget only a part.
func (dw *diskWriter) batchLimit() int { return int(min(batchBytes, max(dw.diskBudget()/8, 64<<10))) }

// touchLimit is how many bytes of pages one transaction may change, about: of small budgets, of
// either tier, only a part.
func (dw *diskWriter) touchLimit() int {
	settings := dw.settings.Load()
	return int(min(touchBytes, max(settings.Disk/8, 64<<10), max(settings.Memory/6, 1<<20)))
}

// firstRank is the rank of an entry that has not been used since it was stored. Ranks are ids: an
// entry used ranks with those stored when it was used. Under lfu the number of uses comes before
// that.
func (dw *diskWriter) firstRank(id uint64) uint64 { return dw.rank(1, id) }

func (dw *diskWriter) rank(uses uint8, id uint64) uint64 {
	id &= 1<<rankIDBits - 1
	if dw.settings.Load().Eviction == LFU {
		return uint64(uses)<<rankIDBits | id
	}
	return id
}

// rankIDBits is how much of a rank is the id; what is above is the number of uses.
const rankIDBits = 56

// evictStep evicts one transaction's worth when the budget and the next batch ask for it.
func (dw *diskWriter) evictStep() (bool, error) {
	waiting, queued, _ := dw.queue.state()
	budget := dw.diskBudget()
	room := min(queued+dw.bodyWriters.queued(), int64(dw.batchLimit())) * 5 / 4
	used := dw.disk.used() - dw.spared()
	over := used + room - dw.diskRoom()
	if dw.settings.Load().Eviction == None {
		// What does not fit is refused; only a smaller budget evicts. What is only kept makes room
		// for the next all the same.
		if kept := over + max(0, budget/16-room); kept > 0 && dw.keptDue() {
			return true, dw.evictKept(kept)
		}
		over = used - budget
	}
	if over > 0 && waiting > 0 && dw.disk.entries.Load() == 0 {
		// Bodies that went ahead fill the disk, and can go when their records have come.
		return true, dw.writeJobs()
	}
	if over <= 0 || dw.disk.entries.Load() == 0 {
		if dw.accesses.len() > maxAccesses/2 {
			return true, dw.writeAccesses()
		}
		return false, nil
	}
	// Of a large entry evicted before, most chunks may still have to be deleted: without them more
	// would be evicted than is needed.
	if swept, err := dw.pendingStep(); swept || err != nil {
		return swept, err
	}
	err := dw.transactStep(func(b *batch) error { return b.evict(over + min(1<<20, budget/32)) })
	if err != nil {
		return false, fmt.Errorf("evict: %w", err)
	}
	return true, nil
}

// overBudget tells whether more is used than may be, so that entries are evicted also where nothing
// waits to be written.
func (dw *diskWriter) overBudget() bool {
	room := dw.diskRoom()
	if dw.settings.Load().Eviction == None {
		room = dw.diskBudget()
	}
	return dw.disk.used()-dw.spared() > room && dw.disk.entries.Load() > 0
}

// keptDue reports whether something on disk is only kept.
func (dw *diskWriter) keptDue() (due bool) {
	now := uint64(nanos(dw.now()))
	err := dw.disk.viewOwn(func(tx *bbolt.Tx) error {
		row, _ := tx.Bucket(keptBucket).Cursor().First()
		due = row != nil && rowNumber(row) <= now
		return nil
	})
	return err == nil && due
}

// evictKept evicts only what is only kept, one transaction's worth, once what is left of those
// evicted before has been deleted.
func (dw *diskWriter) evictKept(goal int64) error {
	if swept, err := dw.pendingStep(); swept || err != nil {
		return err
	}
	err := dw.transactStep(func(b *batch) error {
		_, _, err := b.evictKept(goal, dw.roomFirst.bound(stepEntries))
		return err
	})
	if err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	return nil
}

// evictKept removes entries that are only kept until their bytes reach goal, most of them at most,
// first those that have been so the longest. It returns what is left of both.
func (b *batch) evictKept(goal int64, most int) (int64, int, error) {
	now := uint64(nanos(b.now))
	var rows [][]byte
	c := b.kept.Cursor()
	for row, _ := c.First(); row != nil && rowNumber(row) <= now && len(rows) < most; row, _ = c.Next() {
		rows = append(rows, bytes.Clone(row))
	}
	for _, row := range rows {
		if goal <= 0 || b.full() {
			break
		}
		most--
		id := rowID(row)
		r, inline, err := b.record(id)
		if err == nil && uint64(r.keptFrom()) == rowNumber(row) {
			goal -= r.takes()
			err = b.removeRecord(id, r, inline, Capacity)
		} else {
			err = nil // the row of an entry that was damaged
		}
		if err := errors.Join(err, b.kept.Delete(row)); err != nil {
			return goal, most, err
		}
	}
	return goal, most, nil
}

// evict removes entries until their bytes reach goal: those that are only kept, then those of the
// lowest ranks. One that was used since it was ranked is ranked anew instead: so uses cost no
// writes of their own.
func (b *batch) evict(goal int64) error {
	left, most, err := b.evictKept(goal, b.writer.roomFirst.bound(stepEntries))
	if err != nil || left <= 0 {
		return err
	}
	var rows [][]byte
	c := b.recency.Cursor()
	for row, _ := c.First(); row != nil && len(rows) < stepEntries; row, _ = c.Next() {
		rows = append(rows, append([]byte(nil), row...))
	}
	var read [][]byte
	for _, row := range rows {
		if left <= 0 || most <= 0 || b.full() {
			break
		}
		if b.noRoom(rowID(row)) {
			read = append(read, row)
			continue
		}
		freed, err := b.evictRow(row, false)
		if err != nil {
			return err
		}
		left -= freed
		most--
	}
	return b.evictRead(read[:min(len(read), most)], left < goal)
}

// noRoom tells whether to evict an entry gives no room now: it is being read, and there is no more
// beyond the budget for what is deleted and read.
func (b *batch) noRoom(id uint64) bool {
	disk := b.writer.disk
	if !disk.pins.pinned(id) {
		return false
	}
	r, _, err := b.record(id)
	return err == nil && disk.heldBack(b.writer.diskBudget(), r.stored())
}

// evictRead ranks entries anew that are being read, and have chunks of their own: to evict them
// gives no room now. If nothing else has gone the first of them does all the same.
func (b *batch) evictRead(rows [][]byte, others bool) error {
	for i, row := range rows {
		if _, err := b.evictRow(row, others || i > 0); err != nil {
			return err
		}
		if b.full() {
			break
		}
	}
	return nil
}

// evictRow evicts the entry of a row, unless it was used. inUse says that it is being used. It
// returns how many bytes it has freed, about.
func (b *batch) evictRow(row []byte, inUse bool) (freed int64, err error) {
	id := rowID(row)
	r, inline, err := b.record(id)
	if err != nil { // nothing leads from the row to the others; they go where they are met
		return 0, errors.Join(b.recency.Delete(row), b.remove(id, Key{}, Damaged))
	}
	if inUse {
		return 0, b.promote(id, r.key(), row, 1)
	}
	if uses := b.usesSince(id, r.key()); uses > 0 {
		return 0, b.promote(id, r.key(), row, uses)
	}
	return r.takes(), errors.Join(b.removeRecord(id, r, inline, Capacity), b.recency.Delete(row))
}

// promote ranks an entry anew after so many uses.
func (b *batch) promote(id uint64, key Key, row []byte, uses uint8) error {
	rk := keyRowKey(key, id)
	kr, err := decodeKeyRow(rk, b.keys.Get(rk))
	if err != nil {
		return errors.Join(b.recency.Delete(row), b.remove(id, key, Damaged))
	}
	total := min(uint16(kr.rank>>rankIDBits)+uint16(uses), 255)
	return b.rerank(rk, kr, b.writer.rank(uint8(total), b.writer.ids.Load()))
}

// usesSince is how often an entry was used since its rank was written, in either tier; 0 where the
// policy does not ask.
func (b *batch) usesSince(id uint64, key Key) uint8 {
	dw := b.writer
	uses := dw.accesses.take(id)
	if policy := dw.settings.Load().Eviction; policy == FIFO || policy == None {
		return 0
	}
	if dw.memory.usedSince(key, id) && uses < 255 {
		uses++
	}
	if uses > 0 {
		b.uses = append(b.uses, takenUses{id, uses})
	}
	return uses
}

// writeAccesses writes the recency of entries used on disk, one transaction's worth.
func (dw *diskWriter) writeAccesses() error {
	ids := dw.accesses.some(dw.roomFirst.bound(stepEntries))
	err := dw.transactStep(func(b *batch) error {
		for _, id := range ids {
			r, _, err := b.record(id)
			if err != nil {
				dw.accesses.take(id)
				continue
			}
			uses := b.usesSince(id, r.key())
			if uses == 0 {
				continue
			}
			if err := b.promote(id, r.key(), nil, uses); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write recency: %w", err)
	}
	return nil
}

// expireStep removes up to limit entries that have expired on disk, in one transaction. It returns
// how many there were.
func (dw *diskWriter) expireStep(limit int) (int, bool, error) {
	if !dw.expiring || !dw.diskUp() {
		return 0, false, nil
	}
	due, err := dw.expired(dw.roomFirst.bound(limit))
	if err != nil {
		return 0, false, fmt.Errorf("expire: %w", err)
	}
	if len(due) == 0 {
		dw.expiring = false
		return 0, false, nil
	}
	handled := 0
	err = dw.transactStep(func(b *batch) error {
		for _, row := range due {
			if b.full() {
				return nil
			}
			if err := errors.Join(b.remove(rowID(row), Key{}, Expired), b.expiry.Delete(row)); err != nil {
				return err
			}
			handled++
			b.yield()
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("expire: %w", err)
	}
	return handled, true, nil
}

// expired are up to limit rows of entries that have expired.
func (dw *diskWriter) expired(limit int) ([][]byte, error) {
	now := uint64(nanos(dw.now()))
	var due [][]byte // the transaction's, which may go on after a stall
	err := dw.disk.viewOwn(func(tx *bbolt.Tx) error {
		c := tx.Bucket(expiryBucket).Cursor()
		for row, _ := c.First(); row != nil && len(due) < limit; row, _ = c.Next() {
			if len(row) == 16 && binary.BigEndian.Uint64(row) > now {
				break
			}
			due = append(due, bytes.Clone(row))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return due, nil
}

// pendingStep deletes chunks that belong to no record: of large entries deleted, and of those whose
// writing was interrupted.
func (dw *diskWriter) pendingStep() (bool, error) {
	if !dw.pending {
		return false, nil
	}
	ids, err := dw.pendingIDs()
	if err != nil || len(ids) == 0 {
		dw.pending = false
		return false, err
	}
	err = dw.transactStep(func(b *batch) error {
		for _, id := range ids {
			if !b.writer.disk.pins.delete(id, 0) { // a reader came in between
				continue
			}
			all, err := b.deleteChunks(id)
			if err == nil && all {
				err = b.buckets.pending.Delete(idBytes(id))
			}
			if err != nil {
				return fmt.Errorf("delete chunks of %d: %w", id, err)
			}
			if b.full() {
				return nil
			}
		}
		return nil
	})
	return err == nil, err
}

// pendingIDs are those whose chunks are neither read nor written, as many as a step may have.
func (dw *diskWriter) pendingIDs() ([]uint64, error) {
	writing, most := dw.writing, dw.roomFirst.bound(stepEntries)
	var ids []uint64 // the transaction's, as in expired
	err := dw.disk.viewOwn(func(tx *bbolt.Tx) error {
		return tx.Bucket(pendingBucket).ForEach(func(row, _ []byte) error {
			if id := rowID(row); id != writing && !dw.disk.pins.pinned(id) && len(ids) < most {
				ids = append(ids, id)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("pending chunks: %w", err)
	}
	return ids, nil
}

// expireMemory gives back the room of what has expired in the memory tier, a shard at a time, and
// has what is only kept go first there. Look-ups pass the expired over anyway.
func (dw *diskWriter) expireMemory() {
	now, began := nanos(dw.now()), time.Now()
	for range shardCount {
		s := dw.memory.shards[dw.expiry]
		for s.soonest.Load() <= now {
			dw.memory.settle(s, now, expireStep)
			if time.Since(began) > batchTime {
				return
			}
		}
		dw.expiry = (dw.expiry + 1) % shardCount
	}
}

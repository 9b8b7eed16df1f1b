package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// bbolt's files never shrink. So a file that is larger than it needs to be is compacted: its rows
// are copied to a new file beside it, which takes its place. bbolt.Compact would do that in one
// transaction, in which nothing else can be written, no purge above all. Here the disk writer
// copies a piece at a time, between its other work, so that it stays the only one that writes. What
// it writes meanwhile to rows that have been copied is noted (touched), and copied once more, a
// piece for each other one, so that what has been deleted gives its pages to what comes. From the
// last of these pieces on it does nothing else until the new file is in place.
//
// At each moment the name of the file leads to one that is whole: to the old one until the rename,
// which the new one is synced before, and whose folder is synced before anything is written again.
// So a crash loses nothing and brings nothing back. What it leaves of the new file is removed when
// the store is opened.

// compactSuffix ends the name of the new file.
const compactSuffix = ".compacting"

const (
	// compactRest is by how much longer than a compaction took none begins by itself, where it has
	// given room; compactPause is the longest, and how long it is where it has not, or has failed.
	compactRest  = 9
	compactPause = time.Minute
	// patientTicks is for how many ticks one that is due waits for chunks that are being deleted,
	// which gives it less to copy. Where bodies are deleted all the time there are always some.
	patientTicks = 5
)

// ErrNoFile says that a store has no file to compact.
var ErrNoFile = errors.New("there is no disk tier")

// Compacted is what became of a file.
type Compacted struct {
	Before, After int64 // its size in bytes, with that of the large bodies
}

// Compact gives the room that the file does not use back to the file system. Look-ups, what is
// stored and purges go on meanwhile. It takes as much room beside the file as is in use in it. A
// file that would not become smaller stays. An error means that the file is as it was.
func (s *Store) Compact(ctx context.Context) (Compacted, error) {
	if s.disk == nil {
		return Compacted{}, ErrNoFile
	}
	if !s.isOpen() {
		return Compacted{}, ErrClosed
	}
	reply := make(chan compactReply, 1)
	select {
	case s.diskWriter.compactions <- reply:
	case <-s.diskWriter.done:
		return Compacted{}, ErrClosed
	case <-ctx.Done():
		return Compacted{}, ctx.Err()
	}
	select {
	case r := <-reply:
		return r.Compacted, r.err
	case <-ctx.Done(): // it goes on
		return Compacted{}, ctx.Err()
	}
}

type compactReply struct {
	Compacted
	err error
}

// touched are the rows of a bucket that were written after they had been copied.
type touched struct {
	last []byte // up to here they have been, nil: none has
	all  bool   // they have
	keys map[string]struct{}
}

// note notes that a row is written. n may be nil: there is no compaction.
func (n *touched) note(key []byte) {
	if n == nil || !n.all && (n.last == nil || bytes.Compare(key, n.last) > 0) {
		return // it is copied later
	}
	if n.keys == nil {
		n.keys = make(map[string]struct{})
	}
	n.keys[string(key)] = struct{}{}
}

// maxTouched is how many rows may wait to be copied once more, about, before others are.
const maxTouched = 1 << 16

// compaction is one that is under way.
type compaction struct {
	disk    *disk
	target  *use
	sizes   Compacted
	bucket  int // that is being copied, by its place in allBuckets
	rows    []touched
	slots   slotMove
	rounds  int  // of what was touched, after all had been copied
	copied  bool // what was touched is copied next
	began   time.Time
	replies []chan compactReply
	step    func(name string) // for tests, called before each step
}

// compactStep does a piece of a compaction, if one is under way or due.
func (dw *diskWriter) compactStep() (bool, error) {
	c := dw.compacting
	if c == nil {
		if !dw.compactDue || !dw.diskUp() {
			return false, nil
		}
		dw.compactDue = false
		if err := dw.beginCompaction(nil); err != nil {
			dw.endCompaction(err)
		}
		return true, nil
	}
	if !dw.diskUp() {
		dw.endCompaction(errDetached)
		return true, nil
	}
	switch {
	case !c.slots.done && dw.givesRoom(): // as in moveStep
		return false, nil
	case !c.slots.done:
		c.at("move")
		return true, dw.moveSlots(&c.slots)
	}
	done, err := c.advance(dw.batchLimit())
	switch {
	case err != nil:
		dw.endCompaction(err)
	case done:
		dw.endCompaction(dw.exchange())
	}
	return true, nil
}

// wantCompaction looks whether the database has become much larger than what is in it, and the
// files than their budget: those of a budget that was lowered, or of a cache of other sizes than
// before. What is free of the other file, moveStep gives back.
func (dw *diskWriter) wantCompaction() {
	d, budget := dw.disk, dw.diskBudget()
	dw.compactDue = false
	if dw.compacting != nil || d.length() <= budget || d.used() > budget || dw.now().Before(dw.compactAfter) ||
		!muchFree(budget, d.size.Load(), d.pages.Load()) {
		dw.compactWaits = 0
		return
	}
	dw.compactWaits++
	dw.compactDue = !dw.pending || dw.compactWaits > patientTicks
}

// compactAsked begins a compaction that is asked for, or has who asks wait for the one that is
// under way. On a full disk there is none.
func (dw *diskWriter) compactAsked(reply chan compactReply) {
	if dw.disk.full.Load() {
		reply <- compactReply{err: fmt.Errorf("compact %s: %w", dw.disk.path, errPaused)}
		return
	}
	if dw.compacting != nil {
		dw.compacting.replies = append(dw.compacting.replies, reply)
		return
	}
	if err := dw.beginCompaction(reply); err != nil {
		dw.endCompaction(err)
	}
}

// beginCompaction begins a new file.
func (dw *diskWriter) beginCompaction(reply chan compactReply) error {
	c := &compaction{disk: dw.disk, rows: make([]touched, len(allBuckets)), began: dw.now(), step: dw.onCompactStep}
	if reply != nil {
		c.replies = append(c.replies, reply)
	}
	dw.compacting = c
	if !dw.diskUp() {
		return errDetached
	}
	if err := dw.disk.update(func(*bbolt.Tx) error { return nil }); err != nil { // the file is still where it was
		return err
	}
	c.at("begin")
	var err error
	if c.target, c.sizes.Before, err = dw.disk.openBeside(dw.diskBudget()); err != nil {
		return err
	}
	return c.write(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return fmt.Errorf("create bucket %s: %w", name, err)
			}
		}
		return nil
	})
}

// openBeside begins a new file beside the one in use, whose size it returns, with that of the large
// bodies.
func (d *disk) openBeside(budget int64) (beside *use, size int64, err error) {
	u, bodies := d.newUse(), d.slots.Load()
	u.path += compactSuffix
	err = d.apart(d.wait(), func() error {
		if err := removeIfThere(u.path); err != nil {
			return err
		}
		info, err := os.Stat(d.path)
		if err != nil {
			return err
		}
		size = info.Size() + bodies.Len()
		if err := u.open(budget); err != nil {
			return err
		}
		u.slots = bodies
		u.lendSlots.Store(true)
		u.db.AllocSize = compactAlloc
		return nil
	}, func() { _ = u.close() })
	if err != nil {
		return nil, 0, fmt.Errorf("begin %s: %w", u.path, err)
	}
	return u, size, nil
}

// compactAlloc is by how much the new file grows until it is in place, in bytes: a file that is in
// use grows by more than it needs, so that it does so less often.
const compactAlloc = 256 << 10

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (c *compaction) at(step string) {
	if c.step != nil {
		c.step(step)
	}
}

// write commits rows to the new file. That the disk does not answer is a failure of the compaction
// alone.
func (c *compaction) write(fn func(tx *bbolt.Tx) error) error {
	return c.target.do(func() error {
		return guarded(func() error { return c.target.db.Update(fn) })
	}, nil, longWork{optional: true})
}

// advance copies one piece; true when the new file has everything that the old one has. What was
// touched takes turns with what has not been copied yet, and comes in pieces that grow at the end:
// with all that other work touches between two of them, the last is reached soon.
func (c *compaction) advance(limit int) (done bool, err error) {
	waiting := c.waiting()
	if c.bucket < len(allBuckets) && (waiting == 0 || !c.copied && waiting < maxTouched) {
		c.at("copy")
		c.copied = true
		return false, c.copyRows(limit)
	}
	if c.copied = false; waiting > 0 {
		c.at("again")
		if c.bucket == len(allBuckets) {
			limit *= 2 << min(c.rounds, 20)
			c.rounds++
		}
		if err := c.copyTouched(limit); err != nil {
			return false, err
		}
	}
	return c.bucket == len(allBuckets) && c.waiting() == 0, nil
}

// waiting is how many rows wait to be copied once more.
func (c *compaction) waiting() (n int) {
	for i := range c.rows {
		n += len(c.rows[i].keys)
	}
	return n
}

// row is a row that is copied. One without a value has been deleted.
type row struct {
	bucket     int // by its place in allBuckets
	key, value []byte
	there      bool
}

// copyRows copies the rows that follow in the bucket whose turn it is.
func (c *compaction) copyRows(limit int) error {
	place := c.bucket
	last := c.rows[place].last
	var rows []row // the transaction's, which may go on after a stall
	whole := false
	err := c.disk.view(func(tx *bbolt.Tx) error {
		b, err := openBucket(tx, allBuckets[place])
		if err != nil {
			return err
		}
		cursor := b.Cursor()
		k, v := cursor.Seek(last)
		if last != nil && bytes.Equal(k, last) {
			k, v = cursor.Next()
		}
		for left := limit; k != nil && left > 0; k, v = cursor.Next() {
			rows = append(rows, row{place, bytes.Clone(k), bytes.Clone(v), true})
			left -= len(k) + len(v) + rowRoom
		}
		whole = k == nil
		return nil
	})
	if err == nil {
		err = c.put(rows)
	}
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		c.rows[place].last = rows[len(rows)-1].key
	}
	if whole {
		c.rows[place].all = true
		c.bucket++
	}
	return nil
}

// rowRoom is what a row takes beside its key and value, about.
const rowRoom = 16

// copyTouched copies rows that were touched, as they are now.
func (c *compaction) copyTouched(limit int) error {
	var rows []row // as in copyRows
	wanted := make([][]string, len(c.rows))
	for place := range c.rows {
		wanted[place] = slices.Sorted(maps.Keys(c.rows[place].keys))
	}
	err := c.disk.view(func(tx *bbolt.Tx) error {
		left := limit
		for place, keys := range wanted {
			b, err := openBucket(tx, allBuckets[place])
			if err != nil {
				return err
			}
			cursor := b.Cursor()
			for _, key := range keys {
				if left <= 0 {
					return nil
				}
				k, v := cursor.Seek([]byte(key))
				there := string(k) == key
				if !there {
					v = nil
				}
				rows = append(rows, row{place, []byte(key), bytes.Clone(v), there})
				left -= len(key) + len(v) + rowRoom
			}
		}
		return nil
	})
	if err == nil {
		err = c.put(rows)
	}
	if err != nil {
		return err
	}
	for _, r := range rows {
		delete(c.rows[r.bucket].keys, string(r.key))
	}
	return nil
}

// put writes rows to the new file.
func (c *compaction) put(rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	return c.write(func(tx *bbolt.Tx) error {
		var b *bbolt.Bucket
		for i, r := range rows {
			if i == 0 || r.bucket != rows[i-1].bucket {
				if b = tx.Bucket(allBuckets[r.bucket]); b == nil {
					return errDamaged
				}
				b.FillPercent = 1 // they come in order
			}
			var err error
			if r.there {
				err = b.Put(r.key, r.value)
			} else {
				err = b.Delete(r.key)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// errNoSmaller says that a new file has come to be no smaller than the old one.
var errNoSmaller = errors.New("the new file is no smaller")

// exchange puts the new file in the place of the old one.
func (dw *diskWriter) exchange() error {
	c, d := dw.compacting, dw.disk
	if err := d.checkPlace(); err != nil {
		return err
	}
	c.at("rename")
	var after int64 // the closure's, which may go on after a stall
	err := d.apart(d.wait(), func() error {
		was, err := os.Stat(d.path)
		is, err2 := os.Stat(c.target.path)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if after = was.Size() + c.target.slots.Len(); is.Size() >= was.Size() {
			return errNoSmaller
		}
		if err := os.Rename(c.target.path, d.path); err != nil {
			return err
		}
		d.syncFolder()
		after = is.Size() + c.target.slots.Len()
		return nil
	}, nil)
	if err == nil || errors.Is(err, errNoSmaller) {
		c.sizes.After = after
	}
	if err != nil {
		return err
	}
	c.at("renamed")
	c.target.path, c.target.db.AllocSize = d.path, allocSize(dw.diskBudget())
	d.mu.Lock()
	old := d.use
	c.target.lendSlots.Store(false)
	old.lendSlots.Store(true)
	d.exchange(c.target)
	d.panics.Store(0)
	d.times.Add(1)
	d.mu.Unlock()
	c.target = nil
	if err := errors.Join(old.close(), d.use.do(d.use.measure, nil, longWork{})); err != nil {
		dw.tell(slog.LevelWarn, "closing the file that was compacted", slog.Any("error", err))
	}
	return nil
}

// endCompaction tells who has asked what became of it. What there is of a new file that has not
// taken the place of the old one is removed.
func (dw *diskWriter) endCompaction(err error) {
	c := dw.compacting
	if c == nil {
		return
	}
	noSmaller := errors.Is(err, errNoSmaller)
	now, pause := dw.now(), compactPause
	switch {
	case noSmaller:
		err = nil // the old one is as good
	case err == nil:
		pause = min(max(now.Sub(c.began)*compactRest, tickTime), compactPause)
	}
	dw.compacting, dw.compactDue, dw.compactAfter = nil, false, now.Add(pause)
	if c.target != nil {
		path := c.target.path
		err = errors.Join(err, c.target.close(), dw.disk.apart(dw.disk.shortWait(), func() error { return removeIfThere(path) }, nil))
	}
	reply := compactReply{c.sizes, err}
	if err != nil {
		reply = compactReply{err: fmt.Errorf("compact %s: %w", dw.disk.path, err)}
	}
	for _, r := range c.replies {
		r <- reply
	}
	switch {
	case noSmaller && err == nil:
	case err == nil:
		dw.log.Info("disk tier: the file is compacted", slog.String("file", dw.disk.path),
			slog.Int64("before", reply.Before), slog.Int64("after", reply.After))
	case !errors.Is(err, ErrClosed):
		dw.tell(slog.LevelWarn, "disk tier: the file cannot be compacted, and stays as it is", slog.Any("error", err))
	}
}

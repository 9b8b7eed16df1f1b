package store

import (
	"errors"
	"time"

	"go.etcd.io/bbolt"
)

// Fetches of one key may run side by side, and the answer to the earlier request may come last. So
// what is stored stays where its request was later, whichever asks first: Put compares the two
// under the shard's lock, where it also replaces. Of variants that the same requests select, a
// look-up takes that of the latest request (RFC 9111 4: the most recent one). It does not go by
// Date, which has whole seconds and is the origin's clock's.
//
// A request in the future is from before the clock was set back. It counts as the earliest.

// askedBy is the time of a request as it counts in the order, at a time in nanoseconds.
func askedBy(requestTime, now int64) int64 {
	if requestTime > now {
		return 0
	}
	return requestTime
}

// standing is what the store has of one variant. Its id is 0 where that is nothing.
type standing struct {
	id          uint64
	requestTime int64
	unknown     bool // the disk has not said it in time
	none        bool // the disk has said that it has no row of the variant which no job deletes
}

// yields tells whether e may take its place. A renewal takes that of what it renews, and no other.
func (a *standing) yields(e *Entry, now int64) bool {
	if a.unknown {
		return false
	}
	if old := e.renews; old != nil && old.Key == e.Key && old.Variant.Equal(&e.Variant) && a.id != old.ID {
		return false
	}
	return a.id == 0 || askedBy(a.requestTime, now) <= nanos(e.RequestTime)
}

// lockInOrder locks the shard of e and tells whether e may take the place of what is stored. none
// says that nothing is stored of its variant, as the disk has just said. The disk is not waited for
// under the lock: where what has been read there may have changed since, it is read again.
func (s *Store) lockInOrder(sh *shard, e *Entry) (inOrder, none bool) {
	now := nanos(s.now())
	for {
		sh.mu.Lock()
		a, known := s.standingHere(sh, e)
		if known {
			return a.yields(e, now), false
		}
		stamp := *sh.stamp(e.Key)
		sh.mu.Unlock()
		onDisk := s.standingOnDisk(e)
		sh.mu.Lock()
		if *sh.stamp(e.Key) == stamp {
			return onDisk.yields(e, now), onDisk.none
		}
		sh.mu.Unlock()
	}
}

// standingHere looks in memory and in the queue, under the shard's lock. known says that the disk
// has nothing else that counts.
func (s *Store) standingHere(sh *shard, e *Entry) (a standing, known bool) {
	known = s.disk == nil || !s.disk.up.Load() || sh.complete(&e.Key) || sh.count(&e.Key) == 0 && sh.isAbsent(&e.Key)
	sh.variants(&e.Key, func(it *item) bool {
		a = s.standingItem(it, &e.Variant)
		return a.id == 0
	})
	if a.id != 0 || s.disk == nil {
		return a, true
	}
	var buf [4]*job
	jobs := s.queue.of(e.Key, buf[:0])
	defer s.memory.unholdJobs(jobs)
	for _, j := range jobs {
		if j.kind != jobPut {
			continue
		}
		if queued := s.standingItem(j.item, &e.Variant); queued.id != 0 {
			a, known = queued, true
		}
	}
	return a, known
}

// standingItem is what an item is of a variant.
func (s *Store) standingItem(it *item, v *Variant) standing {
	r := s.memory.record(it)
	if !live(r.keepUntil(), s.now()) || it.is(isDead) {
		return standing{}
	}
	if own := r.variant(); !own.Equal(v) {
		return standing{}
	}
	if s.purges.recordPurgedBy(r, everything) == Hard {
		return standing{}
	}
	return standing{id: it.id, requestTime: r.requestTime()}
}

// standingOnDisk looks in the file, but for what something that waits in the queue replaces or
// deletes. What cannot be read counts as nothing, but where the disk has not answered yet e is not
// to be stored: its client does not wait for longer.
func (s *Store) standingOnDisk(e *Entry) standing {
	jobs := s.queue.of(e.Key, nil)
	defer s.memory.unholdJobs(jobs)
	for {
		read := &standingRead{s: s, key: e.Key, variant: e.Variant, jobs: jobs}
		drops := s.purges.drops.Load()
		err := s.disk.viewSoon(read.run, nil)
		if errors.Is(err, errLate) || errors.Is(err, errCrowded) { // it may be what is asked for
			s.readFailed(err)
			return standing{unknown: true}
		}
		if errors.Is(err, errStalled) { // and may still be running
			return standing{}
		}
		if err != nil {
			s.readFailed(err)
			return standing{}
		}
		if drops == s.purges.drops.Load() {
			return read.found
		}
	}
}

// standingRead reads what the file has of a variant. It has all to itself that it works with, see
// search.
type standingRead struct {
	s       *Store
	key     Key
	variant Variant
	jobs    []*job
	found   standing
}

// run is called in a read transaction.
func (d *standingRead) run(tx *bbolt.Tx) error {
	defer d.s.disk.timeRead(time.Now(), 0)
	t := d.s.disk.readBuckets()
	var err error
	if t.keys.Bucket, err = openBucket(tx, keysBucket); err != nil {
		return err
	}
	if t.records.Bucket, err = openBucket(tx, recordsBucket); err != nil {
		return err
	}
	now := d.s.now()
	d.found = standing{none: true}
	t.variants(d.key, func(row keyRow, rowErr error) {
		if rowErr != nil || !live(row.keepUntil, now) || !row.variant.Equal(&d.variant) || d.outdated(&row) {
			return
		}
		d.found.none = false // also where a purge hits it, which may come to nothing
		if d.counts(t, &row) {
			d.found = standing{id: row.id, requestTime: row.requestTime}
		}
	})
	return nil
}

func (d *standingRead) outdated(row *keyRow) bool {
	v := summed{Variant: &row.variant}
	for _, j := range d.jobs {
		if j.superseded(row.id, &v) {
			return true
		}
	}
	return false
}

// counts tells whether a row's entry can be found. Only the record knows the tags by which a purge
// may have hit it.
func (d *standingRead) counts(t *buckets, row *keyRow) bool {
	if row.generation >= d.s.purges.newest.Load() {
		return true
	}
	r, _, err := t.record(row.id)
	if err != nil {
		return false
	}
	return d.s.purges.recordPurgedBy(r, everything) != Hard
}

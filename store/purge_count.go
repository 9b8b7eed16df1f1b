package store

import (
	"runtime"
	"slices"
	"time"
)

// count counts what rec matches: entries on disk by their index rows (t nil: no disk), the others
// in memory and in the queue. rows is how many rows it could hit, whether they count or not. It
// runs on the disk writer, so that nothing becomes an entry on disk, or ceases to be queued,
// meanwhile.
func (dw *diskWriter) count(t *buckets, rec *purgeRecord, masks *masks) (matched, rows int, err error) {
	c := dw.newCounting(rec, masks)
	if _, err := c.goOn(t); err != nil {
		return 0, 0, err
	}
	return c.n, c.rows, nil
}

func (dw *diskWriter) newCounting(rec *purgeRecord, masks *masks) *counting {
	c := &counting{
		writer: dw, rec: rec, masks: masks, scans: scansOf(&rec.sel),
		seen: make(map[uint64]struct{}), queued: make(map[uint64]struct{}),
	}
	spans := spansOf(&rec.sel)
	for i := range c.walks {
		c.walks[i].spans = spans
	}
	c.single = rec.sel.All || len(rec.sel.Tags)+len(rec.sel.URLs)+len(rec.sel.Prefixes)+len(rec.sel.Hosts) == 1
	if c.others = dw.purges.anyBelow(rec.gen); c.others {
		c.uncounted = dw.purges.uncountedBelow(rec.gen)
	}
	return c
}

// goOn counts from where it has come to; false when it has given way. t is nil where there is no
// disk, each time or never.
func (c *counting) goOn(t *buckets) (through bool, err error) {
	c.t, c.inSlice, c.yielded = t, 0, time.Now()
	if c.now == 0 {
		c.now = nanos(c.writer.now())
	}
	if !c.withoutRows {
		if !c.countMemory() {
			return false, nil
		}
		c.countQueue()
		c.withoutRows = true
	}
	for ; t != nil && len(c.scans) > 0; c.scans, c.after = c.scans[1:], nil {
		if through, err := c.countRows(c.scans[0]); err != nil || !through {
			return false, err
		}
	}
	return true, nil
}

// counting is one count under way.
type counting struct {
	writer *diskWriter
	t      *buckets
	rec    *purgeRecord
	now    int64
	single bool // one selector: rows cannot come twice
	others bool // there are purges before rec in force
	masks  *masks
	// uncounted are those of them that are not counted yet. Together with those to be swept from
	// disk they are all that may have rows there.
	uncounted []*purgeRecord
	seen      map[uint64]struct{} // counted
	masked    bool                // masks has all that this purge counts against
	queued    map[uint64]struct{} // counted in memory while they were queued too
	rest      []unsettled         // rows that have passed all but the queue
	looked    int                 // rows seen
	yielded   time.Time           // when others last had the core
	n         int
	rows      int // met on disk that the purge may hit

	// What is left to be looked at: of memory, after which withoutRows is set, and on disk.
	walks       [shardCount]itemWalk
	withoutRows bool
	scans       []scan
	after       []byte // the last row of the first scan that has been, nil: none

	purgeWaits func() bool // nil: it does not give way
	inSlice    int         // rows and items seen since it went on
}

// unsettled is a row of the disk that counts unless what is queued for its key takes its place.
type unsettled struct{ id, key uint64 }

// once counts id unless it was seen.
func (c *counting) once(id uint64) {
	if c.single { // what is not on disk is in one place, and a single selector names it once
		c.n++
		return
	}
	if _, seen := c.seen[id]; !seen {
		c.seen[id] = struct{}{}
		c.n++
	}
}

// counts tells whether an entry counts by what index rows have of it.
func (c *counting) counts(generation uint64, keepUntil int64) bool {
	return generation < c.rec.gen && keepUntil > c.now
}

// before tells whether an entry in memory is left by the purges before this one.
func (c *counting) before(it *item) bool {
	if it.severity() >= c.rec.severity {
		return false
	}
	return !c.others || c.writer.purges.recordPurgedBy(c.writer.memory.record(it), c.rec.gen) < c.rec.severity
}

// countQueue counts what waits for the disk and is not resident. It comes after memory, in the
// direction in which entries go: one that was evicted meanwhile was counted there.
func (c *counting) countQueue() {
	c.writer.queue.matching(&c.rec.sel, func(it *item) {
		if _, counted := c.queued[it.id]; counted {
			return
		}
		r := c.writer.memory.record(it)
		if !r.isPart() && c.counts(r.generation(), r.keepUntil()) && c.before(it) {
			c.once(it.id)
		}
	})
}

// countMemory counts the resident items that are not on disk, a step of each shard in turn: so the
// lock of a shard is free while the others are looked at. What a step meets is what is there then;
// no response that the purge masks is put any more, but for one whose fetch was under way when a
// soft purge began. That may count beside the one it replaces.
func (c *counting) countMemory() (through bool) {
	for more := true; more; {
		more = false
		for i, s := range c.writer.memory.shards {
			if len(c.walks[i].spans) == 0 {
				continue
			}
			more = s.step(&c.walks[i], stepItems, c.countItem) || more
			c.pause()
			if c.givesWay(stepItems) {
				return false
			}
		}
	}
	return true
}

// countItem counts an item that is not on disk. What has a tag is counted by its row.
func (c *counting) countItem(sp *span, it *item, row tagRow) bool {
	c.writer.items++
	if c.t != nil && it.is(isOnDisk) {
		return true
	}
	m := c.writer.memory
	generation, keepUntil := row.generation, row.keepUntil
	if sp.kind != byTag || sp.some {
		r := m.record(it)
		if !sp.means(r) {
			return true
		}
		generation, keepUntil = r.generation(), r.keepUntil()
	}
	if !c.counts(generation, keepUntil) || m.record(it).isPart() || !c.before(it) {
		return true
	}
	if it.is(isQueued) {
		c.queued[it.id] = struct{}{}
	}
	c.once(it.id)
	return true
}

// yield lets others have the core now and then: a hundred thousand rows take long for a hit that
// waits, and the purge has time for that. It says that counting goes on.
func (c *counting) yield() {
	if c.looked++; c.looked%256 == 0 {
		c.pause()
		return
	}
	c.writer.walked.Add(1)
}

// pause is yield after many rows.
func (c *counting) pause() {
	c.writer.walked.Add(1)
	if time.Since(c.yielded) >= countTime {
		runtime.Gosched()
		c.yielded = time.Now()
	}
}

// countTime is how long a count keeps the core. Under load it gets the core back after some sixty
// turns of others, so that shorter pieces would make the answer late.
const countTime = 2 * time.Millisecond

// countRows counts the rows of one scan that are left; false when it has given way.
func (c *counting) countRows(sc scan) (through bool, err error) {
	through = true
	covered := sc.coveredBy(c.writer.purges, c.rec)
	sc.step = c.yield
	err = sc.each(c.t, c.after, func(key, value []byte) (bool, error) {
		if through = !c.givesWay(1); !through {
			return false, nil
		}
		c.after = append(c.after[:0], key...)
		row, id := decodeIndexRow(value), rowID(key)
		if row.generation < c.rec.gen {
			c.rows++
		}
		if row.part || !c.counts(row.generation, row.keepUntil) || row.generation < covered || row.severity >= c.rec.severity {
			return true, nil
		}
		if _, seen := c.seen[id]; seen {
			return true, nil
		}
		masked, err := c.isMasked(id)
		if err == nil && !masked {
			c.countRow(unsettled{id, row.key})
		}
		return true, err
	})
	c.settle()
	return through, err
}

// countRow counts a row, later: the queue is asked for many at once.
func (c *counting) countRow(row unsettled) {
	if !c.single {
		c.seen[row.id] = struct{}{}
	}
	if c.rest = append(c.rest, row); len(c.rest) >= stepEntries {
		c.settle()
	}
}

// settle counts the rows gathered.
func (c *counting) settle() {
	queued := c.writer.queue.having(c.rest)
	c.n += len(c.rest) - len(queued)
	for _, row := range queued {
		if !c.superseded(row.id, c.writer.queue.ofPrefix(row.key)) {
			c.n++
		}
	}
	c.rest = c.rest[:0]
}

// superseded tells whether what is queued for its key deletes the entry: it is not served any more.
func (c *counting) superseded(id uint64, jobs []*job) bool {
	e, _, err := c.t.entry(id)
	if err != nil {
		return true
	}
	v := summed{Variant: &e.Variant}
	return slices.ContainsFunc(jobs, func(j *job) bool {
		return j.key == e.Key && j.superseded(id, &v)
	})
}

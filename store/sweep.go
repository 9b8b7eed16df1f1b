package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// scan is one range of index rows that a selector names.
type scan struct {
	kind  scanKind
	value string // the tag, URL, prefix or host
	from  []byte // where the rows begin, which all of them begin with
}

type scanKind uint8

const (
	scanTag scanKind = iota
	scanURL
	scanPrefix
	scanHost
	scanAll
)

// scansOf are the ranges of all selectors.
func scansOf(sel *Selectors) []scan {
	if sel.All {
		return []scan{{kind: scanAll}}
	}
	var scans []scan
	for _, t := range sel.Tags {
		scans = append(scans, scan{scanTag, t, tagStart(t)})
	}
	for _, u := range sel.URLs {
		scans = append(scans, scan{scanURL, u, append([]byte(u), 0)})
	}
	for _, p := range sel.Prefixes {
		scans = append(scans, scan{scanPrefix, p, []byte(p)})
	}
	for _, h := range sel.Hosts {
		for _, p := range hostPrefixes(h) {
			scans = append(scans, scan{scanHost, h, []byte(p)})
		}
	}
	return scans
}

// each calls fn for every row behind after, or from the first when after is nil, while fn agrees.
func (sc *scan) each(t *tables, after []byte, fn func(key, value []byte) (bool, error)) error {
	bucket := t.urls
	if sc.kind == scanTag {
		bucket = t.tags
	}
	c := bucket.Cursor()
	key, value := c.Seek(sc.from)
	if after != nil {
		if key, value = c.Seek(after); bytes.Equal(key, after) {
			key, value = c.Next()
		}
	}
	for ; key != nil && bytes.HasPrefix(key, sc.from); key, value = c.Next() {
		if !sc.names(key) {
			continue
		}
		if more, err := fn(key, value); err != nil || !more {
			return err
		}
	}
	return nil
}

// names tells whether a row in the range is meant, as far as the row can tell.
func (sc *scan) names(key []byte) bool {
	switch sc.kind {
	case scanTag: // may have NULs in it
		return len(key) == len(sc.from)+8
	case scanURL:
		url, _, ok := cutURLRowKey(key)
		return ok && selectsURL(sc.value, url)
	case scanHost:
		url, _, ok := cutURLRowKey(key)
		return ok && hostOf(url) == sc.value
	case scanPrefix:
		return len(key)-9 >= len(sc.value)
	case scanAll:
	}
	return true
}

// coveredBy is the latest purge before rec of everything, or of the very same selector: rows of
// lower generations have been purged already.
func (sc *scan) coveredBy(r *recordSet, rec *purgeRecord) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var covered uint64
	for _, list := range [][]*purgeRecord{r.all, r.of(sc)} {
		for _, other := range list {
			if other.gen < rec.gen && (!other.soft || rec.soft) {
				covered = max(covered, other.gen)
			}
		}
	}
	return covered
}

// of are the records with the selector of a scan.
func (r *recordSet) of(sc *scan) []*purgeRecord {
	switch sc.kind {
	case scanTag:
		return r.tags[sc.value]
	case scanURL:
		return r.urls[sc.value]
	case scanPrefix:
		return r.prefixes[sc.value]
	case scanHost:
		return r.hosts[sc.value]
	case scanAll:
	}
	return r.all
}

// sameAs tells whether a scan is for a selector of sel.
func (sc *scan) sameAs(sel *Selectors) bool {
	return slices.ContainsFunc(scansOf(sel), func(o scan) bool { return o.kind == sc.kind && o.value == sc.value })
}

// sweep is the removal of what one purge hit: first from memory, then from disk.
type sweep struct {
	final bool    // began when no fetch older than the purge was under way
	shard int     // the shards below are swept
	items []*item // of the one before, held
	scans []scan
	after []byte // the last row seen of scans[0]
	done  bool
}

// sweepMemoryStep does one bounded piece of sweeping memory, for the oldest purge that has something
// to do there.
func (k *keeper) sweepMemoryStep() (bool, error) {
	if k.s.records.newest.Load() == 0 {
		return false, nil
	}
	oldest := k.s.tickets.oldest()
	inMemory := k.s.records.first(func(rec *purgeRecord) bool {
		return rec.counted && (rec.sweep == nil || !rec.sweep.memoryDone() || (rec.sweep.done && oldest >= rec.gen))
	})
	if inMemory == nil {
		return false, nil
	}
	if inMemory.sweep == nil || inMemory.sweep.memoryDone() {
		k.beginSweep(inMemory, oldest >= inMemory.gen)
	}
	k.sweepMemory(inMemory)
	return true, nil
}

func (sw *sweep) memoryDone() bool { return sw.shard == shardCount && len(sw.items) == 0 }

// beginSweep starts over. From here on the queue can bring nothing to the disk that rec masks.
func (k *keeper) beginSweep(rec *purgeRecord, final bool) {
	rec.sweep = &sweep{final: final, scans: scansOf(&rec.sel)}
	if k.s.disk == nil || rec.memoryOnly {
		rec.sweep.scans = nil
	}
	for _, j := range k.s.queue.head(queueJobs) {
		if j.kind != jobPut {
			continue
		}
		if r := k.s.memory.record(j.item); r.generation() < rec.gen && rec.sel.matchRecord(r) {
			j.item.set(rec.mark())
		}
	}
}

// sweepItems is how many items of memory are swept between two breaths of the keeper.
const sweepItems = 128

// sweepMemory sweeps up to sweepItems items.
func (k *keeper) sweepMemory(rec *purgeRecord) {
	sw := rec.sweep
	if len(sw.items) == 0 {
		sw.items = k.s.memory.shards[sw.shard].masked(rec)
		sw.shard++
	}
	n := min(len(sw.items), sweepItems)
	for _, it := range sw.items[:n] {
		s := k.s.memory.shards[it.home]
		s.mu.Lock()
		it.set(rec.mark()) // for look-ups that have it in hand, too
		if !rec.soft {
			k.s.memory.discard(s, it, PurgedHard)
		}
		s.mu.Unlock()
		k.s.memory.unhold(it)
	}
	if sw.items = sw.items[n:]; len(sw.items) == 0 {
		sw.items = nil
	}
}

// mark is the flag of an item that says for good what the record says while it is in force.
func (rec *purgeRecord) mark() uint32 {
	if rec.soft {
		return isSoft
	}
	return isDead
}

// endSweeps lets go of what is in the hands of sweeps under way: the store is being closed.
func (k *keeper) endSweeps() {
	for _, rec := range k.s.records.snapshot() {
		rec.endSweep(k.s.memory)
	}
}

// endSweep gives a sweep up, with what it has in hand. Unless the store is closed it is begun anew.
func (rec *purgeRecord) endSweep(m *memory) {
	if rec.sweep == nil {
		return
	}
	for _, it := range rec.sweep.items {
		m.unhold(it)
	}
	rec.sweep = nil
}

// masked are the resident items that rec masks, held.
func (s *shard) masked(rec *purgeRecord) []*item {
	s.mu.Lock()
	defer s.mu.Unlock()
	var items []*item
	s.index.match(&rec.sel, func(it *item) {
		if s.m.record(it).generation() < rec.gen {
			it.hold()
			items = append(items, it)
		}
	})
	return items
}

// sweepDisk sweeps up to limit entries, in one transaction, of all purges that memory is rid of, and
// takes those out of force that are through for good. It returns how many entries it swept.
func (k *keeper) sweepDisk(limit int) (int, bool, error) {
	ready := func(rec *purgeRecord) bool { return rec.sweep != nil && rec.sweep.memoryDone() && !rec.sweep.done }
	if k.s.records.first(ready) == nil {
		return 0, false, nil
	}
	onDisk := func(rec *purgeRecord) bool { return ready(rec) && !rec.memoryOnly }
	if k.s.disk == nil || k.s.records.first(onDisk) == nil {
		k.finishSweeps()
		return 0, true, nil
	}
	if !k.s.disk.up.Load() {
		return 0, false, nil
	}
	left := limit
	err := k.transact(func(b *batch) error {
		for _, rec := range k.s.records.snapshot() {
			if !ready(rec) || !rec.written {
				continue
			}
			through, err := b.sweepRows(rec, &left)
			if err != nil || !through {
				return err
			}
			if rec.sweep.final {
				if err := b.purges.Delete(idBytes(rec.gen)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("sweep: %w", err)
	}
	k.finishSweeps()
	return limit - left, true, nil
}

// finishSweeps takes out of force what is swept for good; what is not waits for older fetches.
func (k *keeper) finishSweeps() {
	for _, rec := range k.s.records.snapshot() {
		if rec.sweep == nil || !rec.sweep.memoryDone() || len(rec.sweep.scans) > 0 {
			continue
		}
		if rec.sweep.final {
			k.s.records.drop(rec)
		}
		rec.sweep.done = true
	}
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
			b.breathe()
		}
		if sw.after = last; last == nil {
			sw.scans = sw.scans[1:]
		}
		if len(rows) == 0 && len(sw.scans) > 0 && b.full() { // long looks at rows of others cost time too
			return false, nil
		}
	}
	return true, nil
}

// nextRows copies the keys of up to limit rows of the first scan that rec masks, because deleting
// moves cursors. last is where to go on; nil when the scan is at its end.
func (b *batch) nextRows(rec *purgeRecord, limit int) (rows [][]byte, last []byte, err error) {
	looked := 0
	err = rec.sweep.scans[0].each(b.tables, rec.sweep.after, func(key, value []byte) (bool, error) {
		row := decodeIndexRow(value)
		if row.generation < rec.gen && (!rec.soft || !row.soft) {
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
		bucket := b.urls
		if sc.kind == scanTag {
			bucket = b.tags
		}
		return errors.Join(bucket.Delete(row), b.remove(id, Key{}, Damaged))
	}
	if r.generation() >= rec.gen || !sc.hits(r) {
		return nil
	}
	if rec.soft {
		return b.markSoft(id, r)
	}
	return b.removeRecord(id, r, inline, PurgedHard)
}

// hits tells whether the entry is what the selector names; a tag's row may be another's by its hash.
func (sc *scan) hits(r record) bool {
	switch sc.kind {
	case scanTag:
		return slices.Contains(r.tags(), sc.value)
	case scanURL:
		return selectsURL(sc.value, string(r.url()))
	case scanPrefix:
		return strings.HasPrefix(string(r.url()), sc.value)
	case scanHost:
		return hostOf(string(r.url())) == sc.value
	case scanAll:
	}
	return true
}

// restorePurges reads the purges bucket and adds the purges that are in force and not in it.
func (t *tables) restorePurges(r *recordSet) ([]*purgeRecord, error) {
	stored := make(map[uint64]bool)
	var found []*purgeRecord
	err := t.purges.ForEach(func(key, value []byte) error {
		rec, err := decodePurge(key, value)
		if err != nil {
			return err
		}
		stored[rec.gen] = true
		found = append(found, rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	generation := t.number(metaGeneration)
	for _, rec := range r.snapshot() {
		if stored[rec.gen] {
			continue
		}
		if rec.gen <= generation && rec.memoryOnly {
			continue
		}
		if rec.gen <= generation {
			return nil, fmt.Errorf("purge of generation %d is older than the file's %d: %w", rec.gen, generation, errDamaged)
		}
		if err := t.putPurge(rec); err != nil {
			return nil, err
		}
	}
	return found, nil
}

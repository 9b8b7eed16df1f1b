package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// search looks for a better variant in the file until no purge record was dropped meanwhile. A
// search that the disk does not answer in time may go on, so that each has all to itself that it
// works with.
func (s *Store) search(sel *selection, key Key, jobs []*job, resident []candidate) (*diskSearch, error) {
	for {
		d := &diskSearch{sel: *sel, match: sel.match, key: key, jobs: jobs}
		d.sel.match = d.asked
		for _, c := range resident {
			d.resident = append(d.resident, c.item.id)
		}
		drops := s.purges.drops.Load()
		err := s.disk.viewSoon(d.run, d.giveUp)
		if errors.Is(err, errStalled) {
			d.leave()
			return &diskSearch{}, err
		}
		if err == nil && drops == s.purges.drops.Load() {
			*sel = d.sel
			sel.match = d.match
			return d, nil
		}
		d.giveUp()
		if err != nil {
			return d, err
		}
	}
}

// diskSearch looks for a better variant among the rows of a key.
type diskSearch struct {
	sel      selection
	key      Key
	jobs     []*job
	resident []uint64 // ids

	asking sync.Mutex // match is being called
	left   bool       // and must not be any more: who looked the key up has gone
	match  func(*Variant) int

	entry    *Entry // of the best row, when that beats what is in memory
	item     *item  // the same, held, where it may come to memory
	severity Severity
	buf      [1]keyRow // enough for most keys
	rows     int       // of the key, whatever is in them
	bytes    int64     // of bodies that were read
	others   int       // live ones that are not resident
	damaged  []uint64
}

// asked is match as long as the look-up waits for the answer.
func (d *diskSearch) asked(v *Variant) int {
	d.asking.Lock()
	defer d.asking.Unlock()
	if d.left {
		return 0
	}
	return d.match(v)
}

// leave says that the look-up does not wait any more.
func (d *diskSearch) leave() {
	d.asking.Lock()
	defer d.asking.Unlock()
	d.left = true
}

// run is called in a read transaction.
func (d *diskSearch) run(tx *bbolt.Tx) error {
	disk, began := d.sel.store.disk, time.Now()
	defer func() { disk.timeRead(began, d.bytes) }()
	t := disk.readBuckets()
	var err error
	if t.keys.Bucket, err = openBucket(tx, keysBucket); err != nil {
		return err
	}
	rows := d.buf[:0]
	t.variants(d.key, func(row keyRow, err error) {
		d.rows++
		switch {
		case err != nil:
			d.damaged = append(d.damaged, row.id)
		case !live(row.keepUntil, d.sel.now):
			d.sel.pass(Expired)
		case !d.elsewhere(&row):
			rows = append(rows, row)
		}
	})
	if d.others = len(rows); d.others == 0 {
		return nil
	}
	if t.records.Bucket, err = openBucket(tx, recordsBucket); err != nil {
		return err
	}
	for i := range rows {
		if err := d.consider(t, &rows[i]); errors.Is(err, errDamaged) {
			d.damaged = append(d.damaged, rows[i].id)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// elsewhere tells whether a row is resident, or out of date by what waits in the queue.
func (d *diskSearch) elsewhere(row *keyRow) bool {
	if slices.Contains(d.resident, row.id) {
		return true
	}
	v := summed{Variant: &row.variant}
	for _, j := range d.jobs {
		if j.superseded(row.id, &v) {
			return true
		}
	}
	return false
}

// consider lets a row compete. It reads the record of a row that may win, and of one that a purge
// may have hit: only the record knows the tags.
func (d *diskSearch) consider(t *buckets, row *keyRow) error {
	sel := &d.sel
	before := *sel
	if row.generation >= sel.purges.newest.Load() && !sel.beats(&row.variant, row.requestTime) {
		return nil
	}
	*sel = before
	r, inline, err := t.record(row.id)
	if err == nil && r.key() != d.key {
		err = fmt.Errorf("record %d: another key: %w", row.id, errDamaged)
	}
	if err != nil {
		return err
	}
	severity := sel.purges.recordPurgedBy(r, everything)
	if severity == Hard {
		sel.pass(PurgedHard)
	}
	if severity == Hard || !sel.beats(&row.variant, row.requestTime) {
		return nil
	}
	if err := d.read(t, row.id, r, inline); err != nil {
		*sel = before
		return err
	}
	d.severity = max(severity, row.severity)
	return nil
}

// promoteBytes is up to where a body may come to memory.
const promoteBytes = 4 << 20

// read takes an entry out of the transaction: to an extent where it is small enough and there is
// room. Else its body is read piece by piece. Only what stands in the record, which is no more than
// a piece, comes to the Go heap.
func (d *diskSearch) read(t *buckets, id uint64, r record, inline []byte) error {
	s := d.sel.store
	e, err := decodeRecord(id, r)
	if err != nil {
		return err
	}
	length := r.bodyLen()
	if inline == nil && length > chunkSize && length > min(promoteBytes, s.settings.Load().Memory/8) {
		return d.readLater(e, id, length)
	}
	if d.bytes += length; inline != nil {
		t.pageRecord(id, wholeRow)
	}
	if err := r.checkBody(id, inline); err != nil {
		return err
	}
	body, err := t.bodyOf(id, r, inline)
	if err != nil {
		return err
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	c := content{id: id, record: r.plain((*buf)[:0]), body: body, tags: len(e.Tags)}
	if !d.sel.peek && s.memory.chargeItem(s.memory.cost(&c)) {
		it, err := s.memory.store(&c)
		if errors.Is(err, errDamaged) {
			return err
		}
		if err == nil {
			d.giveUp()
			e.Body = s.body(it)
			d.item, d.entry = it, e
			return nil
		}
	}
	if rows, inChunks := body.(*rowsBody); inChunks {
		if err := rows.check(); err != nil {
			return err
		}
		return d.readLater(e, id, length)
	}
	small := make([]byte, length)
	if err := copyBody(small, body); err != nil {
		return err
	}
	d.giveUp()
	e.Body = NewBody([][]byte{small})
	d.entry = e
	return nil
}

// bodyOf is the body of a record, inline or in chunks, in the transaction's memory.
func (t *buckets) bodyOf(id uint64, r record, inline []byte) (body Body, err error) {
	switch {
	case inline == nil:
		if t.chunks.Bucket, err = openBucket(t.records.Tx(), chunksBucket); err != nil {
			return nil, err
		}
		return &rowsBody{t: t, id: id, length: r.bodyLen()}, nil
	case r.isPacked():
		f, err := openFrames(inline, r.bodyLen())
		return packedBody{f}, err
	default:
		return extentBody(inline), nil
	}
}

// readLater takes an entry whose body is read when the transaction is over.
func (d *diskSearch) readLater(e *Entry, id uint64, length int64) error {
	d.giveUp()
	e.Body = &diskBody{s: d.sel.store, id: id, key: d.key, length: length}
	d.entry = e
	return nil
}

// giveUp lets go of the best row so far.
func (d *diskSearch) giveUp() {
	if d.item != nil {
		d.sel.memory.unhold(d.item)
		d.item = nil
	}
	d.entry = nil
}

// rowsBody is a body in chunks as it is within a transaction.
type rowsBody struct {
	t      *buckets
	id     uint64
	length int64
}

// Len is the whole length in bytes.
func (b *rowsBody) Len() int64 { return b.length }

// Chunk returns a copy of some bytes from off on.
func (b *rowsBody) Chunk(off int64) ([]byte, error) {
	c, err := b.t.chunk(b.id, int(off/chunkSize), b.length)
	if err != nil {
		return nil, err
	}
	room := make([]byte, pieceSize)
	n, err := c.read(room, int(off%chunkSize))
	return room[:n], err
}

// each calls fn for all chunks in turn, with where they begin and end.
func (b *rowsBody) each(fn func(c *chunk, from, to int64) error) error {
	for from := int64(0); from < b.length; from += chunkSize {
		c, err := b.t.chunk(b.id, int(from/chunkSize), b.length)
		if err != nil {
			return err
		}
		if err := fn(&c, from, min(from+chunkSize, b.length)); err != nil {
			return err
		}
	}
	return nil
}

// fill implements filler.
func (b *rowsBody) fill(dst []byte) error {
	return b.each(func(c *chunk, from, to int64) error { return c.fill(dst[from:to]) })
}

// check looks at all chunks, so that damage is a miss and no answer that breaks off.
func (b *rowsBody) check() error {
	return b.each(func(c *chunk, _, _ int64) error { return c.checkAll() })
}

// EachNewestTagged calls fn for each tag that begins with prefix and is of an entry in the file,
// and with the entry of that tag which came last, without its body, while fn agrees. These tags are
// to be of one length, up to 64 bytes. It is for what the caller has to know of a file before it
// asks for entries. After an error fn may still be called.
func (s *Store) EachNewestTagged(prefix string, fn func(tag string, e *Entry) bool) error {
	if s.disk == nil || !s.isOpen() || !s.disk.up.Load() {
		return nil
	}
	now := s.now()
	err := s.disk.view(func(tx *bbolt.Tx) error {
		t, err := s.disk.openBuckets(tx)
		if err != nil {
			return err
		}
		c := t.tags.Cursor()
		for k, _ := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); {
			if len(k) < 9 {
				return fmt.Errorf("tag row: length: %w", errDamaged)
			}
			tag := string(k[:len(k)-9])
			next, _ := c.Seek(tagRowKey(tag, math.MaxUint64))
			last, _ := c.Prev()
			if next == nil {
				last, _ = c.Last()
			}
			e, _, err := t.entry(rowID(last))
			if err == nil && live(nanos(e.KeepUntil), now) && !s.hardPurged(e) && !fn(tag, e) {
				return nil
			}
			k = next
		}
		return nil
	})
	if err != nil {
		s.readFailed(err)
	}
	return err
}

func (s *Store) hardPurged(e *Entry) bool {
	return s.purges.purgedBy(e.URL, e.Tags, e.Generation, everything) == Hard
}

package store

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// Result is what Lookup found.
type Result struct {
	// Entry is the response selected; nil when nothing matched.
	Entry *Entry
	// Soft says that a soft purge has hit Entry since it was fetched: it counts as stale.
	Soft bool
	// Known is a live variant of the key when Entry is nil and there is one: a vary-miss.
	Known *Variant
	// Tier is where Entry was found.
	Tier Tier

	pinned *diskBody
}

// Release says that the caller no longer touches Entry and its Body; once for each copy that Share made, and for the first. Without it, the space of a
// large body that is deleted meanwhile is not given back before a restart.
func (r *Result) Release() {
	if r.pinned != nil {
		r.pinned.s.disk.pins.unpin(r.pinned.id)
		r.pinned = nil
	}
}

// Share returns the same for a second holder, which releases it on its own. r is not released yet.
func (r *Result) Share() Result {
	if r.pinned != nil {
		r.pinned.s.disk.pins.pin(r.pinned.id) // never refused to what is pinned already
	}
	return *r
}

// Lookup finds a response of key: in memory, among what waits for the disk, then on disk, from
// where it comes to memory. match gives each live variant a score, 0 for none; it must not keep
// the pointer nor call the store. The highest score wins, among equals the latest ResponseTime.
func (s *Store) Lookup(key Key, match func(*Variant) int) Result {
	if !s.isOpen() {
		return Result{}
	}
	sel := selection{s: s, match: match, now: s.now()}
	sh := s.memory.shard(key)
	var buf [8]*item
	items, complete, stamp := sh.candidates(key, buf[:0])
	for _, it := range items {
		sel.consider(it)
	}
	if s.disk == nil || complete || !s.disk.up.Load() {
		return sel.result(sh)
	}
	// Copies, so that what a hit in memory needs stays on the stack.
	return s.lookupBoth(key, sel, sh, slices.Clone(items), stamp)
}

// candidates copies the resident items of a key. complete says that there are no others anywhere.
func (s *shard) candidates(key Key, dst []*item) (items []*item, complete bool, stamp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node := s.keys[key]; node != nil {
		dst, complete = append(dst, node.items...), node.complete
	}
	return dst, complete, *s.stamp(key)
}

// selection is the choice among the variants of a key.
type selection struct {
	s     *Store
	match func(*Variant) int
	now   time.Time

	best  *item
	soft  bool
	score int
	at    int64 // ResponseTime of the best
	known *Variant
}

// consider lets an item in memory compete.
func (sel *selection) consider(it *item) {
	e := it.entry
	if !sel.now.Before(e.KeepUntil) {
		return
	}
	// The flags are read after the judgement: the sweep sets them before the record goes, so one of
	// the two tells.
	hard, soft := sel.s.records.judge(e.URL, e.Tags, e.Generation, everything)
	if hard || it.dead.Load() {
		return
	}
	if sel.beats(&e.Variant, nanos(e.ResponseTime)) {
		sel.best, sel.soft = it, soft || it.soft.Load()
	}
}

// beats tells whether a live variant is the best so far, and if so notes it.
func (sel *selection) beats(v *Variant, at int64) bool {
	if sel.known == nil {
		sel.known = v
	}
	score := sel.match(v)
	if score <= 0 || score < sel.score || (score == sel.score && at <= sel.at) {
		return false
	}
	sel.score, sel.at = score, at
	return true
}

// result is the outcome when an item in memory, or nothing, was selected.
func (sel *selection) result(sh *shard) Result {
	it := sel.best
	if it == nil {
		return Result{Known: sel.known}
	}
	sh.mu.Lock()
	if sh.resident(it) {
		sh.use(it)
	}
	sh.mu.Unlock()
	if !it.used.Load() {
		it.used.Store(true)
	}
	r := Result{Entry: it.entry, Soft: sel.soft, Tier: MemoryTier}
	if body, ok := it.entry.Body.(*diskBody); ok {
		if !sel.s.disk.pins.pin(body.id) {
			return Result{Known: sel.known}
		}
		r.pinned = body
	}
	return r
}

// lookupBoth selects among memory, queue and disk. The order matters: what leaves the queue is on
// disk before, so whoever looks into the queue first misses nothing. The ticket keeps the records
// of purges until what was read is resident or given up.
func (s *Store) lookupBoth(key Key, sel selection, sh *shard, items []*item, stamp uint32) Result {
	gen := s.tickets.begin(s.records)
	defer s.tickets.end(gen)
	var buf [4]*job
	jobs := s.queue.of(key, buf[:0])
	alone := true // every live variant outside of memory has been considered and there is none
	for _, j := range jobs {
		if j.homeless() {
			sel.consider(j.item)
			alone = false
		}
	}
	search, err := s.search(diskSearch{sel: &sel, key: key, jobs: jobs, items: items})
	for _, id := range search.damaged {
		s.counts.errors[DiskTier].Add(1)
		s.queue.push(deletion(&Entry{ID: id, Key: key}, Damaged))
	}
	if err != nil {
		s.readFailed(err)
		return sel.result(sh)
	}
	if search.entry == nil {
		if alone && search.others == 0 && len(items) > 0 {
			sh.setComplete(key, items, stamp)
		}
		return sel.result(sh)
	}
	s.keeper.touched.add(search.entry.ID)
	return s.fromDisk(&search, sh, stamp)
}

// search runs d until no purge record was dropped meanwhile.
func (s *Store) search(d diskSearch) (diskSearch, error) {
	before := *d.sel
	for {
		run, drops := d, s.records.drops.Load()
		err := s.disk.view(run.run)
		if err != nil || drops == s.records.drops.Load() {
			return run, err
		}
		*d.sel = before
	}
}

// setComplete notes that items are all there is of key, unless something has changed meanwhile.
func (s *shard) setComplete(key Key, items []*item, stamp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node := s.keys[key]; node != nil && *s.stamp(key) == stamp && len(node.items) == len(items) {
		node.complete = true
	}
}

// diskSearch looks for a better variant among the rows of a key.
type diskSearch struct {
	sel   *selection
	key   Key
	jobs  []*job
	items []*item // resident

	entry   *Entry // of the best row, when that beats what is in memory
	soft    bool
	length  int64
	others  int // live rows that are not resident
	damaged []uint64
}

// run is called in a read transaction.
func (d *diskSearch) run(tx *bbolt.Tx) error {
	t, err := openTables(tx)
	if err != nil {
		return err
	}
	var rows []keyRow
	t.variants(d.key, func(row keyRow, err error) {
		switch {
		case err != nil:
			d.damaged = append(d.damaged, row.id)
		case live(row.keepUntil, d.sel.now) && !d.elsewhere(&row):
			rows = append(rows, row)
		}
	})
	d.others = len(rows)
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
	for _, it := range d.items {
		if it.entry.ID == row.id {
			return true
		}
	}
	for _, j := range d.jobs {
		if j.superseded(row.id, &row.variant) {
			return true
		}
	}
	return false
}

// consider lets a row compete. It reads the record of a row that may win, and of one that a purge
// may have hit: only the record knows the tags.
func (d *diskSearch) consider(t *tables, row *keyRow) error {
	sel := d.sel
	before := *sel
	if row.generation >= sel.s.records.newest.Load() && !sel.beats(&row.variant, row.responseTime) {
		return nil
	}
	e, length, err := t.entry(row.id)
	if err == nil && e.Key != d.key {
		err = fmt.Errorf("record %d: another key: %w", row.id, errDamaged)
	}
	if err != nil {
		*sel = before
		return err
	}
	hard, soft := sel.s.records.judge(e.URL, e.Tags, e.Generation, everything)
	if hard {
		*sel = before
		return nil
	}
	if *sel = before; !sel.beats(&row.variant, row.responseTime) {
		return nil
	}
	if err := d.readBody(t, e, length); err != nil {
		*sel = before
		return err
	}
	d.entry, d.soft, d.length = e, soft || row.soft, length
	return nil
}

// promoteBytes is up to where a body is read whole and may come to memory.
const promoteBytes = 4 << 20

// readBody reads the body into memory where it is small enough, else leaves it to chunk by chunk.
func (d *diskSearch) readBody(t *tables, e *Entry, length int64) error {
	if e.Body != nil {
		return nil
	}
	s := d.sel.s
	if length > min(promoteBytes, s.settings.Load().Memory/8) && length > chunkSize {
		e.Body = &diskBody{s: s, id: e.ID, length: length}
		return nil
	}
	var chunks [][]byte
	for n := 0; int64(n)*chunkSize < length; n++ {
		c, err := t.chunk(e.ID, n, length)
		if err != nil {
			return err
		}
		chunks = append(chunks, c)
	}
	e.Body = NewBody(chunks)
	return nil
}

// fromDisk is the outcome when a row was selected.
func (s *Store) fromDisk(d *diskSearch, sh *shard, stamp uint32) Result {
	r := Result{Entry: d.entry, Soft: d.soft, Tier: DiskTier}
	if body, ok := d.entry.Body.(*diskBody); ok {
		if !s.pin(body) {
			return Result{Known: &d.entry.Variant}
		}
		r.pinned = body
		return r
	}
	it := &item{entry: d.entry, cost: cost(d.entry)}
	if !s.memory.charge(it.cost) {
		return r
	}
	it.held.Store(heldResident)
	it.onDisk.Store(true)
	it.soft.Store(d.soft)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if *sh.stamp(d.key) != stamp || sh.holds(d.key, d.entry.ID) { // something newer may be there
		s.memory.release(it, heldResident)
		return r
	}
	sh.insert(it)
	if d.others == 1 && len(d.jobs) == 0 && len(sh.keys[d.key].items) == len(d.items)+1 {
		sh.keys[d.key].complete = true
	}
	return r
}

func (s *shard) holds(key Key, id uint64) bool {
	if node := s.keys[key]; node != nil {
		for _, it := range node.items {
			if it.entry.ID == id {
				return true
			}
		}
	}
	return false
}

// pin keeps the chunks of a body that is read without a transaction; false when its entry has just
// been deleted.
func (s *Store) pin(b *diskBody) bool {
	if !s.disk.pins.pin(b.id) {
		return false
	}
	there := false
	err := s.disk.view(func(tx *bbolt.Tx) error {
		there = tx.Bucket(recordsBucket).Get(idBytes(b.id)) != nil
		return nil
	})
	if err != nil || !there {
		s.disk.pins.unpin(b.id)
		return false
	}
	return true
}

// diskBody is a body on disk, read chunk by chunk, each in a transaction of its own.
type diskBody struct {
	s      *Store
	id     uint64
	length int64
}

// Len is the whole length in bytes.
func (b *diskBody) Len() int64 { return b.length }

// Chunk returns a copy of the bytes from off to the end of the chunk that holds off.
func (b *diskBody) Chunk(off int64) ([]byte, error) {
	if off < 0 || off > b.length {
		return nil, fmt.Errorf("body chunk: offset %d outside of %d bytes", off, b.length)
	}
	if off == b.length {
		return nil, nil
	}
	var data []byte
	err := b.s.disk.view(func(tx *bbolt.Tx) error {
		t, err := openTables(tx)
		if err != nil {
			return err
		}
		data, err = t.chunk(b.id, int(off/chunkSize), b.length)
		return err
	})
	if err != nil {
		b.s.readFailed(err)
		return nil, fmt.Errorf("read body: %w", err)
	}
	return data[off%chunkSize:], nil
}

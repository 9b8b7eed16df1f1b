package store

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Result is what Lookup found.
type Result struct {
	// Entry is the response selected; nil when nothing matched.
	Entry *Entry
	// Known is a live variant of the key when Entry is nil and there is one: a vary-miss.
	Known *Variant
	// Severity is what purges have made of Entry since it was fetched: NotPurged, Soft or Invalid.
	Severity Severity
	// Tier is where Entry was found.
	Tier Tier
	// Passed says that Peek has passed over a response of the key that is on its way out, by
	// PassedFor.
	Passed    bool
	PassedFor EvictionReason

	Hold
}

// Hold keeps the Body of a Result's Entry as it is. The zero value keeps nothing. A copy is the
// same hold: one of the two is released. Share makes another.
type Hold struct {
	memory *memory
	item   *item // where Entry is one in memory
	pinned *diskBody
}

// Release says that the caller no longer touches the Body; once for each copy that Share made, and
// for the first. The bytes are used for others then. Without it they are not given back before a
// restart.
func (h *Hold) Release() {
	if h.item != nil {
		h.memory.unhold(h.item)
		h.item = nil
	}
	if h.pinned != nil {
		h.pinned.pins().unpin(h.pinned.id)
		h.pinned = nil
	}
}

// IsHeld tells whether it has anything to release.
func (h *Hold) IsHeld() bool { return h.item != nil || h.pinned != nil }

// Share returns the same for a second holder, which releases it on its own. r is not released yet.
func (r *Result) Share() Result {
	if r.item != nil {
		r.item.hold()
	}
	if r.pinned != nil {
		r.pinned.pins().pin(r.pinned.id, 0) // never refused to what is pinned already
	}
	return *r
}

// Lookup finds a response of key: in memory, among what waits for the disk, then on disk, from
// where it comes to memory. match gives each live variant a score, 0 for none; it must not keep
// the pointer nor call the store. The highest score wins, among equals the latest RequestTime.
// The Result is to be released.
func (s *Store) Lookup(key Key, match func(*Variant) int) (r Result) {
	s.lookup(&key, match, false, &r)
	return r
}

// LookupInto is Lookup for one whose stack is short: a goroutine of HTTP/2 begins with a small
// stack, and copies it where that has to grow. So what is large goes by pointers, here and below.
func (s *Store) LookupInto(r *Result, key *Key, match func(*Variant) int) {
	*r = Result{}
	s.lookup(key, match, false, r)
}

// Peek is Lookup for one who only wants to see what is stored: it counts as no use of the response,
// brings nothing to memory and deletes nothing. The result tells what it passed over.
func (s *Store) Peek(key Key, match func(*Variant) int) (r Result) {
	s.lookup(&key, match, true, &r)
	return r
}

// PeekInto is Peek in the form of LookupInto.
func (s *Store) PeekInto(r *Result, key *Key, match func(*Variant) int) {
	*r = Result{}
	s.lookup(key, match, true, r)
}

// lookup is Lookup or Peek into an empty r.
func (s *Store) lookup(key *Key, match func(*Variant) int, peek bool, r *Result) {
	if !s.isOpen() {
		return
	}
	var sel selection
	sel.begin(s, match, peek)
	sh := s.memory.shard(*key)
	var buf [4]candidate
	found, complete, _ := sel.amongResident(sh, key, buf[:0])
	if s.disk == nil || complete || !s.disk.up.Load() {
		sel.result(sh, found, r)
		return
	}
	sel.giveUp(found)
	s.lookupBoth(*key, match, peek, r)
}

// amongResident selects among what is in memory of a key, until no record of a purge was dropped
// meanwhile: an item that leaves memory between candidates and consider is marked by no sweep, and
// then the record alone tells.
func (sel *selection) amongResident(sh *shard, key *Key, buf []candidate) (found []candidate, complete bool, stamp uint32) {
	for {
		drops := sel.purges.drops.Load()
		found, complete, stamp = sh.candidates(key, buf)
		for i := range found {
			sel.consider(&found[i])
		}
		if drops == sel.purges.drops.Load() {
			return found, complete, stamp
		}
		sel.giveUp(found)
		sel.choice = choice{}
	}
}

// giveUp gives up what amongResident has found.
func (sel *selection) giveUp(found []candidate) {
	for i := range found {
		sel.memory.unhold(found[i].item)
	}
}

// Absent tells that nothing is stored of key, as far as that is known without asking the disk: a
// look-up has found nothing a moment ago, and nothing has come since.
func (s *Store) Absent(key Key) bool {
	sh := s.memory.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.count(&key) == 0 && (s.disk == nil || sh.isAbsent(&key))
}

// Alone tells that no more than one response of key is stored, as far as that is known without
// asking the disk: those in memory are all there are.
func (s *Store) Alone(key Key) bool {
	sh := s.memory.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.count(&key) <= 1 && (s.disk == nil || sh.complete(&key) || sh.isAbsent(&key))
}

// candidate is an item in memory that may be what a look-up wants. It is held.
type candidate struct {
	item  *item
	entry *Entry // if it is decoded
}

// variant is the one of c, whose record is r. It stays a call, because what it needs of the stack
// would be in the frame of every look-up.
//
//go:noinline
func (c *candidate) variant(r record) *Variant {
	if c.entry != nil {
		return &c.entry.Variant
	}
	v := r.variant()
	return &v
}

// candidates holds the resident items of a key. complete says that there are no others anywhere, or
// none at all.
func (s *shard) candidates(key *Key, dst []candidate) (found []candidate, complete bool, stamp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.variants(key, func(it *item) bool {
		it.hold()
		dst, complete = append(dst, candidate{it, s.decoded.get(it)}), it.is(isComplete)
		return true
	})
	return dst, complete || (len(dst) == 0 && s.isAbsent(key)), *s.stamp(*key)
}

// selection is the choice among the variants of a key.
type selection struct {
	store  *Store // to decode, and to pin a body on disk
	memory *memory
	purges *purgeSet
	match  func(*Variant) int
	now    time.Time
	peek   bool // see Peek
	choice
}

func (sel *selection) begin(s *Store, match func(*Variant) int, peek bool) {
	sel.store, sel.memory, sel.purges = s, s.memory, s.purges
	sel.match, sel.now, sel.peek = match, s.now(), peek
}

// choice is what a selection has come to.
type choice struct {
	best     candidate
	severity Severity // of the best
	score    int
	at       int64 // of the best one's request, see askedBy
	known    *Variant

	passed    bool // a response on its way out, in the words of Result
	passedFor EvictionReason
}

// pass notes that a response is on its way out.
func (c *choice) pass(why EvictionReason) { c.passed, c.passedFor = true, why }

// consider lets an item in memory compete.
func (sel *selection) consider(c *candidate) {
	r := sel.memory.record(c.item)
	if !live(r.keepUntil(), sel.now) {
		sel.pass(Expired)
		return
	}
	// The flags are read after the judgement: the sweep sets them before the record goes, so one of
	// the two tells.
	severity := sel.purges.recordPurgedBy(r, everything)
	if severity == Hard || c.item.is(isDead) {
		sel.pass(PurgedHard)
		return
	}
	if sel.beats(c.variant(r), r.requestTime()) {
		sel.best, sel.severity = *c, max(severity, c.item.severity())
	}
}

// beats tells whether a live variant is the best so far, and if so notes it.
func (sel *selection) beats(v *Variant, requestTime int64) bool {
	if sel.known == nil {
		sel.known = v
	}
	score, at := sel.match(v), askedBy(requestTime, nanos(sel.now))
	if score <= 0 || score < sel.score || (score == sel.score && at <= sel.at) {
		return false
	}
	sel.score, sel.at = score, at
	return true
}

// result is the outcome when an item in memory, or nothing, was selected. It gives up the
// candidates but for that one, which may be among them twice: resident and queued.
func (sel *selection) result(sh *shard, found []candidate, r *Result) {
	m, best := sel.memory, sel.best
	kept := false
	for i := range found {
		if !kept && found[i].item == best.item {
			kept = true
			continue
		}
		m.unhold(found[i].item)
	}
	if best.item == nil {
		r.Known, r.Passed, r.PassedFor = sel.known, sel.passed, sel.passedFor
		return
	}
	if best.entry == nil {
		best.entry = sel.store.decode(best.item)
	}
	if !sel.peek {
		sh.noteUse(best)
	}
	m.noteHeld(best.item)
	body, onDisk := best.entry.Body.(*diskBody)
	if onDisk && !sel.store.pin(body) {
		m.unhold(best.item)
		r.Known = sel.known
		return
	}
	r.Entry, r.Severity, r.Tier = best.entry, sel.severity, MemoryTier
	r.Hold = Hold{m, best.item, body}
}

// noteUse notes that an item was selected.
func (s *shard) noteUse(c candidate) {
	s.mu.Lock()
	c.item.setCredit(fullCredit)
	if c.item.is(isResident) {
		s.use(c.item, c.entry)
	}
	s.mu.Unlock()
	if !c.item.is(isUsed) {
		c.item.set(isUsed)
	}
}

// lookupBoth selects among memory, queue and disk. The order matters: what leaves the queue is on
// disk before, so a look into the queue first misses nothing. The ticket keeps the records
// of purges until what was read is resident or given up.
func (s *Store) lookupBoth(key Key, match func(*Variant) int, peek bool, r *Result) {
	gen := s.tickets.begin(s.purges)
	defer s.tickets.end(gen)
	sel := new(selection)
	sel.begin(s, match, peek)
	sh := s.memory.shard(key)
	found, _, stamp := sel.amongResident(sh, &key, nil)
	resident := found
	var buf [4]*job
	jobs := s.queue.of(key, buf[:0])
	alone := true // every live variant outside of memory has been considered and there is none
	for _, j := range jobs {
		if j.item == nil {
			continue
		}
		c := candidate{item: j.item} // held by of
		found = append(found, c)
		if j.queuedOnly() {
			sel.consider(&c)
			alone = false
		}
	}
	search, err := s.search(sel, key, jobs, resident)
	for _, id := range search.damaged {
		if sel.peek {
			break
		}
		s.counts.errors[DiskTier].Add(1)
		s.queue.push(deletion(id, key, Damaged))
	}
	if err != nil {
		s.readFailed(err)
		sel.result(sh, found, r)
		return
	}
	if search.entry == nil {
		switch {
		case len(found) == 0 && search.rows == 0:
			sh.noteAbsent(&key, stamp)
		case alone && search.others == 0 && len(resident) > 0:
			sh.noteComplete(&key, len(resident), stamp)
		}
		sel.result(sh, found, r)
		return
	}
	sel.giveUp(found)
	if !sel.peek {
		s.diskWriter.noteUse(search.entry)
	}
	*r = s.fromDisk(search, sh, stamp)
}

// noteComplete notes that the resident variants of a key, so many, are all there are, unless
// something has changed meanwhile.
func (s *shard) noteComplete(key *Key, n int, stamp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *s.stamp(*key) == stamp && s.count(key) == n {
		s.setComplete(key, true)
	}
}

// fromDisk is the outcome when a row was selected.
func (s *Store) fromDisk(d *diskSearch, sh *shard, stamp uint32) Result {
	r := Result{Entry: d.entry, Severity: d.severity, Tier: DiskTier, Hold: Hold{memory: s.memory, item: d.item}}
	if body, ok := d.entry.Body.(*diskBody); ok {
		if !s.pin(body) {
			return Result{Known: &d.entry.Variant}
		}
		r.pinned = body
		return r
	}
	it := d.item
	if it == nil {
		return r
	}
	if s.memory.noteHeld(it); d.sel.peek {
		return r
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if *sh.stamp(d.key) != stamp || sh.find(&d.key, it.id) != nil { // something newer may be there
		return r
	}
	it.set(isOnDisk)
	it.set(flagOf(d.severity))
	it.setCredit(fullCredit)
	sh.insert(it)
	if d.others == 1 && len(d.jobs) == 0 && sh.count(&d.key) == len(d.resident)+1 {
		sh.setComplete(&d.key, true)
	}
	return r
}

// pin keeps the chunks of a body that is read without a transaction; false when they have just been
// deleted, when that has begun, or when they are known to be damaged. The first chunk goes first,
// so it vouches for the others. The record would not do: that of a BodyWriter's may still be
// queued. But a record without its first chunk is damaged.
func (s *Store) pin(b *diskBody) bool {
	if !s.disk.pins.pin(b.id, b.length) {
		return false
	}
	if IsDamaged(b) {
		s.disk.pins.unpin(b.id)
		return false
	}
	err := s.disk.viewSoon(func(tx *bbolt.Tx) (err error) {
		t := s.disk.readBuckets()
		if t.chunks.Bucket, err = openBucket(tx, chunksBucket); err != nil || t.hasChunks(b.id) {
			return err
		}
		if t.records.Bucket, err = openBucket(tx, recordsBucket); err != nil {
			return err
		}
		if t.records.Get(idBytes(b.id)) != nil {
			return fmt.Errorf("chunk 0 of %d is missing: %w", b.id, errDamaged)
		}
		return errNotThere
	}, nil)
	if err == nil {
		return true
	}
	if !errors.Is(err, errNotThere) {
		b.failed(err)
	}
	s.disk.pins.unpin(b.id)
	return false
}

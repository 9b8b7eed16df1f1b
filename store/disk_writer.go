package store

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lingerTime is how long a job may wait for company before its batch is written; lingerBytes is
	// how much company is enough. With four times the entries a batch writes half the pages for
	// each. It is far below the second that a crash may cost.
	lingerTime  = 250 * time.Millisecond
	lingerBytes = batchBytes
	// tickTime is the pace of what is done without being asked: expiry, reopening.
	tickTime = time.Second
	// placeTicks is how often it is looked for the file's name: it may be removed where nothing is
	// written.
	placeTicks = 5
	// retryTime is how long a file that failed is left alone.
	retryTime = 30 * time.Second
	// maxPanics is how many damaged pages are put up with before the file is given up.
	maxPanics = 16
)

// diskWriter is the one goroutine that writes to the disk. It does one bounded piece of work at a
// time, purges before everything else.
type diskWriter struct {
	s           *Store // to open the file, and to give back what was put
	disk        *disk  // nil when there is no disk tier
	queue       *queue
	bodyWriters *bodyWriters
	memory      *memory
	purges      *purgeSet
	tickets     *tickets
	ids         *atomic.Uint64
	settings    *atomic.Pointer[Settings]
	counts      *counters
	now         func() time.Time
	log         *slog.Logger

	stop     chan struct{}
	done     chan struct{}
	kick     chan struct{}
	requests purgeRequests
	syncs    chan chan error
	broken   chan error // readers' reports that the file must be given up
	tick     time.Duration
	// waiting is how many purges wait for an answer: batches under way are cut short for them.
	waiting atomic.Int32
	// answered is how many have been answered, and walked how many rows counting has passed: while
	// one of them rises the disk writer does not stand still.
	answered, walked atomic.Uint64
	items            uint64 // that counting has met in memory

	ticks       int
	retryAt     time.Time // of the store's clock; zero: no retry is due
	trouble     trouble
	dropping    bool // the file is to be removed, or marked, when the disk answers
	discard     bool // what is in the file has missed purges
	removed     bool // the file was taken away: one that is in its place is not ours
	damageCount int  // failures by damage of this file
	attached    bool // this process has had the file open
	// The id and the number of entries last committed tell, when the file is opened again, whether
	// it is as it was left.
	lastID, lastEntries uint64
	expiring            bool   // there may be expired rows
	pending             bool   // there may be chunks to sweep
	writing             uint64 // the entry whose chunks are written ahead
	pace                pace   // of what no request waits for
	bodiesTurn          bool   // to write, before the queue's
	turn                int    // which kind of work is next,
	pacedTurn           int    // and which of what is paced
	sweeps              sweeps
	labels              *[]string // that the file has, as they were last written
	expiry              int       // the shard of the memory tier whose turn it is
	accesses            accesses
}

func newDiskWriter(s *Store) *diskWriter {
	return &diskWriter{
		s: s, disk: s.disk, queue: s.queue, bodyWriters: &s.bodyWriters, memory: s.memory, purges: s.purges,
		tickets: &s.tickets, ids: &s.ids, settings: &s.settings, counts: &s.counts, now: s.now, log: s.log,
		stop: make(chan struct{}), done: make(chan struct{}), kick: make(chan struct{}, 1),
		requests: purgeRequests{wake: make(chan struct{}, 1)}, syncs: make(chan chan error), broken: make(chan error, 1),
		tick: tickTime,
	}
}

// run does the work until it is told to stop.
func (k *diskWriter) run() {
	defer close(k.done)
	defer k.endSweeps()
	ticker := time.NewTicker(k.tick)
	defer ticker.Stop()
	for {
		for k.step() {
			if k.answer(ticker.C) {
				k.drain()
				return
			}
			runtime.Gosched()
		}
		if k.wait(ticker.C) {
			k.drain()
			return
		}
	}
}

// wake has the disk writer look for something to do.
func (k *diskWriter) wake() {
	select {
	case k.kick <- struct{}{}:
	default: // it is told already
	}
}

// answer serves who waits for the disk writer, and the clock, without waiting itself; true when it
// is told to stop.
func (k *diskWriter) answer(tick <-chan time.Time) bool {
	select {
	case <-k.stop:
		return true
	case <-k.requests.wake:
		k.commitWaiting()
	case reply := <-k.syncs:
		reply <- k.flush()
	case err := <-k.broken:
		k.reported(err)
	case <-tick:
		k.onTick()
	default:
	}
	return false
}

// wait sleeps until there is something to do; true when it is told to stop.
func (k *diskWriter) wait(tick <-chan time.Time) bool {
	var linger <-chan time.Time
	if n, _, oldest := k.queue.state(); n > 0 {
		timer := time.NewTimer(time.Until(oldest.Add(lingerTime)))
		defer timer.Stop()
		linger = timer.C
	}
	var rested <-chan time.Time
	if rest, more := k.pace.rest(); more {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		rested = timer.C
	}
	select {
	case <-k.stop:
		return true
	case <-k.requests.wake:
		k.commitWaiting()
	case reply := <-k.syncs:
		reply <- k.flush()
	case err := <-k.broken:
		k.reported(err)
	case <-tick:
		k.onTick()
	case <-k.kick:
	case <-k.queue.wake:
	case <-linger:
	case <-rested:
	}
	return false
}

// step does one bounded piece of work; false when there is nothing to do now. Kinds of work take
// turns, because each of them may never end: entries come as fast as they are written, purges as
// they are swept, and where a sync is slow the next step of what is paced is always due.
func (k *diskWriter) step() bool {
	works := [...]func() (bool, error){k.writeTurn, k.sweepMemoryStep, k.pacedStep, k.pendingTurn}
	for range works {
		work := works[k.turn]
		k.turn = (k.turn + 1) % len(works)
		did, err := work()
		if err != nil {
			k.failed(err)
			return false
		}
		if did {
			return true
		}
	}
	return false
}

// diskUp tells whether there is a file to write to.
func (k *diskWriter) diskUp() bool { return k.disk != nil && k.disk.up.Load() }

// writeTurn makes room for what waits, or writes it.
func (k *diskWriter) writeTurn() (bool, error) {
	if !k.diskUp() {
		return false, nil
	}
	if did, err := k.evictStep(); did || err != nil {
		return did, err
	}
	return k.writeInTurn()
}

// pendingTurn sweeps chunks that belong to no record.
func (k *diskWriter) pendingTurn() (bool, error) {
	if !k.diskUp() {
		return false, nil
	}
	return k.pendingStep()
}

// writeStep writes a batch when enough has come together or waited long enough.
func (k *diskWriter) writeStep() (bool, error) {
	n, bytes, oldest := k.queue.state()
	if n == 0 || (bytes < lingerBytes && time.Since(oldest) < lingerTime) {
		return false, nil
	}
	return true, k.writeJobs()
}

// onTick starts the work that comes with time.
func (k *diskWriter) onTick() {
	k.expireMemory()
	k.expiring = true
	k.pending = k.pending || k.disk != nil && k.disk.pins.takeLeft()
	if !k.retryAt.IsZero() && !k.now().Before(k.retryAt) {
		k.retry()
	}
	if k.ticks++; k.ticks%placeTicks == 0 && k.disk != nil {
		if err := k.disk.checkPlace(); err != nil {
			k.failed(err)
		}
	}
	if err := k.commitPosition(); err != nil {
		k.failed(err)
	}
}

// retry tries to open the file again.
func (k *diskWriter) retry() {
	if err := k.s.attach(); err != nil {
		k.retryAt = k.now().Add(retryTime)
		k.counts.errors[DiskTier].Add(1) // last: who sees it may count on the next retry
		return
	}
	k.retryAt = time.Time{}
	if !k.trouble.on() {
		k.log.Info("disk tier is open again", slog.String("file", k.disk.path))
	}
}

// reported is failed for what a reader has met, perhaps in a file that was given up since.
func (k *diskWriter) reported(err error) {
	if !k.disk.isPast(err) {
		k.failed(err)
	}
}

// failed gives the file up after an error: memory goes on alone, and the file is tried again later.
func (k *diskWriter) failed(err error) {
	if errors.Is(err, errDetached) {
		return
	}
	k.counts.errors[DiskTier].Add(1)
	if errors.Is(err, errRemoved) {
		k.tell(slog.LevelError, "disk tier: a new file is begun, with nothing in it", slog.Any("error", err))
	} else {
		k.tell(slog.LevelError, "disk tier failed; running from memory", slog.Duration("retry", retryTime), slog.Any("error", err))
	}
	// First: who sees that the file is given up may count on the retry.
	k.retryAt = k.now().Add(retryTime)
	k.detach()
	if errors.Is(err, errRemoved) {
		k.removed = true
		k.beginAnew()
		return
	}
	if errors.Is(err, errDamaged) {
		if k.damageCount++; k.damageCount >= 3 || k.disk.panics.Load() >= maxPanics {
			k.replaceFile()
		}
	}
}

// detach stops using the file. What is queued stays in memory only.
func (k *diskWriter) detach() {
	k.lastEntries = uint64(k.disk.entries.Load())
	k.detachQueue()
	// It is closed when the disk answers.
	if err := k.disk.detach(); err != nil && !errors.Is(err, errStalled) {
		k.tell(slog.LevelWarn, "closing the failed disk tier", slog.Any("error", err))
	}
	k.accesses.reset()
}

// detachQueue empties the queue and shuts it, and ends the body writers.
func (k *diskWriter) detachQueue() {
	k.bodyWriters.setAccepting(false)
	for _, j := range k.queue.setOpen(false) {
		if j.kind == jobPut {
			k.counts.skipped.Add(1)
			k.s.endPut(j.item)
		}
	}
}

// replaceFile sets the detached file aside for good, so that it can be looked into, and begins
// another one.
func (k *diskWriter) replaceFile() {
	name, err := k.disk.setAside("corrupt", k.now())
	if err != nil {
		k.tell(slog.LevelError, "disk tier: the file cannot be set aside", slog.Any("error", err))
		return
	}
	k.tell(slog.LevelError, "disk tier: the file is set aside", slog.String("name", name))
	k.beginAnew()
}

// giveUpFile sees to it that a file which has missed a purge is not used without it.
func (k *diskWriter) giveUpFile() {
	switch {
	case k.dropping && k.disk.stuck.Load() > 0: // it is under way
	case k.attached:
		k.dropFile()
	case !k.disk.locked.Load(): // else it is in use, by a process that purges for itself
		k.markFile()
	}
}

// markFile marks a file that this process could not open yet: it may be able to later, and writes
// the purge down then.
func (k *diskWriter) markFile() {
	err := k.disk.apart(k.disk.shortWait(), k.disk.mark, nil)
	if k.dropping = errors.Is(err, errStalled); err != nil && !k.dropping {
		k.tell(slog.LevelError, "disk tier: a purge could be neither written nor noted beside the file", slog.Any("error", err))
	}
}

// dropFile removes the detached file, into which a purge could not be written, and begins another
// one. What is in it must not be served, and a full disk has the room back.
func (k *diskWriter) dropFile() {
	switch err := k.disk.drop(k.now()); {
	case err == nil:
		k.tell(slog.LevelWarn, "disk tier: a purge could not be written, so the file is removed")
		k.beginAnew()
	case errors.Is(err, errStalled):
		k.tell(slog.LevelWarn, "disk tier: a purge could not be written, so the file is removed when the disk answers")
		k.dropping = true
	default:
		k.tell(slog.LevelError, "disk tier: the file cannot be removed", slog.Any("error", err))
	}
}

func (k *diskWriter) beginAnew() {
	k.damageCount = 0
	k.memory.forgetDisk(true)
	k.retry()
}

// trouble is the time from a failure of the disk until it has worked for calmTime. What is said in
// it is said once: a full disk fails, is tried again and works for a moment, for as long as it is
// full.
type trouble struct {
	told map[string]bool // what has been said; nil: none is on
	last time.Time       // of the store's clock: the last failure
}

// calmTime is how long nothing may have failed for a trouble to be over.
const calmTime = 5 * time.Minute

func (t *trouble) on() bool { return t.told != nil }

// tell logs what has gone wrong, once in a trouble.
func (k *diskWriter) tell(level slog.Level, message string, details ...slog.Attr) {
	t := &k.trouble
	t.last = k.now()
	if t.told[message] {
		return
	}
	if t.told == nil {
		t.told = make(map[string]bool)
	}
	t.told[message] = true
	k.log.LogAttrs(context.Background(), level, message, append(details, slog.String("file", k.disk.path))...)
}

// recovered notes a commit.
func (k *diskWriter) recovered() {
	if k.trouble.on() && k.now().Sub(k.trouble.last) >= calmTime {
		k.trouble = trouble{}
		k.log.Info("disk tier works again", slog.String("file", k.disk.path))
	}
}

// flush writes everything that is queued now, and not what comes meanwhile: that may never end.
func (k *diskWriter) flush() error {
	if k.disk == nil {
		return nil
	}
	taken, end := k.queue.position()
	for ; taken < end; taken, _ = k.queue.position() {
		k.commitWaiting()
		made, err := k.evictStep()
		if err == nil && !made { // there is room
			err = k.writeJobs()
		}
		if err != nil {
			k.failed(err)
			return err
		}
	}
	return nil
}

// drain is the orderly end: purges in force are answered, everything queued and what is known of
// recency goes to disk.
func (k *diskWriter) drain() {
	for !k.requests.end() {
		k.commitWaiting()
	}
	if k.disk == nil {
		return
	}
	if err := k.flush(); err != nil {
		return
	}
	for k.accesses.len() > 0 && k.disk.up.Load() {
		if err := k.writeAccesses(); err != nil {
			k.failed(err)
		}
	}
	if err := k.commitPosition(); err != nil {
		k.failed(err)
	}
}

// accesses are the entries that disk look-ups have used since their rank was written, with how
// often. Past its bound it forgets: recency is a hint.
type accesses struct {
	mu   sync.Mutex
	uses map[uint64]uint8
}

const maxAccesses = 1 << 16

func (t *accesses) add(id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.uses == nil {
		t.uses = make(map[uint64]uint8)
	}
	if n, known := t.uses[id]; known || len(t.uses) < maxAccesses {
		t.uses[id] = min(n, 254) + 1
	}
}

// take returns and forgets the uses of id.
func (t *accesses) take(id uint64) uint8 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.uses[id]
	delete(t.uses, id)
	return n
}

// some returns up to n ids.
func (t *accesses) some(n int) []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ids []uint64
	for id := range t.uses {
		if len(ids) == n {
			break
		}
		ids = append(ids, id)
	}
	return ids
}

func (t *accesses) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.uses)
}

func (t *accesses) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.uses)
}

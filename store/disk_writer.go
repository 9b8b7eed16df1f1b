package store

import (
	"log/slog"
	"runtime"
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
	watcher     PurgeWatcher // may be nil

	stop        chan struct{}
	done        chan struct{}
	kick        chan struct{}
	requests    purgeRequests
	syncs       chan chan error
	compactions chan chan compactReply
	broken      chan error // readers' reports that the file must be given up
	tick        time.Duration
	// waiting is how many purges wait for an answer, but for dry runs: batches under way are cut
	// short for them.
	waiting atomic.Int32
	// answered is how many have been answered, and walked how many rows counting has passed: while
	// one of them rises the disk writer does not stand still.
	answered, walked atomic.Uint64
	items            uint64 // that counting has met in memory

	ticks       int
	retryAt     time.Time // of the store's clock; zero: no retry is due
	trouble     trouble
	shortage    shortage
	roomWanted  time.Time // when nothing was last left in memory that would have given room
	dropping    bool      // the file is to be removed, or marked, when the disk answers
	discard     bool      // what is in the file has missed purges, or deletions
	removed     bool      // the file was taken away: one that is in its place is not ours
	damageCount int       // failures by damage of this file
	attached    bool      // this process has had the file open
	// The id and the number of entries last committed tell, when the file is opened again, whether
	// it is as it was left.
	lastID, lastEntries uint64
	expiring            bool // there may be expired rows
	pending             bool // there may be chunks to sweep
	slotScan            slotScan
	slotRowsAtOnce      int           // see rowsLookedAt
	moving              *slotMove     // nil: chunks are not being moved
	moveAfter           time.Time     // not before that,
	moveRest            time.Duration // which is so long after the last pass
	writing             uint64        // the entry whose chunks are written ahead
	pace                pace          // of what no request waits for
	bodiesTurn          bool          // to write, before the queue's
	turn                int           // which kind of work is next,
	pacedTurn           int           // and which of what is paced
	sweeps              sweeps
	roomFirst           roomFirst
	noRoomToSweep       bool        // for the changes of a sweep, until the disk is tried again
	forgot              atomic.Bool // deletions, for which the queue had no room
	labels              *[]string   // that the file has, as they were last written
	expiry              int         // the shard of the memory tier whose turn it is
	late                lateWalk
	accesses            accesses
	credits             credits

	compacting    *compaction // nil: none is under way
	compactDue    bool        // one begins by itself
	compactWaits  int         // ticks that it has been due
	compactAfter  time.Time   // not before that
	onCompactStep func(step string)
}

func newDiskWriter(s *Store) *diskWriter {
	return &diskWriter{
		s: s, disk: s.disk, queue: s.queue, bodyWriters: &s.bodyWriters, memory: s.memory, purges: s.purges,
		tickets: &s.tickets, ids: &s.ids, settings: &s.settings, counts: &s.counts, now: s.now, log: s.log, watcher: s.cfg.Watcher,
		stop: make(chan struct{}), done: make(chan struct{}), kick: make(chan struct{}, 1),
		requests: purgeRequests{wake: make(chan struct{}, 1)}, syncs: make(chan chan error), broken: make(chan error, 1),
		compactions:    make(chan chan compactReply),
		late:           lateWalk{shard: shardCount},
		tick:           tickTime,
		slotRowsAtOnce: rowsLookedAt,
	}
}

// run does the work until it is told to stop.
func (dw *diskWriter) run() {
	defer close(dw.done)
	defer dw.endSweeps()
	defer dw.endCompaction(ErrClosed)
	ticker := time.NewTicker(dw.tick)
	defer ticker.Stop()
	for {
		for dw.step() {
			if dw.answer(ticker.C) {
				dw.drain()
				return
			}
			runtime.Gosched()
		}
		if dw.wait(ticker.C) {
			dw.drain()
			return
		}
	}
}

// wake has the disk writer look for something to do.
func (dw *diskWriter) wake() {
	select {
	case dw.kick <- struct{}{}:
	default: // it is told already
	}
}

// answer serves who waits for the disk writer, and the clock, without waiting itself; true when it
// is told to stop.
func (dw *diskWriter) answer(tick <-chan time.Time) bool {
	select {
	case <-dw.stop:
		return true
	case <-dw.requests.wake:
		dw.commitWaiting()
		dw.countDryRun()
	case reply := <-dw.syncs:
		reply <- dw.flush()
	case reply := <-dw.compactions:
		dw.compactAsked(reply)
	case err := <-dw.broken:
		dw.reported(err)
	case <-tick:
		dw.onTick()
	default:
	}
	return false
}

// wait sleeps until there is something to do; true when it is told to stop.
func (dw *diskWriter) wait(tick <-chan time.Time) bool {
	var linger <-chan time.Time
	if n, _, oldest := dw.queue.state(); n > 0 && dw.diskUp() {
		timer := time.NewTimer(time.Until(oldest.Add(lingerTime)))
		defer timer.Stop()
		linger = timer.C
	}
	var rested <-chan time.Time
	if rest, more := dw.pace.rest(); more {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		rested = timer.C
	}
	select {
	case <-dw.stop:
		return true
	case <-dw.requests.wake:
		dw.commitWaiting()
		dw.countDryRun()
	case reply := <-dw.syncs:
		reply <- dw.flush()
	case reply := <-dw.compactions:
		dw.compactAsked(reply)
	case err := <-dw.broken:
		dw.reported(err)
	case <-tick:
		dw.onTick()
	case <-dw.kick:
	case <-dw.queue.wake:
	case <-linger:
	case <-rested:
	}
	return false
}

// step does one bounded piece of work; false when there is nothing to do now. Kinds of work take
// turns, because each of them may never end: entries come as fast as they are written, purges as
// they are swept, and where a sync is slow the next step of what is paced is always due.
func (dw *diskWriter) step() bool {
	works := [...]func() (bool, error){dw.scanSlots, dw.writeTurn, dw.sweepMemoryStep, dw.pacedStep, dw.pendingTurn, dw.moveStep, dw.compactStep}
	for range works {
		work := works[dw.turn]
		dw.turn = (dw.turn + 1) % len(works)
		did, err := work()
		if err != nil {
			dw.failed(err)
			return false
		}
		if did {
			return true
		}
	}
	return false
}

// diskUp tells whether there is a file to write to.
func (dw *diskWriter) diskUp() bool { return dw.disk != nil && dw.disk.writable() }

// writeTurn makes room for what waits, or writes it.
func (dw *diskWriter) writeTurn() (bool, error) {
	if !dw.diskUp() {
		return false, nil
	}
	if dw.deletionsFirst() > 0 {
		return true, dw.writeJobs()
	}
	more := dw.queueLate()
	if did, err := dw.evictStep(); did || err != nil {
		return did, err
	}
	did, err := dw.writeInTurn()
	return did || more, err
}

// pendingTurn sweeps chunks that belong to no record.
func (dw *diskWriter) pendingTurn() (bool, error) {
	if !dw.maySweep() {
		return false, nil
	}
	did, err := dw.pendingStep()
	dw.noRoomToSweep = dw.noRoomToSweep || isFull(err)
	return did, err
}

// writeStep writes a batch when enough has come together or waited long enough.
func (dw *diskWriter) writeStep() (bool, error) {
	n, bytes, oldest := dw.queue.state()
	if n == 0 || (bytes < lingerBytes && time.Since(oldest) < lingerTime) {
		return false, nil
	}
	return true, dw.writeJobs()
}

// onTick starts the work that comes with time.
func (dw *diskWriter) onTick() {
	dw.expireMemory()
	dw.breakOffSmall()
	dw.endRoomFirst()
	dw.expiring = true
	dw.pending = dw.pending || dw.disk != nil && dw.disk.pins.takeLeft()
	if !dw.retryAt.IsZero() && !dw.now().Before(dw.retryAt) {
		dw.retry()
	}
	if dw.disk != nil && dw.disk.up.Load() {
		dw.breakOff()
		dw.shrinkSlots() // which a full disk needs
	}
	if dw.diskUp() {
		dw.wantCompaction()
	}
	dw.lateTick()
	if dw.ticks++; dw.ticks%placeTicks == 0 && dw.disk != nil {
		if err := dw.disk.checkPlace(); err != nil {
			dw.failed(err)
		}
	}
	if err := dw.commitPosition(); err != nil {
		dw.failed(err)
	}
}

// retry tries to open the file again, or to write to it.
func (dw *diskWriter) retry() {
	switch full := dw.disk.full.Load(); {
	case full && dw.disk.up.Load(), dw.forgot.Load():
		dw.resume()
		return
	case full: // it was to be given up, and that was not told
		dw.detach()
	}
	if err := dw.reopen(); err == nil && !dw.trouble.on() {
		dw.log.Info("disk tier is open", slog.String("file", dw.disk.path), slog.Int64("disk", dw.settings.Load().Disk),
			slog.Int64("disk_bytes", dw.disk.used()), slog.Int64("disk_entries", dw.disk.entries.Load()))
	}
}

// reopen opens the file, or says when to try again.
func (dw *diskWriter) reopen() error {
	err := dw.s.attach()
	if err == nil {
		dw.retryAt = time.Time{}
		return nil
	}
	dw.retryAt = dw.now().Add(retryTime)
	dw.counts.errors[DiskTier].Add(1) // last: who sees it may count on the next retry
	return err
}

// reported is failed for what a reader has met, perhaps in a file that was given up since.
func (dw *diskWriter) reported(err error) {
	switch {
	case dw.forgot.Load(): // also where err was told before, so that this was not
		dw.giveUp(errForgets)
	case !dw.disk.isPast(err):
		dw.failed(err)
	}
}

// flush writes everything that is queued now, and not what comes meanwhile: that may never end. It
// fails while the disk is full and was not tried again.
func (dw *diskWriter) flush() error {
	if dw.disk == nil {
		return nil
	}
	if dw.disk.full.Load() {
		return errPaused
	}
	for taken, end := dw.queue.position(); taken < end; taken, _ = dw.queue.position() {
		dw.commitWaiting()
		made, err := false, error(nil)
		if dw.deletionsFirst() == 0 {
			made, err = dw.evictStep()
		}
		if err == nil && !made { // there is room, or this gives it
			err = dw.writeJobs()
		}
		if err != nil {
			dw.failed(err)
			return err
		}
	}
	return nil
}

// drain is the orderly end: purges in force are answered, everything queued, what is known of
// recency, and what is late goes to disk.
func (dw *diskWriter) drain() {
	for !dw.requests.end() {
		dw.commitWaiting()
		dw.countDryRun()
	}
	if dw.disk == nil {
		return
	}
	if dw.disk.full.Load() || dw.forgot.Load() { // once more
		dw.retry()
	}
	_ = dw.flush() // failed has seen to it
	for dw.accesses.len() > 0 && dw.diskUp() {
		if err := dw.writeAccesses(); err != nil {
			dw.failed(err)
		}
	}
	if err := dw.disk.checkPlace(); err != nil { // the next process would take what is there
		dw.failed(err)
	}
	dw.drainLate()
	if err := dw.commitPosition(); err != nil {
		dw.failed(err)
	}
}

package store

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// PurgeRequest is a purge that is in force, and is being counted and written down.
type PurgeRequest struct {
	store    *Store
	rec      *purgeRecord
	dryRun   bool
	deadline time.Time     // of the machine: the disk is waited for until then,
	progress uint64        // and longer if the disk writer's is another one by then,
	limit    time.Time     // until then
	done     chan struct{} // closed when what follows is known
	matched  int
	err      error
	also     *PurgeRequest // in force with it, or nil: see PurgeOptions.Labels
}

// BeginPurge is the first half of Purge: it puts a purge in force and does not wait for the disk.
// From its return on no look-up that starts later finds anything that was stored, or begun to be
// fetched, before. The second half is going on, whether it is waited for or not; before Open it
// begins when the file is open. An error says that nothing is in force.
func (s *Store) BeginPurge(sel Selectors, opts PurgeOptions) (*PurgeRequest, error) {
	if err := sel.check(); err != nil {
		return nil, err
	}
	if s.state.Load() == stateClosed {
		return nil, ErrClosed
	}
	req := &PurgeRequest{store: s, dryRun: opts.DryRun, done: make(chan struct{})}
	sel = sel.distinct()
	if opts.DryRun {
		req.rec = &purgeRecord{gen: math.MaxUint64 - 1, severity: opts.severity(), sel: sel}
	} else {
		req.rec = s.purges.issue(sel, opts.severity(), uint64(nanos(s.now())))
	}
	now := time.Now()
	req.limit = now.Add(cmp.Or(opts.Patience, purgeTime))
	req.deadline, req.progress = earlier(now.Add(s.patience()), req.limit), s.diskWriter.progress()
	if !req.dryRun {
		s.diskWriter.waiting.Add(1)
	}
	if !s.diskWriter.requests.add(req) {
		return nil, ErrClosed
	}
	if s.state.Load() == stateFailed {
		s.refuseEarly()
	}
	// After it is in force: a file that is taken up from here on finds it pending.
	if !opts.DryRun && s.LabelsSince(opts.Labels) {
		also, err := s.BeginPurge(Selectors{All: true}, PurgeOptions{Severity: Invalid, Patience: opts.Patience})
		if err != nil {
			return nil, err
		}
		req.also = also
	}
	return req, nil
}

// Wait waits until the purge has been counted and committed, and returns what Purge does, its
// errors too. Behind many others that takes its time: it gives up where nothing has been counted
// for as long as the disk is waited for, and in any case when its patience has ended. More than
// once does no harm.
func (req *PurgeRequest) Wait() (matched int, err error) {
	matched, err = req.waitAlone()
	if req.also != nil {
		_, alsoErr := req.also.waitAlone()
		err = cmp.Or(err, alsoErr)
	}
	return matched, err
}

// waitAlone is Wait without what goes with the purge.
func (req *PurgeRequest) waitAlone() (matched int, err error) {
	select {
	case <-req.done:
		return req.matched, req.err
	default:
	}
	progress := req.progress
	timer := time.NewTimer(time.Until(req.deadline))
	defer timer.Stop()
	for {
		select {
		case <-req.done:
			return req.matched, req.err
		case <-timer.C:
		}
		if !time.Now().Before(req.limit) {
			return 0, req.gaveUp(errSlow)
		}
		now := req.store.diskWriter.progress()
		if now == progress {
			return 0, req.gaveUp(errStalled)
		}
		progress = now
		timer.Reset(min(req.store.patience(), time.Until(req.limit)))
	}
}

// purgeTime is how long a purge waits while others come forward before it.
const purgeTime = 3 * stallTime

// errSlow says that the disk answers, and has not come to a purge in time.
var errSlow = errors.New("the disk is too slow: the purge has waited as long as it may")

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// gaveUp is the outcome of a purge that has waited too long, or for a file that cannot be opened.
// The disk writer comes to it all the same, and until it is counted nothing is swept. That the disk
// stalls is an error of the disk writer's, which counts it once.
func (req *PurgeRequest) gaveUp(why error) error {
	if req.dryRun {
		return fmt.Errorf("%w: %w", ErrNotCounted, why)
	}
	return fmt.Errorf("%w: %w", ErrNotDurable, why)
}

// progress changes while purges are counted or answered.
func (dw *diskWriter) progress() uint64 { return dw.answered.Load() + dw.walked.Load() }

// patience is how long a purge waits for the disk.
func (s *Store) patience() time.Duration {
	if s.disk == nil {
		return stallTime
	}
	return s.disk.wait()
}

// purgeRequests are those that the disk writer has not come to, in the order in which they came.
type purgeRequests struct {
	mu   sync.Mutex
	list []*PurgeRequest
	dry  []*PurgeRequest // dry runs, which stand in a line of their own
	shut bool            // the disk writer has ended
	wake chan struct{}   // told when there are some
}

// add has the disk writer come to a purge; false when it has ended.
func (q *purgeRequests) add(req *PurgeRequest) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.shut {
		return false
	}
	if req.dryRun {
		q.dry = append(q.dry, req)
	} else {
		q.list = append(q.list, req)
	}
	q.tell()
	return true
}

// end has no more come, unless there are some.
func (q *purgeRequests) end() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = len(q.list)+len(q.dry) == 0
	return q.shut
}

func (q *purgeRequests) tell() {
	select {
	case q.wake <- struct{}{}:
	default: // it is told already
	}
}

// maxGathered is how many purges share one transaction at most.
const maxGathered = 256

// take returns those that came first, as many as may share a transaction.
func (q *purgeRequests) take() []*PurgeRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.list), maxGathered)
	taken := q.list[:n:n]
	if q.list = q.list[n:]; len(q.list) == 0 {
		q.list = nil
	}
	q.tellOfRest()
	return taken
}

// takeDryRun returns the dry run that came first, nil when there is none.
func (q *purgeRequests) takeDryRun() *PurgeRequest {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.dry) == 0 {
		return nil
	}
	req := q.dry[0]
	q.dry[0] = nil // the array lives on
	if q.dry = q.dry[1:]; len(q.dry) == 0 {
		q.dry = nil
	}
	q.tellOfRest()
	return req
}

func (q *purgeRequests) tellOfRest() {
	if len(q.list)+len(q.dry) > 0 {
		q.tell()
	}
}

// commitWaiting answers the purges that came first, if any wait.
func (dw *diskWriter) commitWaiting() {
	if reqs := dw.requests.take(); len(reqs) > 0 {
		dw.commitPurges(reqs)
	}
}

// refuseWaiting answers the purges that wait, where the file could not be opened. They stay in
// force.
func (dw *diskWriter) refuseWaiting(why error) {
	for req := dw.requests.takeDryRun(); req != nil; req = dw.requests.takeDryRun() {
		req.err = req.gaveUp(why)
		dw.answerPurges([]*PurgeRequest{req})
	}
	lost := false
	for reqs := dw.requests.take(); len(reqs) > 0; reqs = dw.requests.take() {
		for _, req := range reqs {
			req.err = req.gaveUp(why)
		}
		dw.answerPurges(reqs)
		lost = true
	}
	if lost && dw.disk != nil {
		dw.giveUpFile()
	}
}

// commitPurges counts and writes down purges that are in force already, and answers them as some of
// them are through. The masks are of these alone: a count that has stalled may still have them.
func (dw *diskWriter) commitPurges(reqs []*PurgeRequest) {
	for _, req := range reqs {
		req.rec.gathered = true
	}
	found := &masks{}
	for len(reqs) > 0 {
		n := dw.commitSome(reqs, found)
		dw.answerPurges(reqs[:n])
		reqs = reqs[n:]
	}
}

// answerPurges answers purges whose outcome is known.
func (dw *diskWriter) answerPurges(reqs []*PurgeRequest) {
	for _, req := range reqs {
		if !req.dryRun {
			dw.purges.setCounted(req.rec)
			dw.addSweep(req.rec)
			dw.waiting.Add(-1)
		}
		close(req.done)
	}
	dw.answered.Add(uint64(len(reqs)))
}

// commitSome counts and writes down the first of purges, and returns how many.
func (dw *diskWriter) commitSome(reqs []*PurgeRequest, masks *masks) int {
	if dw.disk == nil {
		return dw.countInMemory(reqs)
	}
	n, err := dw.countOnDisk(reqs, masks)
	switch {
	case err == nil:
		reqs = reqs[:n]
		err = dw.writePurges(reqs)
	case errors.Is(err, errStalled): // who waits has waited long enough
		for _, req := range reqs {
			req.rec.memoryOnly = false
		}
	default:
		reqs = reqs[:dw.countInMemory(reqs)]
	}
	if err == nil {
		return len(reqs)
	}
	dw.giveUp(err) // also where the disk is full: what is read next may be what is purged
	lost := false
	for _, req := range reqs {
		if !req.rec.written { // else it is in the file begun in place of one removed
			req.err = fmt.Errorf("%w: %w", ErrNotDurable, err)
			lost = true
		}
	}
	if lost {
		dw.giveUpFile()
	}
	return len(reqs)
}

// writePurges commits the records that are needed on disk. Where none is, it still looks for the
// file: another one in its place may have what these purges name.
func (dw *diskWriter) writePurges(reqs []*PurgeRequest) error {
	needed := slices.DeleteFunc(slices.Clone(reqs), func(req *PurgeRequest) bool { return req.rec.memoryOnly })
	if len(needed) == 0 {
		return dw.disk.checkPlace()
	}
	err := dw.transact(func(b *batch) error {
		for _, req := range needed {
			if err := b.putPurge(req.rec); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, req := range needed {
		req.rec.written = true
	}
	return nil
}

// countedRows is about how many rows are counted before those are answered that they were counted
// for. One transaction counts no more: an open one keeps the file from using the room of what is
// deleted meanwhile.
const countedRows = 1 << 16

// countOnDisk counts the first of purges, one at least, by the file and memory, and notes those
// that have nothing on disk to hit. It returns how many it has counted.
func (dw *diskWriter) countOnDisk(reqs []*PurgeRequest, masks *masks) (int, error) {
	type result struct{ matched, rows int }
	var results []result // the transaction's own, as are the masks: it may go on after a stall
	masks.onDisk, masks.walkCost = dw.sweeps.onDisk, dw.sweeps.walkCost
	err := dw.disk.viewLong(func(tx *bbolt.Tx) error {
		t, err := dw.disk.openBuckets(tx)
		end := dw.walked.Load() + countedRows
		for i := 0; err == nil && i < len(reqs) && (i == 0 || dw.walked.Load() < end); i++ {
			var r result
			r.matched, r.rows, err = dw.count(t, reqs[i].rec, masks)
			results = append(results, r)
			masks.walkCost += walkCost(r.rows)
		}
		return err
	}, nil, longWork{progress: &dw.walked, own: true})
	if err != nil {
		return 0, err
	}
	onTheWay := dw.purges.onTheWay()
	for i, r := range results {
		rec := reqs[i].rec
		reqs[i].matched, rec.rows = r.matched, r.rows
		rec.memoryOnly = rec.rows == 0 && rec.gen < onTheWay && !rec.written
	}
	return len(results), nil
}

// countInMemory counts the first of purges, one at least, without the file: there is none, or it
// fails. It returns how many it has counted.
func (dw *diskWriter) countInMemory(reqs []*PurgeRequest) int {
	end := dw.items + countedRows
	for i, req := range reqs {
		if i > 0 && dw.items >= end {
			return i
		}
		req.matched, _, _ = dw.count(nil, req.rec, &masks{}) // only the file can fail
		req.rec.memoryOnly = false
	}
	return len(reqs)
}

func (t *buckets) putPurge(rec *purgeRecord) error {
	return t.purges.Put(idBytes(rec.gen), encodePurge(rec))
}

// restorePurges reads the purges bucket and adds the purges that are in force and not in it. It
// returns what it has found, and those in force.
func (t *buckets) restorePurges(r *purgeSet) (found, ours []*purgeRecord, err error) {
	stored := make(map[uint64]bool)
	err = t.purges.ForEach(func(key, value []byte) error {
		rec, err := decodePurge(key, value)
		if err != nil {
			return err
		}
		stored[rec.gen] = true
		found = append(found, rec)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	generation := t.number(metaGeneration)
	r.raise(generation) // what is issued from now on is later, and is written by the disk writer
	ours = r.snapshot()
	for _, rec := range ours {
		if stored[rec.gen] {
			continue
		}
		if rec.gen <= generation && rec.memoryOnly {
			continue
		}
		if rec.gen <= generation {
			return nil, nil, fmt.Errorf("purge of generation %d is older than the file's %d: %w", rec.gen, generation, errDamaged)
		}
		if err := t.putPurge(rec); err != nil {
			return nil, nil, err
		}
	}
	return found, ours, nil
}

package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/larder-cache/larder/store/internal/slots"
)

// A file can stand still: a network file system that is gone, a volume that is detached, fsfreeze.
// Then a system call does not return, and neither does whatever waits for the locks that bbolt
// holds around it. So no goroutine that a request waits for makes such a call: a helper makes it,
// and who asked for it waits for stallTime at most. After that the file counts as stalled. It is
// given up as after an error, at once for all who wait and all who come, and it is closed when its
// last call has come back; until then no other file is opened in its place.
//
// Two waits cannot be bounded. One is that for a page of the file's map which the kernel has to
// read first. It holds a thread of the Go runtime, and with it the next garbage collection. What
// look-ups touch is read before by a helper's calls (disk_pages.go), unless they are the first slow
// ones. The other is the disk writer's, for pages that it changes, within its transaction. Where
// the file system answers such a read by an error in the end (NFS mounted soft, a block device with
// a timeout), it is an error like any other.

// A helper that waits for the disk holds a thread, and a process with 10,000 of them ends. So there
// are maxHelpers at once in a store and maxAllHelpers in the process. What comes past them stands
// in line, without a thread, until one is free or its patience ends. The disk writer does not: it
// has one piece of work at a time.

const (
	// stallTime is how long the disk is waited for.
	stallTime = 10 * time.Second
	// lookupTime is how long a look-up waits, which can be a miss instead.
	lookupTime = time.Second
	// overdueTime is how long it waits while one that has not been waited for any longer is still
	// under way. A request makes up to three look-ups, and on a disk that stands still they would
	// each take lookupTime.
	overdueTime = lookupTime / 10
	// maxHelpers is how many of what requests want of a file may be under way.
	maxHelpers = 256
	// maxAllHelpers is that for the files of all stores together.
	maxAllHelpers = 2048
)

// allHelpers has a place for each that is under way in any store.
var allHelpers = make(chan struct{}, maxAllHelpers)

// errStalled says that the disk has not answered.
var errStalled = fmt.Errorf("the disk has not answered for %v", stallTime)

// errLate says that work was not waited for any longer, while the disk still has time to answer. It
// is an errStalled as far as the work is concerned, which may still be going on.
var errLate = fmt.Errorf("a look-up was given up: %w", errStalled)

// errCrowded says that as many calls as may be are under way, and that none has come back while it
// was waited for. Nothing has been begun.
var errCrowded = fmt.Errorf("%d calls to the disk are under way, and none has come back in time", maxHelpers)

// use is one use of an opened file, from open to close.
type use struct {
	d    *disk
	path string // of the file
	db   *bbolt.DB
	file *os.File
	// slots are those of large bodies. A compaction's are those of the file that it copies, so that
	// one of the two does not close them.
	slots     *slots.File
	lendSlots atomic.Bool
	// slotted says that a transaction speaks of slots which are not synced.
	slotted atomic.Bool
	// missed says that the file had a mark beside it when it was opened, see disk.mark.
	missed bool
	// wedged says that bbolt has panicked where it may have kept its locks.
	wedged atomic.Bool

	helpers chan *task     // to those that wait for a task
	idle    atomic.Int32   // how many there are
	over    chan struct{}  // closed when none is needed any more
	stalled chan struct{}  // closed when the file has not answered
	once    sync.Once      // of that
	late    sync.WaitGroup // tasks under way that are not waited for any more
	overdue atomic.Int32   // look-ups among them that had all their time
	release []func()       // gives back what these may read, when there is none; the disk writer's
}

func (d *disk) newUse() *use {
	return &use{d: d, path: d.path, helpers: make(chan *task), over: make(chan struct{}), stalled: make(chan struct{})}
}

// maxIdle is how many helpers wait for another task.
const maxIdle = 16

// task is one piece of work for a helper.
type task struct {
	work  func() error
	undo  func() // after work that succeeded too late; may be nil
	done  chan error
	timer *time.Timer
	state atomic.Uint32
	ours  bool // it has a place among those that may be under way
	first bool // it is a look-up that has all its time
	began time.Time
	// judgement gives the file up if the task is not through then; nil unless it was given up
	// before.
	judgement *time.Timer
}

// The states of a task.
const (
	taskUnderWay  uint32 = iota
	taskFinished         // its outcome is in done
	taskAbandoned        // its outcome is not waited for
)

// longWork is what is known of work that may take longer than the disk is waited for, because there
// is much of it. The zero value is of work that is short.
type longWork struct {
	// progress rises while the disk answers: only where it does not is there a stall. It may be
	// nil.
	progress *atomic.Uint64
	// optional work gives up alone where the disk does not answer: the file is not given up for it.
	optional bool
	// own work is the disk writer's, which stands in no line.
	own bool
	// patience is for how long it is waited for, in line and at the disk, where that is less than
	// for the disk. The file is still given up only when the disk has had its time.
	patience time.Duration
}

func (w *longWork) done() uint64 {
	if w.progress == nil {
		return 0
	}
	return w.progress.Load()
}

// do has a helper do the work and returns its outcome, or errStalled. Then the work may still be
// going on: what it changes is its own. If it succeeds after all undo follows. After errCrowded it
// has not begun.
func (u *use) do(work func() error, undo func(), long longWork) error {
	if u.isStalled() {
		return errStalled
	}
	return u.call(work, undo, long)
}

// call is do for what has to be done even if the file has stalled: then it is not waited for.
func (u *use) call(work func() error, undo func(), long longWork) error {
	patience, first := u.patience(long)
	t := u.d.task(work, undo, patience)
	t.first = first
	if !long.own {
		if err := u.enter(t); err != nil {
			u.d.reuse(t)
			return err
		}
	}
	select {
	case u.helpers <- t:
	default:
		go u.help(t)
	}
	given := errStalled
	for waiting, done := true, long.done(); waiting; {
		select {
		case err := <-t.done:
			u.d.reuse(t)
			return err
		case <-t.timer.C:
			before := done
			if done = long.done(); done != before {
				t.timer.Reset(u.d.wait())
				continue
			}
			if !long.optional && !u.judge(t) {
				given = errLate
				u.d.cold.Store(coldest)
			}
		case <-u.stalled:
		}
		waiting = false
	}
	u.abandoned(t, 1)
	if t.state.CompareAndSwap(taskUnderWay, taskAbandoned) {
		return given
	}
	u.abandoned(t, -1)
	t.judged()
	return <-t.done
}

// patience is how long work is waited for. first says that it is a look-up before which none is
// overdue. Only such a one can be overdue itself: look-ups that are as fast as they ever were, but
// not within overdueTime, would else keep each other's time short for ever.
func (u *use) patience(long longWork) (patience time.Duration, first bool) {
	switch {
	case long.patience == 0:
		return u.d.wait(), false
	case u.overdue.Load() > 0:
		return min(u.d.wait(), long.patience, overdueTime), false
	}
	return min(u.d.wait(), long.patience), true
}

// abandoned counts a task that is not waited for any more, and uncounts it.
func (u *use) abandoned(t *task, n int) {
	if u.late.Add(n); t.first {
		u.overdue.Add(int32(n))
	}
}

// judge gives the file up if a task has been under way for as long as the disk is waited for. Else
// it has that done when it will have been, and returns false.
func (u *use) judge(t *task) bool {
	rest := u.d.wait() - time.Since(t.began)
	if rest <= 0 {
		u.stall()
		return true
	}
	t.judgement = time.AfterFunc(rest, func() {
		u.d.mu.RLock()
		defer u.d.mu.RUnlock()
		if u.d.use == u { // else another one may be in use
			u.stall()
		}
	})
	return false
}

// judged says that a task has come back.
func (t *task) judged() {
	if t.judgement != nil {
		t.judgement.Stop()
	}
}

// enter takes a place among those that may be under way, in the store and in the process. It stands
// in line for as long as the task is waited for. The disk has its time from then on.
func (u *use) enter(t *task) error {
	stood := false
	for i, line := range [...]chan struct{}{u.d.places, u.d.allPlaces} {
		select {
		case line <- struct{}{}:
			continue
		default:
		}
		stood = true
		var err error
		select {
		case line <- struct{}{}:
			continue
		case <-t.timer.C:
			err = errCrowded
		case <-u.stalled:
			err = errStalled
		}
		if i > 0 {
			<-u.d.places
		}
		return err
	}
	if t.ours = true; stood {
		t.began, t.first = time.Now(), false // in line it has had some of its time
	}
	return nil
}

// leave gives the place back.
func (u *use) leave(t *task) {
	if t.ours {
		<-u.d.allPlaces
		<-u.d.places
	}
}

func (d *disk) wait() time.Duration { return time.Duration(d.patience.Load()) }

// task returns one whose clock is running. They are kept for use again, each in its store: a timer
// and a channel cost as much as half of a look-up.
func (d *disk) task(work func() error, undo func(), patience time.Duration) *task {
	began := time.Now()
	t, _ := d.tasks.Get().(*task)
	if t == nil {
		t = &task{done: make(chan error, 1), timer: time.NewTimer(patience)}
	} else {
		t.timer.Reset(patience)
	}
	t.work, t.undo, t.ours, t.began = work, undo, false, began
	t.state.Store(taskUnderWay)
	return t
}

// reuse keeps a task that has finished in time.
func (d *disk) reuse(t *task) {
	t.timer.Stop()
	t.work, t.undo = nil, nil
	d.tasks.Put(t)
}

// help does a task, and those that follow.
func (u *use) help(t *task) {
	for t != nil {
		u.perform(t)
		t = u.await()
	}
}

func (u *use) perform(t *task) {
	err := t.work()
	u.leave(t)
	if t.state.CompareAndSwap(taskUnderWay, taskFinished) {
		t.done <- err
		return
	}
	t.judged()
	if err == nil && t.undo != nil {
		t.undo()
	}
	u.abandoned(t, -1)
}

// await waits for another task; nil ends the helper.
func (u *use) await() *task {
	if u.idle.Add(1) > maxIdle {
		u.idle.Add(-1)
		return nil
	}
	defer u.idle.Add(-1)
	select {
	case t := <-u.helpers:
		return t
	case <-u.over:
		return nil
	}
}

// stall has all who wait for the file give it up, and those who come.
func (u *use) stall() {
	u.once.Do(func() {
		u.d.up.Store(false)
		close(u.stalled)
		u.d.onStall(&readError{u.d.times.Load(), errStalled})
	})
}

func (u *use) isStalled() bool {
	select {
	case <-u.stalled:
		return true
	default:
		return false
	}
}

// unanswered are the paths of files that are being closed. As long as the disk does not answer the
// lock on one is held, by this process.
var unanswered sync.Map

// close ends the use of a file, after the calls under way. Where the file is stalled it does not
// wait for them.
func (u *use) close() error {
	close(u.over)
	patience := u.d.wait()
	if u.isStalled() {
		patience = 0
	}
	unanswered.Store(u.path, true)
	return u.d.apart(patience, func() error {
		defer unanswered.Delete(u.path)
		if u.wedged.Load() { // who waits for bbolt's locks does so for ever
			return errors.Join(u.closeSlots(), abandon(u.file))
		}
		u.late.Wait()
		for _, release := range u.release {
			release()
		}
		return errors.Join(u.closeSlots(), guarded(u.db.Close)) // the lock is given up last
	}, nil)
}

func (u *use) closeSlots() error {
	if u.slots == nil || u.lendSlots.Load() {
		return nil
	}
	return u.slots.Close()
}

// apart does something with the file's name, or with a file that no helper has, and waits for it
// for so long. As long as it is not through no file is opened. late is called if it succeeds later
// than that.
func (d *disk) apart(patience time.Duration, work func() error, late func()) error {
	d.stuck.Add(1)
	done := make(chan error, 1)
	var given atomic.Bool // the first of the two has the outcome
	go func() {
		err := work()
		if !given.CompareAndSwap(false, true) && err == nil && late != nil {
			late()
		}
		d.stuck.Add(-1)
		done <- err
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	if !given.CompareAndSwap(false, true) {
		return <-done
	}
	return errStalled
}

// errRemoved says that the file has been taken away while it was open.
var errRemoved = errors.New("the file was removed, or another one put in its place")

// checkPlace returns errRemoved unless the file is still where it was opened: what is written to it
// would be gone after a restart, purges above all. Where file systems number their files anew, size
// and time tell as well.
func (u *use) checkPlace() error {
	if file := u.slots.Storage(); file != nil {
		if err := isAt(file, u.d.bodies); err != nil {
			return err
		}
	}
	return isAt(u.file, u.path)
}

// isAt returns errRemoved unless an open file is the one at path.
func isAt(file interface{ Stat() (os.FileInfo, error) }, path string) error {
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return errRemoved // or its folder is another thing now
	}
	if err != nil {
		return nil //nolint:nilerr // it says nothing about the file that is open
	}
	ours, err := file.Stat()
	if err != nil || os.SameFile(there, ours) || (there.Size() == ours.Size() && there.ModTime().Equal(ours.ModTime())) {
		return nil //nolint:nilerr // as before
	}
	return errRemoved
}

// checkPlace is checkPlace of the file in use, if there is one.
func (d *disk) checkPlace() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.use == nil {
		return nil
	}
	return d.use.do(d.use.checkPlace, nil, longWork{own: true})
}

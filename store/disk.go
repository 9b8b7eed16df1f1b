package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/larder-cache/larder/store/internal/boltcheck"
	"github.com/larder-cache/larder/store/internal/pagein"
	"github.com/larder-cache/larder/store/internal/slots"
)

// errDetached is returned while there is no open file.
var errDetached = errors.New("disk tier is not open")

// lockTimeout is how long another process may hold the file before opening fails.
const lockTimeout = time.Second

// disk is the open file, or none. Everything that touches bbolt goes through view and update.
type disk struct {
	path     string // of the file
	bodies   string // of that of large bodies
	openFile func(string, int, os.FileMode) (*os.File, error)
	pins     pins

	// mu is held for reading by who waits for a transaction, for writing while the file is
	// exchanged.
	mu  sync.RWMutex
	use *use // nil: no file is open
	// slots are those of the use.
	slots atomic.Pointer[slots.File]
	// paging reads pages of the file in use before they are touched, nil where that cannot be.
	paging atomic.Pointer[pagein.File]
	cold   atomic.Int32 // see timeRead

	// bodiesStorage is the file of large bodies as it is used; another function only for tests.
	bodiesStorage func(f *os.File) slots.Storage
	// takeAway removes the file or takes its name from it; another function only for tests.
	takeAway func(now time.Time) error
	marked   atomic.Bool // it was this store that put the mark beside the file, see mark
	locked   atomic.Bool // the last open failed because another process has the file

	tasks sync.Pool // of *task
	// places are taken by tasks under way, allPlaces by those of every store.
	places, allPlaces chan struct{}

	stuck   atomic.Int32 // calls of apart under way, waited for or not
	onStall func(error)  // a file has not answered
	// patience is stallTime, but for tests.
	patience atomic.Int64

	up      atomic.Bool   // use is not nil, and not stalled
	full    atomic.Bool   // it is only read, until the disk writer tries to write again
	entries atomic.Int64  // committed
	parts   atomic.Int64  // of these, those with FlagPart
	pages   atomic.Int64  // bytes of allocated pages at the last commit
	size    atomic.Int64  // of the database's file then
	excused atomic.Int64  // of what is beyond the budget, see room
	panics  atomic.Int32  // since the file was opened
	times   atomic.Uint32 // that a file was put to use
}

func newDisk(cfg Config) *disk {
	d := &disk{path: filepath.Join(cfg.Path, FileName), bodies: filepath.Join(cfg.Path, BodiesName), openFile: cfg.OpenFile, onStall: func(error) {}}
	if d.openFile == nil {
		d.openFile = os.OpenFile
	}
	d.takeAway = d.removeOrRename
	d.bodiesStorage = func(f *os.File) slots.Storage { return f }
	d.places, d.allPlaces = make(chan struct{}, maxHelpers), allHelpers
	d.patience.Store(int64(stallTime))
	d.pins.init()
	return d
}

// open opens the file, begun anew where there is none. errDamaged means that the file is no
// database, or not one of ours.
func (d *disk) open(budget int64) (*use, error) {
	if d.stuck.Load() > 0 {
		return nil, fmt.Errorf("disk tier: %s: %w: a call made before has not come back", d.path, errStalled)
	}
	var opened *use
	err := d.apart(d.wait(), func() (err error) {
		opened, err = d.openNow(budget)
		return err
	}, func() { _ = opened.close() })
	if errors.Is(err, errStalled) {
		return nil, fmt.Errorf("disk tier: %s cannot be opened: %w", d.path, err)
	}
	return opened, err
}

// openNow is open for who can wait.
func (d *disk) openNow(budget int64) (*use, error) {
	if err := d.makeFolder(); err != nil {
		return nil, err
	}
	u := d.newUse()
	d.locked.Store(false)
	if err := u.open(budget); err != nil {
		return nil, d.explain(err)
	}
	if err := u.openSlots(); err != nil {
		return nil, errors.Join(fmt.Errorf("disk tier: %s cannot be opened: %w", d.bodies, err), u.db.Close())
	}
	var err error
	if u.missed, err = d.hasForeignMark(); err == nil {
		_ = removeIfThere(d.path + compactSuffix) // of a compaction that was cut short
		return u, nil
	}
	return nil, errors.Join(d.explain(err), u.slots.Close(), u.db.Close())
}

// open opens the file of a use.
func (u *use) open(budget int64) error {
	err := guarded(func() error {
		var err error
		u.db, err = bbolt.Open(u.path, 0o600, &bbolt.Options{
			Timeout:         lockTimeout,
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: initialMmap(budget),
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				f, err := u.d.openFile(name, flag, perm)
				u.file = f
				if err == nil && tryLock(f) { // else another process may be writing to it
					err = errors.Join(boltcheck.Freelist(f), boltcheck.Tree(f))
				}
				return f, err
			},
		})
		return err
	})
	if err == nil {
		u.db.AllocSize = allocSize(budget)
		return nil
	}
	if u.file != nil {
		_ = abandon(u.file) // closed by bbolt already, unless it panicked
	}
	return err
}

// openSlots opens the file of large bodies. It comes after open, whose lock is that of both files.
func (u *use) openSlots() (err error) {
	u.slots, err = slots.Open(func(flag int) (slots.Storage, error) {
		f, err := u.d.openFile(u.d.bodies, flag, 0o600)
		if err != nil {
			return nil, err
		}
		return u.d.bodiesStorage(f), nil
	})
	return err
}

// allocSize is by how much a file grows at once.
func allocSize(budget int64) int { return int(min(max(budget/64, 64<<10), 16<<20)) }

// makeFolder makes the folder with access for this user only.
func (d *disk) makeFolder() error {
	folder := filepath.Dir(d.path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("disk tier: folder %s cannot be made: %w", folder, err)
	}
	info, err := os.Stat(folder)
	if err != nil {
		return fmt.Errorf("disk tier: folder %s: %w", folder, err)
	}
	if !info.IsDir() {
		return fmt.Errorf("disk tier: %s is not a folder", folder)
	}
	return nil
}

// explain names the file and the cause of a failed open.
func (d *disk) explain(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout) && d.isOurs():
		return fmt.Errorf("disk tier: %s is held by the store that had it before, to which the disk has not answered: %w", d.path, err)
	case errors.Is(err, berrors.ErrTimeout):
		d.locked.Store(true)
		return fmt.Errorf("disk tier: %s is locked by another process; stop that one, or give this one a folder of its own: %w", d.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("disk tier: no permission for %s: %w", d.path, err)
	case errors.Is(err, errDamaged), errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum),
		errors.Is(err, berrors.ErrVersionMismatch), d.tooShort():
		return fmt.Errorf("disk tier: %s is not a usable database: %w: %w", d.path, err, errDamaged)
	default:
		return fmt.Errorf("disk tier: %s cannot be opened: %w", d.path, err)
	}
}

// isOurs tells whether it is this process that has the file locked.
func (d *disk) isOurs() bool {
	_, closing := unanswered.Load(d.path)
	return closing
}

// tooShort tells whether the file ends within its first pages, for which bbolt has no named error.
func (d *disk) tooShort() bool {
	info, err := os.Stat(d.path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.Size() < 4*int64(os.Getpagesize())
}

// initialMmap maps more than the file may grow to, because growing the map waits for every reader.
// Windows makes the file as long as its map, and 32 bits have no room.
func initialMmap(budget int64) int {
	if runtime.GOOS == "windows" || bits.UintSize < 64 {
		return 0
	}
	return int(min(2*budget, 1<<40))
}

// exchange puts a use in the place of another, or of none. The caller has the lock.
func (d *disk) exchange(u *use) {
	d.use = u
	d.slots.Store(u.slots)
	d.paging.Store(pagesOf(u))
}

// attach puts an opened database to use.
func (d *disk) attach(u *use) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exchange(u)
	d.cold.Store(coldest)
	d.panics.Store(0)
	d.times.Add(1)
	d.full.Store(false)
	d.up.Store(true)
}

// detach ends the use of the file, after the readers under way. When bbolt has panicked its locks
// may be held for ever, so that it cannot be closed: then only the file handle is, without the
// lock, and the map stays until the process ends. That costs address space, no memory. Whatever was
// reported first is no sign of that: of two readers of a damaged file the one may meet an error and
// the other a panic.
func (d *disk) detach() error {
	d.mu.Lock()
	u := d.use
	d.use = nil
	d.slots.Store(nil)
	d.paging.Store(nil)
	d.up.Store(false)
	d.full.Store(false)
	d.entries.Store(0)
	d.parts.Store(0)
	d.pages.Store(0)
	d.size.Store(0)
	d.mu.Unlock()
	if u == nil {
		return nil
	}
	if err := u.close(); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// abandon lets go of a file whose database cannot be closed, lock and handle.
func abandon(file *os.File) error { return errors.Join(unlock(file), file.Close()) }

// wedgedError says that bbolt panicked where it may have kept its locks.
type wedgedError struct{ cause error }

// Error names the cause.
func (e *wedgedError) Error() string { return "database unusable: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *wedgedError) Unwrap() error { return e.cause }

// readError is an error of view. It says in which use of a file: a reader that is told late must
// not have the next one given up.
type readError struct {
	time  uint32
	cause error
}

// Error is that of the cause.
func (e *readError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *readError) Unwrap() error { return e.cause }

// isPast tells whether an error comes from a file that is not in use any more.
func (d *disk) isPast(err error) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e, ok := errors.AsType[*readError](err)
	return ok && (d.use == nil || e.time != d.times.Load())
}

// view runs fn in a read transaction. fn copies what it keeps, and writes to no client. After
// errStalled it may still be running, so that what it writes to is to be looked at only after
// success.
func (d *disk) view(fn func(tx *bbolt.Tx) error) error { return d.viewOr(fn, nil) }

// viewOr is view for an fn that takes something in hand: undo, which may be nil, gives it back if
// fn has failed, or has been through with success, but too late.
func (d *disk) viewOr(fn func(tx *bbolt.Tx) error, undo func()) error {
	return d.viewLong(fn, undo, longWork{})
}

// viewSoon is viewOr for who waits for lookupTime at most.
func (d *disk) viewSoon(fn func(tx *bbolt.Tx) error, undo func()) error {
	return d.viewLong(fn, undo, longWork{patience: lookupTime})
}

// viewOwn is view for the disk writer.
func (d *disk) viewOwn(fn func(tx *bbolt.Tx) error) error {
	return d.viewLong(fn, nil, longWork{own: true})
}

// viewLong is viewOr for an fn that may have much to do.
func (d *disk) viewLong(fn func(tx *bbolt.Tx) error, undo func(), long longWork) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.use
	if u == nil {
		return errDetached
	}
	err := u.do(func() error {
		err := u.read(fn)
		if err != nil && undo != nil {
			undo()
		}
		return err
	}, undo, long)
	if err != nil {
		return &readError{d.times.Load(), err}
	}
	return nil
}

// read is view for a helper.
func (u *use) read(fn func(tx *bbolt.Tx) error) error {
	if err := boltcheck.Meta(u.file); err != nil {
		return err
	}
	epoch := u.slots.Enter()
	defer u.slots.Leave(epoch)
	var tx *bbolt.Tx
	err := guarded(func() error {
		var err error
		if tx, err = u.db.Begin(false); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		return fn(tx)
	})
	return u.finish(tx, err)
}

// update runs fn in a write transaction and commits it. Only the disk writer calls it.
func (d *disk) update(fn func(tx *bbolt.Tx) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	u := d.use
	if u == nil {
		return errDetached
	}
	err := u.do(func() error { return errors.Join(u.checkPlace(), boltcheck.FreelistHead(u.file)) }, nil, longWork{own: true})
	if err != nil {
		return err
	}
	return u.update(fn)
}

// update is update for a file that need not be attached. fn runs on the caller's goroutine, since
// it works with what is the disk writer's: it writes nothing to the file, which the commit does.
func (u *use) update(fn func(tx *bbolt.Tx) error) error {
	var begun *bbolt.Tx
	err := u.do(func() error {
		err := guarded(func() (err error) {
			begun, err = u.db.Begin(true)
			return err
		})
		return u.finish(nil, err)
	}, func() { _ = begun.Rollback() }, longWork{own: true})
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	tx, id := begun, begun.ID()
	failure := guarded(func() error { return fn(tx) })
	return u.call(func() error { // else the transaction is open for ever, and the file with it
		err := failure
		if err == nil && u.isStalled() {
			err = errStalled
		}
		if err == nil && u.slotted.Swap(false) { // before a row says that they are there
			err = u.slots.Sync()
		}
		if err == nil {
			err = guarded(tx.Commit)
		}
		if err = u.finish(tx, err); err != nil {
			return u.ifFull(err, id)
		}
		if err = u.checkPlace(); err != nil { // a copy lacks what was written now
			return err
		}
		return u.measure()
	}, nil, longWork{own: true})
}

// measure reads how much of the file is allocated: its pages less the free ones.
func (u *use) measure() error {
	var tx *bbolt.Tx
	err := guarded(func() error {
		var err error
		if tx, err = u.db.Begin(false); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		stats := u.db.Stats()
		if !u.isStalled() {
			u.d.size.Store(tx.Size())
			u.d.pages.Store(tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(u.db.Info().PageSize))
		}
		return nil
	})
	return u.finish(tx, err)
}

// finish rolls a transaction back and tells whether the database outlived what happened in it. A
// panic before there is a transaction, or in the rollback, leaves bbolt's locks in doubt.
func (u *use) finish(tx *bbolt.Tx, err error) error {
	panicked := errors.Is(err, errPanicked)
	if panicked {
		u.d.panics.Add(1)
	}
	if tx == nil {
		if panicked {
			u.wedged.Store(true)
			return &wedgedError{err}
		}
		return err
	}
	rollback := guarded(func() error {
		if e := tx.Rollback(); !errors.Is(e, berrors.ErrTxClosed) {
			return e
		}
		return nil
	})
	if errors.Is(rollback, errPanicked) {
		u.wedged.Store(true)
		return &wedgedError{errors.Join(err, rollback)}
	}
	return err
}

// errPanicked is wrapped by the error that a panic in bbolt becomes.
var errPanicked = errors.New("panic in the database")

// guarded calls fn and turns a panic into an error. bbolt asserts on damaged pages, and a file
// that was cut short under its map faults, which panics only where SetPanicOnFault says so.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v: %w", errPanicked, p, errDamaged)
		}
	}()
	return fn()
}

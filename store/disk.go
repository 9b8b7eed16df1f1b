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
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// errDetached is returned while there is no open file.
var errDetached = errors.New("disk tier is not open")

// lockTimeout is how long another process may hold the file before opening fails.
const lockTimeout = time.Second

// disk is the open file, or none. Everything that touches bbolt goes through view and update.
type disk struct {
	path     string // of the file
	openFile func(string, int, os.FileMode) (*os.File, error)
	pins     pins

	// mu is held for reading while the database is used, for writing while it is exchanged.
	mu   sync.RWMutex
	db   *bbolt.DB
	file *os.File

	up      atomic.Bool   // db is not nil
	entries atomic.Int64  // committed
	used    atomic.Int64  // bytes of allocated pages at the last commit
	panics  atomic.Int32  // since the file was opened
	times   atomic.Uint32 // that a file was put to use
	wedged  atomic.Bool   // since then bbolt has panicked where it may have kept its locks
}

func newDisk(cfg Config) *disk {
	d := &disk{path: filepath.Join(cfg.Path, FileName), openFile: cfg.OpenFile}
	if d.openFile == nil {
		d.openFile = os.OpenFile
	}
	d.pins.count = make(map[uint64]int)
	d.pins.going = make(map[uint64]struct{})
	return d
}

// opening is what open returns: the database, not in use yet.
type opening struct {
	db   *bbolt.DB
	file *os.File
}

// open opens the file, begun anew where there is none. errDamaged means that the file is no
// database, or not one of ours.
func (d *disk) open(budget int64) (*opening, error) {
	if err := d.makeFolder(); err != nil {
		return nil, err
	}
	o := &opening{}
	err := guarded(func() error {
		var err error
		o.db, err = bbolt.Open(d.path, 0o600, &bbolt.Options{
			Timeout:         lockTimeout,
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: initialMmap(budget),
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				f, err := d.openFile(name, flag, perm)
				o.file = f
				if err == nil && tryLock(f) { // else another process may be writing to it
					err = errors.Join(checkFreelist(f), checkTree(f))
				}
				return f, err
			},
		})
		return err
	})
	if err == nil {
		o.db.AllocSize = int(min(max(budget/64, 64<<10), 16<<20))
		return o, nil
	}
	if o.file != nil {
		_ = abandon(o.file) // closed by bbolt already, unless it panicked
	}
	return nil, d.explain(err)
}

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
	case errors.Is(err, berrors.ErrTimeout):
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

// tooShort tells whether the file ends within its first pages, for which bbolt has no named error.
func (d *disk) tooShort() bool {
	info, err := os.Stat(d.path)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0 && info.Size() < 4*int64(os.Getpagesize())
}

// close ends an opening that is not to be used.
func (o *opening) close() error {
	return guarded(o.db.Close)
}

// initialMmap maps more than the file may grow to, because growing the map waits for every reader.
// Windows makes the file as long as its map, and 32 bits have no room.
func initialMmap(budget int64) int {
	if runtime.GOOS == "windows" || bits.UintSize < 64 {
		return 0
	}
	return int(min(2*budget, 1<<40))
}

// attach puts an opened database to use.
func (d *disk) attach(o *opening) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.db, d.file = o.db, o.file
	d.up.Store(true)
	d.panics.Store(0)
	d.wedged.Store(false)
	d.times.Add(1)
}

// detach ends the use of the file, after the readers under way. When bbolt has panicked its locks
// may be held for ever, so that it cannot be closed: then only the file handle is, without the
// lock, and the map stays until the process ends. That costs address space, no memory. Whatever was
// reported first is no sign of that: of two readers of a damaged file the one may meet an error and
// the other a panic.
func (d *disk) detach() error {
	d.mu.Lock()
	db, file := d.db, d.file
	d.db, d.file = nil, nil
	d.up.Store(false)
	d.entries.Store(0)
	d.used.Store(0)
	d.mu.Unlock()
	if db == nil {
		return nil
	}
	if d.wedged.Load() {
		return abandon(file)
	}
	if err := guarded(db.Close); err != nil {
		return fmt.Errorf("close %s: %w", d.path, err)
	}
	return nil
}

// abandon lets go of a file whose database cannot be closed, lock and handle.
func abandon(file *os.File) error { return errors.Join(unlock(file), file.Close()) }

// drop removes the file, which must not be open. Where it cannot be removed, as on Windows while a map of it
// is left, its name is taken from it.
func (d *disk) drop(now time.Time) error {
	if err := os.Remove(d.path); err != nil {
		_, asideErr := d.setAside("purged", now)
		return asideErr
	}
	d.syncFolder()
	return nil
}

// setAside renames the file, which must not be open, so that it is never used again.
func (d *disk) setAside(why string, now time.Time) (string, error) {
	name := d.path + "." + why + "-" + strconv.FormatInt(now.Unix(), 10)
	for i := 1; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = d.path + "." + why + "-" + strconv.FormatInt(now.Unix(), 10) + "-" + strconv.Itoa(i)
	}
	if err := os.Rename(d.path, name); err != nil {
		return "", fmt.Errorf("set aside: %w", err)
	}
	d.syncFolder()
	return name, nil
}

// syncFolder makes a change of the file's name durable, where folders can be synced.
func (d *disk) syncFolder() {
	if folder, err := os.Open(filepath.Dir(d.path)); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

// wedgedError says that bbolt panicked where it may have kept its locks.
type wedgedError struct{ cause error }

// Error names the cause.
func (e *wedgedError) Error() string { return "database unusable: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *wedgedError) Unwrap() error { return e.cause }

// readError is an error of view. It says in which use of a file: a reader that is told late must not have the
// next one given up.
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
	e, ok := errors.AsType[*readError](err)
	return ok && e.time != d.times.Load()
}

// view runs fn in a read transaction. fn copies what it keeps, and writes to nobody.
func (d *disk) view(fn func(tx *bbolt.Tx) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.db == nil {
		return errDetached
	}
	if err := d.read(fn); err != nil {
		return &readError{d.times.Load(), err}
	}
	return nil
}

// read is view with d.mu held.
func (d *disk) read(fn func(tx *bbolt.Tx) error) error {
	if err := checkMeta(d.file); err != nil {
		return err
	}
	var tx *bbolt.Tx
	err := guarded(func() error {
		var err error
		if tx, err = d.db.Begin(false); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		return fn(tx)
	})
	return d.finish(tx, err)
}

// update runs fn in a write transaction and commits it. Only the keeper calls it.
func (d *disk) update(fn func(tx *bbolt.Tx) error) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.db == nil {
		return errDetached
	}
	if err := checkListHead(d.file); err != nil {
		return err
	}
	return updateDB(d, d.db, fn)
}

// updateDB is update for a database that is not attached yet.
func updateDB(d *disk, db *bbolt.DB, fn func(tx *bbolt.Tx) error) error {
	var tx *bbolt.Tx
	err := guarded(func() error {
		var err error
		if tx, err = db.Begin(true); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		if err = fn(tx); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err = d.finish(tx, err); err != nil {
		return err
	}
	return d.measure(db)
}

// measure reads how much of the file is allocated: its pages less the free ones.
func (d *disk) measure(db *bbolt.DB) error {
	var tx *bbolt.Tx
	err := guarded(func() error {
		var err error
		if tx, err = db.Begin(false); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		stats := db.Stats()
		d.used.Store(tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(db.Info().PageSize))
		return nil
	})
	return d.finish(tx, err)
}

// finish rolls a transaction back and tells whether the database outlived what happened in it. A
// panic before there is a transaction, or in the rollback, leaves bbolt's locks in doubt.
func (d *disk) finish(tx *bbolt.Tx, err error) error {
	panicked := errors.Is(err, errPanicked)
	if panicked {
		d.panics.Add(1)
	}
	if tx == nil {
		if panicked {
			d.wedged.Store(true)
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
		d.wedged.Store(true)
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

// pins are entries whose chunks are read without a transaction. Deleting one leaves its chunks
// until the last reader is through.
type pins struct {
	mu    sync.Mutex
	count map[uint64]int
	going map[uint64]struct{} // a transaction that deletes their chunks is under way
	left  bool                // one of held is not pinned any more: its chunks can be swept
	held  map[uint64]struct{} // deleted while pinned
}

// pin keeps the chunks of id until unpin; false when they are being deleted already. The caller
// checks in a transaction begun after pin that the chunks are still there: a deletion that committed
// before was not told of the pin.
func (p *pins) pin(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, going := p.going[id]; going {
		return false
	}
	p.count[id]++
	return true
}

func (p *pins) unpin(id uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[id]--; p.count[id] > 0 {
		return
	}
	delete(p.count, id)
	if _, deleted := p.held[id]; deleted {
		delete(p.held, id)
		p.left = true
	}
}

// delete asks to delete the chunks of id within a transaction that ends with settle; false means
// that a reader is at them.
func (p *pins) delete(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[id] > 0 {
		if p.held == nil {
			p.held = make(map[uint64]struct{})
		}
		p.held[id] = struct{}{}
		return false
	}
	p.going[id] = struct{}{}
	return true
}

// settle ends the transaction that delete was asked for.
func (p *pins) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.going)
}

// takeLeft tells, once, that chunks of deleted entries are read by nobody any more.
func (p *pins) takeLeft() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.left
	p.left = false
	return left
}

func (p *pins) pinned(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[id] > 0
}

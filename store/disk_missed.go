package store

import (
	"errors"
	"io/fs"
	"os"
	"time"
)

// A file that has missed a purge must not be used again. It is removed, or else renamed, or else
// marked: the next process would find what was purged in it.

// drop removes the file, which must not be open. Where it cannot be removed, as on Windows while a
// map of it is left, its name is taken from it. Where that cannot be done either, as with a file
// that is immutable, a mark says that it has missed purges. Behind a call that has not come back it
// is not waited for: it takes effect when the disk answers again, before the file can be opened
// again.
func (d *disk) drop(now time.Time) error {
	return d.apart(d.shortWait(), func() error {
		if err := d.takeAway(now); err != nil {
			return errors.Join(err, d.mark())
		}
		d.removeBodies()
		d.syncFolder()
		return nil
	}, nil)
}

// shortWait is how long a call is waited for that need not have an outcome now: not at all behind
// one that has not come back.
func (d *disk) shortWait() time.Duration {
	if d.stuck.Load() > 0 {
		return 0
	}
	return d.wait()
}

// removeOrRename is how drop takes the file away.
func (d *disk) removeOrRename(now time.Time) error {
	err := os.Remove(d.path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err = d.rename("purged", now)
	return err
}

// removeBodies removes the file of large bodies, once the database that leads to them is gone. If
// it cannot be removed it is emptied with the next database that is begun.
func (d *disk) removeBodies() { _ = os.Remove(d.bodies) }

// markSuffix ends the name of the mark of a file.
const markSuffix = ".missed-purges"

// mark puts an empty file beside the file, which says that the file has missed purges. The store
// that opens it next begins it anew, unless it has made the mark itself: then it still has those
// purges in force, and writes them down when it opens the file.
func (d *disk) mark() error {
	f, err := os.OpenFile(d.path+markSuffix, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		// As is, or there is no folder.
		return nil
	}
	if err != nil {
		return err
	}
	d.marked.Store(true)
	d.syncFolder()
	return f.Close()
}

// hasForeignMark tells whether another store than this one has put a mark beside the file.
func (d *disk) hasForeignMark() (bool, error) {
	_, err := os.Lstat(d.path + markSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && !d.marked.Load(), err
}

// unmark takes the mark away, once the file has all purges. Where it cannot be taken away the next
// that opens the file begins it anew, which loses entries and brings back none.
func (d *disk) unmark() error {
	err := os.Remove(d.path + markSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	d.marked.Store(false)
	d.syncFolder()
	return err
}

package store

import (
	"errors"
	"log/slog"
)

// A file is given up after an error, and tried again later: memory goes on alone. Some are not: one
// that is damaged is set aside, and one that lacks a purge or deletions is removed.

// failed gives the file up after an error: memory goes on alone, and the file is tried again later.
// Where the disk is full the file is only written to no more.
func (dw *diskWriter) failed(err error) {
	if !isFull(err) || !dw.disk.up.Load() {
		dw.giveUp(err)
		return
	}
	dw.counts.errors[DiskTier].Add(1)
	dw.pause(err)
}

// giveUp is failed for what the file cannot be read after.
func (dw *diskWriter) giveUp(err error) {
	if errors.Is(err, errDetached) {
		return
	}
	dw.counts.errors[DiskTier].Add(1)
	removed := errors.Is(err, errRemoved)
	if toldAlready := dw.trouble.full && (isFull(err) || errors.Is(err, errForgets)); !removed && !toldAlready {
		dw.tell(slog.LevelError, "disk tier failed; running from memory", slog.Duration("retry", retryTime), slog.Any("error", err))
	}
	// First: who sees that the file is given up may count on the retry.
	dw.retryAt = dw.now().Add(retryTime)
	forgot := dw.forgot.Load()
	dw.detach()
	switch {
	case removed:
		dw.removed = true
		if dw.beginAnew() {
			dw.tell(slog.LevelError, "disk tier: a new file is begun, with nothing in it", slog.Any("error", err))
		}
	case forgot:
		dw.dropFile(true)
	case errors.Is(err, errDamaged):
		if dw.damageCount++; dw.damageCount >= 3 || dw.disk.panics.Load() >= maxPanics {
			dw.replaceFile()
		}
	}
}

// detach stops using the file. What is queued is late.
func (dw *diskWriter) detach() {
	dw.endCompaction(errDetached)
	dw.moving = nil
	dw.lastEntries = uint64(dw.disk.entries.Load())
	dw.bodyWriters.setAccepting(false) // first: there may be a wait for who reads the file
	// Before the queue is emptied: without that a look-up would find what waits to be deleted. It
	// is closed when the disk answers.
	if err := dw.disk.detach(); err != nil && !errors.Is(err, errStalled) {
		dw.tell(slog.LevelWarn, "closing the failed disk tier", slog.Any("error", err))
	}
	dw.detachQueue()
	dw.discard = dw.forgot.Swap(false) || dw.discard
	dw.accesses.reset()
}

// detachQueue empties the queue and shuts it, and ends the body writers.
func (dw *diskWriter) detachQueue() {
	dw.bodyWriters.setAccepting(false)
	for _, j := range dw.queue.setOpen(false) {
		if j.kind == jobPut {
			j.refused = true
			dw.s.endPut(j)
		}
	}
}

// replaceFile sets the detached file aside for good, so that it can be looked into, and begins
// another one.
func (dw *diskWriter) replaceFile() {
	name, err := dw.disk.setAside("corrupt", dw.now())
	if err != nil {
		dw.tell(slog.LevelError, "disk tier: the file cannot be set aside", slog.Any("error", err))
		return
	}
	dw.tell(slog.LevelError, "disk tier: the file is set aside", slog.String("name", name))
	dw.beginAnew()
}

// giveUpFile sees to it that a file which has missed a purge is not used without it.
func (dw *diskWriter) giveUpFile() {
	switch {
	case dw.dropping && dw.disk.stuck.Load() > 0: // it is under way
	case dw.attached:
		dw.dropFile(false)
	case !dw.disk.locked.Load(): // else it is in use, by a process that purges for itself
		dw.markFile()
	}
}

// markFile marks a file that this process could not open yet: it may be able to later, and writes
// the purge down then.
func (dw *diskWriter) markFile() {
	err := dw.disk.apart(dw.disk.shortWait(), dw.disk.mark, nil)
	if dw.dropping = errors.Is(err, errStalled); err != nil && !dw.dropping {
		dw.tell(slog.LevelError, "disk tier: a purge could be neither written nor noted beside the file", slog.Any("error", err))
	}
}

// dropFile removes the detached file, which lacks a purge or, where forgot says so, deletions, and
// begins another one. What is in it must not be served, and a full disk has the room back.
func (dw *diskWriter) dropFile(forgot bool) {
	err := dw.disk.drop(dw.now())
	stalled := errors.Is(err, errStalled)
	switch {
	case err != nil && !stalled:
		dw.tell(slog.LevelError, "disk tier: the file cannot be removed", slog.Any("error", err))
		return
	case forgot && stalled:
		dw.tell(slog.LevelWarn, "disk tier: more is to be deleted than is remembered, so the file is removed when the disk answers")
	case forgot:
		dw.tell(slog.LevelWarn, "disk tier: more is to be deleted than is remembered, so the file is removed")
	case stalled:
		dw.tell(slog.LevelWarn, "disk tier: a purge could not be written, so the file is removed when the disk answers")
	default:
		dw.tell(slog.LevelWarn, "disk tier: a purge could not be written, so the file is removed")
	}
	if stalled {
		dw.dropping = true
	} else {
		dw.beginAnew()
	}
}

// beginAnew begins another file in the place of one that is gone. Its folder may be gone as well,
// or be something else now, which is told.
func (dw *diskWriter) beginAnew() (begun bool) {
	dw.damageCount = 0
	dw.memory.forgetDisk(true)
	err := dw.reopen()
	if err != nil {
		dw.tell(slog.LevelError, "disk tier: a new file cannot be begun; running from memory",
			slog.Duration("retry", retryTime), slog.Any("error", err))
	}
	return err == nil
}

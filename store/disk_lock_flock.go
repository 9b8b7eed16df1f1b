//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"os"
	"syscall"
)

// tryLock takes bbolt's lock on a file where it is free. bbolt takes it once more, which changes
// nothing: it belongs to the open file.
func tryLock(file *os.File) bool {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// unlock gives up bbolt's lock on a file that stays mapped: a map keeps the open file, and with it
// the lock, alive after the handle is closed.
func unlock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
}

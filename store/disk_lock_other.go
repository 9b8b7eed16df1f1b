//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package store

import "os"

// tryLock does not lock here: bbolt could not take the lock of a range again.
func tryLock(*os.File) bool { return false }

// unlock does nothing here: these systems' locks end with the handle.
func unlock(*os.File) error { return nil }

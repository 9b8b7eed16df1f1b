//go:build !windows

package store

import "syscall"

// fullErrors are those of a disk that is full, or of which this user may have no more.
var fullErrors = [...]error{syscall.ENOSPC, syscall.EDQUOT}

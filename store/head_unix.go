//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// mapHead maps the first n bytes of a file, to be read; nil where that fails, and the file is read then.
func mapHead(file *os.File, n int) []byte {
	data, err := unix.Mmap(int(file.Fd()), 0, n, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	return data
}

func unmapHead(data []byte) {
	if data != nil {
		_ = unix.Munmap(data)
	}
}

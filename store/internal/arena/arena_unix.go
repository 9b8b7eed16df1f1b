//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package arena

import (
	"fmt"
	"math/bits"
	"runtime"

	"golang.org/x/sys/unix"
)

// regionBits makes regions of 64 MiB, or of 8 MiB where addresses are few.
const regionBits = 23 + 3*(bits.UintSize/64)

// noHugePage is Linux's MADV_NOHUGEPAGE. With huge pages the memory of a free run next to one in
// use would stay.
const noHugePage = 0xf

// mapRegion returns zeroed memory that is not resident before it is written to.
func mapRegion(n int) ([]byte, error) {
	data, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	if runtime.GOOS == "linux" {
		_ = unix.Madvise(data, noHugePage) // not all kernels know it, and those have none
	}
	return data, nil
}

// unmapRegion gives a region back. None of it is in use.
func unmapRegion(data []byte) { _ = unix.Munmap(data) }

// releasePages lets the system have a part of a region; the addresses stay valid. Linux takes it at
// once, the others when they need it.
func releasePages(region []byte, from, to int) {
	advice := unix.MADV_FREE
	if runtime.GOOS == "linux" {
		advice = unix.MADV_DONTNEED
	}
	if from, to = wholePages(from, to, unix.Getpagesize()); from < to {
		_ = unix.Madvise(region[from:to], advice)
	}
}

// wholePages are the system's pages that lie wholly in a part of a region. Where these are larger
// than ours, as on some arm64, the system would take what is in use beside the part: it rounds the
// length up.
func wholePages(from, to, system int) (int, int) {
	return (from + system - 1) / system * system, to / system * system
}

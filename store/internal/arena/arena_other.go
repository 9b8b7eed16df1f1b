//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package arena

// regionBits makes regions of 4 MiB: the garbage collector counts them as live.
const regionBits = 22

// mapRegion returns memory of the Go heap. It has no pointers, so it is never scanned.
func mapRegion(n int) ([]byte, error) { return make([]byte, n), nil }

func unmapRegion([]byte) {}

// releasePages does nothing: what is free is kept for what comes.
func releasePages([]byte, int, int) {}

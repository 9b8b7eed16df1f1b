//go:build !race

package worktest

// Raced says that the race detector is at work.
const Raced = false

//go:build race

package worktest

// Raced says that the race detector is at work. It makes all ten times slower, and readers, each of
// one goroutine, have nothing for it.
const Raced = true

//go:build race

package traces

// racing: the race detector watches.
const racing = true

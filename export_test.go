package larder

import (
	"testing"
	"time"
)

// AwaitPantries waits until there are none. One outlives its configuration until its last request and fetch have ended, so that another test
// could find what the last one stored.
func AwaitPantries(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); pantriesInUse() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Errorf("%d pantries outlive their configurations", pantriesInUse())
			return
		}
	}
}

func pantriesInUse() (n int) {
	pantries.Range(func(_, _ any) bool { n++; return true })
	return n
}

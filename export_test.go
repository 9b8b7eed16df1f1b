package larder

import (
	"testing"
	"time"
	"weak"
)

// WatchConfiguration returns a function that tells whether nothing of the configuration that runs
// now is in memory any more: neither the app nor a handler.
func WatchConfiguration() (gone func() bool) {
	newest := running.newest()
	app := weak.Make(newest)
	var handlers []weak.Pointer[Handler]
	for _, h := range newest.handlers {
		handlers = append(handlers, weak.Make(h))
	}
	return func() bool {
		for _, h := range handlers {
			if h.Value() != nil {
				return false
			}
		}
		return app.Value() == nil
	}
}

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

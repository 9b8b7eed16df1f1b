package httpcache

import (
	"testing"
	"testing/synctest"
	"time"
)

type taskFunc func()

func (f taskFunc) run() { f() }

func (ws *workers) waiting() int {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return len(ws.idle)
}

// TestWorkers: fetches begin at once, however many run; their goroutines wait a moment for the next
// ones, and then end. That they do is asked of synctest, which fails where one is left.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(workers)
		began := make(chan struct{}, 10)
		finish := make(chan struct{})
		work := taskFunc(func() { began <- struct{}{}; <-finish })
		for range 3 {
			for range 10 {
				c.run(work)
			}
			for range 10 {
				<-began // none waits for another to end
			}
			for range 10 {
				finish <- struct{}{}
			}
			synctest.Wait()
			if n := c.waiting(); n != 10 {
				t.Errorf("%d goroutines wait, want the same 10", n)
			}
		}
		time.Sleep(2 * workerIdle)
		synctest.Wait()
		if n := c.waiting(); n != 0 {
			t.Errorf("%d goroutines still wait", n)
		}
	})
}

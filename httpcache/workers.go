package httpcache

import (
	"slices"
	"sync"
	"time"
)

// workers is the goroutines that fetches run on. A fetch goes deep: through the inner handlers into a proxy's transport. A new goroutine begins with
// a small stack that has to be copied several times on the way, which cost a tenth of a miss without any proxy; a server's own goroutine, where
// the handlers would run without Larder, has grown once for all requests of its connection. So a goroutine whose fetch is over waits a moment for another.
//
// Each waits at a channel of its own, and one timer sends home those that wait too long: to wait at a common channel and at a timer as well took a
// goroutine longer than all else that it does between two fetches.
type workers struct {
	mu     sync.Mutex
	idle   []*worker // by how long they have waited: the last to come is the first to go
	rounds int       // how often the timer has gone off
	timer  *time.Timer
	set    bool
}

// worker is a goroutine that waits for a fetch.
type worker struct {
	next  chan task // nil sends it home
	since int       // crew.rounds when it began to wait
}

// task is a *Fetch.
type task interface{ run() }

// workerIdle is how long a goroutine waits for another fetch, and at most twice as long.
const workerIdle = 100 * time.Millisecond

// run runs the fetch on a goroutine of its own, at once: where none waits there is a new one.
func (c *workers) run(x task) {
	h := c.take()
	if h == nil {
		h = &worker{next: make(chan task, 1)}
		go c.work(h)
	}
	h.next <- x
}

// take takes the hand that came last from those who wait: its stack is the warmest.
func (c *workers) take() *worker {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	if last < 0 {
		return nil
	}
	h := c.idle[last]
	c.idle[last], c.idle = nil, c.idle[:last]
	return h
}

func (c *workers) work(h *worker) {
	for h.work() {
		c.park(h)
	}
}

// work runs one fetch; false if it is told to go home. It is a function of its own so that nothing of a fetch is kept while there is none.
func (h *worker) work() bool {
	x := <-h.next
	if x == nil {
		return false
	}
	x.run()
	return true
}

// park puts a hand among those who wait.
func (c *workers) park(h *worker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.since = c.rounds
	c.idle = append(c.idle, h)
	switch {
	case c.set:
		return
	case c.timer == nil:
		c.timer = time.AfterFunc(workerIdle, c.reap)
	default:
		c.timer.Reset(workerIdle)
	}
	c.set = true
}

// reap sends home those that have waited since before the last round.
func (c *workers) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := 0
	for _, h := range c.idle {
		if h.since == c.rounds {
			break
		}
		h.next <- nil
		gone++
	}
	c.idle = slices.Delete(c.idle, 0, gone)
	c.rounds++
	if c.set = len(c.idle) > 0; c.set {
		c.timer.Reset(workerIdle)
	}
}

package httpcache

import (
	"slices"
	"sync"
	"time"
)

// workers are the goroutines that fetches run on. A fetch calls deep into handlers and a proxy's
// transport. A new goroutine begins with a small stack, which has to be copied several times on the
// way; that cost a tenth of a miss without any proxy. A server's own goroutine, where handlers run
// without a cache, grows once for all requests of its connection. So a goroutine whose fetch is
// over waits a moment for another.
//
// Each worker waits at a channel of its own, and one timer stops those that wait too long. Waiting
// at a common channel and at a timer took a goroutine longer than everything else that it does
// between two fetches.
type workers struct {
	mu     sync.Mutex
	idle   []*worker // the longest wait first; the last to come is the first to get a fetch
	rounds int       // how often the timer has gone off
	timer  *time.Timer
	set    bool
}

// worker is a goroutine that waits for a fetch.
type worker struct {
	next  chan task // nil ends the goroutine
	since int       // workers.rounds when it began to wait
}

// task is a *Fetch.
type task interface{ run() }

// workerIdle is how long a goroutine waits for another fetch at least. It waits twice as long at
// most.
const workerIdle = 100 * time.Millisecond

// run runs the fetch on another goroutine, at once. If no worker is idle it starts one.
func (ws *workers) run(t task) {
	w := ws.popIdle()
	if w == nil {
		w = &worker{next: make(chan task, 1)}
		go ws.work(w)
	}
	w.next <- t
}

// popIdle removes the worker from the idle ones that came last: its stack is the warmest. It
// returns nil if none is idle.
func (ws *workers) popIdle() *worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	last := len(ws.idle) - 1
	if last < 0 {
		return nil
	}
	w := ws.idle[last]
	ws.idle[last], ws.idle = nil, ws.idle[:last]
	return w
}

func (ws *workers) work(w *worker) {
	for w.work() {
		ws.park(w)
	}
}

// work runs one fetch. It reports false if the worker is to end. It is a function of its own so
// that an idle worker keeps nothing of a fetch alive.
func (w *worker) work() bool {
	t := <-w.next
	if t == nil {
		return false
	}
	t.run()
	return true
}

// park adds a worker to the idle ones.
func (ws *workers) park(w *worker) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.since = ws.rounds
	ws.idle = append(ws.idle, w)
	switch {
	case ws.set:
		return
	case ws.timer == nil:
		ws.timer = time.AfterFunc(workerIdle, ws.reap)
	default:
		ws.timer.Reset(workerIdle)
	}
	ws.set = true
}

// reap ends the workers that have been idle since before the last round.
func (ws *workers) reap() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	gone := 0
	for _, w := range ws.idle {
		if w.since == ws.rounds {
			break
		}
		w.next <- nil
		gone++
	}
	ws.idle = slices.Delete(ws.idle, 0, gone)
	ws.rounds++
	if ws.set = len(ws.idle) > 0; ws.set {
		ws.timer.Reset(workerIdle)
	}
}

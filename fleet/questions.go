package fleet

import (
	"context"
	"sync"
	"time"
)

// questions are those for the list of nodes. However many purges wait, one is under way, and one
// is to come, which all wait for that have come since: a reply to what was asked before a purge was
// in the log may lack a node that has been registered since.
type questions struct {
	mu        sync.Mutex
	now, next *question
}

type question struct {
	done        chan struct{} // closed when what follows is known
	nodes       []Node
	state       State
	asked, came time.Duration
	err         error
}

// ask returns a question that is asked from now on.
func (qs *questions) ask(f *Fleet) *question {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	switch q := (&question{done: make(chan struct{})}); {
	case qs.now == nil:
		qs.now = q
		go qs.run(f, q)
		return q
	case qs.next == nil:
		qs.next = q
	}
	return qs.next
}

// run asks until there is no question to come.
func (qs *questions) run(f *Fleet, q *question) {
	for q != nil {
		ctx, cancel := context.WithTimeout(f.ctx, f.callTimeout())
		q.asked = f.clock()
		q.nodes, q.state, q.err = f.engine.Nodes(ctx)
		q.came = f.clock()
		cancel()
		close(q.done)
		qs.mu.Lock()
		qs.now, qs.next = qs.next, nil
		q = qs.now
		qs.mu.Unlock()
	}
}

package fleet

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// watch is what a node has seen of the others and of the server.
type watch struct {
	mu     sync.Mutex
	seen   sightings
	nodes  int           // listed last
	fence  time.Duration // the longest of those that say so
	asked  time.Duration // for the list, by watchNodes
	err    error         // of the last beat
	behind time.Duration // the server's clock is ahead of the wall clock by so much at least
	before time.Duration // and at most
}

// listed takes a list of nodes for a purge.
func (w *watch) listed(p *waiting, nodes []Node, s State, asked, came time.Duration) progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.saw(nodes, came)
	return p.listed(nodes, s, asked, w.seen)
}

func (w *watch) saw(nodes []Node, came time.Duration) {
	w.nodes, w.fence = len(nodes), longestFence(nodes, 0)
	w.seen.saw(nodes, came)
}

// longest is the longest fence of the nodes listed last, and own at least.
func (w *watch) longest(own time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(own, w.fence)
}

func (w *watch) fail(err error) (was error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was, w.err = w.err, err
	return was
}

func (w *watch) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// ahead compares the server's clock with the wall clock around a call.
func (w *watch) ahead(asked, server, came time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behind, w.before = server.Sub(came), server.Sub(asked)
}

// Ahead returns by how much the server's clock is ahead of this machine's wall clock: at least and
// at most.
func (f *Fleet) Ahead() (least, most time.Duration) {
	f.watch.mu.Lock()
	defer f.watch.mu.Unlock()
	return f.watch.behind, f.watch.before
}

// watchNodes looks at the list of nodes twice a fence, so that a purge need not wait for one that
// has been silent for long.
func (f *Fleet) watchNodes() {
	f.watch.mu.Lock()
	due := f.watch.asked == 0 || f.clock()-f.watch.asked >= f.options.Fence/2
	f.watch.mu.Unlock()
	if !due {
		return
	}
	if _, err := f.Nodes(f.ctx); err == nil {
		f.watch.mu.Lock()
		f.watch.asked = f.clock()
		f.watch.mu.Unlock()
	}
}

// Nodes returns the nodes of the fleet, by name. The error is that of the Engine, or that ctx or
// the time of a call has ended.
func (f *Fleet) Nodes(ctx context.Context) ([]Node, error) {
	ctx, cancel := context.WithTimeout(ctx, f.callTimeout())
	defer cancel()
	nodes, _, err := f.engine.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	f.watch.mu.Lock()
	f.watch.saw(nodes, f.clock())
	f.watch.mu.Unlock()
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return nodes, nil
}

package batch

import (
	"sync"
	"time"
)

// Windows puts together what comes within a time. Its zero value is ready. Requests that may not
// be put together have different keys.
type Windows[K comparable, M any] struct {
	mu   sync.Mutex
	open map[K]*Group[K, M]
}

// Group is what has come together.
type Group[K comparable, M any] struct {
	windows *Windows[K, M]
	key     K
	rule    *Rule
	full    chan struct{} // closed when no more can join

	// The lock of the windows guards these until the group is closed.
	closed  bool
	members []M
	ids     map[string]struct{}
	length  int // of the URL
}

// Join adds a member for an id to the open group of a key. leads says that it is the first: it has
// to call Gather, at once, which ends the wait of the others.
func (w *Windows[K, M]) Join(key K, rule *Rule, id string, m M) (g *Group[K, M], leads bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g = w.open[key]
	if g == nil || !g.hasRoom(id) {
		w.close(g)
		g = &Group[K, M]{
			windows: w, key: key, rule: rule, full: make(chan struct{}),
			ids: make(map[string]struct{}), length: len(rule.target),
		}
		if w.open == nil {
			w.open = make(map[K]*Group[K, M])
		}
		w.open[key], leads = g, true
	}
	g.add(id, m)
	if len(g.ids) == rule.Max {
		w.close(g)
	}
	return g, leads
}

// close lets no more join a group, which may be nil or closed.
func (w *Windows[K, M]) close(g *Group[K, M]) {
	if g == nil || g.closed {
		return
	}
	g.closed = true
	delete(w.open, g.key)
	close(g.full)
}

// hasRoom reports whether the group's request can have an id. The first two always fit: one alone
// would ask on its own.
func (g *Group[K, M]) hasRoom(id string) bool {
	if _, known := g.ids[id]; known || len(g.ids) < minIDs {
		return true
	}
	return g.length+g.rule.size(id) <= MaxTarget
}

func (g *Group[K, M]) add(id string, m M) {
	g.members = append(g.members, m)
	if _, known := g.ids[id]; !known {
		g.ids[id] = struct{}{}
		g.length += g.rule.size(id)
	}
}

// Gather waits until the rule's window is over, or the group is full, and returns its members in
// the order in which they came. No more can join then.
func (g *Group[K, M]) Gather() []M {
	timer := time.NewTimer(g.rule.Window)
	defer timer.Stop()
	select {
	case <-g.full:
	case <-timer.C:
	}
	g.windows.mu.Lock()
	defer g.windows.mu.Unlock()
	g.windows.close(g)
	return g.members
}

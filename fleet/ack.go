package fleet

import (
	"maps"
	"time"
)

// margin is how much longer a node waits for others than they hold a pass: clocks may differ in
// their rate by so much. It is 5 %.
func margin(d time.Duration) time.Duration { return d + d/20 }

// noTime is longer than any fence, and short enough to be added to.
const noTime = 1 << 60

// fenceOf is for how long a node has a pass by a beat. One that does not say so has own.
func fenceOf(n Node, own time.Duration) time.Duration {
	if n.Fence <= 0 {
		return own
	}
	return min(n.Fence, noTime)
}

// longestFence is the longest of some nodes, and own at least.
func longestFence(nodes []Node, own time.Duration) time.Duration {
	longest := own
	for _, n := range nodes {
		longest = max(longest, fenceOf(n, own))
	}
	return longest
}

// sightings are when each node of the list was first seen as it is listed now: it has not beaten
// since.
type sightings map[string]sighting

type sighting struct {
	node  Node
	since time.Duration
}

// saw takes a list of nodes that came then.
func (s sightings) saw(nodes []Node, came time.Duration) {
	for _, n := range nodes {
		if was, seen := s[n.ID]; !seen || was.node.Beats != n.Beats || !was.node.Seen.Equal(n.Seen) {
			s[n.ID] = sighting{n, came}
		}
	}
	if len(s) > len(nodes) {
		keepListed(s, nodes)
	}
}

// keepListed removes all ids that are not those of nodes.
func keepListed[V any](ids map[string]V, nodes []Node) {
	listed := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		listed[n.ID] = true
	}
	maps.DeleteFunc(ids, func(id string, _ V) bool { return !listed[id] })
}

// silentFor is for how long a node has not beaten, at least, by a reply to what was asked then.
func (s sightings) silentFor(n Node, asked time.Duration) time.Duration {
	was, seen := s[n.ID]
	if !seen || was.node.Beats != n.Beats || !was.node.Seen.Equal(n.Seen) {
		return 0
	}
	return asked - was.since
}

// waiting is a purge that is in the log, and waits for the nodes that have to apply it. Like node
// it has no clock, and does nothing.
type waiting struct {
	fence time.Duration // of this node
	epoch string
	mark  Generation
	term  string // of both
	gen   Generation
	since time.Duration   // it was in the log by then
	nodes map[string]bool // that have not applied it yet
	held  int             // so many have
}

// progress is how far a purge has come.
type progress struct {
	outcome   progressOutcome
	held      int    // nodes that have applied it
	fenced    []Node // that have not, and have no pass
	uncertain []Node // that have neither, and answer all the same
	evict     []Node // that are gone
}

type progressOutcome uint8

const (
	stillWaiting progressOutcome = iota
	everywhere                   // it holds on every node
	appendAgain                  // it may be lost with the end of a log
)

// appended begins to wait for a purge of node self, whose Append was replied to then.
func appended(fence time.Duration, self string, a Appended, came time.Duration) *waiting {
	w := &waiting{
		fence: fence, epoch: a.State.Epoch, mark: a.State.Mark, term: a.State.term(),
		gen: a.Generation, since: came, nodes: make(map[string]bool),
	}
	for _, n := range a.Nodes {
		if n.ID != self {
			w.nodes[n.ID] = true
		}
	}
	return w
}

// listed takes the nodes as they were listed at a moment after asked. seen has taken them too.
func (w *waiting) listed(nodes []Node, s State, asked time.Duration, seen sightings) (p progress) {
	if s.Epoch != w.epoch || s.Mark != w.mark {
		return progress{outcome: appendAgain}
	}
	for _, n := range nodes {
		if !w.nodes[n.ID] {
			continue
		}
		// What has been trimmed past it the server could not compare, so that proves nothing.
		if n.Epoch == w.term && n.Applied >= max(w.gen, s.First) {
			delete(w.nodes, n.ID)
			w.held++
			continue
		}
		w.wait(n, asked, seen, &p)
	}
	keepListed(w.nodes, nodes) // others have left, or somebody has waited for them already
	p.held = w.held
	if len(p.fenced)+len(p.uncertain) == len(w.nodes) && s.Term >= margin(longestFence(nodes, w.fence)) {
		p.outcome = everywhere
	}
	return p
}

// wait tells whether a node that has not applied the purge has to be waited for any longer. Its
// passes are of beats before the purge, and of beats before it was last seen to have beaten.
func (w *waiting) wait(n Node, asked time.Duration, seen sightings, p *progress) {
	fence := fenceOf(n, w.fence)
	over := margin(fence + min(max(n.Serves, 0), noTime))
	silent := seen.silentFor(n, asked)
	since := max(silent, asked-w.since)
	switch {
	case since < margin(fence):
		return
	case since < over:
		p.uncertain = append(p.uncertain, n)
	default:
		p.fenced = append(p.fenced, n)
	}
	// A purge that does not find it listed will not wait for it. It has a pass to come by each beat
	// that has not been silence.
	if silent >= over {
		p.evict = append(p.evict, n)
	}
}

// pollAfter is how long to wait before the list of nodes is asked for the n'th time.
func pollAfter(n int) time.Duration {
	if n < 3 {
		return time.Millisecond << n
	}
	return 10 * time.Millisecond
}

package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/store"
)

// Options say what a Fleet is made of. Engine and Caches must be there.
type Options struct {
	Engine Engine
	Caches Caches
	// Fence is how long a node answers from what it has without contact, and how long a purge waits
	// for one at most, with a margin of 5 %. Default 10 s.
	Fence time.Duration
	// Serve is how long a node answers from what it has after its pass is over, at the risk that
	// purges have been answered meanwhile. 0 is not at all. A process that has not had a pass yet
	// does not.
	Serve time.Duration
	// Replicas is how many replicas have a purge when it answers.
	Replicas int
	// Secret authenticates the records of the log, where it is not empty.
	Secret []byte
	// Name, Address and Version are what people know this node by.
	Name, Address, Version string
	// Logger is told of changes. Default slog.Default().
	Logger *slog.Logger
}

// Caches are what a node keeps by itself: all stores of the process. The Fleet calls one method at
// a time, but for those that Apply returns.
type Caches interface {
	// Apply puts a purge in force in every store before it returns, and does not wait for a disk.
	// wait returns when it is counted and durable, with how many stored responses it has hit. It
	// may be called by another goroutine, or never.
	Apply(p Purge) (wait func(ctx context.Context) (matched int, err error))
	// Suspect has all that is stored now, or will be by a fetch that is under way, be validated
	// before its next use, as purging all with the severity store.Invalid does. It is in force when
	// Suspect returns.
	Suspect()
	// Position returns what the caches keep of SetPosition from before a start. Zero values mean
	// that they do not know: where several stores differ, or one has none.
	Position() (epoch string, applied Generation)
	// SetPosition notes what has been applied. It has to reach the file with or after the purges
	// that were applied before, never ahead of them. It may come late. It must not wait. epoch is a
	// short text.
	SetPosition(epoch string, applied Generation)
}

// Purge is what a purge does.
type Purge struct {
	Selectors store.Selectors
	Severity  store.Severity
}

// Purged is what a purge has done.
type Purged struct {
	// Matched is how many stored responses it has hit on this node.
	Matched int
	// Nodes is how many nodes hold it, this one counted.
	Nodes int
	// Fenced are the names of nodes that were waited out: they answer nothing from what they have
	// until they have applied it.
	Fenced []string
	// Uncertain are the names of those that may answer from older content all the same, by their
	// Options.Serve.
	Uncertain []string
}

// Stamp says when something began, by the log: what comes after it in the log is newer. Generations
// of different epochs have nothing to do with each other.
type Stamp struct {
	Epoch      string
	Generation Generation
}

// Fleet is this process as a node of a fleet. All methods are safe for concurrent use.
type Fleet struct {
	options Options
	id      string
	view    atomic.Pointer[view]
	pass    atomic.Int64 // the pass is over then, by now
}

// New returns a node that has not joined yet: it has no pass, and nothing is judged ours.
func New(o Options) *Fleet {
	if o.Fence <= 0 {
		o.Fence = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	f := &Fleet{options: o, id: rand.Text()}
	f.view.Store(&view{masks: new(store.Masks)})
	return f
}

// ID is the random name of this process in the list of nodes.
func (f *Fleet) ID() string { return f.id }

// Start has the node join and stay, until Close. It returns at once, whether the server can be
// reached or not.
func (f *Fleet) Start() {}

// Close leaves the fleet, so that no purge waits for this node any more. Serving must have stopped.
// The Engine stays open.
func (f *Fleet) Close(ctx context.Context) error { return errNotYet }

// Purge purges every node: when it returns without error none answers a request that begins later
// with anything whose fetch began before the call. It takes as long as 1.05 × Options.Fence where a
// node has gone without leaving, and in the first such time of a term. ctx should allow for it.
//
// An error means that it holds on this node, and may not on others. To purge again does no harm.
func (f *Fleet) Purge(ctx context.Context, p Purge) (Purged, error) { return Purged{}, errNotYet }

// Invalidate purges every node as far as that is easy: batched, without an answer. It is for unsafe
// requests (RFC 9111 4.4). The caller has purged this node itself.
func (f *Fleet) Invalidate(p Purge) {}

// Ahead returns by how much the server's clock is ahead of this machine's wall clock: at least and
// at most.
func (f *Fleet) Ahead() (least, most time.Duration) { return 0, 0 }

// Nodes returns the nodes of the fleet, by name.
func (f *Fleet) Nodes(ctx context.Context) ([]Node, error) { return nil, errNotYet }

// Stats returns the statistics of now.
func (f *Fleet) Stats() Stats { return Stats{} }

var errNotYet = errors.New("fleet: not built yet")

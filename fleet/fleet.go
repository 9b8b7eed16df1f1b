package fleet

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/store"
)

// Options say what a Fleet is made of. Engine and Caches must be there.
type Options struct {
	Engine Engine // has the log of purges, and the list of nodes
	Caches Caches // of this process, in which purges take effect
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
// a time, but for those that Apply returns. They must not call the Fleet.
type Caches interface {
	// Complete returns selectors of a purge and what they stand for in these caches besides. Each
	// node makes it of what the log has, by what store.LabelsNow tells of before.
	Complete(s store.Selectors) store.Selectors
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
	Selectors store.Selectors // what is purged
	Severity  store.Severity  // what becomes of it: Soft, Invalid or Hard
	// Labels is when the labels were read by which the selectors are complete on this node, 0 if
	// they were not: see store.PurgeOptions. It is in no record, as each node has its own.
	Labels store.LabelsTime
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
	Epoch      string     // of the log
	Generation Generation // the last one then
}

// Fleet is this process as a node of a fleet. All methods are safe for concurrent use.
type Fleet struct {
	options Options
	engine  Engine
	caches  Caches
	log     *slog.Logger
	id      string
	clock   func() time.Duration
	labels  func() store.LabelsTime // the present moment

	pass atomic.Int64 // the pass is over then, by clock, with what Options.Serve adds
	view atomic.Pointer[view]

	// acting is held from when the node is told something until that is done: one thing at a time.
	acting sync.Mutex
	node   node
	moved  chan struct{}        // closed when node has applied something, or is in another term
	own    map[uint64]*ownPurge // purges of this node that wait, by their tokens
	tokens atomic.Uint64        // given

	watch         watch
	questions     questions
	invalidations invalidations

	beatNow chan struct{}
	beats   uint64          // sent; beat's
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New returns a node that has not joined yet: it has no pass, and nothing is judged ours.
func New(o Options) *Fleet {
	if o.Fence <= 0 {
		o.Fence = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	f := &Fleet{
		options: o, engine: o.Engine, caches: o.Caches, log: o.Logger, id: rand.Text(), clock: now, labels: store.LabelsNow,
		node:  node{fence: o.Fence, maskBytes: maxMaskBytes},
		moved: make(chan struct{}), own: make(map[uint64]*ownPurge), beatNow: make(chan struct{}, 1),
		watch: watch{seen: make(sightings)}, invalidations: newInvalidations(),
	}
	f.view.Store(&view{masks: new(store.Masks)})
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// ID is the random name of this process in the list of nodes.
func (f *Fleet) ID() string { return f.id }

// Start has the node join and stay, until Close. It returns at once, whether the server can be
// reached or not. The Caches must know their position by now.
func (f *Fleet) Start() {
	epoch, applied := f.caches.Position()
	f.acting.Lock()
	f.node.position = placeOf(epoch, applied)
	f.acting.Unlock()
	f.running.Go(f.beat)
	f.running.Go(f.read)
	f.running.Go(f.invalidate)
}

// Close leaves the fleet, so that no purge waits for this node any more. Serving must have stopped:
// there is no pass from now on. The Engine stays open. An error says that the node may still be
// listed: purges then wait for its pass to end.
func (f *Fleet) Close(ctx context.Context) error {
	f.acting.Lock()
	f.node.left = true
	f.pass.Store(0)
	f.acting.Unlock()
	f.cancel()
	f.running.Wait()
	return f.engine.Leave(ctx, f.id)
}

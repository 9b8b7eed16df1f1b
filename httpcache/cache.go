package httpcache

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// Options are the parts that a [Cache] is made of.
type Options struct {
	// Store holds the responses. It may still have to be opened; until then requests bypass.
	Store *store.Store
	// Limits bound what is under way. Zero values mean the defaults.
	Limits coalesce.Limits
	// Pass reports whether stored responses may be used without asking the origin first. It is
	// called once for each request. nil: they may, always.
	Pass func() bool
	// Metrics counts. nil: nothing is counted.
	Metrics Metrics
	// Remote begins a fetch's use of what other machines have. It returns nil while that is not to
	// be used, and otherwise before the fetch asks anybody. nil: there are no other machines.
	Remote func() RemoteFetch
	// Purger carries out what unsafe requests invalidate (RFC 9111 4.4). nil: the Cache itself.
	Purger Purger
	// Logger is for messages about the Cache itself. nil: slog's default.
	Logger *slog.Logger
	// Idle, if set, is called when the last request and fetch under way has ended, on a goroutine
	// that must not wait.
	Idle func()
}

// Cache is a store, the flights that fill it, and a memory of the keys whose responses cannot be
// shared. Routes use it; it outlives them.
type Cache struct {
	store          *store.Store
	flights        *coalesce.Group[store.Key]
	hitForMiss     *recentKeys  // whose last answer could not be shared, see hitformiss.go
	shareable      *recentKeys  // of which an answer could be shared
	refreshBackoff *recentKeys  // whose background refresh has just failed
	lateFetches    *recentKeys  // whose fetch had no header in time, see late.go
	pausing        *badFields   // for which a body has paused and come whole, see brokenbody.go
	brokenBodies   *badFields   // for which a body broke off, see brokenbody.go
	lateRefreshes  *badFields   // for which a refresh was late, see joinRefresh
	lateBatches    *lateBatches // groups of which an answer for many is late, see batchrun.go
	noRoom         *recentKeys  // of which a slice could not be stored, see slicefetch.go
	unsliced       *recentKeys  // whose origin does not answer in slices, see firstpart.go
	refusedSlices  *recentKeys  // of which a slice may not be stored, see refuseSlice
	sharedSlices   *recentKeys  // of which a slice could be stored, see refuseSlice
	refreshes      places
	removals       *recentKeys // for which a 404 or 410 has come
	varianceHints  *varianceHints
	// unstoredReasons has why the last responses of keys were not stored.
	unstoredReasons *unstoredReasons
	restored        sync.Once // they are
	invalidatedBy   *invalidatedBy
	pastRules       pastRules
	repeats         repeatTable
	inFlight        inFlight
	outliving       places
	workers         workers

	pass      func() bool
	metrics   Metrics
	remote    func() RemoteFetch
	purger    Purger
	draw      func() float64 // see dueEarly
	logger    *slog.Logger
	idle      func()
	undurable atomic.Bool   // the last invalidation holds in memory only, and that is logged
	users     atomic.Int64  // requests and fetches under way
	comparing atomic.Int32  // bodies that are being compared, see compare.go
	decoders  chan struct{} // has as many as answers are being decoded, see answer.go
}

// New returns a Cache over a store.
func New(o Options) *Cache {
	c := &Cache{
		store:          o.Store,
		flights:        coalesce.NewGroup[store.Key](o.Store, o.Limits),
		hitForMiss:     newHitForMiss(),
		shareable:      newShareable(),
		refreshBackoff: newRefreshBackoff(),
		lateFetches:    newLateFetches(),
		pausing:        newBadFields(),
		brokenBodies:   newBadFields(),
		lateRefreshes:  newBadFields(),
		lateBatches:    newLateBatches(),
		noRoom:         newNoRoom(),
		unsliced:       newUnsliced(),
		refusedSlices:  newRefusedSlices(),
		sharedSlices:   newSharedSlices(),
		removals:       newRemovals(),
		varianceHints:  newVarianceHints(),
		decoders:       newDecoders(),

		unstoredReasons: newUnstoredReasons(),
		invalidatedBy:   newInvalidatedBy(),

		pass:    o.Pass,
		metrics: o.Metrics,
		remote:  o.Remote,
		purger:  o.Purger,
		draw:    drawing,
		logger:  o.Logger,
		idle:    o.Idle,
	}
	if c.metrics == nil {
		c.metrics = noMetrics{}
	}
	if c.purger == nil {
		c.purger = c
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	return c
}

// Store returns the store that the Cache was made with.
func (c *Cache) Store() *store.Store { return c.store }

// Fetches returns how many fetches are under way.
func (c *Cache) Fetches() int { return c.flights.Len() }

// CancelFetches ends every fetch under way with cause, as for a process that exits.
func (c *Cache) CancelFetches(cause error) { c.flights.CancelAll(cause) }

// Users returns how many requests and fetches are under way.
func (c *Cache) Users() int64 { return c.users.Load() }

// acquire counts a request or a fetch as under way, until release.
func (c *Cache) acquire() { c.users.Add(1) }

func (c *Cache) release() {
	if c.users.Add(-1) == 0 && c.idle != nil {
		c.idle()
	}
}

// beginFetch counts a fetch as under way, and what it takes of the memory, until endFetch.
func (c *Cache) beginFetch() {
	c.acquire()
	c.store.BeginFetch()
}

func (c *Cache) endFetch() {
	c.store.EndFetch()
	c.release()
}

// openWait is how long a request waits for a store that is being opened. After that the request
// bypasses the cache.
const openWait = time.Second

// open reports whether the store is open, and takes from it what the cache has to know before its
// first look-up. It waits for up to openWait.
func (c *Cache) open(ctx context.Context) bool {
	if !c.ready(ctx) {
		return false
	}
	c.restored.Do(func() { c.varianceHints.restore(c.store) })
	return true
}

// openNow reports whether the store is open, and waits for nothing.
func (c *Cache) openNow() bool {
	select {
	case <-c.store.Ready():
		return true
	default:
		return false
	}
}

func (c *Cache) ready(ctx context.Context) bool {
	ready := c.store.Ready()
	select {
	case <-ready:
		return true
	default:
	}
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	select {
	case <-ready:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

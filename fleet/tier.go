package fleet

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/larder-cache/larder/store"
)

// SharedTier keeps stored responses where all nodes of the fleet find them, and lets one node fetch
// for all. It is asked inside a flight, by its leader alone:
//
//	Begin ─► Get ─┬─ found ────────────────────────────────────────────────► End
//	              └─ nothing ─► Await ─┬─ another has stored ─► Get
//	                                   ├─ the wait was over ──► Get, and Await without a wait
//	                                   ├─ another has failed ──────────────► End
//	                                   └─ fetch ─► Asks ─► Storable … Put ─► End
//	                                                     ├► Unshared ──────► End
//	                                                     └► Failed ────────► End
//
// A failure of the server is never one of a request: nothing is found then, and nothing waited for.
type SharedTier struct {
	engine  Engine
	log     Position
	config  TierConfig
	sealer  sealer
	breaker breaker
	likely  likelyVariants
	uploads uploads
	leases  leases

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	closed bool
	under  sync.WaitGroup // what Close waits for
}

// Position is a node's place in the log, and what it knows by that: a *Fleet.
type Position interface {
	// Begin is [Fleet.Begin].
	Begin() (stamp Stamp, ok bool)
	// Judge is [Fleet.Judge].
	Judge(stamp Stamp, url string, tags []string) (severity store.Severity, ours bool)
	// Ahead is [Fleet.Ahead].
	Ahead() (least, most time.Duration)
}

// TierConfig is the configuration of a SharedTier. A zero value is a default.
type TierConfig struct {
	Node    string        // this node's id
	Timeout time.Duration // of one look-up. Default 100 ms
	MaxBody int64         // bytes of the longest body. Default 4 MiB
	TTL     time.Duration // longest stay. Default 24 h
	// StoreOff keeps nothing there: the server has leases alone.
	StoreOff bool
	Secret   string // authenticates what is read back
	Metrics  TierMetrics
	Logger   *slog.Logger
}

// TierMetrics counts what the shared tier is asked for. Many goroutines call it.
type TierMetrics interface {
	// SharedRequest is called for each Get, Put and removal.
	SharedRequest(op Op, outcome Outcome, took time.Duration)
	// Lease is called for each fetch that has asked for a lease.
	Lease(outcome LeaseOutcome)
}

type noTierMetrics struct{}

func (noTierMetrics) SharedRequest(Op, Outcome, time.Duration) {}
func (noTierMetrics) Lease(LeaseOutcome)                       {}

var (
	errBreakerOpen = errors.New("the server is not asked after many failures")
	errLate        = errors.New("the server has not answered in time")
	errClosed      = errors.New("the shared tier is closed")
)

// NewSharedTier returns a tier on an engine. It asks for nothing before Start.
func NewSharedTier(engine Engine, log Position, config TierConfig) *SharedTier {
	if config.Timeout <= 0 {
		config.Timeout = 100 * time.Millisecond
	}
	if config.MaxBody <= 0 {
		config.MaxBody = 4 << 20
	}
	config.MaxBody = min(config.MaxBody, maxBodyBytes)
	if config.TTL <= 0 {
		config.TTL = 24 * time.Hour
	}
	if config.Metrics == nil {
		config.Metrics = noTierMetrics{}
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	t := &SharedTier{engine: engine, log: log, config: config, sealer: sealer{[]byte(config.Secret)}}
	t.uploads.tier, t.leases.tier = t, t
	t.leases.waiters = make(map[string]map[*waiter]struct{})
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	return t
}

// Start begins to listen for messages of other nodes.
func (t *SharedTier) Start() { t.spawn(t.leases.listen) }

// Close ends what is under way. What has not been uploaded is given up, and leases are given back.
// Fetches may go on without the tier.
func (t *SharedTier) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel(errClosed)
	t.uploads.close()
	t.under.Wait()
}

// spawn calls f on a goroutine that Close waits for. After Close it does nothing.
func (t *SharedTier) spawn(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.under.Go(f)
	}
}

// TierStats are what a SharedTier tells of itself.
type TierStats struct {
	UploadBytes int64  // how many bytes wait to be uploaded
	Skipped     uint64 // how many responses were not uploaded, because the queue was full or the server failed
	Breaker     BreakerState
	Opened      uint64 // how often the breaker has opened
	// Compressed counts the bytes of bodies that were compressed to be uploaded, and
	// CompressedStored what they came to.
	Compressed, CompressedStored uint64
}

// Stats returns the statistics.
func (t *SharedTier) Stats() TierStats {
	s := t.uploads.stats()
	s.Breaker, s.Opened = t.breaker.current()
	return s
}

// Begin begins a fetch. It returns nil where this node has no pass, and after Close.
func (t *SharedTier) Begin() *Fetch {
	stamp, ok := t.log.Begin()
	if !ok || t.ctx.Err() != nil {
		return nil
	}
	return &Fetch{tier: t, stamp: stamp}
}

// Fetch is one fetch's use of the shared tier. It belongs to one goroutine.
type Fetch struct {
	tier    *SharedTier
	stamp   Stamp
	turn    turn
	held    *heldLease    // nil: it fetches without one
	lasts   time.Duration // how long others wait for it, if it fetches for all
	longest time.Duration // how long it might have waited for others
	handed  bool          // Put has been called, which ends the lease
	silent  bool          // the server had no answer for Get in time: it is not waited for once more
	// compress says that what is put is compressed where that saves something.
	compress bool
}

// Compress has what the fetch puts be compressed, where it is store.Compressible, or not. What is
// found is read whatever it is.
func (f *Fetch) Compress(on bool) { f.compress = on }

// timerLate is by how much a timer may be late, as the runtime's poller counts in whole
// milliseconds. A timeout says how much longer a request takes at most, so the timer of a call is
// set to that much less.
const timerLate = time.Millisecond

// ask calls the engine, unless the breaker is open. Its answer, or the lack of one, counts for the
// breaker.
func (t *SharedTier) ask(ctx context.Context, timeout time.Duration, call func(ctx context.Context) error) error {
	if !t.breaker.closed() {
		return errBreakerOpen
	}
	limited, cancel := context.WithTimeout(ctx, timeout-min(timerLate, timeout/2))
	defer cancel()
	err := call(limited)
	switch {
	case err == nil, errors.Is(err, ErrReadOnly): // it answers those who only read
		t.breaker.succeeded()
	case ctx.Err() != nil: // the caller has gone, which says nothing of the server
	default:
		if pause := t.breaker.failed(); pause > 0 {
			t.config.Logger.Warn("the shared tier does not answer and is not asked for a while", slog.Any("error", err))
			t.probeIn(pause)
		}
	}
	return err
}

// probeIn probes the server after a pause, and again until it answers.
func (t *SharedTier) probeIn(pause time.Duration) {
	t.spawn(func() {
		for pause > 0 && pauseFor(t.ctx, pause, nil) {
			t.breaker.probing()
			ctx, cancel := context.WithTimeout(t.ctx, t.config.Timeout)
			_, err := t.engine.Look(ctx, "probe")
			cancel()
			if pause = t.breaker.probed(err == nil); pause == 0 {
				t.config.Logger.Info("the shared tier answers again")
			}
		}
	})
}

// toServer and fromServer turn times by this node's clock into the server's and back. How far the
// two are apart is known within the time of a beat. Each errs so that responses come out older.
func (t *SharedTier) toServer(at time.Time) time.Time {
	least, _ := t.log.Ahead()
	return at.Add(least)
}

func (t *SharedTier) fromServer(at time.Time) time.Time {
	_, most := t.log.Ahead()
	return at.Add(-most)
}

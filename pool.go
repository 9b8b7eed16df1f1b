package larder

import (
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/larder-cache/larder/coalesce"
	"github.com/larder-cache/larder/store"
)

// pool holds every cache in use, by the canonical path of its disk tier, or memoryOnly. The key is the path alone: settings may
// change while the store lives (a key with settings in it would open the same file twice and lock itself out).
var pool = caddy.NewUsagePool()

// memoryOnly is the key of the cache without a disk tier.
const memoryOnly = "memory"

// cache is what outlives a configuration: the store, the flights that fill it, and what is remembered of keys that cannot
// be shared. Configurations hold it through the usage pool, requests and fetches through hold and drop, so that
// a reload neither waits for them nor takes the store away from them.
type cache struct {
	key            string
	store          *store.Store
	flights        *coalesce.Group[store.Key]
	hitForMiss     *recentKeys // whose last answer could not be shared, see hitformiss.go
	refreshBackoff *recentKeys // whose background refresh has just failed
	varianceHints  *varianceHints
	inFlight       inFlight
	workers        workers

	opened    atomic.Bool // the store has been: from then on its file has heard of every purge
	undurable atomic.Bool // the last invalidation held in memory only, which is logged

	mu     sync.Mutex
	claims []claim

	users     atomic.Int64 // requests and fetches under way
	unclaimed atomic.Int64 // references to give back to the pool when holds is 0
	closing   sync.Mutex
}

// claim is one configuration's claim on the cache.
type claim struct {
	app      *App
	settings store.Settings
}

// poolKey is the pool's key for a folder, the same for all spellings of it.
func poolKey(folder string) string {
	if folder == "" {
		return memoryOnly
	}
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	return "disk " + withoutLinks(folder)
}

// withoutLinks follows the links of a path as far as it is there. What is not is made when the
// store is opened, and the key must be the same after that: under another one the next reload would
// find the file locked, by itself.
func withoutLinks(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(withoutLinks(parent), filepath.Base(path))
	}
	return path
}

// fromPool returns the cache for folder ("" for none), new or in use. It opens nothing.
func fromPool(folder string, required bool, settings store.Settings, log *slog.Logger) (*cache, error) {
	key := poolKey(folder)
	v, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		s := store.New(store.Config{Path: folder, Required: required, Logger: log}, settings)
		cachesOpen.Add(1)
		return &cache{
			key:            key,
			store:          s,
			flights:        coalesce.NewGroup[store.Key](s, coalesce.Limits{}),
			hitForMiss:     newHitForMiss(),
			refreshBackoff: newRefreshBackoff(),
			varianceHints:  newVarianceHints(),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*cache), nil
}

// fetchesUnderWay counts the fetches of the whole process: those of a store that a reload has replaced go on.
func fetchesUnderWay() (n int) {
	pool.Range(func(_, v any) bool {
		if p, ok := v.(*cache); ok {
			n += p.flights.Len()
		}
		return true
	})
	return n
}

// cachesOpen is how many there are, those being closed included.
var cachesOpen atomic.Int32

// withOthers appends to all the cache and all others whose store can still answer, or soon will: while a
// reload switches the disk path there are that of the old configuration, until its last request has
// ended, and that of the new one, before it is opened. The list is for a purge, which is counted here
// and once more when the list is complete. A cache that comes after it is opened after the first
// count, one that has gone before it has noted less than the second: see open and giveBack.
func (p *cache) withOthers(all []*cache) []*cache {
	purges.Add(1)
	all = append(all, p)
	if cachesOpen.Load() < 2 {
		return all
	}
	pool.Range(func(_, v any) bool {
		if other, ok := v.(*cache); ok && other != p {
			all = append(all, other)
		}
		return true
	})
	return all
}

// apps are the configurations that hold the cache.
func (p *cache) apps() (apps []*App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.claims {
		apps = append(apps, t.app)
	}
	return apps
}

// purges counts what has been purged in the process, so that a file can be told of which some of it
// was kept.
var purges atomic.Uint64

// predecessor is what is known of a cache's key when there is no cache: between two that have the same
// file.
type predecessor struct {
	closing sync.Mutex // held while the file is being closed
	known   bool       // there was one, and it was opened
	purges  uint64     // as it was when the store could still take all of them
}

var predecessors sync.Map // of *past by key: as many as configurations have named

func (p *cache) predecessor() *predecessor {
	v, _ := predecessors.LoadOrStore(p.key, new(predecessor))
	return v.(*predecessor)
}

// open opens the store if nobody has, once the one that had its file before has closed it: after a
// quick change of mind that may still be writing out its queue. A file that has missed purges since
// then is begun anew.
func (p *cache) open() error {
	before := p.predecessor()
	before.closing.Lock()
	missed := before.known && before.purges != purges.Load()
	before.closing.Unlock()
	if missed {
		p.store.Discard()
	}
	err := p.store.Open()
	if err == nil {
		p.opened.Store(true)
	}
	return err
}

// returnToPool gives one reference back to the pool, which closes the store with the last.
func (p *cache) returnToPool() error {
	before := p.predecessor()
	before.closing.Lock()
	defer before.closing.Unlock()
	heard := purges.Load() // before the pool forgets the cache: who looks for it later counts after that
	deleted, err := pool.Delete(p.key)
	if deleted && p.opened.Load() {
		before.known, before.purges = true, heard
	}
	return err
}

// Destruct closes the store; the usage pool calls it when the last reference is given back.
func (p *cache) Destruct() error {
	defer cachesOpen.Add(-1)
	return p.store.Close()
}

// claim puts an app's settings in force beside those of the apps that hold the cache already.
func (p *cache) claim(app *App, settings store.Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = append(p.claims, claim{app, settings})
	p.apply()
}

// unclaim takes an app's settings out of force and gives its reference back, as soon as no request holds the cache any more.
func (p *cache) unclaim(app *App) {
	p.mu.Lock()
	for i, t := range p.claims {
		if t.app == app {
			p.claims = append(p.claims[:i:i], p.claims[i+1:]...)
			break
		}
	}
	if len(p.claims) > 0 {
		p.apply()
	}
	p.mu.Unlock()
	p.unclaimed.Add(1)
	p.closeIdle()
}

// apply puts the largest budgets that anyone asks for in force, so that a reload that fails has shrunk nothing. The policy is
// that of the newest configuration.
func (p *cache) apply() {
	in := p.claims[len(p.claims)-1].settings
	for _, t := range p.claims {
		in.Memory = max(in.Memory, t.settings.Memory)
		in.Disk = max(in.Disk, t.settings.Disk)
		in.MaxBody = max(in.MaxBody, t.settings.MaxBody)
	}
	p.store.Apply(in)
}

// acquire keeps the cache from being closed until drop.
func (p *cache) acquire() { p.users.Add(1) }

func (p *cache) release() {
	if p.users.Add(-1) == 0 && p.unclaimed.Load() > 0 {
		go p.closeIdle() // closing writes the queue out; no client waits for that
	}
}

// closeIdle gives back what references it can. Whoever comes last of leave and drop finds both conditions met: each changes its
// own number first and looks at the other's after.
func (p *cache) closeIdle() {
	p.closing.Lock()
	defer p.closing.Unlock()
	// A process that exits takes everything with it; what is queued is written while there is time.
	for p.unclaimed.Load() > 0 && (p.users.Load() == 0 || caddy.Exiting()) {
		p.unclaimed.Add(-1)
		if err := p.returnToPool(); err != nil {
			caddy.Log().Named(moduleName).Error("closing the store: " + err.Error())
		}
	}
}

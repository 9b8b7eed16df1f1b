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

// pantries holds every pantry in use, by the canonical path of its disk tier, or memoryOnly. The key is the path alone: settings may
// change while the store lives (a key with settings in it would open the same file twice and lock itself out).
var pantries = caddy.NewUsagePool()

// memoryOnly is the key of the pantry without a disk tier.
const memoryOnly = "memory"

// pantry is what outlives a configuration: the store, the flights that fill it, and what is remembered of keys that cannot
// be shared. Configurations hold it through the usage pool, requests and fetches through hold and drop, so that
// a reload neither waits for them nor takes the store away from them.
type pantry struct {
	key            string
	store          *store.Store
	flights        *coalesce.Group[store.Key]
	hitForMiss     *recentKeys // whose last answer could not be shared, see hitformiss.go
	refreshBackoff *recentKeys // whose background refresh has just failed
	searches       *searches
	fetching       fetching
	crew           crew

	opened    atomic.Bool // the store has been: from then on its file has heard of every purge
	undurable atomic.Bool // the last invalidation held in memory only, which is logged

	mu      sync.Mutex
	tenants []tenant

	holds    atomic.Int64 // requests and fetches under way
	leaving  atomic.Int64 // references to give back to the pool when holds is 0
	settling sync.Mutex
}

// tenant is one configuration's claim on the pantry.
type tenant struct {
	app      *App
	settings store.Settings
}

// pantryKey is the pool's key for a folder, the same for all spellings of it.
func pantryKey(folder string) string {
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

// takePantry returns the pantry for folder ("" for none), new or in use. It opens nothing.
func takePantry(folder string, required bool, settings store.Settings, log *slog.Logger) (*pantry, error) {
	key := pantryKey(folder)
	v, _, err := pantries.LoadOrNew(key, func() (caddy.Destructor, error) {
		s := store.New(store.Config{Path: folder, Required: required, Logger: log}, settings)
		pantriesOpen.Add(1)
		return &pantry{
			key:            key,
			store:          s,
			flights:        coalesce.NewGroup[store.Key](s, coalesce.Limits{}),
			hitForMiss:     newHitForMiss(),
			refreshBackoff: newRefreshBackoff(),
			searches:       newSearches(),
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*pantry), nil
}

// fetchesUnderWay counts the fetches of the whole process: those of a store that a reload has replaced go on.
func fetchesUnderWay() (n int) {
	pantries.Range(func(_, v any) bool {
		if p, ok := v.(*pantry); ok {
			n += p.flights.Len()
		}
		return true
	})
	return n
}

// pantriesOpen is how many there are, those being closed included.
var pantriesOpen atomic.Int32

// withOthers appends to all the pantry and all others whose store can still answer, or soon will: while a
// reload switches the disk path there are that of the old configuration, until its last request has
// ended, and that of the new one, before it is opened. The list is for a purge, which is counted here
// and once more when the list is complete. A pantry that comes after it is opened after the first
// count, one that has gone before it has noted less than the second: see open and giveBack.
func (p *pantry) withOthers(all []*pantry) []*pantry {
	purges.Add(1)
	all = append(all, p)
	if pantriesOpen.Load() < 2 {
		return all
	}
	pantries.Range(func(_, v any) bool {
		if other, ok := v.(*pantry); ok && other != p {
			all = append(all, other)
		}
		return true
	})
	return all
}

// apps are the configurations that hold the pantry.
func (p *pantry) apps() (apps []*App) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.tenants {
		apps = append(apps, t.app)
	}
	return apps
}

// purges counts what has been purged in the process, so that a file can be told of which some of it
// was kept.
var purges atomic.Uint64

// past is what is known of a pantry's key when there is no pantry: between two that have the same
// file.
type past struct {
	closing sync.Mutex // held while the file is being closed
	known   bool       // there was one, and it was opened
	purges  uint64     // as it was when the store could still take all of them
}

var pasts sync.Map // of *past by key: as many as configurations have named

func (p *pantry) past() *past {
	v, _ := pasts.LoadOrStore(p.key, new(past))
	return v.(*past)
}

// open opens the store if nobody has, once the one that had its file before has closed it: after a
// quick change of mind that may still be writing out its queue. A file that has missed purges since
// then is begun anew.
func (p *pantry) open() error {
	before := p.past()
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

// giveBack gives one reference back to the pool, which closes the store with the last.
func (p *pantry) giveBack() error {
	before := p.past()
	before.closing.Lock()
	defer before.closing.Unlock()
	heard := purges.Load() // before the pool forgets the pantry: who looks for it later counts after that
	deleted, err := pantries.Delete(p.key)
	if deleted && p.opened.Load() {
		before.known, before.purges = true, heard
	}
	return err
}

// Destruct closes the store; the usage pool calls it when the last reference is given back.
func (p *pantry) Destruct() error {
	defer pantriesOpen.Add(-1)
	return p.store.Close()
}

// enter puts an app's settings in force beside those of the apps that hold the pantry already.
func (p *pantry) enter(app *App, settings store.Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tenants = append(p.tenants, tenant{app, settings})
	p.apply()
}

// leave takes an app's settings out of force and gives its reference back, as soon as no request holds the pantry any more.
func (p *pantry) leave(app *App) {
	p.mu.Lock()
	for i, t := range p.tenants {
		if t.app == app {
			p.tenants = append(p.tenants[:i:i], p.tenants[i+1:]...)
			break
		}
	}
	if len(p.tenants) > 0 {
		p.apply()
	}
	p.mu.Unlock()
	p.leaving.Add(1)
	p.settle()
}

// apply puts the largest budgets that anyone asks for in force, so that a reload that fails has shrunk nothing. The policy is
// that of the newest configuration.
func (p *pantry) apply() {
	in := p.tenants[len(p.tenants)-1].settings
	for _, t := range p.tenants {
		in.Memory = max(in.Memory, t.settings.Memory)
		in.Disk = max(in.Disk, t.settings.Disk)
		in.MaxBody = max(in.MaxBody, t.settings.MaxBody)
	}
	p.store.Apply(in)
}

// hold keeps the pantry from being closed until drop.
func (p *pantry) hold() { p.holds.Add(1) }

func (p *pantry) drop() {
	if p.holds.Add(-1) == 0 && p.leaving.Load() > 0 {
		go p.settle() // closing writes the queue out; no client waits for that
	}
}

// settle gives back what references it can. Whoever comes last of leave and drop finds both conditions met: each changes its
// own number first and looks at the other's after.
func (p *pantry) settle() {
	p.settling.Lock()
	defer p.settling.Unlock()
	// A process that exits takes everything with it; what is queued is written while there is time.
	for p.leaving.Load() > 0 && (p.holds.Load() == 0 || caddy.Exiting()) {
		p.leaving.Add(-1)
		if err := p.giveBack(); err != nil {
			caddy.Log().Named(moduleName).Error("closing the store: " + err.Error())
		}
	}
}

package larder

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/fleet"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// pool has every cache in use, by the canonical path of its disk tier, or memoryOnly. The key is
// the path alone, because settings may change while the store lives. A key with settings in it
// would open the same file twice, and the second open would wait for the first one's lock.
var pool = caddy.NewUsagePool()

// memoryOnly begins the key of a cache without a disk tier, which has the zone behind it.
const memoryOnly = "memory "

// pooled is a cache that outlives configurations. They claim it through the usage pool. It is
// closed when no configuration claims it and no request or fetch is under way. So a reload neither
// waits for these nor takes the store away from them.
type pooled struct {
	*httpcache.Cache
	key    string
	counts *counting

	opened atomic.Bool // the store has been
	gone   atomic.Bool // it is closed, or about to be, and not in the pool any more
	// The count of purges when the pool took the cache in: it gets all later ones.
	heard uint64

	mu     sync.Mutex
	claims []*claim
	nodes  atomic.Pointer[[]*node] // of the claims, nil where none has a fleet; see pass

	unclaimed atomic.Int64 // references to return to the pool when nothing is under way
	closing   sync.Mutex
}

// claim is one configuration's claim on the cache.
type claim struct {
	zone     string
	routes   *httpcache.Siblings
	settings store.Settings
	node     *node // nil without a fleet
}

// poolKey returns the pool's key for the folder of a zone, the same for all spellings of it.
func poolKey(zone, folder string) string {
	if folder == "" {
		return memoryOnly + zone
	}
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	return "disk " + withoutLinks(folder)
}

// withoutLinks follows the links of a path as far as the path exists. The rest is made when the
// store is opened, and the key must be the same after that. Under another key the next reload would
// find the file locked by this process.
func withoutLinks(path string) string {
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(withoutLinks(parent), filepath.Base(path))
	}
	return path
}

// fromPool returns the cache of a zone for folder ("" for none), new or in use. It opens nothing.
func fromPool(
	zone, folder string, required bool, settings store.Settings, log *slog.Logger,
) (*pooled, error) {
	key := poolKey(zone, folder)
	purges.Lock()
	defer purges.Unlock()
	v, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		s := store.New(store.Config{Path: folder, Required: required, Logger: log, Watcher: droppedURLs}, settings)
		cachesOpen.Add(1)
		p := &pooled{key: key, counts: new(counting), heard: purges.count.Load()}
		p.counts.record.Store(recordOf(zone))
		p.Cache = httpcache.New(httpcache.Options{
			Store: s, Metrics: p.counts, Purger: p, Pass: p.pass, Remote: p.remote, Logger: log, Idle: p.idle,
		})
		return p, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*pooled), nil
}

// fetchesUnderWay counts the fetches of a zone. Those of a store that a reload has replaced go on.
func fetchesUnderWay(zone string) (n int) {
	for p := range caches {
		if p.zone() == zone {
			n += p.Fetches()
		}
	}
	return n
}

// caches yields every cache of the process.
func caches(yield func(*pooled) bool) {
	pool.Range(func(_, v any) bool { return yield(v.(*pooled)) })
}

// cachesOpen is the number of caches, those being closed included.
var cachesOpen atomic.Int32

// withOthers appends to all this cache and all others whose store can answer requests, or soon
// will. While a reload switches the disk path there are two: the cache of the old configuration,
// until its last request has ended, and that of the new one, before it is opened.
//
// The list is for a purge, which is counted here. No cache is added meanwhile, because fromPool
// waits for the lock. A cache that is added later has heard of the purge (see missed). One that is
// already gone has recorded a lower count (see returnToPool).
//
// A request of a configuration that was given up may outlive its cache, which is left out then: the
// others still have what the request changes.
func (p *pooled) withOthers(all []*pooled) []*pooled {
	purges.RLock()
	defer purges.RUnlock()
	purges.count.Add(1)
	alone := cachesOpen.Load() < 2
	switch {
	case p.gone.Load(): // asked after the number: a cache is gone before it is counted out
		return listCaches(all)
	case alone:
		return append(all, p)
	}
	return listCaches(append(all, p))
}

// everyCache lists all caches for a purge, as withOthers does.
func everyCache() []*pooled {
	purges.RLock()
	defer purges.RUnlock()
	purges.count.Add(1)
	return listCaches(nil)
}

// listCaches appends to a list the caches of the process that it lacks.
func listCaches(all []*pooled) []*pooled {
	for p := range caches {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// keyRules returns the distinct query rules of every configuration that claims a cache, and those
// of before by which it may have stored something.
func keyRules() (rules []*httpcache.KeyRules) {
	for p := range caches {
		p.mu.Lock()
		for _, c := range p.claims {
			rules = append(rules, c.routes.Rules()...)
		}
		p.mu.Unlock()
		rules = append(rules, p.Cache.PastRules()...)
	}
	return httpcache.DistinctRules(rules)
}

// rulesKnown are the keyRules as they were at a moment.
type rulesKnown struct {
	at    store.LabelsTime
	rules []*httpcache.KeyRules
}

var lastRules atomic.Pointer[rulesKnown]

// PastRules implements httpcache.Purger: what another cache of the process has stored by rules that
// this one has never had is purged with the rest.
func (p *pooled) PastRules() []*httpcache.KeyRules {
	if alone := cachesOpen.Load() < 2; alone && !p.gone.Load() { // see withOthers
		return p.Cache.PastRules()
	}
	return rulesNow()
}

// rulesNow are the keyRules, made once for as long as there are no more labels.
func rulesNow() []*httpcache.KeyRules {
	now := store.LabelsNow()
	if last := lastRules.Load(); last != nil && last.at == now {
		return last.rules
	}
	known := &rulesKnown{at: now}
	for _, r := range keyRules() {
		known.rules = append(known.rules, &httpcache.KeyRules{Query: r.Query}) // without the configuration
	}
	lastRules.Store(known)
	return known.rules
}

// Purge implements httpcache.Purger for all caches of the process. During a reload that switches
// the disk path two stores serve requests.
func (p *pooled) Purge(
	_ context.Context, selectors store.Selectors, options httpcache.PurgeOptions,
) (matched int, err error) {
	var room [4]*pooled // on the stack: most unsafe requests find nothing to purge
	all := p.withOthers(room[:0])
	if !options.DryRun {
		// Before anything is looked at here, or what another node has stored comes home behind it.
		p.invalidateElsewhere(selectors, options.Severity)
	}
	mayReach := func(p *pooled) bool { return p.MayReachBySearch(&selectors) }
	if !options.UnlessNoop || slices.ContainsFunc(all, mayReach) {
		httpcache.ReachSearched(&selectors)
	}
	if options.UnlessNoop {
		all = withoutNoops(all, &selectors, options.Labels)
		if len(all) == 0 && !options.Named {
			// A store that is closed may have what it names, and was not asked: see missed.
			return 0, nil
		}
	}
	begun := beginPurge(slices.Clone(all), p, selectors, options.PurgeOptions)
	return begun.wait()
}

// withoutNoops leaves out the caches in which a purge would change nothing.
func withoutNoops(all []*pooled, selectors *store.Selectors, read store.LabelsTime) []*pooled {
	if len(all) == 1 { // nearly always; nothing of it escapes
		if all[0].IsNoop(selectors, read) {
			return nil
		}
		return all
	}
	named := *selectors
	return withoutSideBySide(all, func(p *pooled) bool { return p.IsNoop(&named, read) })
}

// withoutSideBySide leaves out the caches for which drop returns true. It is called for all of them
// at once: each may wait for a disk.
func withoutSideBySide(all []*pooled, drop func(p *pooled) bool) []*pooled {
	dropped := make([]bool, len(all))
	var asked sync.WaitGroup
	for i, p := range all {
		asked.Go(func() { dropped[i] = drop(p) })
	}
	asked.Wait()
	var left []*pooled
	for i, p := range all {
		if !dropped[i] {
			left = append(left, p)
		}
	}
	return left
}

// invalidateElsewhere hands what an unsafe request invalidates to the fleet: the shared tier has
// it no more for this node when it returns, and the other nodes hear of it. They may have what this
// node has not.
func (p *pooled) invalidateElsewhere(selectors store.Selectors, severity store.Severity) {
	nodes := p.nodes.Load()
	if nodes == nil {
		return
	}
	searched := store.Selectors{URLs: selectors.URLs}
	httpcache.ReachSearched(&searched) // they may have what no request has brought here
	for _, n := range *nodes {
		n.Invalidate(fleet.Invalidation{
			Purge: fleet.Purge{Selectors: selectors, Severity: cmp.Or(severity, store.Hard)}, OfURLs: searched.Tags,
		})
	}
}

// purges counts the purges of the process, so that a file that has missed one can be recognised.
var purges struct {
	sync.RWMutex
	count atomic.Uint64
}

// predecessor is what is known of a cache's key while it has no cache: between two that have the
// same file.
type predecessor struct {
	closing sync.Mutex // held while the file is being closed
	// The count up to which the file has all of them; a file of an earlier process has none.
	purges uint64
}

var predecessors sync.Map // of *predecessor by key: as many as configurations have named

func (p *pooled) predecessor() *predecessor {
	v, _ := predecessors.LoadOrStore(p.key, new(predecessor))
	return v.(*predecessor)
}

// open opens the store unless it is open, after the cache that had its file before has closed it.
// After two quick reloads that one may still be writing out its queue. A file that has missed
// purges since then is discarded.
func (p *pooled) open() error {
	if p.missed() {
		p.Store().Discard()
	}
	if nodesJoined.Load() > 0 && !p.opened.Load() { // the file may be of before what the node has applied
		processCaches{}.suspect([]*pooled{p})
	}
	err := p.Store().Open()
	if err == nil {
		p.opened.Store(true)
	}
	return err
}

// missed tells whether the process has purged something, before there was this cache, that did not
// reach its file: since the cache that had it before has closed it, or since the process began.
func (p *pooled) missed() bool {
	before := p.predecessor()
	before.closing.Lock()
	defer before.closing.Unlock()
	return before.purges != p.heard
}

// returnToPool returns one reference to the pool. The last one closes the store.
func (p *pooled) returnToPool() error {
	before := p.predecessor()
	before.closing.Lock()
	defer before.closing.Unlock()
	complete := p.opened.Load() && p.Store().Stats().Disk.State != "failed"
	purges.Lock()
	heard := purges.count.Load()
	purges.Unlock()
	deleted, err := pool.Delete(p.key)
	if deleted && complete {
		before.purges = heard
	}
	return err
}

// Destruct closes the store. The usage pool calls it when the last reference is returned.
func (p *pooled) Destruct() error {
	p.gone.Store(true)
	defer cachesOpen.Add(-1)
	return p.Store().Close()
}

// add puts the settings of a claim in force beside those of the claims that are there already.
func (p *pooled) add(c *claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = append(p.claims, c)
	p.apply()
	p.setNodes()
}

// remove takes the settings of a claim out of force and gives its reference back, as soon as no
// request holds the cache any more.
func (p *pooled) remove(c *claim) {
	p.mu.Lock()
	p.claims = slices.DeleteFunc(p.claims, func(o *claim) bool { return o == c })
	if len(p.claims) > 0 { // else requests may still be under way, by the rules of the last
		p.apply()
		p.setNodes()
	}
	p.mu.Unlock()
	p.unclaimed.Add(1)
	p.closeIdle()
}

// apply puts the largest budgets that any app asks for in force, so that a failed reload has shrunk
// nothing. Eviction policy and compression are those of the newest configuration.
func (p *pooled) apply() {
	newest := p.claims[len(p.claims)-1]
	p.counts.record.Store(recordOf(newest.zone))
	was, in := p.Store().Settings(), newest.settings
	for _, c := range p.claims {
		in.Memory = max(in.Memory, c.settings.Memory)
		in.Disk = max(in.Disk, c.settings.Disk)
		in.MaxBody = max(in.MaxBody, c.settings.MaxBody)
	}
	p.Store().Apply(in)
	if was != in {
		p.logChange(&was, &in)
	}
}

// setNodes has the cache answer by the passes of those who claim it.
func (p *pooled) setNodes() {
	var nodes []*node
	for _, c := range p.claims {
		if c.node != nil && !slices.Contains(nodes, c.node) {
			nodes = append(nodes, c.node)
		}
	}
	if nodes == nil {
		p.nodes.Store(nil)
		return
	}
	p.nodes.Store(&nodes)
}

// pass is the httpcache.Options.Pass of the cache. A reload that changes the fleet has two for a
// moment: a purge may come by either, so the pass of both is needed.
func (p *pooled) pass() bool {
	nodes := p.nodes.Load()
	if nodes == nil {
		return true
	}
	for _, n := range *nodes {
		if !n.Pass() {
			return false
		}
	}
	return true
}

// remote is the httpcache.Options.Remote of the cache: the shared tier of the newest configuration.
func (p *pooled) remote() httpcache.RemoteFetch {
	nodes := p.nodes.Load()
	if nodes == nil {
		return nil
	}
	f := (*nodes)[len(*nodes)-1].tier.Begin()
	if f == nil {
		return nil // and no interface that holds a nil pointer
	}
	f.Compress(p.Store().Settings().Compress == store.CompressZstd)
	if zone := p.zone(); zone != cfg.DefaultZone {
		return &zonedFetch{f, zone}
	}
	return f
}

// idle is called when the last request or fetch has ended.
func (p *pooled) idle() {
	if p.unclaimed.Load() > 0 {
		go p.closeIdle() // closing writes the queue out; no client waits for that
	}
}

// closeIdle returns the references that it can. It is called by remove, and by idle after the last
// Cache.release. Whichever of the two comes last finds both conditions met: each changes its own
// number first and then looks at the other's.
func (p *pooled) closeIdle() {
	p.closing.Lock()
	defer p.closing.Unlock()
	// A process that exits does not wait for requests. What is queued is written while there is
	// time.
	for p.unclaimed.Load() > 0 && (p.Users() == 0 || caddy.Exiting()) {
		p.unclaimed.Add(-1)
		if err := p.returnToPool(); err != nil {
			caddy.Log().Named(moduleName).Error("closing the store: " + err.Error())
		}
	}
}

package larder

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/store"
)

// App owns the cache that all larder handlers of a configuration share. A Caddy process has one
// cache for each disk path, and one for memory alone. It outlives configurations: a reload with the
// same path goes on with the same cache.
//
// Life cycle: Provision claims the cache but opens nothing, so `caddy validate` beside a running
// server touches no file. Start opens the cache unless it is open already. Cleanup ends the claim.
// On a reload the cache is open already, and usable before Start runs: Caddy starts apps in no
// fixed order.
type App struct {
	cfg.AppConfig

	settings store.Settings
	debug    debugSecret
	cache    *pooled
	claim    *claim // on the cache
	node     *node  // of the fleet, nil without one
	fleetKey string // of node in fleets
	events   *caddyevents.App
	ctx      caddy.Context
	logger   *zap.Logger

	routes  httpcache.Siblings
	origins map[string]namedOrigin // that handlers of this configuration give limits
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  moduleName,
		New: func() caddy.Module { return new(App) },
	}
}

// Provision checks the configuration and claims the cache that it names, without opening it.
func (a *App) Provision(ctx caddy.Context) error {
	if err := a.Check(); err != nil {
		return err
	}
	a.ctx, a.logger = ctx, ctx.Logger()
	required := a.DiskChosen()
	a.AppConfig = a.WithDefaults()
	if required { // placeholders are allowed, as in a log's file name: {env.STATE_DIRECTORY}
		path, err := caddy.NewReplacer().ReplaceOrErr(a.Disk.Path, true, true)
		if err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		a.Disk.Path = path
	}
	eviction, err := store.ParseEviction(a.Eviction)
	if err != nil {
		return fmt.Errorf("eviction: %w", err)
	}
	if a.debug, err = newDebugSecret(a.Debug); err != nil {
		return err
	}
	if a.SmallDisk() {
		a.logger.Info(
			"the disk budget is below 16MiB: with large bodies the file may take up to twice as much",
			zap.Int64("budget", a.Disk.Budget))
	}
	a.settings = store.Settings{
		Memory: a.Memory, Disk: a.Disk.Budget, Eviction: eviction, MaxBody: a.MaxBody,
	}
	if err := a.registerMetrics(ctx); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("loading the events app: %w", err)
	}
	a.events = events.(*caddyevents.App)
	// The store outlives this configuration and its loggers, so it logs to the logger that is
	// Caddy's default at the time.
	if err := a.claimFleet(ctx); err != nil {
		return err
	}
	a.cache, err = fromPool(a.Disk.Path, required, a.settings, storeLogger())
	if err != nil {
		return err
	}
	a.claim = &claim{&a.routes, a.settings, a.node}
	a.cache.add(a.claim)
	return nil
}

// nameServer returns what names a server. With a fleet that depends on the other servers of the
// configuration, which are known when the first request comes.
func (a *App) nameServer(server *caddyhttp.Server) func() string {
	if a.node == nil {
		name := serverName(server)
		return func() string { return name }
	}
	return sync.OnceValue(func() string {
		sites, err := a.ctx.AppIfConfigured("http")
		if err != nil {
			return serverName(server)
		}
		return sharedServerName(server, sites.(*caddyhttp.App).Servers)
	})
}

func (a *App) registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if err := collectors.register(registry, &storeCollector{running.stats, fetchesUnderWay, running.node}); err != nil {
		return err
	}
	if len(a.Shared) == 0 {
		return nil
	}
	return collectors.registerShared(registry)
}

// Start opens the store if it is not open yet.
func (a *App) Start() error {
	first := !a.cache.opened.Load()
	if err := a.cache.open(); err != nil {
		return err
	}
	if first {
		a.logOpen()
	}
	if a.node != nil {
		a.node.join()
	}
	running.add(a)
	history.start()
	if sites, err := a.ctx.AppIfConfigured("http"); err == nil {
		warnOfOrder(sites.(*caddyhttp.App).Servers, a.logger)
	}
	return nil
}

// Stop does nothing: requests of this configuration may still be under way. Cleanup ends the claim
// on the cache.
func (a *App) Stop() error { return nil }

// Cleanup ends the claim on the cache. Caddy calls it also when Provision failed half way.
func (a *App) Cleanup() error {
	running.remove(a)
	if running.newest() == nil {
		history.stop()
	}
	if a.cache != nil {
		if caddy.Exiting() {
			a.cache.CancelFetches(context.Canceled)
		}
		a.cache.remove(a.claim)
	}
	if a.node == nil {
		return nil
	}
	_, err := fleets.Delete(a.fleetKey)
	return err
}

// running lists the apps that have been started and not cleaned up, oldest first. During a reload
// there are two. After a reload that failed, only the older one is left.
var running apps

type apps struct {
	mu   sync.Mutex
	list []*App
}

func (r *apps) add(a *App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, a)
}

func (r *apps) remove(a *App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(b *App) bool { return a == b })
}

// newest returns the app that was started last, nil if there is none.
func (r *apps) newest() *App {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return nil
	}
	return r.list[len(r.list)-1]
}

// stats describes the store of the newest app; false if there is none.
func (r *apps) stats() (store.Stats, bool) {
	app := r.newest()
	if app == nil {
		return store.Stats{}, false
	}
	return app.cache.Store().Stats(), true
}

// node returns the node of the newest app, nil if there is none.
func (r *apps) node() *node {
	if app := r.newest(); app != nil {
		return app.node
	}
	return nil
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)

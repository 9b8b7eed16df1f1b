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
	"github.com/larder-cache/larder/internal/machine"
)

// App owns the caches that the larder handlers of a configuration share, one for each zone. A Caddy
// process has one cache for each disk path, and for each zone in memory alone. It outlives
// configurations: a reload with the same path goes on with the same cache.
//
// Life cycle: Provision claims the caches but opens nothing, so `caddy validate` beside a running
// server touches no file. Start opens those that are not open already. Cleanup ends the claims. On
// a reload a cache is open already, and usable before Start runs: Caddy starts apps in no fixed
// order.
type App struct {
	cfg.AppConfig

	debug    debugSecret
	zones    []*zone // the default one first
	cache    *pooled // of the default zone
	node     *node   // of the fleet, nil without one
	fleetKey string  // of node in fleets
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

// Provision checks the configuration and claims the caches that it names, without opening them. It
// returns an error if the configuration says something that cannot be meant, if the events app or
// the engine of a fleet cannot be loaded, or if Caddy does not take the metrics.
func (a *App) Provision(ctx caddy.Context) error {
	if err := a.Check(); err != nil {
		return err
	}
	a.ctx, a.logger = ctx, ctx.Logger()
	if err := a.addZones(); err != nil {
		return err
	}
	var err error
	if a.debug, err = newDebugSecret(a.Debug); err != nil {
		return err
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
	if err := a.claimZones(); err != nil {
		return err
	}
	claiming.add(a)
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
	for _, z := range a.zones {
		if err := recordOf(z.Zone).metrics.register(registry); err != nil {
			return err
		}
	}
	if err := registerAll(registry, collectors.originWaiting, collectors.originRefused, new(storeCollector)); err != nil {
		return err
	}
	if len(a.Shared) == 0 {
		return nil
	}
	return collectors.registerShared(registry)
}

// Start opens the stores that are not open yet. It returns an error if the file of a zone whose
// folder the configuration names cannot be opened.
func (a *App) Start() error {
	for _, z := range a.zones {
		first := !z.cache.opened.Load()
		if err := z.cache.open(); err != nil {
			return ofZone(z.Zone, err)
		}
		if first {
			z.logOpen(a.logger)
		}
	}
	if a.node != nil {
		a.node.join()
	}
	running.add(a)
	history.start()
	warnOfBudgets(a.zones, machine.Memory(), a.logger)
	if sites, err := a.ctx.AppIfConfigured("http"); err == nil {
		warnOfOrder(sites.(*caddyhttp.App).Servers, a.logger)
	}
	return nil
}

// Stop does nothing: requests of this configuration may still be under way. Cleanup ends the claims
// on the caches.
func (a *App) Stop() error { return nil }

// Cleanup ends the claims on the caches. Caddy calls it also when Provision failed half way. Its
// error is that of leaving a fleet; the claims have ended all the same.
func (a *App) Cleanup() error {
	claiming.remove(a)
	running.remove(a)
	if running.newest() == nil {
		history.stop()
	}
	a.logDropped()
	for _, z := range a.zones {
		if z.cache == nil {
			continue
		}
		if caddy.Exiting() {
			z.cache.CancelFetches(context.Canceled)
		}
		z.cache.remove(z.claim)
	}
	if a.node == nil {
		return nil
	}
	_, err := fleets.Delete(a.fleetKey)
	return err
}

// running lists the apps that have been started and not cleaned up, oldest first. During a reload
// there are two. After a reload that failed, only the older one is left. claiming has those too
// that have claimed their caches and not been started, whose stores may be being opened.
var running, claiming apps

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

// zones are those of the newest app, none if there is none.
func (r *apps) zones() []*zone {
	if app := r.newest(); app != nil {
		return app.zones
	}
	return nil
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

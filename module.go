// Package larder is a response cache for Caddy: RFC 9111 for a shared cache, one fetch for any
// number of concurrent misses, a memory tier over a bbolt file that survives restarts, and purging
// by surrogate key.
//
// To read it, begin with init below, which lists everything that the plugin adds to Caddy.
// handler.go has a request's way into the cache, and httpcache tells the story of a request.
// rfc9111 decides what may be stored and reused, coalesce has the flights, store the two tiers and
// purge by generation.
package larder

import (
	"fmt"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/purge"
)

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(Handler{})
	caddy.RegisterModule(new(Redis))
	cfg.Register(func(c cfg.HandlerConfig) caddyhttp.MiddlewareHandler { return &Handler{HandlerConfig: c} })
	registerAdmin()
}

// Handler answers requests from the cache, and fills it with the answers of the handlers behind it.
// Without further words it does what RFC 9111 says of a shared cache: it stores nothing that the
// origin did not allow.
//
// Placeholders it sets:
//
//   - {http.larder.status}: hit, stale, revalidated, miss, collapsed or bypass
//   - {http.larder.reason}: the reason, where there is one: swr, sie, origin-busy, a bypass's
//     reason, or why a response was not stored
//   - {http.larder.would}: what the status would have been, of a request that was only observed
//   - {http.larder.repeats}: how often the client has asked for the same thing, if that is more
//     often than `repeats` lets it, else 0
//
// The access log has them as larder_status, larder_reason, larder_would and larder_repeats, and
// larder_key, a hash of what the request is looked up by.
type Handler struct {
	cfg.HandlerConfig

	app    *App
	zone   *zone
	server func() string // the name of the server that it belongs to
	branch *branch       // the routes for responses that it stands in
	route  *httpcache.Route
	origin *originClaim // nil unless it has a name
	logger *zap.Logger

	purging *purge.Method // answers PURGE; nil where that passes
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers." + moduleName,
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision fills in defaults and finds the zone of the app whose cache is used. It returns an
// error that names the field if the configuration says something that cannot be meant, or names a
// zone that the app has not.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.Check(); err != nil {
		return err
	}
	h.HandlerConfig = h.WithDefaults()
	h.logger = ctx.Logger()
	app, err := ctx.App(moduleName)
	if err != nil {
		return fmt.Errorf("loading the %s app: %w", moduleName, err)
	}
	h.app = app.(*App)
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.server, h.branch = h.app.nameServer(server), &branch{handler: h}
	if h.zone, err = h.app.zone(h.Zone); err != nil {
		return err
	}
	if h.MaxBody > h.zone.MaxBody {
		h.logger.Warn("max_body of the directive is larger than that of the global option, "+
			"which holds: raise that one",
			zap.Int64("max_body", int64(h.MaxBody)), zap.Int64("global", int64(h.zone.MaxBody)))
	}
	h.logWarnings()
	rules, err := h.rules(ctx)
	if err != nil {
		return err
	}
	if rules.Budget, err = h.budget(server); err != nil {
		return err
	}
	h.route = h.zone.cache.NewRoute(rules, &h.app.routes)
	h.purging = h.purgeMethod()
	return nil
}

// logWarnings warns of what the directive says and seldom means. `caddy larder check` tells the
// same, with file and line.
func (h *Handler) logWarnings() {
	for _, w := range h.Warnings() {
		h.logger.Warn("a word of the directive may not do what is meant",
			zap.String("word", w.Words), zap.String("argument", w.Value), zap.String("hint", w.Text))
	}
}

// rules returns the rules of the configuration, completed with what only a running one knows.
func (h *Handler) rules(ctx caddy.Context) (rules httpcache.Rules, err error) {
	rules = h.Rules()
	if rules.MaxBody == 0 || rules.MaxBody > int64(h.zone.MaxBody) {
		rules.MaxBody = int64(h.zone.MaxBody)
	}
	rules.Behind, rules.Logger = &handlersBehind{handler: h, rules: &rules.Key}, slog.New(levelled(ctx.Slogger().Handler()))
	rules.Server = h.server
	rules.Invalidate, err = h.invalidateRules(ctx)
	return rules, err
}

// invalidateRules loads the matchers of the invalidate blocks.
func (h *Handler) invalidateRules(ctx caddy.Context) (rules []httpcache.InvalidateRule, err error) {
	for i := range h.Invalidate {
		block := &h.Invalidate[i]
		var matchers caddyhttp.MatcherSets
		if block.MatcherSetsRaw != nil {
			mods, err := ctx.LoadModule(block, "MatcherSetsRaw")
			if err != nil {
				return nil, fmt.Errorf("invalidate: loading matchers: %w", err)
			}
			if err := matchers.FromInterface(mods); err != nil {
				return nil, fmt.Errorf("invalidate: %w", err)
			}
		}
		rules = append(rules, httpcache.InvalidateRule{
			Match: matchers.AnyMatchWithError, Tags: block.Tags, URLs: block.URLs, Soft: block.Soft,
		})
	}
	return rules, nil
}

// Cleanup gives the origin back. Caddy calls it also when Provision failed half way.
func (h *Handler) Cleanup() error { return h.origin.release() }

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

// Package larder is a response cache for Caddy: RFC 9111 for a shared cache, one fetch for any number of concurrent misses, a
// memory tier over a bbolt file that survives restarts, and purging by surrogate key.
//
// To read it: init below lists everything the plugin adds to Caddy, handler.go tells the story of a request, rfc9111 holds what may be
// stored and reused, coalesce the flights, store the two tiers and purge by generation.
package larder

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/purge"
	"github.com/larder-cache/larder/rfc9111"
	"github.com/larder-cache/larder/store"
	"github.com/larder-cache/larder/urlform"
)

// moduleName is the app's name, the directive's, the command's, and the metrics' prefix.
const moduleName = "larder"

func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(Handler{})
	cfg.Register(func(c cfg.HandlerConfig) caddyhttp.MiddlewareHandler { return &Handler{HandlerConfig: c} })
	purge.Register(runningCache)
}

// Handler answers requests from the cache, and fills it from what the handlers after it answer.
//
// Placeholders it sets:
//
//   - {http.larder.status}: hit, stale, revalidated, miss, collapsed or bypass
//   - {http.larder.reason}: why, where there is something to say: swr, sie, a bypass's reason, or why a response was not stored
//
// The access log has them as larder_status and larder_reason.
type Handler struct {
	cfg.HandlerConfig

	app         *App
	logger      *zap.Logger
	metrics     *metrics
	policy      rfc9111.Policy
	keying      keying
	invalidate  []invalidateRule
	decisive    []string // fields kept with a response wherever they come from
	server      string   // serverName of the one that it belongs to
	maxBody     int64
	coalesceOff bool
	ttlRules    bool // ttl, force_ttl or heuristic treat requests with an unkeyed cookie apart
	statusMode  statusMode
	rules       store.Key                      // fingerprint of what decides about storing
	serial      uint64                         // no other handler of the process has it
	writes      *atomic.Pointer[writtenFields] // see written.go
}

// serials counts the handlers that have been provisioned.
var serials atomic.Uint64

// statusMode is how much Cache-Status tells.
type statusMode uint8

const (
	statusShort statusMode = iota
	statusFull
	statusOff
)

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers." + moduleName,
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision fills in defaults and finds the app whose store is used.
func (h *Handler) Provision(ctx caddy.Context) error {
	if err := h.Check(); err != nil {
		return err
	}
	h.HandlerConfig = h.WithDefaults()
	h.logger, h.metrics, h.serial = ctx.Logger(), collectors, serials.Add(1)
	app, err := ctx.App(moduleName)
	if err != nil {
		return fmt.Errorf("loading the %s app: %w", moduleName, err)
	}
	h.app = app.(*App)
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	h.server = serverName(server)
	h.maxBody = h.app.MaxBody
	if h.MaxBody > 0 {
		h.maxBody = min(h.maxBody, h.MaxBody)
	}
	if h.MaxBody > h.app.MaxBody {
		h.logger.Warn("max_body of the directive is larger than that of the global option, which holds: raise that one",
			zap.Int64("max_body", h.MaxBody), zap.Int64("global", h.app.MaxBody))
	}
	h.policy = policyOf(&h.HandlerConfig)
	h.keying = keyingOf(h.Key)
	h.decisive = append(append(append([]string{}, decisive...), h.policy.Targeted...), h.Tags.From...)
	h.coalesceOff, h.writes = h.Coalesce.Off, new(atomic.Pointer[writtenFields])
	h.ttlRules = len(h.TTL)+len(h.ForceTTL) > 0 || h.Heuristic
	h.statusMode = map[string]statusMode{cfg.StatusShort: statusShort, cfg.StatusFull: statusFull, cfg.StatusOff: statusOff}[h.Status]
	if h.rules, err = h.fingerprint(); err != nil {
		return fmt.Errorf("taking a fingerprint of the rules: %w", err)
	}
	if err := h.provisionInvalidate(ctx); err != nil {
		return err
	}
	h.app.adopt(h)
	return nil
}

// provisionInvalidate loads the matchers of the invalidate blocks.
func (h *Handler) provisionInvalidate(ctx caddy.Context) error {
	for i := range h.Invalidate {
		rule := &h.Invalidate[i]
		loaded := invalidateRule{tags: rule.Tags, urls: rule.URLs, soft: rule.Soft}
		if rule.MatcherSetsRaw != nil {
			mods, err := ctx.LoadModule(rule, "MatcherSetsRaw")
			if err != nil {
				return fmt.Errorf("invalidate: loading matchers: %w", err)
			}
			if err := loaded.matchers.FromInterface(mods); err != nil {
				return fmt.Errorf("invalidate: %w", err)
			}
		}
		h.invalidate = append(h.invalidate, loaded)
	}
	return nil
}

// largestBody is the length past which a body is not stored: what is configured, or what the store has a place for.
func (h *Handler) largestBody() int64 { return min(h.maxBody, h.app.cache.store.LargestBody()) }

// policyOf translates the configuration for rfc9111.
func policyOf(c *cfg.HandlerConfig) rfc9111.Policy {
	p := rfc9111.Policy{
		TTL: ttlRules(c.TTL), ForceTTL: ttlRules(c.ForceTTL), MaxTTL: time.Duration(c.MaxTTL),
		Ignore:                 c.Ignore,
		IgnoreClientDirectives: c.ClientDirectives == cfg.ClientDirectivesIgnore,
		Heuristic:              c.Heuristic,
		SafePost:               c.SafePost,
		StaleWhileRevalidate:   time.Duration(c.StaleWhileRevalidate),
		StaleIfError:           time.Duration(c.StaleIfError),
		DeceptionGuard:         c.DeceptionGuard,
		Targeted:               c.Targeted,
	}
	switch c.SetCookie {
	case cfg.SetCookieStrip:
		p.SetCookie = rfc9111.SetCookieStrip
	case cfg.SetCookieStore:
		p.SetCookie = rfc9111.SetCookieStore
	}
	return p
}

// ttlRules puts the most exact rules first, because rfc9111 takes the first that matches: a status before its class before a rule
// without statuses.
func ttlRules(rules cfg.TTLRules) []rfc9111.StatusTTL {
	var exact, class, general []rfc9111.StatusTTL
	for _, rule := range rules {
		d := time.Duration(rule.Duration)
		if len(rule.Status) == 0 {
			general = append(general, rfc9111.StatusTTL{Duration: d})
		}
		for _, status := range rule.Status {
			ttl := rfc9111.StatusTTL{Duration: d, Statuses: []rfc9111.StatusClass{rfc9111.StatusClass(status)}}
			if status < 10 {
				class = append(class, ttl)
			} else {
				exact = append(exact, ttl)
			}
		}
	}
	return append(append(exact, class...), general...)
}

func keyingOf(k *cfg.KeyConfig) keying {
	return keying{
		query:   queryRules{sort: k.Query.Sort, ignore: patterns(k.Query.Ignore), only: patterns(k.Query.Only)},
		headers: k.Header, cookies: k.Cookie,
	}
}

// patterns are as they were written, but in the form in which names are compared.
func patterns(written []string) []string {
	formed := make([]string, len(written))
	for i, pattern := range written {
		formed[i] = urlform.Query(pattern)
	}
	return formed
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)

package larder

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/httpcache"
)

// ServeHTTP implements caddyhttp.MiddlewareHandler. httpcache tells the story of a request; this
// file has the part of it that is Caddy's.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.purges(r) {
		h.servePurge(w, r)
		return nil
	}
	c := &clientRequest{next: next}
	if h.app.debug.isIn(r.Header) {
		c.Explain()
	}
	return h.serve(c, w, r)
}

// serve answers a request of which the caller may have the story explained.
func (h *Handler) serve(c *clientRequest, w http.ResponseWriter, r *http.Request) error {
	delete(r.Header, debugField)
	at := h.branch.standing(r)
	route, inner := h.routeFor(r, at)
	if !inner {
		delete(r.Header, httpcache.RepeatsField)
	}
	c.logged = at.logged
	id := c.Identity()
	h.identify(r, at, id)
	return toCaddy(route.Serve(&c.Request, w, r, id, c))
}

// clientRequest is a client's request as Caddy and the cache know it. It implements
// httpcache.Origin.
type clientRequest struct {
	httpcache.Request
	next      caddyhttp.Handler
	fetched   atomic.Pointer[subrequest] // the last that was made, see exposedOf
	decided   atomic.Bool
	published bool
	logged    bool // it can appear in an access log
}

// replacer is the client's. A field for it would make a hit's allocation larger.
func (c *clientRequest) replacer() *caddy.Replacer {
	return c.HTTP().Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}

// ServeHTTP implements httpcache.Origin.
func (c *clientRequest) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	c.publish()
	return toCache(c.next.ServeHTTP(w, r))
}

// Detach implements httpcache.Origin.
func (c *clientRequest) Detach(ctx context.Context, r *http.Request, copies int) httpcache.OriginRequest {
	s := newSubrequest(ctx, c, r, copies)
	c.publish() // while the replacer is the client's alone
	return s
}

// ClientAddr implements httpcache.Origin.
func (c *clientRequest) ClientAddr() string {
	if addr, ok := caddyhttp.GetVar(c.HTTP().Context(), caddyhttp.ClientIPVarKey).(string); ok {
		return addr
	}
	return c.HTTP().RemoteAddr
}

// Expand implements httpcache.Origin.
func (c *clientRequest) Expand(text string) string { return c.replacer().ReplaceAll(text, "") }

// Decided implements httpcache.Origin.
func (c *clientRequest) Decided(d *httpcache.Decision) {
	c.decided.Store(true)
	c.publish()
	if !c.logged { // fields that nobody reads would cost as much as the rest of a hit
		return
	}
	if extra, ok := c.HTTP().Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("larder_status", d.Outcome.String()))
		if reason := d.Reason(); reason != "" {
			extra.Set(zap.String("larder_reason", reason))
		}
		if key := c.ShortKey(); key != "" {
			extra.Set(zap.String("larder_key", key))
		}
		if times := c.Repeats(); times > 0 {
			extra.Set(zap.Int("larder_repeats", times))
		}
		if d.Bypass == httpcache.BypassObserve {
			extra.Set(zap.String("larder_would", d.Would.String()))
		}
	}
}

const (
	statusPlaceholder = "http.larder.status"
	reasonPlaceholder = "http.larder.reason"
	wouldPlaceholder  = "http.larder.would"

	repeatsPlaceholder = "http.larder.repeats"
)

// publish adds the placeholders to the request's replacer. The replacer asks its providers in the
// order in which they were added. So this handler's come before those of a larder handler behind
// this one, and the client is told the outermost answer. Setting them in the replacer's map would
// be simpler. But that map is mostly empty, and making it costs a third of what a hit allocates. A
// provider costs nothing until a placeholder is used.
//
// A fetch may ask the client's replacer, through a provider that has kept it (`map`), while the
// client is answered. So nothing is added to it once a fetch has begun.
func (c *clientRequest) publish() {
	if !c.published {
		c.published = true
		c.replacer().Map(c.placeholder)
	}
}

// placeholder is a caddy.ReplacerFunc.
func (c *clientRequest) placeholder(name string) (value any, known bool) {
	if c.decided.Load() {
		switch d := c.Decision(); name {
		case statusPlaceholder:
			return outcomeWords[d.Outcome], true
		case reasonPlaceholder:
			return d.Reason(), true
		case wouldPlaceholder:
			if d.Bypass != httpcache.BypassObserve {
				return "", true
			}
			return outcomeWords[d.Would], true
		case repeatsPlaceholder:
			return c.Repeats(), true
		}
	}
	if s := exposedOf(c.fetched.Load()); s != nil {
		return s.exposedPlaceholder(name)
	}
	return nil, false
}

// outcomeWords are the words as Caddy's replacer takes them, made once.
var outcomeWords = func() (words [httpcache.OutcomeCount]any) {
	for o := range httpcache.OutcomeCount {
		words[o] = o.String()
	}
	return words
}()

// toCache gives an error the status that Caddy would answer it with.
func toCache(err error) error {
	if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](err); ok && handlerErr.StatusCode != 0 {
		return &httpcache.Error{Status: handlerErr.StatusCode, Err: err}
	}
	return err
}

// toCaddy is the opposite. An error of the handlers becomes again what they returned. One of the
// cache's own becomes an error that handle_errors takes.
func toCaddy(err error) error {
	own, ok := errors.AsType[*httpcache.Error](err)
	if !ok {
		return err
	}
	for ok { // the failure of a fetch, wrapped once more for each request that waited
		var cause *httpcache.Error
		if cause, ok = own.Err.(*httpcache.Error); ok { //nolint:errorlint // the one directly within
			own = cause
		}
	}
	if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](own.Err); ok && handlerErr.StatusCode == own.Status {
		return own.Err
	}
	return caddyhttp.Error(own.Status, own.Err)
}

// Interface guards.
var (
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ httpcache.Origin            = (*clientRequest)(nil)
)

// Package caddyfiletest has what tests need that adapt a Caddyfile with larder: a handler in place
// of the root package's, which packages below that cannot import.
package caddyfiletest

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/caddyfile"
)

// Handler has the configuration of a larder directive, and answers nothing.
type Handler struct {
	caddyfile.HandlerConfig
}

// Register registers the directive, whose handlers are of type Handler. It is for TestMain.
func Register() {
	caddy.RegisterModule(new(Handler))
	caddyfile.Register(func(c caddyfile.HandlerConfig) caddyhttp.MiddlewareHandler { return &Handler{c} })
}

// CaddyModule implements caddy.Module.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.larder", New: func() caddy.Module { return new(Handler) }}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (*Handler) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error { return nil }

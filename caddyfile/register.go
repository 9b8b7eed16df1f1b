package caddyfile

import (
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// name is the directive, the global option, the app and the last part of the handler's module ID.
const name = "larder"

// Register tells Caddy's Caddyfile adapter of the directive and of the global option. newHandler
// wraps a parsed configuration in the module that is registered as http.handlers.larder; only its
// JSON form survives adaptation. Register panics if another plugin has taken the name, as all
// registrations of Caddy do, and is called once, from an init function.
//
// The directive stands after request_header and before encode. It is behind authentication, so that
// a hit never answers a client that the site would refuse, and around encode, so that what is
// stored is compressed once and not at every hit.
func Register(newHandler func(HandlerConfig) caddyhttp.MiddlewareHandler) {
	httpcaddyfile.RegisterHandlerDirective(name, func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		var places Places
		if h.Option(KeepPlaces) != nil {
			places = placesIn(h.Dispenser)
		}
		config, err := parseHandler(h)
		if err != nil {
			return nil, err
		}
		if places != nil {
			return &placed{newHandler(config), config, places}, nil
		}
		return newHandler(config), nil
	})
	httpcaddyfile.RegisterDirectiveOrder(name, httpcaddyfile.After, "request_header")
	httpcaddyfile.RegisterGlobalOption(name, func(d *caddyfile.Dispenser, existing any) (any, error) {
		config, err := parseApp(d, existing)
		if err != nil {
			return nil, err
		}
		return httpcaddyfile.App{Name: name, Value: caddyconfig.JSON(config, nil)}, nil
	})
}

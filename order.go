package larder

import (
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/check"
)

// A cache in front of authentication answers before the client is authenticated. By default the
// directive stands behind basic_auth and forward_auth. `order larder before rewrite`, which the
// configurations of other caches teach, moves it in front without a warning.

// warnOfOrder logs each larder handler that stands in front of an authentication handler. When apps
// start, the routes of all servers have been provisioned.
func warnOfOrder(servers map[string]*caddyhttp.Server, logger *zap.Logger) {
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		for _, p := range placesIn(servers[name]) {
			kind := authenticationIn(p.after)
			if kind == "" {
				continue
			}
			logger.Warn("larder stands in front of "+kind+": what is stored is answered without asking who it is for. "+
				"Take `order larder …` out of the global options, by default larder stands behind; "+
				"within a `route` write larder below it, and where it stands in a `handle` put larder into that, too",
				zap.String("server", name), zap.String("route", p.String()))
		}
	}
}

// authenticationIn names the directive of the first authentication handler, empty if there is none.
func authenticationIn(after []step) string {
	for _, s := range after {
		if moduleID(s.handler) == "http.handlers.authentication" {
			return "basic_auth or another authentication handler"
		}
		if rp, ok := s.handler.(*reverseproxy.Handler); ok && asksForPermission(rp) {
			return "forward_auth"
		}
	}
	return ""
}

// asksForPermission recognises the handler that forward_auth becomes: a reverse_proxy that sends a
// request of its own and goes on to the handlers behind it after a 2xx. Its `method` and `@ok
// status` may differ from those of forward_auth: which method it uses, and which 2xx it takes for a
// yes, makes no difference. A handler that goes on after any answer does not ask for permission.
func asksForPermission(rp *reverseproxy.Handler) bool {
	for _, response := range rp.HandleResponse {
		if response.Match != nil && check.TakesSuccess(response.Match) && !answers(response.Routes) {
			return true
		}
	}
	return false
}

// answers reports whether any handler in the routes may do more than change the request.
func answers(routes caddyhttp.RouteList) bool {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			if id := moduleID(handler); id != "http.handlers.vars" && id != "http.handlers.headers" {
				return true
			}
		}
	}
	return false
}

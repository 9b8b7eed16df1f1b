package larder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Caddy does not tell a handler what stands behind it: it passes a next that the handler cannot
// look into. So larder walks the routes of its server, once for each configuration. Every handler
// that a request may reach behind larder counts as standing there, whatever the matchers say. The
// matchers on its way are noted beside it.
//
// The walk knows the handlers of the standard modules that contain routes. In other handlers it
// finds nothing.
//
// Package check walks routes as well, in their JSON: a file that is checked has no handlers yet,
// and to make them would open what it names. Here the handlers themselves are looked for and looked
// into, and of those that run Caddy has dropped the JSON. What the two walks share is the list of
// handlers that contain routes: within here, and server.add there.

// place is where a larder handler stands in a server.
type place struct {
	handler caddyhttp.MiddlewareHandler
	path    string   // of its route, as the configuration has it: routes/0/handle/1/routes/2
	branch  string   // the routes for responses around it, see branch.go; empty for none
	hosts   []string // that the route and those around it match; empty for any
	after   []step   // in the order in which a request comes to them
	open    bool     // a request may go on to what follows the list of routes
}

// step is a handler behind a larder handler, or a route that has none.
type step struct {
	handler caddyhttp.MiddlewareHandler // nil: the route alone
	// What a request passes between the two, from the outside in.
	gates []gate
}

// gate is a route that lets some requests in and others not.
type gate struct {
	route    *caddyhttp.Route
	response bool // the route is for some responses or errors, whatever its matchers say
}

// placesIn finds the larder handlers of a server, with all that a request may reach behind each. A
// handler in a named route has a place wherever that route is invoked.
func placesIn(server *caddyhttp.Server) []place {
	w := walker{named: server.NamedRoutes}
	places := w.routes(server.Routes, "routes", nil)
	if server.Errors != nil {
		places = append(places, w.routes(server.Errors.Routes, "errors/routes", nil)...)
	}
	return places
}

// walker goes through the routes of a server.
type walker struct {
	named   map[string]*caddyhttp.Route
	invoked []string // the named routes being walked: one that invokes itself would have no end
}

// routes finds the places in a list of routes, and what follows each within the list.
func (w *walker) routes(list caddyhttp.RouteList, path string, hosts []string) (places []place) {
	for i, route := range list {
		own := fmt.Sprintf("%s/%d", path, i)
		for _, p := range w.route(&list[i], own, append(slices.Clip(hosts), hostsOf(&route)...)) {
			if p.open && !route.Terminal {
				p.after = append(p.after, w.following(list[i+1:], route.Group)...)
			}
			p.open = p.open && !route.Terminal
			places = append(places, p)
		}
	}
	return places
}

// route finds the places in one route, and what follows each within it.
func (w *walker) route(route *caddyhttp.Route, path string, hosts []string) (places []place) {
	for j, handler := range route.Handlers {
		var found []place
		if isLarder(handler) {
			found = []place{{handler: handler, path: path, hosts: hosts, open: true}}
		}
		w.within(handler, func(list caddyhttp.RouteList, name, branch string) {
			for _, p := range w.routes(list, fmt.Sprintf("%s/handle/%d/%s", path, j, name), hosts) {
				p.branch = branch + p.branch
				found = append(found, p)
			}
		})
		for _, p := range found {
			if p.open {
				p.after = append(p.after, w.all(route.Handlers[j+1:], nil)...)
			}
			places = append(places, p)
		}
	}
	return places
}

// following lists the steps in routes behind a route of the given group. No other route of that
// group runs.
func (w *walker) following(list caddyhttp.RouteList, group string) []step {
	return w.enter(list, group, nil, false)
}

// enter lists the steps in routes that are reached through gates.
func (w *walker) enter(list caddyhttp.RouteList, group string, gates []gate, response bool) (all []step) {
	for i, route := range list {
		if group == "" || route.Group != group {
			within := append(slices.Clip(gates), gate{&list[i], response})
			all = append(append(all, step{gates: within}), w.all(route.Handlers, within)...)
		}
	}
	return all
}

// all lists handlers and those in the routes inside of them.
func (w *walker) all(handlers []caddyhttp.MiddlewareHandler, gates []gate) (all []step) {
	for _, handler := range handlers {
		all = append(all, step{handler, gates})
		w.within(handler, func(list caddyhttp.RouteList, name, _ string) {
			all = append(all, w.enter(list, "", gates, forResponses(name))...)
		})
	}
	return all
}

// forResponses reports whether within has this name for routes that only some responses reach.
func forResponses(name string) bool {
	return strings.HasPrefix(name, "handle_response/") || strings.HasPrefix(name, "errors/")
}

// within visits the routes inside of a handler. name is their place in the handler's configuration,
// branch is not empty where they are for responses.
func (w *walker) within(handler caddyhttp.MiddlewareHandler, visit func(list caddyhttp.RouteList, name, branch string)) {
	for i, response := range responsesOf(handler) {
		visit(response.Routes, fmt.Sprintf("handle_response/%d/routes", i), branchOf(handler, response.Match))
	}
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		visit(h.Routes, "routes", "")
		if h.Errors != nil {
			visit(h.Errors.Routes, "errors/routes", "")
		}
	case *caddyhttp.Invoke:
		if route, ok := w.named[h.Name]; ok && !slices.Contains(w.invoked, h.Name) {
			w.invoked = append(w.invoked, h.Name)
			visit(caddyhttp.RouteList{*route}, "named_routes/"+h.Name, "")
			w.invoked = w.invoked[:len(w.invoked)-1]
		}
	}
}

// hostsOf lists the hosts that a route's matchers name.
func hostsOf(route *caddyhttp.Route) (hosts []string) {
	for _, set := range route.MatcherSets {
		for _, matcher := range set {
			if m, ok := matcher.(*caddyhttp.MatchHost); ok {
				hosts = append(hosts, *m...)
			}
		}
	}
	return hosts
}

// String names the place for an operator who looks for it in the configuration.
func (p *place) String() string {
	if len(p.hosts) == 0 {
		return p.path
	}
	return p.path + " (" + strings.Join(p.hosts, ", ") + ")"
}

func moduleID(handlerOrMatcher any) string {
	if module, ok := handlerOrMatcher.(caddy.Module); ok {
		return string(module.CaddyModule().ID)
	}
	return ""
}

// isLarder reports whether a handler is one of ours.
func isLarder(handler caddyhttp.MiddlewareHandler) bool {
	return moduleID(handler) == "http.handlers."+moduleName
}

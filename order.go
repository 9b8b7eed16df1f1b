package larder

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/fileserver"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/check"
)

// A cache in front of authentication answers before the client is authenticated. By default the
// directive stands behind basic_auth and forward_auth. `order larder before rewrite`, which the
// configurations of other caches teach, moves it in front without a warning. Behind reverse_proxy
// it gets no request, and what comes to two of them is stored at both.

// warnOfOrder logs what `caddy larder check` finds of where the larder handlers stand. When apps
// start, the routes of all servers have been provisioned.
func warnOfOrder(servers map[string]*caddyhttp.Server, logger *zap.Logger) {
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		for _, found := range check.Order(name, rawServer(servers[name])) {
			route := strings.TrimPrefix(found.Path, "apps/http/servers/"+name+"/")
			if len(found.Hosts) > 0 {
				route += " (" + strings.Join(found.Hosts, ", ") + ")"
			}
			logger.Warn("larder may stand in the wrong place: see the hint",
				zap.String("server", name), zap.String("route", route), zap.String("hint", found.Text))
		}
	}
}

// Caddy drops the JSON of a module when it has loaded it, and the rules of package check are for
// JSON. So what they look at is written anew: the names of handlers, the routes in them, and the
// matchers of routes.

// rawServer is the JSON of a server's routes.
func rawServer(s *caddyhttp.Server) *caddyhttp.Server {
	raw := &caddyhttp.Server{Routes: rawRoutes(s.Routes), NamedRoutes: make(map[string]*caddyhttp.Route)}
	if s.Errors != nil {
		raw.Errors = &caddyhttp.HTTPErrorConfig{Routes: rawRoutes(s.Errors.Routes)}
	}
	for name, route := range s.NamedRoutes {
		raw.NamedRoutes[name] = &rawRoutes(caddyhttp.RouteList{*route})[0]
	}
	return raw
}

func rawRoutes(list caddyhttp.RouteList) caddyhttp.RouteList {
	raw := make(caddyhttp.RouteList, len(list))
	for i := range list {
		raw[i] = caddyhttp.Route{Group: list[i].Group, Terminal: list[i].Terminal, MatcherSetsRaw: rawMatchers(list[i].MatcherSets)}
		for _, handler := range list[i].Handlers {
			raw[i].HandlersRaw = append(raw[i].HandlersRaw, rawHandler(handler))
		}
	}
	return raw
}

// rawHandler has of a handler's configuration what says where requests go on to, and whether they
// are changed on the way.
func rawHandler(handler caddyhttp.MiddlewareHandler) json.RawMessage {
	fields := map[string]any{"handler": strings.TrimPrefix(moduleID(handler), "http.handlers.")}
	switch h := handler.(type) {
	case *caddyhttp.Subroute:
		fields["routes"] = rawRoutes(h.Routes)
		if h.Errors != nil {
			fields["errors"] = map[string]any{"routes": rawRoutes(h.Errors.Routes)}
		}
	case *caddyhttp.Invoke:
		fields["name"] = h.Name
	case *fileserver.FileServer:
		fields["pass_thru"] = h.PassThru
	case *headers.Handler:
		if h.Request != nil {
			fields["request"] = h.Request
		}
	case *Handler:
		fields["observe"] = h.Observe
		fields["key"] = map[string]any{"query": h.Key.Query}
	}
	if list := responsesOf(handler); len(list) > 0 {
		responses := make([]map[string]any, 0, len(list))
		for _, response := range list {
			responses = append(responses, map[string]any{"match": response.Match, "routes": rawRoutes(response.Routes)})
		}
		fields["handle_response"] = responses
	}
	return rawJSON(fields)
}

// plainMatchers are Caddy's matchers whose JSON is whole when they have been provisioned.
var plainMatchers = []string{
	"client_ip", "expression", "header", "header_regexp", "host", "method", "path", "path_regexp", "protocol", "query", "remote_ip", "vars", "vars_regexp",
}

func rawMatchers(sets caddyhttp.MatcherSets) (raw caddyhttp.RawMatcherSets) {
	for _, set := range sets {
		matchers := make(caddy.ModuleMap)
		for _, matcher := range set {
			name := strings.TrimPrefix(moduleID(matcher), "http.matchers.")
			matchers[name] = rawMatcher(name, matcher)
		}
		raw = append(raw, matchers)
	}
	return raw
}

// rawMatcher is the JSON of a matcher. Of one that is not known it is a text that no other has.
func rawMatcher(name string, matcher any) json.RawMessage {
	if not, ok := matcher.(*caddyhttp.MatchNot); ok {
		return rawJSON(rawMatchers(not.MatcherSets))
	}
	if slices.Contains(plainMatchers, name) {
		return rawJSON(matcher)
	}
	return json.RawMessage(strconv.Quote(fmt.Sprintf("%p", matcher)))
}

// rawJSON is null where a value has no JSON.
func rawJSON(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		return json.RawMessage("null")
	}
	return text
}

package larder

import (
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/larder-cache/larder/httpcache"
)

// What handlers in front of larder write into fields and variables is seen in each request
// (httpcache/shown.go). What a matcher makes of the method of a HEAD, or of the spelling of a Host,
// is not: `request_header @head X-Kind short` writes a constant. Neither is what a `map` makes of
// it, nor the service that `forward_auth` asks, whose answer comes into fields. So the
// configuration is looked at. Each of these anywhere in the server counts as one in front: a HEAD
// that leads no fetch, and a Host in another spelling that bypasses, cost little.
// Of modules that are not Caddy's nothing is known.

// sight is what of a request is looked at that a key has in one form.
type sight struct{ method, host bool }

func (s *sight) add(o sight) { s.method, s.host = s.method || o.method, s.host || o.host }

// show tells an identity what the server of r looks at.
func (b *branch) show(r *http.Request, id *httpcache.Identity) {
	s := b.sight.Load()
	if s == nil {
		server := serverOf(r)
		if server == nil {
			return
		}
		made := sightOf(server) // its routes are complete by the first request
		s = &made
		b.sight.Store(s)
	}
	id.ShowsHead = id.ShowsHead || s.method && r.Method == http.MethodHead
	id.ShowsHost = id.ShowsHost || s.host && r.Host != id.Authority
}

// sightOf is what the matchers and maps of a server look at.
func sightOf(server *caddyhttp.Server) (s sight) {
	w := walker{named: server.NamedRoutes}
	steps := w.enter(server.Routes, "", nil, false)
	if server.Errors != nil {
		steps = append(steps, w.enter(server.Errors.Routes, "", nil, true)...)
	}
	for _, step := range steps {
		if step.handler == nil {
			s.add(sightOfMatchers(step.gates[len(step.gates)-1].route.MatcherSets))
		} else {
			s.add(sightOfHandler(step.handler))
		}
	}
	return s
}

// sightOfHandler is what a handler looks at whose outcome is a constant.
func sightOfHandler(handler caddyhttp.MiddlewareHandler) (s sight) {
	switch moduleID(handler) {
	case "http.handlers.map":
		return sightOfText(jsonText(handler))
	case "http.handlers.reverse_proxy": // as forward_auth, which sends the Host as it came
		if len(responsesOf(handler)) > 0 {
			s = sightOfText(jsonText(handler))
			s.host = true
		}
	}
	return s
}

func sightOfMatchers(sets caddyhttp.MatcherSets) (s sight) {
	for _, set := range sets {
		for _, matcher := range set {
			s.add(sightOfMatcher(matcher))
		}
	}
	return s
}

func sightOfMatcher(matcher any) (s sight) {
	switch m := matcher.(type) {
	case *caddyhttp.MatchHost: // in any spelling
		return s
	case *caddyhttp.MatchMethod:
		s.method = slices.Contains(*m, http.MethodGet) != slices.Contains(*m, http.MethodHead)
		return s
	case *caddyhttp.MatchHeader:
		s.host = namesHost(maps.Keys(*m))
	case *caddyhttp.MatchHeaderRE:
		s.host = namesHost(maps.Keys(*m))
	case *caddyhttp.MatchExpression: // which has functions beside placeholders
		s = sight{method: strings.Contains(m.Expr, "method"), host: strings.Contains(m.Expr, "header")}
	case *caddyhttp.MatchNot:
		for _, set := range m.MatcherSets {
			s.add(sightOfMatchers(caddyhttp.MatcherSets{set}))
		}
		return s
	}
	s.add(sightOfText(jsonText(matcher)))
	return s
}

func namesHost(fields iter.Seq[string]) bool {
	for name := range fields {
		if http.CanonicalHeaderKey(name) == "Host" {
			return true
		}
	}
	return false
}

// sightOfText is what the placeholders of a text stand for.
func sightOfText(text string) sight {
	anyOf := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.Contains(text, "http.request."+name) })
	}
	return sight{method: anyOf("method", "orig_method"), host: anyOf("host", "port", "header.Host")}
}

package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// Order returns what is found about where larder stands in a server: behind a handler that answers
// each request, twice for one request, or in front of authentication. Of the server it takes the
// JSON of handlers and matchers, and runs none.
func Order(name string, of *caddyhttp.Server) []Finding {
	c := &checker{source: &Source{}}
	s := newServer(name, of)
	for _, at := range s.larders {
		c.checkPosition(s, at)
	}
	return c.findings
}

// checkOrder looks at what stands in front of a handler and behind it.
func (c *checker) checkOrder(s *server, at *handler) {
	if !c.checkPosition(s, at) {
		return
	}
	c.checkDeferred(s, at)
	if !at.inResponse() && !slices.ContainsFunc(s.after(at.entry), func(e *entry) bool { return !passing[e.name] }) {
		write := "write reverse_proxy, file_server or another such directive"
		if last := at.innermost(); strings.HasPrefix(last.name, namedRoutes) {
			write = "of several directives in a named route Caddy keeps the first, so write route { … } around them"
		}
		c.report(at, "", "", "nothing behind larder answers, so it stores Caddy's empty answers at most; %s", write)
	}
}

// checkPosition looks at handlers that change what larder is for. It is false if no request comes.
func (c *checker) checkPosition(s *server, at *handler) bool {
	for _, e := range s.sites[at.site] {
		if e.answers && precedes(e, at.entry) && s.answersFor(e, at.entry) {
			c.report(at, "", "", "%s stands in front of larder and answers each request itself, so none comes here; %s", e.directive(), above(e, at.entry))
			return false
		}
	}
	c.checkTwice(s, at)
	for _, e := range s.sites[at.site] {
		if e.authenticates && s.leads(at.entry, e) {
			c.report(at, "", "", "larder stands in front of %s, so what is stored is answered without asking who it is for; %s", e.directive(), below(e, at.entry))
			break
		}
	}
	return true
}

// above says how larder comes in front of a handler.
func above(e, at *entry) string {
	switch {
	case e.inBlock(at):
		return "that is in a block of its own, such as handle or route, so write larder into the block, above it"
	case at.inBlock(e):
		return "write the block that larder is in above it, within a route { … }"
	}
	return "write larder above it, or take `order larder …` out of the global options"
}

// below says how larder comes behind a handler.
func below(e, at *entry) string {
	if e.inBlock(at) {
		return "that is in a block of its own, such as handle or route, so take larder out here, and write it into the block, below it, and into others beside that"
	}
	return "take `order larder …` out of the global options, or write larder below it"
}

// passing are Caddy's handlers that change a request or its answer and answer nothing themselves.
var passing = map[string]bool{
	"headers": true, "rewrite": true, "vars": true, "map": true, "encode": true, "templates": true, "request_body": true, "tracing": true,
	"log_append": true, "larder": true, "authentication": true, "push": true, "intercept": true,
}

// answersAll reports whether a handler lets no request go on to those behind it.
func answersAll(name string, raw json.RawMessage) bool {
	var config struct {
		PassThru       bool              `json:"pass_thru"`
		HandleResponse []json.RawMessage `json:"handle_response"`
	}
	switch name {
	case "file_server", "reverse_proxy":
		if json.Unmarshal(raw, &config) != nil {
			return false
		}
	}
	switch name {
	case "static_response", "error":
		return true
	case "file_server":
		return !config.PassThru
	case "reverse_proxy":
		return len(config.HandleResponse) == 0
	}
	return false
}

// directive is the handler as a Caddyfile has it.
func (e *entry) directive() string {
	switch e.name {
	case "static_response":
		return "respond"
	case "authentication":
		return "basic_auth or another authentication handler"
	case "headers":
		return "header"
	case "reverse_proxy":
		if e.authenticates {
			return "forward_auth"
		}
	}
	return e.name
}

// authenticates reports whether a handler refuses requests that show no permission: forward_auth is
// a reverse_proxy that goes on after a 2xx.
func authenticates(name string, h *nested) bool {
	if name != "reverse_proxy" {
		return name == "authentication"
	}
	for _, response := range h.HandleResponse {
		if response.Match != nil && takesSuccess(response.Match) && !answersAny(response.Routes) {
			return true
		}
	}
	return false
}

// takesSuccess reports whether a response with some 2xx matches, if it has the header that match
// asks for. Which 2xx an authentication service answers with makes no difference.
func takesSuccess(match *caddyhttp.ResponseMatcher) bool {
	byStatus := caddyhttp.ResponseMatcher{StatusCode: match.StatusCode}
	for status := http.StatusOK; status < http.StatusMultipleChoices; status++ {
		if byStatus.Match(status, nil) {
			return true
		}
	}
	return false
}

func answersAny(routes caddyhttp.RouteList) bool {
	for _, route := range routes {
		for _, raw := range route.HandlersRaw {
			var h nested
			if json.Unmarshal(raw, &h) != nil || h.Handler != "vars" && h.Handler != "headers" && (h.Handler != "subroute" || answersAny(h.Routes)) {
				return true
			}
		}
	}
	return false
}

// checkTwice finds another larder in front of this one. Caddy runs all whose matchers fit. One that
// only observes stores nothing.
func (c *checker) checkTwice(s *server, at *handler) {
	for _, other := range s.larders {
		e := other.entry
		if e.site != at.site && e.site != "" || other.config.Observe || at.config.Observe {
			continue
		}
		always := e.alwaysFor(at.entry)
		if !always && !at.alwaysFor(e) || !s.leads(e, at.entry) {
			continue
		}
		there := e.path
		if p := other.places.Find("", ""); p.File != "" {
			there = fmt.Sprintf("%s:%d", p.File, p.Line)
		}
		if always {
			c.report(at, "", "", "each request that comes here has come through the larder at %s already, and is stored at both; "+
				"leave one of the two out, or put each into a handle of its own", there)
		} else {
			c.report(at, "", "", "what matches the larder at %s comes here as well, because Caddy runs both; put each into a handle of its own", there)
		}
		return
	}
}

// checkDeferred finds a header directive in front that sets a lifetime after larder has decided.
// Where the directive has its own lifetime, that of the header is meant for browsers.
func (c *checker) checkDeferred(s *server, at *handler) {
	if at.hasLifetime() {
		return
	}
	for _, e := range s.before(at.entry) {
		if name := e.defersLifetime(); name != "" {
			c.report(at, "", "", "header sets %s when larder has decided already, so nothing is stored by it; "+
				"for larder write it within a route, below larder", name)
			return
		}
	}
}

// hasLifetime reports whether the directive gives a lifetime to ordinary responses.
func (at *handler) hasLifetime() bool {
	ordinary := func(rule cfg.TTLRule) bool {
		return len(rule.Status) == 0 || slices.ContainsFunc(rule.Status, func(m cfg.StatusMatch) bool { return m.String() == "200" })
	}
	return at.config.Heuristic || slices.ContainsFunc(at.config.TTL, ordinary) || slices.ContainsFunc(at.config.ForceTTL, ordinary)
}

// defersLifetime returns the field with a lifetime that a header directive sets when the response
// has come through all handlers behind it; empty if it does not.
func (e *entry) defersLifetime() string {
	var config struct {
		Response struct {
			Deferred bool                `json:"deferred"`
			Require  json.RawMessage     `json:"require"` // defers, too
			Set      map[string][]string `json:"set"`
			Add      map[string][]string `json:"add"`
		} `json:"response"`
	}
	if e.name != "headers" || json.Unmarshal(e.raw, &config) != nil || !config.Response.Deferred && config.Response.Require == nil {
		return ""
	}
	for _, fields := range []map[string][]string{config.Response.Set, config.Response.Add} {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			switch field := http.CanonicalHeaderKey(name); field {
			case "Expires":
				return field
			case "Cache-Control":
				if statesLifetime(strings.Join(fields[name], ",")) {
					return field
				}
			}
		}
	}
	return ""
}

var (
	// lifetime is a directive of Cache-Control with more than zero seconds, or a placeholder.
	lifetime = regexp.MustCompile(`(?i)(s-maxage|max-age)="?0*[1-9]|\{`)
	// forBrowsers are the directives with which a lifetime is none for a shared cache.
	forBrowsers = regexp.MustCompile(`(?i)no-store|no-cache|private`)
)

// statesLifetime reports whether a Cache-Control may give a lifetime to what is stored.
func statesLifetime(value string) bool {
	return lifetime.MatchString(value) && !forBrowsers.MatchString(value)
}

// dropsCookies reports whether a handler takes cookies out of requests.
func (e *entry) dropsCookies() bool {
	var config struct {
		Request map[string]json.RawMessage `json:"request"`
	}
	if e.name != "headers" || json.Unmarshal(e.raw, &config) != nil {
		return false
	}
	for _, raw := range config.Request {
		if strings.Contains(strings.ToLower(string(raw)), "cookie") {
			return true
		}
	}
	return false
}

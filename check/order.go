package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// checkOrder looks at what stands in front of a handler and behind it.
func (c *checker) checkOrder(s *server, at *spot) {
	for _, e := range s.before(at.entry) {
		if e.answersAll() && e.alwaysFor(at.entry) {
			c.report(at, "", "", "%s stands in front of larder and answers each request itself, so none comes here; write larder above it, "+
				"or take `order larder …` out of the global options", e.directive())
			return
		}
	}
	c.checkTwice(s, at)
	c.checkDeferred(s, at)
	after := s.after(at.entry)
	if !at.inResponse() && !slices.ContainsFunc(after, func(e *entry) bool { return !passing[e.name] }) {
		write := "write reverse_proxy, file_server or another such directive"
		if strings.Contains(at.path, "/named_routes/") {
			write = "of several directives in a named route Caddy keeps the first, so write route { … } around them"
		}
		c.report(at, "", "", "nothing behind larder answers, so it stores Caddy's empty answers at most; %s", write)
	}
	for _, e := range after {
		if e.authenticates() {
			c.report(at, "", "", "larder stands in front of %s, so what is stored is answered without asking who it is for; "+
				"take `order larder …` out of the global options, or write larder below it", e.directive())
			return
		}
	}
}

// passing are Caddy's handlers that change a request or its answer and answer nothing themselves.
var passing = map[string]bool{
	"headers": true, "rewrite": true, "vars": true, "map": true, "encode": true, "templates": true, "request_body": true, "tracing": true,
	"log_append": true, "larder": true, "authentication": true, "push": true, "intercept": true,
}

// answersAll reports whether a handler lets no request go on to those behind it.
func (e *entry) answersAll() bool {
	var config struct {
		PassThru       bool              `json:"pass_thru"`
		HandleResponse []json.RawMessage `json:"handle_response"`
	}
	if json.Unmarshal(e.raw, &config) != nil {
		return false
	}
	switch e.name {
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
		if e.authenticates() {
			return "forward_auth"
		}
	}
	return e.name
}

// authenticates reports whether a handler refuses requests that show no permission: forward_auth is
// a reverse_proxy that goes on after a 2xx.
func (e *entry) authenticates() bool {
	if e.name == "authentication" {
		return true
	}
	var h nested
	if e.name != "reverse_proxy" || json.Unmarshal(e.raw, &h) != nil {
		return false
	}
	for _, response := range h.HandleResponse {
		if response.Match != nil && TakesSuccess(response.Match) && !answersAny(response.Routes) {
			return true
		}
	}
	return false
}

// TakesSuccess reports whether a response with some 2xx matches, if it has the header that match
// asks for. Which 2xx an authentication service answers with makes no difference.
func TakesSuccess(match *caddyhttp.ResponseMatcher) bool {
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

// checkTwice finds another larder in front of this one. Caddy runs all whose matchers fit.
func (c *checker) checkTwice(s *server, at *spot) {
	before := s.before(at.entry)
	for _, other := range s.larders {
		e := other.entry
		if !slices.Contains(before, e) {
			continue
		}
		there := e.path
		if p := other.places.Find("", ""); p.File != "" {
			there = fmt.Sprintf("%s:%d", p.File, p.Line)
		}
		switch {
		case e.alwaysFor(at.entry) || sameMatchers(e, at.entry):
			c.report(at, "", "", "each request that comes here has come through the larder at %s already, and is stored at both; "+
				"leave one of the two out, or put each into a handle of its own", there)
			return
		case at.alwaysFor(e):
			c.report(at, "", "", "what matches the larder at %s comes here as well, because Caddy runs both; put each into a handle of its own", there)
			return
		}
	}
}

// sameMatchers compares the innermost routes.
func sameMatchers(a, b *entry) bool {
	x, errX := json.Marshal(a.frames[len(a.frames)-1].route.MatcherSetsRaw)
	y, errY := json.Marshal(b.frames[len(b.frames)-1].route.MatcherSetsRaw)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// checkDeferred finds a header directive in front that sets a lifetime after larder has decided.
func (c *checker) checkDeferred(s *server, at *spot) {
	for _, e := range s.before(at.entry) {
		var config struct {
			Response struct {
				Deferred bool                `json:"deferred"`
				Set      map[string][]string `json:"set"`
				Add      map[string][]string `json:"add"`
			} `json:"response"`
		}
		if e.name != "headers" || json.Unmarshal(e.raw, &config) != nil || !config.Response.Deferred {
			continue
		}
		for _, fields := range []map[string][]string{config.Response.Set, config.Response.Add} {
			for name := range fields {
				if name := http.CanonicalHeaderKey(name); name == "Cache-Control" || name == "Expires" {
					c.report(at, "", "", "header sets %s when larder has decided already, so nothing is stored by it; "+
						"for larder write it within a route, below larder", name)
					return
				}
			}
		}
	}
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

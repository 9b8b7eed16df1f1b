package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// server has the handlers of a server in the order in which a request comes to them.
type server struct {
	*caddyhttp.Server
	entries []*entry
	larders []*spot
}

// entry is a handler that contains no routes, or whose routes are for responses.
type entry struct {
	name   string // of the module: reverse_proxy
	raw    json.RawMessage
	path   string  // in the configuration
	frames []frame // the routes around it, from the outside in
}

// frame is a route around a handler.
type frame struct {
	list     string // the path of the list that it is in
	index    int
	route    *caddyhttp.Route
	response bool // it is for some responses or errors, whatever its matchers say
}

// spot is a larder handler.
type spot struct {
	*entry
	config cfg.HandlerConfig
	places cfg.Places
	err    error // of its configuration
}

func newServer(name string, s *caddyhttp.Server) *server {
	all := &server{Server: s}
	path := "apps/http/servers/" + name
	all.walk(s.Routes, path+"/routes", nil, nil, false)
	if s.Errors != nil {
		all.walk(s.Errors.Routes, path+"/errors/routes", nil, nil, true)
	}
	for _, e := range all.entries {
		if e.name == "larder" {
			all.larders = append(all.larders, newSpot(e))
		}
	}
	return all
}

// walk adds the handlers in a list of routes. invoked are the named routes around them: one that
// invokes itself would have no end.
func (s *server) walk(list caddyhttp.RouteList, path string, around []frame, invoked []string, response bool) {
	for i := range list {
		frames := append(slices.Clip(around), frame{path, i, &list[i], response})
		for j, raw := range list[i].HandlersRaw {
			s.add(raw, fmt.Sprintf("%s/%d/handle/%d", path, i, j), frames, invoked)
		}
	}
}

// nested are the routes in a handler's configuration.
type nested struct {
	Handler string              `json:"handler"`
	Name    string              `json:"name"` // of a named route
	Routes  caddyhttp.RouteList `json:"routes"`
	Errors  *struct {
		Routes caddyhttp.RouteList `json:"routes"`
	} `json:"errors"`
	HandleResponse []struct {
		Match  *caddyhttp.ResponseMatcher `json:"match"`
		Routes caddyhttp.RouteList        `json:"routes"`
	} `json:"handle_response"`
}

// add adds a handler and those in the routes inside of it.
func (s *server) add(raw json.RawMessage, path string, frames []frame, invoked []string) {
	var h nested
	var name struct {
		Handler string `json:"handler"`
	}
	if json.Unmarshal(raw, &name) != nil {
		return
	}
	switch name.Handler {
	case "subroute", "invoke", "reverse_proxy", "intercept":
		if json.Unmarshal(raw, &h) != nil {
			return
		}
	}
	if name.Handler != "subroute" && name.Handler != "invoke" {
		s.entries = append(s.entries, &entry{name.Handler, raw, path, frames})
	}
	if name.Handler == "subroute" {
		s.walk(h.Routes, path+"/routes", frames, invoked, false)
		if h.Errors != nil {
			s.walk(h.Errors.Routes, path+"/errors/routes", frames, invoked, true)
		}
	}
	if route := s.NamedRoutes[h.Name]; name.Handler == "invoke" && route != nil && !slices.Contains(invoked, h.Name) {
		s.walk(caddyhttp.RouteList{*route}, path+"/named_routes/"+h.Name, frames, append(slices.Clip(invoked), h.Name), false)
	}
	for i, response := range h.HandleResponse {
		s.walk(response.Routes, fmt.Sprintf("%s/handle_response/%d/routes", path, i), frames, invoked, true)
	}
}

// newSpot reads the configuration of a larder handler.
func newSpot(e *entry) *spot {
	at := &spot{entry: e}
	var members map[string]json.RawMessage
	if at.err = json.Unmarshal(e.raw, &members); at.err == nil {
		at.err = json.Unmarshal(orEmpty(members["@places"]), &at.places)
		delete(members, "handler")
		delete(members, "@places")
		if text, err := json.Marshal(members); err == nil && at.err == nil {
			at.err = caddy.StrictUnmarshalJSON(text, &at.config)
		}
	}
	if at.err == nil {
		at.err = at.config.Check()
	}
	return at
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("[]")
	}
	return raw
}

// before lists the handlers from which a request may go on to this one.
func (s *server) before(at *entry) (list []*entry) {
	for _, e := range s.entries[:slices.Index(s.entries, at)] {
		if leads(e, at) {
			list = append(list, e)
		}
	}
	return list
}

// after lists the handlers to which a request may go on from this one.
func (s *server) after(at *entry) (list []*entry) {
	for _, e := range s.entries[slices.Index(s.entries, at)+1:] {
		if leads(at, e) {
			list = append(list, e)
		}
	}
	return list
}

// leads reports whether a request may go on from one handler to a later one.
func leads(from, to *entry) bool {
	if strings.HasPrefix(to.path, from.path+"/") || from.inResponse() != to.inResponse() {
		return false
	}
	n := common(from, to)
	if n < len(from.frames) && n < len(to.frames) {
		a, b := from.frames[n], to.frames[n]
		if a.list != b.list || a.route.Group != "" && a.route.Group == b.route.Group {
			return false
		}
	}
	return !slices.ContainsFunc(from.frames[n:], func(f frame) bool { return f.route.Terminal })
}

// common counts the routes that are around both.
func common(a, b *entry) (n int) {
	for n < len(a.frames) && n < len(b.frames) && a.frames[n].list == b.frames[n].list && a.frames[n].index == b.frames[n].index {
		n++
	}
	return n
}

// inResponse reports whether it is among the routes for responses or errors.
func (e *entry) inResponse() bool {
	return slices.ContainsFunc(e.frames, func(f frame) bool { return f.response })
}

// alwaysFor reports whether each request that comes to another handler comes to this one as well,
// where it stands in front of it or behind it.
func (e *entry) alwaysFor(other *entry) bool {
	return !slices.ContainsFunc(e.frames[common(e, other):], func(f frame) bool { return len(f.route.MatcherSetsRaw) > 0 })
}

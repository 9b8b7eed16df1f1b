package check

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	cfg "github.com/larder-cache/larder/caddyfile"
)

// server has the handlers of a server in the order in which a request comes to them.
type server struct {
	*caddyhttp.Server
	entries []*entry
	larders []*handler
	version int // of the request behind the entries
	// sites have for each entry.site its entries and those that are in none, in the same order.
	sites map[string][]*entry
}

// entry is a handler that contains no routes, or whose routes are for responses.
type entry struct {
	name    string // of the module: reverse_proxy
	raw     json.RawMessage
	path    string  // in the configuration
	frames  []frame // the routes around it, from the outside in
	index   int     // among those of the server
	answers bool    // it lets no request go on to those behind it
	// authenticates says that it refuses requests that show no permission.
	authenticates bool
	site          string // the terminal route of the server that it is in; empty for none
	version       int    // of the request that comes to it, as of frame
}

// innermost is the route that it is in.
func (e *entry) innermost() *frame { return &e.frames[len(e.frames)-1] }

// frame is a route around a handler.
type frame struct {
	owner    string // the path of the handler that the route is in, or of the server
	name     string // of the list in its owner that the route is in, where it has several
	list     caddyhttp.RouteList
	index    int
	matchers []matchers // of the route
	response bool       // it is for some responses or errors, whatever its matchers say
	// version counts the handlers in front that may have changed the request. What matches at one
	// version is not known to match at another.
	version int
}

// route is the route itself.
func (f *frame) route() *caddyhttp.Route { return &f.list[f.index] }

// site names a route from which no request goes on to those beside it, as the blocks of a Caddyfile
// become; it is empty for another one.
func (f *frame) site() string {
	if !f.route().Terminal {
		return ""
	}
	return fmt.Sprintf("%s/%s/%d", f.owner, f.name, f.index)
}

// beside reports whether two routes are in one list.
func (f *frame) beside(other *frame) bool { return f.owner == other.owner && f.name == other.name }

// handler is a larder handler.
type handler struct {
	*entry
	config cfg.HandlerConfig
	places cfg.Places
	err    error // of its configuration
}

func newServer(name string, s *caddyhttp.Server) *server {
	all := &server{Server: s, sites: make(map[string][]*entry)}
	path := "apps/http/servers/" + name
	all.walk(s.Routes, frame{owner: path, name: "routes"}, nil, nil)
	if s.Errors != nil {
		all.walk(s.Errors.Routes, frame{owner: path, name: "errors/routes", response: true}, nil, nil)
	}
	for _, e := range all.entries {
		if e.name == "larder" {
			all.larders = append(all.larders, newHandler(e))
			all.sites[e.site] = nil
		}
	}
	all.sortBySite()
	return all
}

// sortBySite fills in the sites that have a larder. From one site no request goes on to another
// one, and a server may have thousands.
func (s *server) sortBySite() {
	for _, e := range s.entries {
		if e.site == "" {
			for site := range s.sites {
				s.sites[site] = append(s.sites[site], e)
			}
		} else if list, ok := s.sites[e.site]; ok {
			s.sites[e.site] = append(list, e)
		}
	}
	s.sites[""] = s.entries // a larder in none may lead to all
}

// walk adds the handlers in a list of routes, which are as in says. invoked are the named routes
// around them: one that invokes itself would have no end.
func (s *server) walk(list caddyhttp.RouteList, in frame, around []frame, invoked []string) {
	in.list = list
	for in.index = range list {
		in.matchers, in.version = matchersOf(list[in.index].MatcherSetsRaw), s.version
		frames := append(slices.Clip(around), in)
		for j, raw := range list[in.index].HandlersRaw {
			s.add(raw, fmt.Sprintf("%s/%s/%d/handle/%d", in.owner, in.name, in.index, j), frames, invoked)
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

// add adds a handler and those in the routes inside of it. A handler that contains routes is to be
// known to behind.go of the root package, too.
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
		s.entries = append(s.entries, &entry{
			name: name.Handler, raw: raw, path: path, frames: frames, index: len(s.entries), answers: answersAll(name.Handler, raw), site: frames[0].site(),
			authenticates: authenticates(name.Handler, &h), version: s.version,
		})
		if changesRequest(name.Handler, raw) {
			s.version++
		}
	}
	if name.Handler == "subroute" {
		s.walk(h.Routes, frame{owner: path, name: "routes"}, frames, invoked)
		if h.Errors != nil {
			s.walk(h.Errors.Routes, frame{owner: path, name: "errors/routes", response: true}, frames, invoked)
		}
	}
	if route := s.NamedRoutes[h.Name]; name.Handler == "invoke" && route != nil && !slices.Contains(invoked, h.Name) {
		s.walk(caddyhttp.RouteList{*route}, frame{owner: path, name: namedRoutes + h.Name}, frames, append(slices.Clip(invoked), h.Name))
	}
	for i, response := range h.HandleResponse {
		s.walk(response.Routes, frame{owner: path, name: fmt.Sprintf("handle_response/%d/routes", i), response: true}, frames, invoked)
	}
}

// namedRoutes begins the name of the list that has the named route of an invoke.
const namedRoutes = "named_routes/"

// newHandler reads the configuration of a larder handler.
func newHandler(e *entry) *handler {
	at := &handler{entry: e}
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

// inResponse reports whether it is among the routes for responses or errors.
func (e *entry) inResponse() bool {
	return slices.ContainsFunc(e.frames, func(f frame) bool { return f.response })
}

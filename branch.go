package larder

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/larder-cache/larder/httpcache"
)

// The routes of handle_response answer a request by what a response to it says: its status, its
// header. So a larder handler in one of them gives other answers to a request than one in the main
// routes, or in another handle_response, and the request does not tell which it comes to. The
// branch that it stands in is in the key. A handler behind such a response, as all that follow
// forward_auth are, stands in the main routes.

// A larder handler behind another one has keys of its own as well: what stands between them changes
// the answer of the one in front, which would be answered from what the other has stored.

// branch names the routes for responses that a handler stands in, in the form of Identity.Branch.
type branch struct {
	handler *Handler
	known   atomic.Pointer[standing]
	sight   atomic.Pointer[sight] // see infront.go
}

// standing is what the configuration says of where a handler stands.
type standing struct {
	name   string
	fronts []*Handler       // larder handlers that a request may pass before it, and that change answers
	inner  *httpcache.Route // for requests that have; nil if they are answered as others are
	noted  bool             // another larder handler may follow
	logged bool             // its server has access logs
	errors bool             // a request may come to it in routes for errors
}

// branchFor returns the branch of a request, empty for the first handler in the main routes.
func (s *standing) branchFor(r *http.Request) string {
	if s.name == "" {
		return ""
	}
	return s.name + statusOfResponse(r)
}

// standing returns what the configuration says. It is made at the first request, because the routes
// of the server are complete by then.
func (b *branch) standing(r *http.Request) *standing {
	if known := b.known.Load(); known != nil {
		return known
	}
	server := serverOf(r)
	if server == nil {
		return &standing{errors: true}
	}
	places := placesIn(server)
	s := &standing{name: branchIn(places, b.handler), logged: server.Logs != nil}
	fronts := inFront(places, b.handler)
	if n := len(fronts); n > 0 {
		s.name += "behind " + strconv.Itoa(n) + "\n"
	}
	s.setInner(b.handler.route, fronts)
	own := slices.DeleteFunc(places, func(p place) bool { return p.handler != caddyhttp.MiddlewareHandler(b.handler) })
	s.noted = slices.ContainsFunc(own, func(p place) bool {
		return slices.ContainsFunc(p.after, func(s step) bool { return isLarder(s.handler) })
	})
	// Where routes of another module have it, nothing is known of its places.
	s.errors = len(own) == 0 || slices.ContainsFunc(own, func(p place) bool { return strings.Contains(p.path, "errors/routes") })
	b.known.Store(s)
	return s
}

// A larder handler behind another one leaves the fields that carry tags to that one: otherwise it
// would store the response without them, and a purge by tag would leave it there. The one in front
// takes them out, unless it is to keep them.

// passedVar is the var of a request that lists the larder handlers that it has passed.
const passedVar = "larder.passed"

// setInner makes the route for requests that have passed a larder handler in front. It keeps the
// fields that each of these takes out.
func (s *standing) setInner(own *httpcache.Route, fronts map[caddyhttp.MiddlewareHandler]bool) {
	if own == nil {
		return
	}
	keep := slices.Clone(own.Tags.From)
	for front := range fronts {
		if h, ok := front.(*Handler); ok && h.route != nil && !h.route.Observe {
			s.fronts = append(s.fronts, h)
			keep = slices.DeleteFunc(keep, func(name string) bool { return !slices.Contains(h.route.Tags.From, name) })
		}
	}
	if len(s.fronts) > 0 && len(keep) > 0 {
		s.inner = own.KeepingTags(keep)
	}
}

// routeFor returns the route that answers a request, which passes h now, at s. inner says that it
// has passed another larder handler.
func (h *Handler) routeFor(r *http.Request, s *standing) (route *httpcache.Route, inner bool) {
	if len(s.fronts) == 0 && !s.noted {
		return h.route, false
	}
	passed, _ := caddyhttp.GetVar(r.Context(), passedVar).([]*Handler)
	if s.noted {
		caddyhttp.SetVar(r.Context(), passedVar, append(slices.Clip(passed), h))
	}
	inner = slices.ContainsFunc(passed, func(front *Handler) bool { return slices.Contains(s.fronts, front) })
	if inner && s.inner != nil {
		return s.inner, true
	}
	return h.route, inner
}

// inFront are the other larder handlers that a request may pass before this one.
func inFront(places []place, handler caddyhttp.MiddlewareHandler) map[caddyhttp.MiddlewareHandler]bool {
	front := make(map[caddyhttp.MiddlewareHandler]bool)
	for _, p := range places {
		if p.handler != handler && slices.ContainsFunc(p.after, func(s step) bool { return s.handler == handler }) {
			front[p.handler] = true
		}
	}
	return front
}

// branchIn names the branch of a handler. One in a named route may stand in several, and wherever
// it does the same handlers answer: it has one name. In the main routes that is the empty one.
func branchIn(places []place, handler caddyhttp.MiddlewareHandler) string {
	var names []string
	for _, p := range places {
		if p.handler == handler {
			names = append(names, p.branch)
		}
	}
	slices.Sort(names)
	if len(names) == 0 || names[0] == "" {
		return ""
	}
	return strings.Join(slices.Compact(names), "or ")
}

// branchOf names the routes for the responses that match. Their number would be another after a
// reload that changes their order, and the answers of one would be those of the other.
func branchOf(handler caddyhttp.MiddlewareHandler, match *caddyhttp.ResponseMatcher) string {
	matches, err := json.Marshal(match)
	if err != nil {
		matches = []byte(err.Error())
	}
	return moduleID(handler) + " " + string(matches) + "\n"
}

// responsesOf are the routes of a handler for responses.
func responsesOf(handler caddyhttp.MiddlewareHandler) []caddyhttp.ResponseHandler {
	switch h := handler.(type) {
	case *reverseproxy.Handler:
		return h.HandleResponse
	case *intercept.Intercept:
		return h.HandleResponse
	}
	return nil
}

// statusOfResponse is the status of the response that has brought a request to its branch, and of
// the one outside of that: the routes for one answer by it too, as in
// `rewrite * /{rp.status_code}.html`.
func statusOfResponse(r *http.Request) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	proxied, _ := repl.GetString("http.reverse_proxy.status_code")
	intercepted, _ := repl.GetString("http.intercept.status_code")
	return proxied + " " + intercepted
}

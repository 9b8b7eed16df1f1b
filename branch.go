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
	handler caddyhttp.MiddlewareHandler
	known   atomic.Pointer[string]
}

// of returns the branch of a request, empty for the first handler in the main routes.
func (b *branch) of(r *http.Request) string {
	name := b.name(r)
	if name == "" {
		return ""
	}
	return name + statusOfResponse(r)
}

// name is what the configuration says of the branch. It is made at the first request, because the
// routes of the server are complete by then.
func (b *branch) name(r *http.Request) string {
	if known := b.known.Load(); known != nil {
		return *known
	}
	server := serverOf(r)
	if server == nil {
		return ""
	}
	places := placesIn(server)
	name := branchIn(places, b.handler)
	if n := inFront(places, b.handler); n > 0 {
		name += "behind " + strconv.Itoa(n) + "\n"
	}
	b.known.Store(&name)
	return name
}

// inFront is how many other larder handlers a request may pass before this one.
func inFront(places []place, handler caddyhttp.MiddlewareHandler) int {
	front := make(map[caddyhttp.MiddlewareHandler]bool)
	for _, p := range places {
		if p.handler != handler && slices.ContainsFunc(p.after, func(s step) bool { return s.handler == handler }) {
			front[p.handler] = true
		}
	}
	return len(front)
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

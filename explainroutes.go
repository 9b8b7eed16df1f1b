package larder

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	cfg "github.com/larder-cache/larder/caddyfile"
	"github.com/larder-cache/larder/httpcache"
	"github.com/larder-cache/larder/inspect"
)

// A request is explained by the routes that would answer it. They are compiled anew by Caddy, with
// the matchers and handlers of the running configuration, but each handler stands in a spy:
//
//	route ─ matchers ─┬─ spy{handler} ─► spy{subroute} ─► … ─► spy{larder} ─► spy{reverse_proxy}
//	                  │      │                                      │
//	                  │      └─ has not called the next one: it     └─ decides, and without fetch
//	                  │         has answered, so Larder sees        ends here
//	                  │         nothing of the request
//	                  └─ none matches: no site answers
//
// So the request meets what a client's would, and it is known which handler it has ended at. No
// listener, access log or count of Caddy's server takes part.
//
// Without fetch nothing may be asked of an origin, on routes without larder either. So a handler
// runs only if larder can come behind it, or if it is one of Caddy's that answer by themselves.

// explainedRun is one request on its way through the routes.
type explainedRun struct {
	ctx    caddy.Context
	server *caddyhttp.Server
	fetch  bool

	reached atomic.Bool // larder; what is behind it may run on another goroutine
	handler *Handler
	trace   *httpcache.Trace
	purge   *inspect.Explained // of a PURGE that the handler answers, which has no trace

	answer discardingWriter
	ended  *spy // that has not called the next handler
	held   bool // and has not been run
	within *spy // on whose answer it depends whether larder gets the request
	kept   bool // a matcher has kept the request from a larder in front
	status int  // of its answer
	err    error
}

// do sends the request through the routes, and through those for errors.
func (x *explainedRun) do(r *http.Request) error {
	w := &x.answer
	*w = discardingWriter{header: http.Header{"Server": {"Caddy"}}, headerOnly: !x.fetch}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, x.server)
	routes, err := x.routes(x.server.Routes, false)
	if err != nil {
		return err
	}
	err = x.serve(routes, w, r)
	if err != nil && x.server.Errors != nil && !x.reached.Load() {
		x.kept = false
		routes, listErr := x.routes(x.server.Errors.Routes, false)
		if listErr != nil {
			return listErr
		}
		if errs := x.serve(routes, w, x.forErrors(r, err)); errs == nil {
			err = nil
		}
	}
	if handlerErr, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		x.status = handlerErr.StatusCode
	} else if x.status = w.status; err != nil {
		x.status = http.StatusInternalServerError
	}
	x.err = err
	return nil
}

// serve runs routes. A handler may break an answer off by a panic, as `abort` does.
func (x *explainedRun) serve(routes caddyhttp.RouteList, w http.ResponseWriter, r *http.Request) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the answer was broken off: %v", v)
		}
	}()
	end := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	return routes.Compile(end).ServeHTTP(w, r)
}

// forErrors makes of a request the one that the routes for errors get: what was rewritten is as the
// client has sent it.
func (x *explainedRun) forErrors(r *http.Request, err error) *http.Request {
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		u := *orig.URL
		r.Method, r.RemoteAddr, r.RequestURI, r.URL = orig.Method, orig.RemoteAddr, orig.RequestURI, &u
	}
	return x.server.Errors.WithError(r, err)
}

// routes compiles a list with spies. behind says that larder may come behind the whole list.
func (x *explainedRun) routes(list caddyhttp.RouteList, behind bool) (caddyhttp.RouteList, error) {
	spied := make(caddyhttp.RouteList, len(list))
	for i := range list {
		after := !list[i].Terminal && (behind || slices.ContainsFunc(list[i+1:], func(later caddyhttp.Route) bool {
			return (list[i].Group == "" || later.Group != list[i].Group) && x.leads(later.Handlers)
		}))
		kept := slices.ContainsFunc(list[:i], func(earlier caddyhttp.Route) bool {
			return !earlier.Terminal && (earlier.Group == "" || earlier.Group != list[i].Group) && x.leads(earlier.Handlers)
		})
		route, err := x.route(&list[i], after, kept)
		if err != nil {
			return nil, err
		}
		spied[i] = *route
	}
	return spied, nil
}

// route compiles a route. kept says that a request which comes here, and has come to no larder, was
// kept from one by a matcher.
func (x *explainedRun) route(route *caddyhttp.Route, behind, kept bool) (*caddyhttp.Route, error) {
	spied := &caddyhttp.Route{Group: route.Group, MatcherSets: route.MatcherSets, Terminal: route.Terminal}
	for j, handler := range route.Handlers {
		spied.Handlers = append(spied.Handlers, &spy{x, handler, behind || x.leads(route.Handlers[j+1:]), kept})
	}
	if err := spied.ProvisionHandlers(x.ctx, nil); err != nil { // compiles those that are there
		return nil, fmt.Errorf("compiling the routes: %w", err)
	}
	return spied, nil
}

// leads reports whether larder is among handlers, or in the routes inside of them.
func (x *explainedRun) leads(handlers []caddyhttp.MiddlewareHandler) bool {
	w := walker{named: x.server.NamedRoutes}
	return slices.ContainsFunc(w.all(handlers, nil), func(s step) bool { return s.handler != nil && isLarder(s.handler) })
}

// leadsWithin reports whether larder is in the routes that a handler has for responses.
func (x *explainedRun) leadsWithin(handler caddyhttp.MiddlewareHandler) bool {
	return slices.ContainsFunc(responsesOf(handler), func(response caddyhttp.ResponseHandler) bool {
		return slices.ContainsFunc(response.Routes, func(route caddyhttp.Route) bool { return x.leads(route.Handlers) })
	})
}

// spy is a handler in the routes of a request that is explained.
type spy struct {
	run     *explainedRun
	handler caddyhttp.MiddlewareHandler
	leads   bool // larder can come behind it
	kept    bool // as of route
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (s *spy) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x := s.run
	if x.reached.Load() {
		return s.handler.ServeHTTP(w, r, next)
	}
	x.kept = x.kept || s.kept
	switch h := s.handler.(type) {
	case *Handler:
		return x.decide(h, w, r, next)
	case *caddyhttp.Subroute:
		return x.subroute(h, s.leads, w, r, next)
	case *caddyhttp.Invoke:
		if named, ok := x.server.NamedRoutes[h.Name]; ok {
			route, err := x.route(named, s.leads, false)
			if err != nil {
				return err
			}
			return route.Compile(next).ServeHTTP(w, r)
		}
	}
	if x.leadsWithin(s.handler) {
		x.within = s
	}
	if !x.fetch && !s.harmless() {
		x.ended, x.held = s, true
		return nil
	}
	handler, err := x.responding(s.handler, s.leads)
	if err != nil {
		return err
	}
	passed, ended := false, x.ended
	err = x.run(handler, w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		passed = true
		return next.ServeHTTP(w, r)
	}))
	if !passed && x.ended == ended { // not within the handler
		x.ended = s
	}
	return err
}

// run runs a handler. One that breaks its answer off behind the header has answered: no more than
// that was wanted of it.
func (x *explainedRun) run(handler caddyhttp.MiddlewareHandler, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (err error) {
	defer func() {
		v := recover()
		aborted, _ := v.(error)
		if v != nil && (!errors.Is(aborted, http.ErrAbortHandler) || !x.answer.ended) {
			panic(v)
		}
		if x.answer.ended && (v != nil || errors.Is(err, errHeaderOnly)) {
			err = nil
		}
	}()
	return handler.ServeHTTP(w, r, next)
}

// responding returns a handler with spies in the routes that it has for responses.
func (x *explainedRun) responding(handler caddyhttp.MiddlewareHandler, leads bool) (caddyhttp.MiddlewareHandler, error) {
	var err error
	switch h := handler.(type) {
	case *reverseproxy.Handler:
		spied := *h
		spied.HandleResponse, err = x.responses(h.HandleResponse, leads)
		return &spied, err
	case *intercept.Intercept: // which goes on to no other handler
		spied := *h
		spied.HandleResponse, err = x.responses(h.HandleResponse, false)
		return &spied, err
	}
	return handler, nil
}

func (x *explainedRun) responses(of []caddyhttp.ResponseHandler, leads bool) ([]caddyhttp.ResponseHandler, error) {
	spied := slices.Clone(of)
	for i := range spied {
		if spied[i].Routes == nil {
			continue // it changes the status alone
		}
		var err error
		if spied[i].Routes, err = x.routes(of[i].Routes, leads); err != nil {
			return nil, err
		}
	}
	return spied, nil
}

// harmless reports whether the handler may run although nothing is to be asked and nothing changed.
// A proxy in front of larder lets requests pass by what its server says, as forward_auth does.
func (s *spy) harmless() bool {
	if proxy, ok := s.handler.(*reverseproxy.Handler); ok {
		return s.leads && len(proxy.HandleResponse) > 0
	}
	return s.leads || strings.HasPrefix(packageOf(s.handler), "github.com/caddyserver/caddy/v2/modules/caddyhttp")
}

func packageOf(handler caddyhttp.MiddlewareHandler) string {
	t := reflect.TypeOf(handler)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}

// subroute runs a subroute with spies inside.
func (x *explainedRun) subroute(h *caddyhttp.Subroute, leads bool, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	var spied caddyhttp.Subroute
	var err error
	if spied.Routes, err = x.routes(h.Routes, leads); err != nil {
		return err
	}
	if h.Errors != nil {
		spied.Errors = new(caddyhttp.HTTPErrorConfig)
		if spied.Errors.Routes, err = x.routes(h.Errors.Routes, leads); err != nil {
			return err
		}
	}
	return spied.ServeHTTP(w, r, next)
}

// decide has larder decide about the request, and answer it where that is wanted.
func (x *explainedRun) decide(h *Handler, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	x.reached.Store(true)
	x.handler = h
	if h.purges(r) {
		x.purge = new(h.explainPurge(r))
		return nil
	}
	c := &clientRequest{next: next}
	if x.fetch {
		x.trace = c.Explain()
	} else {
		x.trace = c.ExplainOnly()
	}
	return h.serve(c, w, r)
}

// steps tell which handler the request has come to.
func (x *explainedRun) steps() []inspect.ExplainedStep {
	answer := "none: the request has come to the end of the routes"
	switch {
	case x.handler != nil:
		answer = "http.handlers." + moduleName
		for _, p := range placesIn(x.server) {
			if p.handler == caddyhttp.MiddlewareHandler(x.handler) {
				answer += " at " + p.String()
				break
			}
		}
	case x.ended != nil:
		answer = moduleID(x.ended.handler)
	}
	steps := []inspect.ExplainedStep{{Question: "which handler does the request come to?", Answer: answer}}
	if x.handler != nil && x.handler.Zone != cfg.DefaultZone {
		steps = append(steps, inspect.ExplainedStep{Question: "in which zone is it?", Answer: x.handler.Zone})
	}
	return steps
}

// verdict is that on a request which larder has not seen.
func (x *explainedRun) verdict() string {
	switch {
	case x.ended == nil && x.err != nil:
		return fmt.Sprintf("Not Larder's: the routes end in an error before Larder: %v.", x.err)
	case x.held && x.within != nil:
		return fmt.Sprintf("Not known: it depends on an answer of the origin whether the larder in handle_response of %s gets the request, and nothing is asked. To change that: explain it with `fetch`.", moduleID(x.within.handler))
	case x.ended == nil:
		return "Not Larder's: no handler answers this request. " + x.sites()
	case x.held:
		return fmt.Sprintf("Not Larder's: the request comes to %s, %s", moduleID(x.ended.handler), x.withoutLarder())
	case x.ended.leads && isRefusal(x.status):
		return fmt.Sprintf("Not Larder's: %s has refused it with status %d before Larder. To change that: send what it asks for.", moduleID(x.ended.handler), x.status)
	case x.ended.leads:
		return fmt.Sprintf("Not Larder's: %s has answered with status %d before Larder. To change that: send what it asks for, or put `larder` in front of it.", moduleID(x.ended.handler), max(x.status, http.StatusOK))
	}
	return fmt.Sprintf("Not Larder's: %s answers with status %d, %s", moduleID(x.ended.handler), max(x.status, http.StatusOK), x.withoutLarder())
}

// withoutLarder says why no larder has seen the request.
func (x *explainedRun) withoutLarder() string {
	if x.kept {
		return "because a matcher has kept it from larder, which is right where that is meant. To change that: widen the matcher."
	}
	return "and no larder stands in front of it there. To change that: put `larder` on that route."
}

// isRefusal reports whether a status says that the request may not have the page: then larder must
// not stand in front of what says so.
func isRefusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired
}

// sites tells for which hosts the server has routes.
func (x *explainedRun) sites() string {
	hosts := make([]string, 0, len(x.server.Routes))
	for i := range x.server.Routes {
		hosts = append(hosts, hostsOf(&x.server.Routes[i])...)
	}
	if len(hosts) == 0 {
		return "No route of the server matches it."
	}
	slices.Sort(hosts)
	return "The server has sites for " + strings.Join(slices.Compact(hosts), ", ") + "."
}

// connectionState is what a handler sees of a connection over TLS.
func connectionState(name string) *tls.ConnectionState {
	return &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: name, NegotiatedProtocol: "http/1.1"}
}

// errHeaderOnly ends an answer of which the header is all that is wanted: a file need not be read.
var errHeaderOnly = errors.New("the body is not wanted")

// discardingWriter takes a response that goes nowhere.
type discardingWriter struct {
	header     http.Header
	status     int
	headerOnly bool
	ended      bool // by that
}

func (w *discardingWriter) Header() http.Header { return w.header }

func (w *discardingWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
}

func (w *discardingWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.headerOnly {
		w.ended = true
		return 0, errHeaderOnly
	}
	return len(p), nil
}

// Interface guards.
var (
	_ caddyhttp.MiddlewareHandler = (*spy)(nil)
	_ inspect.Explainer           = adminView{}
)

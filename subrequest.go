package larder

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/larder-cache/larder/rfc9111"
)

// A fetch runs the inner handlers with a request of its own, because its client may leave, and what the client's goroutine goes on to
// do with its request must not race with the fetch. To the inner handlers it has to look like the client's all the same:
//
//   - the vars are a copy (`root`, `client_ip`, matchers' results), the satisfied route groups too (or a sibling `handle` would run),
//   - the original request stays the original one (PHP's REQUEST_URI), with the query rules applied to it as well,
//   - placeholders that outer handlers set (regexp captures) are asked of the client's replacer, last,
//   - idle timeouts are about the client's connection and do not apply.
//
// Caddy has no function for this. caddyhttp.PrepareRequest, the one for a new request, makes all of it anew; most of that would have to be
// put back, and it is a tenth of what a miss allocates. So the context answers for itself, and PrepareRequest is called for the one thing
// that only it can make, the placeholders of a request, when the first of them is asked for.

// Context keys that Caddy does not export. They are plain strings of caddy.CtxKey, and a test fails if one changes.
const (
	routeGroupCtxKey   = caddy.CtxKey("route_group")
	idleTimeoutsCtxKey = caddy.CtxKey("idle_timeouts")
)

// detached is the context of a fetch: cancelled with the flight, with what Caddy keeps of a request in its context the fetch's own, and
// everything else the client's.
type detached struct {
	context.Context // the flight's
	client          context.Context

	replacer  *caddy.Replacer
	vars      map[string]any
	groups    map[string]struct{}
	original  any // an http.Request
	logFields caddyhttp.ExtraLogFields
}

// Value implements context.Context.
func (c *detached) Value(key any) any {
	if k, ok := key.(caddy.CtxKey); ok {
		switch k {
		case caddy.ReplacerCtxKey:
			return c.replacer
		case caddyhttp.VarsCtxKey:
			return c.vars
		case routeGroupCtxKey:
			return c.groups
		case caddyhttp.OriginalRequestCtxKey:
			return c.original
		case caddyhttp.ExtraLogFieldsCtxKey:
			return &c.logFields
		case idleTimeoutsCtxKey:
			return nil
		}
		return c.client.Value(key)
	}
	if v := c.Context.Value(key); v != nil { // it is there that the context package looks for what cancels
		return v
	}
	return c.client.Value(key)
}

// detach gives the fetch a request of its own. It is called on the goroutine of q.
func (x *fetch) detach(q *request) {
	// A copy, whose list of providers stays as it is: the client's replacer will come to ask the fetch's, and the two would ask each other
	// for ever.
	x.behind = *q.repl
	x.context = &x.own
	x.request = x.requestOf(q, x.context)
	if x.validates() {
		x.refetchCall = new(secondCall)
		x.refetchCall.request = x.requestOf(q, &x.refetchCall.context)
	}
}

// secondCall is what next is called with when a 304 turned out to be for another response. It is made with the first: inner handlers will
// have read the body, rewritten the URL and satisfied route groups, and the client may have left.
type secondCall struct {
	request *http.Request
	context detached
}

// requestOf makes a request of the fetch's own, with the context that is to be its.
func (x *fetch) requestOf(q *request, ctx *detached) *http.Request {
	rules := &x.h.keying.query
	ctx.detach(x.flight.Context(), q.r.Context(), rules)
	ctx.replacer.Map(x.placeholder)
	r := q.r.Clone(ctx)
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // it answers everybody
	}
	r.Body, r.ContentLength = http.NoBody, int64(len(q.keyed.body))
	if len(q.keyed.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(q.keyed.body))
	}
	r.Trailer, r.TransferEncoding = nil, nil
	if u := rules.applied(r.URL); u != r.URL {
		r.URL = u
		r.RequestURI = u.RequestURI()
	}
	x.condition(r.Header)
	rfc9111.AppendCDNLoop(r.Header, loopToken)
	return r
}

// detach copies from the client's context what the inner handlers may change.
func (c *detached) detach(flight, client context.Context, rules *queryRules) {
	c.Context, c.client = flight, client
	c.replacer = caddy.NewReplacer()
	if c.vars = maps.Clone(varsOf(client)); c.vars == nil {
		c.vars = make(map[string]any)
	}
	groups, _ := client.Value(routeGroupCtxKey).(map[string]struct{})
	if c.groups = maps.Clone(groups); c.groups == nil {
		c.groups = make(map[string]struct{})
	}
	c.original = client.Value(caddyhttp.OriginalRequestCtxKey)
	if orig, ok := c.original.(http.Request); ok && orig.URL != nil {
		if u := rules.applied(orig.URL); u != orig.URL {
			orig.URL, orig.RequestURI = u, u.RequestURI()
			c.original = orig
		}
	}
}

// ofRequest reports whether a placeholder is about a request: the replacers of the client's request and of the fetch's each have their own
// answer.
func ofRequest(name string) bool {
	return strings.HasPrefix(name, "http.request.") || strings.HasPrefix(name, "http.response.") || strings.HasPrefix(name, "http.vars.")
}

// ofFile reports whether a placeholder is the content of a file. It is answered by the replacer that is asked and by no other behind it:
// handlers take its provider out of theirs where a client may have written the placeholder (templates).
func ofFile(name string) bool { return strings.HasPrefix(name, "file.") }

// placeholder is the last provider of the fetch's replacer: it answers placeholders of the request, and those that outer handlers have set.
func (x *fetch) placeholder(name string) (value any, known bool) {
	if ofFile(name) {
		return nil, false
	}
	if ofRequest(name) {
		if value, known = x.httpVars.get(x, name); known {
			return value, true
		}
	}
	return x.behind.Get(name)
}

// httpVars answers the placeholders of a request. Most fetches ask for none, so it makes what it needs when it is asked.
type httpVars struct {
	mu       sync.Mutex
	bound    *http.Request
	replacer *caddy.Replacer
}

// get answers from the request of x as it is now: PrepareRequest binds its placeholders to a request that it makes, which has to become
// like ours first.
func (v *httpVars) get(x *fetch, name string) (value any, known bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bound == nil {
		v.replacer = caddy.NewEmptyReplacer()
		v.bound = caddyhttp.PrepareRequest(x.request, v.replacer, x.writer, nil)
	}
	*v.bound = *x.request
	value, known = v.replacer.Get(name)
	x.request.Body = v.bound.Body // {http.request.body} has read it and put it back
	return value, known
}

// condition makes the fill's header: nothing of the client's that would make the answer one for it alone, and the question whether
// what is stored still holds.
func (x *fetch) condition(h http.Header) {
	if x.validates() {
		rfc9111.MakeConditional(h, x.stale.Header)
		return
	}
	rfc9111.ClearConditions(h)
}

// namedVar is one of the vars.
type namedVar struct {
	name  string
	value any
}

// noteVars keeps the vars for show. It is called on the fetch's goroutine, which may go on to change them.
func (x *fetch) noteVars() {
	x.vars = make([]namedVar, 0, len(x.context.vars))
	for name, value := range x.context.vars {
		x.vars = append(x.vars, namedVar{name, value})
	}
}

// expose lets the leader's request see the vars and placeholders that inner handlers have set by the response header, because outer handlers
// may write them into it (`header >X-Upstream {rp.upstream.hostport}`). It is called on the leader's goroutine, or while that is parked.
func (x *fetch) expose(q *request) {
	if x.returned.Load() { // nobody changes them any more, so they are as they will be given back
		x.returnVars(q)
	} else if vars := varsOf(q.r.Context()); vars != nil {
		for _, v := range x.vars {
			vars[v.name] = v.value
		}
	}
	x.exposePlaceholders(q)
}

// returnVars copies the vars to the leader's request, once. It is called when the inner handlers have returned.
func (x *fetch) returnVars(q *request) {
	if x.varsReturned {
		return
	}
	x.varsReturned = true
	if vars := varsOf(q.r.Context()); vars != nil {
		maps.Copy(vars, x.context.vars)
	}
}

// varsOf are the vars of a request, nil where a request has not been through Caddy.
func varsOf(ctx context.Context) map[string]any {
	vars, _ := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	return vars
}

func (x *fetch) exposePlaceholders(q *request) {
	if !x.exposed {
		x.exposed = true
		q.publish()
		q.repl.Map(x.exposedPlaceholder)
	}
}

// exposedPlaceholder is the provider of the leader's replacer for what the fetch's knows.
func (x *fetch) exposedPlaceholder(name string) (value any, known bool) {
	if ofFile(name) || ofRequest(name) {
		return nil, false
	}
	return x.context.replacer.Get(name)
}

// finish takes to the leader's request what the inner handlers left in the fetch's: vars, placeholders and access-log fields are there as
// they would be without Larder. It is called on the leader's goroutine when the fetch has ended.
func (x *fetch) finish(q *request) {
	x.exposePlaceholders(q)
	x.returnVars(q)
	if to, ok := q.r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		appendLogFields(to, &x.context.logFields)
	}
}

// appendLogFields appends the access-log fields of from to those of to. ExtraLogFields can be added to but not read, and Caddy offers no
// other way to carry fields from one request to another; the address of its list is therefore taken by reflection. The test of `log_append`
// through a miss fails if Caddy changes it.
func appendLogFields(to, from *caddyhttp.ExtraLogFields) {
	if logFieldList < 0 {
		return
	}
	list := reflect.ValueOf(from).Elem().Field(logFieldList).Addr().UnsafePointer()
	for _, field := range *(*[]zap.Field)(list) {
		to.Set(field)
	}
}

// logFieldList is which field of ExtraLogFields is its list; -1 if there is none of that name and type.
var logFieldList = func() int {
	list, ok := reflect.TypeFor[caddyhttp.ExtraLogFields]().FieldByName("fields")
	if !ok || len(list.Index) != 1 || list.Type != reflect.TypeFor[[]zap.Field]() {
		return -1
	}
	return list.Index[0]
}()

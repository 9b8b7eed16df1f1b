package larder

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"reflect"

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
// Caddy has no function for this; caddyhttp.PrepareRequest is the one for a new request, so the rest is put back after it.

// Context keys that Caddy does not export. They are plain strings of caddy.CtxKey, and a test fails if one changes.
const (
	routeGroupCtxKey   = caddy.CtxKey("route_group")
	idleTimeoutsCtxKey = caddy.CtxKey("idle_timeouts")
)

// detached is the context of a fetch: cancelled with the flight, values of the client's.
type detached struct {
	context.Context
	values context.Context
}

// Value asks the flight's context first: it is there that the context package looks for what cancels.
func (c detached) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// detach gives the fetch a request of its own. It is called on the goroutine of q.
func (x *fetch) detach(q *request) {
	ctx := detached{Context: x.flight.Context(), values: q.r.Context()}
	r := q.r.Clone(ctx)
	if r.Method == http.MethodHead {
		r.Method = http.MethodGet // it answers everybody
	}
	r.Body, r.ContentLength = http.NoBody, int64(len(q.keyed.body))
	if len(q.keyed.body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(q.keyed.body))
	}
	r.Trailer, r.TransferEncoding = nil, nil
	rules := &x.h.keying.query
	if u := rules.applied(r.URL); u != r.URL {
		r.URL = u
		r.RequestURI = u.RequestURI()
	}
	x.replacer = caddy.NewReplacer()
	server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	r = caddyhttp.PrepareRequest(r, x.replacer, x.writer, server)
	// The placeholders of x.replacer are bound to this very request, so its context is changed in place.
	*r = *r.WithContext(restored(r.Context(), q, rules))

	x.condition(r.Header)
	rfc9111.AppendCDNLoop(r.Header, loopToken)
	x.request = r
	x.lookBehind(q.repl)
}

// restored puts back what PrepareRequest began anew.
func restored(ctx context.Context, q *request, rules *queryRules) context.Context {
	client := q.r.Context()
	if vars, ok := client.Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
	}
	if groups, ok := client.Value(routeGroupCtxKey).(map[string]struct{}); ok {
		ctx = context.WithValue(ctx, routeGroupCtxKey, maps.Clone(groups))
	}
	if orig, ok := client.Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		if orig.URL != nil {
			if u := rules.applied(orig.URL); u != orig.URL {
				orig.URL, orig.RequestURI = u, u.RequestURI()
			}
		}
		ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, orig)
	}
	return context.WithValue(ctx, idleTimeoutsCtxKey, nil)
}

// condition makes the fill's header: nothing of the client's that would make the answer one for it alone, and the question whether
// what is stored still holds.
func (x *fetch) condition(h http.Header) {
	if x.stale != nil {
		rfc9111.Condition(h, x.stale.Header)
		delete(h, "Range")
		delete(h, "If-Range")
		delete(h, "Expect")
		return
	}
	rfc9111.ClearConditions(h)
}

// lookBehind lets the fetch's replacer ask the client's, after its own. It asks a copy, whose list of providers stays as it is: the client's
// will come to ask the fetch's, and the two would ask each other for ever.
func (x *fetch) lookBehind(client *caddy.Replacer) {
	behind := *client
	x.replacer.Map(behind.Get)
}

// noteVars keeps the vars for show. It is called on the fetch's goroutine, which may go on to change them.
func (x *fetch) noteVars() {
	vars, _ := x.request.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	x.vars = maps.Clone(vars)
}

// show lets the leader's request see the vars and placeholders that inner handlers have set by the response header, because outer handlers may
// write them into it (`header >X-Upstream {rp.upstream.hostport}`). It is called on the leader's goroutine, or while that is parked.
func (x *fetch) show(q *request) {
	if vars, ok := q.r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(vars, x.vars)
	}
	if !x.shown {
		x.shown = true
		q.repl.Map(x.replacer.Get)
	}
}

// giveBack takes to the leader's request what the inner handlers left in the fetch's: vars, placeholders and access-log fields are there as
// they would be without Larder. It is called on the leader's goroutine when the fetch has ended.
func (x *fetch) giveBack(q *request) {
	x.noteVars()
	x.show(q)
	ctx, from := q.r.Context(), x.request.Context()
	if to, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		appendLogFields(to, from.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields))
	}
}

// appendLogFields appends the access-log fields of from to those of to. ExtraLogFields can be added to but not read, and Caddy offers no other
// way to carry fields from one request to another; the address of its list is therefore taken by reflection, with its type
// checked. The test of `log_append` through a miss fails if Caddy changes it.
func appendLogFields(to, from *caddyhttp.ExtraLogFields) {
	list := reflect.ValueOf(from).Elem().FieldByName("fields")
	if !list.IsValid() || list.Type() != reflect.TypeFor[[]zap.Field]() {
		return
	}
	for _, field := range *(*[]zap.Field)(list.Addr().UnsafePointer()) {
		to.Set(field)
	}
}
